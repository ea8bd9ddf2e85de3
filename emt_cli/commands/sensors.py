"""`emt sensors`: every channel that this machine offers, what it reads now, and what is not to be had."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from emt_cli.commands import stdout
from emt_cli.model import Channel, Gap, Reading, Total

if TYPE_CHECKING:
    from emt_cli.sensors import Opened
    from emt_cli.sensors.base import Machine, Sensor

app = typer.Typer(
    add_completion=False,
)

_BETWEEN_READINGS_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A channel, whether it is part of the total, and its power now; `fault` says why that is unknown."""

    channel: Channel
    is_counted: bool
    power_w: float | None
    fault: str = ""


@app.command()
def sensors(
    context: typer.Context,
    form: Annotated[
        Literal["table", "json"], typer.Option("--format", help="A table for people, or JSON for programs.")
    ] = "table",
    width: Annotated[
        int | None, typer.Option("--width", min=20, max=1000, help="Columns to use.", show_default=False)
    ] = None,
) -> None:
    """List the energy sensors here, what they read now, and what is missing.

    Every channel is read twice, 0.2 s apart. Channels that overlap with
    another one count in no total.

    Example: emt sensors --format json
    """
    from emt_cli.config import load_here
    from emt_cli.config.keys import REPLAY, TOTAL
    from emt_cli.sensors import open_available

    config = load_here({})
    opened = open_available(_machine(context), replay=config[REPLAY])
    try:
        seen = look(opened.sensors, total=config[TOTAL])
    finally:
        for sensor in opened.sensors:
            sensor.close()
    if form == "json":
        _print_json(seen, opened)
    else:
        _print_table(seen, opened, width)


def _machine(context: typer.Context) -> Machine:
    """The simulated machine that came with the context, or the real one."""
    from emt_cli.sensors.base import Machine

    return context.obj if isinstance(context.obj, Machine) else Machine()


# --- looking ----------------------------------------------------------------------------------------


def look(
    opened: Sequence[Sensor], *, total: Total = "components", pause_s: float = _BETWEEN_READINGS_S
) -> list[Seen]:
    """Read every sensor twice, `pause_s` apart, and work out the power in between."""
    from emt_cli.analysis.cover import counted

    first = [list(sensor.read()) for sensor in opened]
    time.sleep(pause_s)
    second = [list(sensor.read()) for sensor in opened]
    ids = counted([channel for sensor in opened for channel in sensor.channels], total)
    return [
        _seen(channel, channel.id in ids, before, after)
        for sensor, befores, afters in zip(opened, first, second, strict=True)
        for channel, before, after in zip(sensor.channels, befores, afters, strict=True)
    ]


def _seen(channel: Channel, is_counted: bool, before: Reading | Gap, after: Reading | Gap) -> Seen:
    power_w, fault = _power(channel, before, after)
    return Seen(channel=channel, is_counted=is_counted, power_w=power_w, fault=fault)


def _power(channel: Channel, before: Reading | Gap, after: Reading | Gap) -> tuple[float | None, str]:
    """Watts between two readings, or None and why. A counter that did not move tells nothing."""
    from emt_cli.sensors.meters import meter

    for reading in (before, after):
        if isinstance(reading, Gap):
            return None, reading.reason
    reads = meter(channel, before.t_s, _BETWEEN_READINGS_S)
    reads.update(before)
    reads.update(after)
    reads.finish(after.t_s)
    if reads.gaps:
        return None, reads.gaps[0].reason
    if channel.kind == "gauge":
        return reads.power_w, ""
    elapsed, joules = after.t_s - before.t_s, reads.energy_j
    if not joules or elapsed <= 0:
        return None, "no step within 0.2 s"
    return joules / elapsed, ""


# --- printing ---------------------------------------------------------------------------------------


def _print_table(seen: Sequence[Seen], opened: Opened, width: int | None) -> None:
    from emt_cli.reports.columns import Column
    from emt_cli.reports.text import render_table

    to = stdout.terminal(width)
    heads = ["channel", "now", "total"]
    if to.width >= 60:
        heads[1:1] = ["domain"]
        heads += ["sensor", "kind", "provenance"]
    heads += ["source"] if to.width >= 100 else []
    kinds: dict[str, Literal["name", "number"]] = {
        "channel": "name",
        "now": "number",
        "total": "name",
        "source": "name",
    }
    columns = [Column(head, kinds.get(head, "text")) for head in heads]
    rows = [[_cells(each)[head] for head in heads] for each in seen]
    styles = ["" if each.is_counted else "dim" for each in seen]
    text = render_table(columns, rows, styles=styles, facts=_facts(seen, opened), **to._asdict())
    stdout.write(text)


def _cells(seen: Seen) -> dict[str, str]:
    from emt_cli import units
    from emt_cli.reports.words import clean

    channel = seen.channel
    cells = {
        "channel": channel.id,
        "domain": channel.domain,
        "now": "-" if seen.power_w is None else units.power(seen.power_w),
        "total": "counted" if seen.is_counted else why_not(channel),
        "sensor": channel.sensor,
        "kind": channel.kind,
        "provenance": channel.provenance,
        "source": channel.source,
    }
    return {head: clean(cell) for head, cell in cells.items()}


def why_not(channel: Channel) -> str:
    """Why a channel is in no total: the registry's reason, the one that contains it, or the whole node."""
    if channel.dropped:
        return channel.dropped
    return f"in {channel.within}" if channel.within else "whole node" if channel.is_platform else "overlap"


def _facts(seen: Sequence[Seen], opened: Opened) -> list[tuple[str, str]]:
    """Below the table: failed readings, notes, warnings with remedies, and what is not on this machine."""
    from emt_cli.reports.words import clean

    facts = [("", "")] if seen else []
    facts += [(each.channel.id, f"not read: {each.fault}") for each in seen if each.fault]
    facts += [(each.channel.id, each.channel.note) for each in seen if each.channel.note]
    for notice in opened.notices:
        facts.append(("warning", notice.text))
        facts += [("", f"-> {notice.hint}")] if notice.hint else []
    facts += [("not here", f"{name}: {reason}") for name, reason in opened.absent]
    return [(clean(label), clean(text)) for label, text in facts]


def _print_json(seen: Sequence[Seen], opened: Opened) -> None:
    from emt_cli.reports.data import as_json

    channels = [_document(each) for each in seen]
    warnings = [{"code": each.code, "text": each.text, "hint": each.hint} for each in opened.notices]
    absent = [{"sensor": name, "reason": reason} for name, reason in opened.absent]
    stdout.write(as_json([{"channels": channels, "warnings": warnings, "absent": absent}]))


def _document(seen: Seen) -> dict[str, object]:
    """A channel with the names that it has in a record, and its power now."""
    channel = seen.channel
    return {
        "id": channel.id,
        "sensor": channel.sensor,
        "device": channel.device,
        "domain": channel.domain,
        "kind": channel.kind,
        "within": channel.within,
        "counted": seen.is_counted,
        "dropped": channel.dropped or None,
        "provenance": channel.provenance,
        "source": channel.source,
        "resolution_j": channel.resolution_j,
        "update_period_s": channel.update_period_s,
        "accuracy": channel.accuracy,
        "power_w": seen.power_w,
        "fault": seen.fault or None,
        "note": channel.note or None,
    }
