"""emt: the `time` command for energy. Put it before any command and learn how many joules it used."""

from __future__ import annotations

__version__ = "0.1.0"
