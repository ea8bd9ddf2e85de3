"""`emt calibrate`: idle watts of this machine's channels, measured as a run would and kept for later runs."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from emt_cli import units
from emt_cli.commands import stdout
from emt_cli.config import Config, load_here
from emt_cli.errors import EmtError, NotFoundError, UsageError
from emt_cli.reports.words import clean

if TYPE_CHECKING:
    from emt_cli.model import ChannelEnergy, Run
    from emt_cli.sensors.base import Machine
    from emt_cli.store.calibration import Calibration, Fingerprint

app = typer.Typer(add_completion=False)

_DURATION_S, _LONGEST_S = 30.0, 86400.0
_MOST_BUSY = 0.02
"""Busy CPU time beyond emt's own, as a share of all CPUs: what a desktop at rest stays below."""
_MOST_BUSY_WINDOW = 0.1
"""The same in any second: a job that came and went."""
_LEAST_SURE = 0.25
"""A sensor whose half-width is a larger part of its watts has refreshed too seldom to tell."""
_MOST_GAP = 0.01


@app.command()
def calibrate(
    context: typer.Context,
    duration: Annotated[
        float | None,
        typer.Option("--duration", metavar="S", help="Seconds to measure for [30].", show_default=False),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Keep it although the machine is not idle.")] = False,
    show: Annotated[bool, typer.Option("--show", help="Show what is kept; measure nothing.")] = False,
    forget: Annotated[bool, typer.Option("--forget", help="Delete what is kept for this machine.")] = False,
    form: Annotated[
        Literal["table", "json"], typer.Option("--format", help="A table for people, or JSON for programs.")
    ] = "table",
) -> None:
    """Measure what this machine draws when it is idle.

    Runs tell the idle share of their energy with it, until it is 90 days old
    or the kernel, its options or the CPUs are others. Measure on a machine
    that does nothing else. A model's own idle power needs no calibration.

    Example: emt calibrate --duration 60
    """
    from emt_cli.commands.keeping import home, invoking_user
    from emt_cli.commands.sensors import machine_of
    from emt_cli.store import calibration as kept

    if sum((show, forget, force or duration is not None)) > 1:
        raise UsageError("--show and --forget measure nothing", hint="emt calibrate --show")
    if duration is not None and not 1 <= duration <= _LONGEST_S:  # also true for nan
        raise UsageError(
            f"--duration {duration:g}: from 1 second to a day", hint="emt calibrate --duration 60"
        )
    config, machine = load_here({}), machine_of(context)
    place = kept.folder(os.environ, home())
    if not (show or forget):
        found = _measured(duration or _DURATION_S, config, machine, is_forced=force)
        kept.save(place, found, invoking_user())
        _print(found, found.fingerprint, place, form)
        return
    here = _here(machine)
    if forget:
        print(f"forgotten: {clean(kept.forget(place, here.machine))}", file=sys.stderr)
        return
    loaded = kept.load(place, here.machine)
    if loaded is None:
        raise NotFoundError("this machine has no calibration", hint="emt calibrate measures one")
    _print(loaded, here, place, form)


def _here(machine: Machine) -> Fingerprint:
    from emt_cli import host
    from emt_cli.store.calibration import fingerprint

    return fingerprint(host.facts(machine.text, os.environ), machine.text)


# --- measuring --------------------------------------------------------------------------------------


def _measured(seconds: float, config: Config, machine: Machine, *, is_forced: bool) -> Calibration:
    """Raises EmtError where the machine is not idle, or nothing measures."""
    from emt_cli.commands.repeating import progress_on
    from emt_cli.store.calibration import Calibration, fingerprint

    progress_on(sys.stderr)(f"measuring idle power for {seconds:g} s; leave the machine alone")
    run = _idle_run(seconds, config, machine)
    busy, busiest = _busy_shares(run)
    is_idle = busy is not None and busy <= _MOST_BUSY and busiest <= _MOST_BUSY_WINDOW
    if not is_idle and not is_forced:
        raise _not_idle(busy, busiest)
    rows = _usable(run)
    if not rows:
        raise EmtError(
            "nothing here measures idle power: what is estimated comes from a model that knows its own",
            hint="emt doctor says what would make it measured; a longer --duration helps a slow sensor",
        )
    sensors = {channel.id: channel.sensor for channel in run.channels}
    return Calibration(
        fingerprint=fingerprint(run.host, machine.text),
        node=run.host.node,
        measured_at=run.started_at,
        duration_s=run.duration_s,
        busy_share=busy or 0.0,
        is_forced=not is_idle,
        idle_w={row.id: row.machine_j / run.duration_s for row in rows},
        error_w={row.id: _half_width_j(row) / run.duration_s for row in rows},
        sensors={row.id: sensors[row.id] for row in rows},
    )


def _idle_run(seconds: float, config: Config, machine: Machine) -> Run:
    """A run of a command that sleeps, with its results and samples; its record is gone afterwards."""
    from emt_cli.analysis import complete
    from emt_cli.commands.execution import Order, execute_apart
    from emt_cli.commands.repeating import scratch_folder, sleeping
    from emt_cli.measure.here import this_system

    system = this_system(machine.platform)
    with scratch_folder() as folder:
        order = Order(command=sleeping(seconds))
        run = complete(execute_apart(order, os.path.join(folder, "idle"), config, machine, system))
        run = replace(run, samples=tuple(run.samples))
    number = system.interrupted_by or run.exit.signal
    if number is not None:
        system.die_by(number)
    return run


def _busy_shares(run: Run) -> tuple[float | None, float]:
    """The busy share of all CPUs without emt and its command: the mean, and the largest of any window.
    None: nothing tells."""
    from emt_cli.analysis.windows import windows

    cpu, took_s = run.cpu_time, run.duration_s
    if cpu.machine_s is None or took_s <= 0:
        return None, 0.0
    own_s = (run.sampling.own_cpu_s or 0.0) + (cpu.tree_s or 0.0)
    cpus = max(1, cpu.logical_cpus)
    found = [
        (window.cpu_machine_s - own_s * window.duration_s / took_s) / (cpus * window.duration_s)
        for window in windows(run.samples, cpu)
        if window.cpu_machine_s is not None
    ]
    return max(0.0, (cpu.machine_s - own_s) / (cpus * took_s)), max(found, default=0.0)


def _not_idle(busy: float | None, busiest: float) -> EmtError:
    hint = "end what is running and try again, or keep it all the same: emt calibrate --force"
    if busy is None:
        return EmtError("nothing tells whether this machine is idle: there is no /proc/stat", hint=hint)
    if busy > _MOST_BUSY:
        said = f"{busy:.0%} of its CPUs were busy, {_MOST_BUSY:.0%} is the most"
    else:
        said = f"in one moment {busiest:.0%} of its CPUs were busy"
    return EmtError(f"this machine is not idle: {said}", hint=hint)


def _usable(run: Run) -> list[ChannelEnergy]:
    """The channels that were measured without a gap, and often enough."""
    dropped = {channel.id for channel in run.channels if channel.dropped}
    return [
        row
        for row in (run.energy.channels if run.energy is not None else ())
        if row.provenance in ("measured", "integrated")
        and row.id not in dropped
        and row.gap_s <= _MOST_GAP * run.duration_s
        and _half_width_j(row) <= _LEAST_SURE * row.machine_j
    ]


def _half_width_j(row: ChannelEnergy) -> float:
    return (row.machine_high_j - row.machine_low_j) / 2


# --- saying it --------------------------------------------------------------------------------------


def _print(found: Calibration, here: Fingerprint, place: str, form: Literal["table", "json"]) -> None:
    from datetime import datetime, timezone

    from emt_cli.store.calibration import path_of, why_stale

    stale = why_stale(found, here, datetime.now(timezone.utc))
    path = path_of(place, found.fingerprint.machine)
    stdout.write(_json(found, stale, path) if form == "json" else _table(found, stale, path))


def _table(found: Calibration, stale: str, path: str) -> str:
    from emt_cli.reports.columns import Column
    from emt_cli.reports.text import render_table

    columns = [Column("channel", "name"), Column("idle power", "number"), Column("sensor", "name")]
    rows = [
        [clean(id), units.power(watts, found.error_w.get(id)), clean(found.sensors.get(id, ""))]
        for id, watts in found.idle_w.items()
    ]
    day = clean(found.measured_at)[:10]
    facts = [
        ("machine", clean(f"{found.node}, {found.fingerprint.cpu_model}").strip(", ")),
        ("measured", f"{day}, for {units.duration(found.duration_s)}, {found.busy_share:.1%} busy"),
        ("used", f"no: {clean(stale)}" if stale else "by emt run, until it is 90 days old"),
        ("kept in", clean(path)),
    ]
    if found.is_forced:
        facts.insert(2, ("but", "the machine was not idle: the watts are too high"))
    return render_table(columns, rows, facts=facts, **stdout.terminal()._asdict())


def _json(found: Calibration, stale: str, path: str) -> str:
    from emt_cli.reports.data import as_json

    here = found.fingerprint
    document: dict[str, Any] = {
        "machine": here.machine,
        "node": found.node,
        "kernel": here.kernel,
        "cpu_model": here.cpu_model,
        "cpu_count": here.cpu_count,
        "measured_at": found.measured_at,
        "duration_s": found.duration_s,
        "busy_share": found.busy_share,
        "forced": found.is_forced,
        "stale": stale or None,
        "channels": [
            {
                "id": id,
                "idle_w": watts,
                "error_w": found.error_w.get(id),
                "sensor": found.sensors.get(id),
            }
            for id, watts in found.idle_w.items()
        ],
        "path": path,
    }
    return as_json([document])
