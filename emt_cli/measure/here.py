"""Which system this is: the one place that chooses. Nothing of the other one is imported."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emt_cli.measure.systems import System


def this_system(platform: str = sys.platform) -> System:
    """The system behind `platform`, a value of `sys.platform`."""
    if platform == "linux":
        from emt_cli.measure.on_linux import LinuxSystem

        return LinuxSystem()
    from emt_cli.measure.portable import PortableSystem

    return PortableSystem(platform)
