"""What other programs take from a record: a file or text for each of them, made of finished runs.

Apart from `reports`, which people read: here the form is somebody else's. One module a target; none of them
reads the environment, prints, or opens a file. `figures` holds what several of them say.
"""

from __future__ import annotations
