"""What the user wants of the sensors: which of them, and the watts that they know better.

Values only. `choice` applies the names, `configured` plays the watts.
"""

from __future__ import annotations

from emt_cli.values import Value


class PowerRange(Value):
    """Watts of an idle and of a fully loaded device; equal for one whose power does not depend on load."""

    idle_w: float
    full_w: float


class ConfiguredDevice(Value):
    """A device whose power the user states. `domain` as in `Channel`; its power follows the CPUs' load."""

    name: str
    power: PowerRange
    domain: str = "device"


class Wishes(Value):
    """`only` and `exclude` name devices, domains, channel ids or sensors; `opt_in` names the sensors that
    are opened only when asked for."""

    only: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    opt_in: tuple[str, ...] = ()
    cpu_power: PowerRange | None = None
    ram_w_per_gb: float | None = None
    devices: tuple[ConfiguredDevice, ...] = ()
