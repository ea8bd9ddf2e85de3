"""`python -m emt_cli` is `emt`."""

from __future__ import annotations

from emt_cli.commands import main

if __name__ == "__main__":
    main()
