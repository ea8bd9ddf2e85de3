"""The options that choose sensors, shared by the commands that open them, and what they come to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from emt_cli.config import Config, keys

if TYPE_CHECKING:
    from emt_cli.sensors.wishes import Wishes

Only = Annotated[
    str | None,
    typer.Option(
        "--only",
        metavar="NAMES",
        help="Read only these channels, devices or domains: cpu,gpu0.",
        show_default=False,
    ),
]
Exclude = Annotated[
    str | None,
    typer.Option("--exclude", metavar="NAMES", help="Leave these out: dram.", show_default=False),
]
With = Annotated[
    str | None,
    typer.Option(
        "--with", metavar="NAMES", help="Also read sensors that are off by default: ipmi.", show_default=False
    ),
]


def flags(only: str | None, exclude: str | None, opt_in: str | None) -> dict[str, object]:
    """The options as settings; the text with commas becomes a list where settings are checked."""
    return {keys.ONLY.name: only, keys.EXCLUDE.name: exclude, keys.WITH.name: opt_in}


def wishes_of(config: Config) -> Wishes:
    """What the settings say of the sensors."""
    from emt_cli.sensors.wishes import ConfiguredDevice, PowerRange, Wishes

    cpu_watts = config[keys.CPU_WATTS]
    return Wishes(
        only=config[keys.ONLY],
        exclude=config[keys.EXCLUDE],
        opt_in=config[keys.WITH],
        cpu_power=None if cpu_watts is None else PowerRange(idle_w=cpu_watts[0], full_w=cpu_watts[1]),
        ram_w_per_gb=config[keys.RAM_W_PER_GB],
        devices=tuple(
            ConfiguredDevice(name=name, power=PowerRange(idle_w=idle_w, full_w=full_w), domain=domain)
            for name, (idle_w, full_w, domain) in config[keys.DEVICES].items()
        ),
    )
