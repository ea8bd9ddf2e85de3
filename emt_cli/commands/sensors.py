"""`emt sensors`: every channel that this machine offers, what it reads now, how often and at what price, and
what is not to be had."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from emt_cli.commands import stdout
from emt_cli.commands.choosing import Exclude, Only, With, flags, wishes_of
from emt_cli.commands.sensors_shown import Seen
from emt_cli.model import Channel, Gap, Total

if TYPE_CHECKING:
    from emt_cli.sensors.base import Machine, Sensor
    from emt_cli.sensors.probing import Look, Probe

app = typer.Typer(
    add_completion=False,
)

_LOOK_S = 0.5


@app.command()
def sensors(
    context: typer.Context,
    form: Annotated[
        Literal["table", "json", "csv"],
        typer.Option("--format", help="A table for people; JSON or CSV for programs."),
    ] = "table",
    only: Only = None,
    exclude: Exclude = None,
    opt_in: With = None,
    width: Annotated[
        int | None, typer.Option("--width", min=20, max=1000, help="Columns to use.", show_default=False)
    ] = None,
) -> None:
    """List the energy sensors here, what they read now, and what is missing.

    Every sensor is read for half a second: `every` is the time between two
    steps of a value, as measured. What overlaps with another channel counts
    in no total.

    Example: emt sensors --format json
    """
    from emt_cli.commands.sensors_shown import as_csv, as_document, as_table
    from emt_cli.config import load_here
    from emt_cli.config.keys import REPLAY, TOTAL
    from emt_cli.reports.data import as_json
    from emt_cli.sensors import open_available

    config = load_here(flags(only, exclude, opt_in))
    opened = open_available(machine_of(context), replay=config[REPLAY], wishes=wishes_of(config))
    seen = look(opened.sensors, total=config[TOTAL])
    if form == "json":
        text = as_json([as_document(seen, opened)])
    elif form == "csv":
        text = as_csv(seen, opened)
    else:
        text = as_table(seen, opened, stdout.terminal(width))
    stdout.write(text)


def machine_of(context: typer.Context) -> Machine:
    """The simulated machine that came with the context, or the real one."""
    from emt_cli.sensors.base import Machine

    return context.obj if isinstance(context.obj, Machine) else Machine()


def look(opened: Sequence[Sensor], *, total: Total = "components", seconds: float = _LOOK_S) -> list[Seen]:
    """Read every sensor for a while, and close those that answered."""
    from emt_cli.analysis.cover import counted
    from emt_cli.sensors.probing import probe_all

    ids = counted([channel for sensor in opened for channel in sensor.channels], total)
    seen = []
    for sensor, probe in zip(opened, probe_all(opened, seconds), strict=True):
        if probe.looks:  # one that hangs would hang in its closing, too
            sensor.close()
        seen += [_seen(each, index, each.id in ids, probe) for index, each in enumerate(sensor.channels)]
    return seen


def _seen(channel: Channel, index: int, is_counted: bool, probe: Probe) -> Seen:
    if not probe.looks:
        fault = f"{probe.sensor} did not answer within {probe.took_s:.1f} s"
        return Seen(channel=channel, is_counted=is_counted, fault=fault)
    look = probe.looks[index]
    power_w, fault, unknown = _power(channel, look, probe)
    return Seen(
        channel=channel,
        is_counted=is_counted,
        power_w=power_w,
        fault=fault,
        unknown=unknown,
        period_s=look.update_period_s if channel.kind != "model" else None,  # a formula has no steps
        is_upper_bound=look.is_upper_bound,
        read_cost_s=probe.read_cost_s,
    )


def _power(channel: Channel, look: Look, probe: Probe) -> tuple[float | None, str, str]:
    """Watts now, or None with the fault, or None with why they are unknown without one.

    A counter that did not move, or moved once in many readings, tells nothing: the step may stand for any
    time before.
    """
    from emt_cli.sensors.meters import meter

    first, last = look.readings[0], look.readings[-1]
    for reading in (last, first):
        if isinstance(reading, Gap):
            return None, reading.reason, ""
    reads = meter(channel, first.t_s, probe.took_s)
    for reading in look.readings:
        reads.update(reading)
    reads.finish(last.t_s)
    lost_s = sum(gap.end_s - gap.start_s for gap in reads.gaps)
    elapsed_s, joules = last.t_s - first.t_s - lost_s, reads.energy_j
    if lost_s > elapsed_s:
        return None, reads.gaps[0].reason, ""
    if channel.kind == "gauge":
        return reads.power_w, look.fault, ""
    if not joules or elapsed_s <= 0:
        return None, look.fault, f"no step within {probe.took_s:.1g} s"
    if look.steps == 1 and probe.reads > 2:
        return None, look.fault, f"a single step within {probe.took_s:.1g} s"
    return joules / elapsed_s, look.fault, ""
