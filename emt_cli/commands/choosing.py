"""The options that choose sensors, shared by the commands that open them, and what they come to."""

from __future__ import annotations

from typing import Annotated

import typer

from emt_cli.config import keys
from emt_cli.drafting import wishes_of

__all__ = ("Exclude", "Only", "With", "flags", "wishes_of")

SENSORS = "Sensors"
"""Their panel on a help page."""

Only = Annotated[
    str | None,
    typer.Option(
        "--only",
        metavar="NAMES",
        rich_help_panel=SENSORS,
        help="Read only these channels, devices or domains: cpu,gpu0.",
        show_default=False,
    ),
]
Exclude = Annotated[
    str | None,
    typer.Option(
        "--exclude",
        metavar="NAMES",
        rich_help_panel=SENSORS,
        help="Leave these out: dram.",
        show_default=False,
    ),
]
With = Annotated[
    str | None,
    typer.Option(
        "--with",
        metavar="NAMES",
        rich_help_panel=SENSORS,
        help="Also read sensors that are off by default: ipmi.",
        show_default=False,
    ),
]


def flags(only: str | None, exclude: str | None, opt_in: str | None) -> dict[str, object]:
    """The options as settings; the text with commas becomes a list where settings are checked."""
    return {keys.ONLY.name: only, keys.EXCLUDE.name: exclude, keys.WITH.name: opt_in}
