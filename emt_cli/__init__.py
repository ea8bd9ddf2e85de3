"""emt: the `time` command for energy. Put it before any command and learn how many joules it used."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emt_cli.api import Meter

__version__ = "0.1.0"
__all__ = ("Meter", "__version__")


def __getattr__(name: str) -> object:
    """The public names, imported when they are asked for."""
    if name == "Meter":
        from emt_cli.api import Meter

        return Meter
    raise AttributeError(f"module 'emt_cli' has no attribute '{name}'")
