"""What the tables of a report say, row by row, free of any way to draw them.

Tables on a terminal and in Markdown are made of these rows. The one calculation here is the sharing out
of the tree's CPU energy over its processes, which is a view of the record and not part of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from emt_cli import units
from emt_cli.model import DEVICE_DOMAINS, Channel, ChannelEnergy, Energy, Run
from emt_cli.reports.phrases import cpu_seconds, energy_and_bounds, finite, placement
from emt_cli.reports.words import clean

PROCESS_RULE = "joules of CPU and memory, shared out by CPU seconds: an allocation, not a measurement"


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyRow:
    """One channel, or a sum: everything as it is shown; unknown is empty.

    `depth` is how many shown channels contain it, `is_counted` whether it is part of the totals.
    """

    label: str
    machine: str
    attributed: str
    bounds: str
    idle: str
    provenance: str
    note: str = ""
    depth: int = 0
    is_counted: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessRow:
    """One process of the tree, or what is left of it: `share` of the tree's CPU time, `energy` allocated."""

    pid: str
    command: str
    cpu: str
    share: str
    energy: str
    is_left_running: bool = False


# --- energy -----------------------------------------------------------------------------------------


def energy_rows(run: Run) -> list[EnergyRow]:
    """Every channel, each below the one that contains it; the platform's channels come last."""
    if run.energy is None:
        return []
    by_id = {channel.id: channel for channel in run.channels}
    energies = {energy.id: energy for energy in run.energy.channels}
    return [
        _channel_row(energies[id], by_id.get(id), depth) for id, depth in _nested(energies.values(), by_id)
    ]


def _nested(energies: Iterable[ChannelEnergy], by_id: dict[str, Channel]) -> list[tuple[str, int]]:
    """Ids with their depth. In a damaged record channels may contain each other: those come at the end."""
    children: dict[str | None, list[str]] = {}
    ids = {energy.id for energy in energies}
    last = {id for id in ids if id in by_id and by_id[id].is_platform}
    for energy in sorted(energies, key=lambda energy: energy.id in last):
        channel = by_id.get(energy.id)
        parent = channel.within if channel is not None and channel.within in ids - last else None
        children.setdefault(parent, []).append(energy.id)
    ordered: dict[str, int] = {}
    waiting = [(id, 0) for id in reversed(children.get(None, []))]
    while waiting:
        id, depth = waiting.pop()
        ordered[id] = depth
        waiting += [(child, depth + 1) for child in reversed(children.get(id, []))]
    return [*ordered.items(), *((id, 0) for energy in energies if (id := energy.id) not in ordered)]


def _channel_row(energy: ChannelEnergy, channel: Channel | None, depth: int) -> EnergyRow:
    attributed, bounds = energy_and_bounds(
        energy.attributed_j, energy.uncertainty_j, energy.low_j, energy.high_j
    )
    notes = [] if energy.is_counted else [placement(energy, channel)]
    notes += [f"{energy.gap_s:.3g} s not read"] if energy.gap_s > 0 else []
    notes += [text for text in (clean(energy.note),) if text]
    return EnergyRow(
        label=clean(energy.id),
        machine=_joules(energy.machine_j),
        attributed=attributed,
        bounds=bounds if energy.is_counted else "",
        idle=_joules(energy.idle_j),
        provenance=clean(energy.provenance),
        note="; ".join(notes),
        depth=depth,
        is_counted=energy.is_counted,
    )


def total_rows(energy: Energy) -> list[EnergyRow]:
    """The total of the counted channels, emt's own share of it, and what the whole-node sensor adds."""
    attributed, bounds = energy_and_bounds(
        energy.attributed_j, energy.uncertainty_j, energy.low_j, energy.high_j
    )
    rows = [
        EnergyRow(
            label="total",
            machine=_joules(energy.machine_j),
            attributed=attributed,
            bounds=bounds,
            idle=_joules(energy.idle_j),
            provenance=clean(energy.provenance),
        )
    ]
    platform, machine = finite(energy.platform_j), finite(energy.machine_j)
    if platform is not None and machine is not None and platform > machine:
        rows.append(_plain_row("rest of the machine", platform - machine, "board, fans, supply"))
    if platform is not None:
        rows.append(_plain_row("platform", platform, "the whole node"))
    return rows


def _plain_row(label: str, joules: float, note: str) -> EnergyRow:
    return EnergyRow(
        label=label,
        machine=_joules(joules),
        attributed="",
        bounds="",
        idle="",
        provenance="",
        note=note,
        is_counted=False,
    )


def _joules(value: float | None) -> str:
    known = finite(value)
    return "" if known is None else units.energy(known)


# --- phases -----------------------------------------------------------------------------------------


def phase_rows(run: Run) -> list[list[str]]:
    """Name, how often, time, CPU seconds, energy and its bounds; the first one first."""
    return [
        [
            clean(phase.name),
            str(phase.count),
            units.seconds(phase.duration_s),
            cpu_seconds(phase.cpu_s),
            *energy_and_bounds(phase.attributed_j, None, phase.low_j, phase.high_j),
        ]
        for phase in run.phases
    ]


PHASE_HEADS = ("phase", "times", "time", "CPU s", "energy", "±")


# --- processes --------------------------------------------------------------------------------------


def cpu_shared_j(run: Run) -> float | None:
    """The tree's joules on the counted channels that CPU time shares out: all but devices'."""
    if run.energy is None:
        return None
    joules = [
        channel.attributed_j
        for channel in run.energy.channels
        if channel.is_counted and channel.domain not in DEVICE_DOMAINS
    ]
    known = [each for each in joules if each is not None]
    return finite(sum(known)) if known and len(known) == len(joules) else None


def process_rows(run: Run, most: int = 10) -> list[ProcessRow]:
    """The processes that used most CPU time, then the rest of them, then what no table row saw.

    The shares are of the tree's CPU time, or of the rows' sum where that is larger, so that the parts
    never exceed the whole.
    """
    known = [process for process in run.processes if finite(process.cpu_s) is not None]
    ranked = sorted(known, key=lambda process: process.cpu_s, reverse=True)
    seen_s = sum(process.cpu_s for process in ranked)
    whole_s = max(finite(run.cpu_time.tree_s) or 0.0, seen_s)
    joules = cpu_shared_j(run)

    def row(pid: str, command: str, cpu_s: float, is_left_running: bool = False) -> ProcessRow:
        share = cpu_s / whole_s if whole_s > 0 else None
        return ProcessRow(
            pid=pid,
            command=command,
            cpu=cpu_seconds(cpu_s),
            share="" if share is None else f"{share:.1%}".replace("%", " %"),
            energy="" if share is None or joules is None else units.energy(joules * share),
            is_left_running=is_left_running,
        )

    rows = [
        row(str(process.pid), clean(process.command or process.name), process.cpu_s, process.is_left_running)
        for process in ranked[:most]
    ]
    if others := ranked[most:]:
        rows.append(row("", f"({len(others)} more)", sum(process.cpu_s for process in others)))
    if rows and whole_s - seen_s > 0.005 * whole_s:
        rows.append(row("", "(too short-lived to be listed)", whole_s - seen_s))
    return rows
