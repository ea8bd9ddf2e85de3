"""Two runs or more, compared: by how much each differs from the first one, how sure that is, and whether
they may be compared at all.

Each quantity is judged apart, and of each all runs together (`verdicts`). Energy decides; time, power, CO2e
and the devices explain it. Executions that one benchmark interleaved are compared in pairs, in which drift
cancels; for others nothing is proof against it.
"""

from __future__ import annotations

from collections.abc import Sequence

from emt_cli.analysis.comparable import Unlike, counted_channels, differences
from emt_cli.analysis.energy import account
from emt_cli.analysis.executions import of_interest, parts
from emt_cli.analysis.figures import (
    METRICS,
    UNITS,
    Figure,
    Metric,
    durations_s,
    figure,
    grams_per_joule,
    of_values,
)
from emt_cli.analysis.sums import known_sum
from emt_cli.analysis.verdicts import Compared, Side, judge
from emt_cli.model import ChannelEnergy, Run, Scope
from emt_cli.values import Value


class Comparison(Value):
    """A run compared with the first one. `refusals` are the differences that forbid a verdict; the figures
    stand there all the same."""

    scope: Scope
    unlike: tuple[Unlike, ...]
    refusals: tuple[Unlike, ...]
    is_paired: bool
    per: str = ""
    """The unit of work that energy, time and CO2e are told for; empty: per execution."""
    metrics: tuple[Compared, ...] = ()
    devices: tuple[Compared, ...] = ()
    """Energy by device, where there is more than one."""
    phases: tuple[Compared, ...] = ()
    """Energy by phase, where a run has any: always the command's, since a machine's is not divided."""

    @property
    def energy(self) -> Compared:
        return self.metrics[0]


def compare(a: Run, b: Run, *more: Run, scope: Scope, across_hosts: bool = False) -> tuple[Comparison, ...]:
    """Every other run compared with `a`. With `across_hosts`, differing hosts are told but forbid nothing.

    Energy, time and CO2e are per unit of work where all runs have told the same unit, else per execution.
    """
    others = (b, *more)
    per = _unit_of_work((a, *others))
    metrics = [_row_of_metric(metric, a, others, scope, is_per_work=bool(per)) for metric in METRICS]
    devices = _rows_of_devices(a, others, scope, is_per_work=bool(per))
    phases = _rows_of_phases(a, others, is_per_work=bool(per))
    waived = ("note", "host") if across_hosts else ("note",)
    found = []
    for at, other in enumerate(others):
        unlike = differences(a, other, scope)
        found.append(
            Comparison(
                scope=scope,
                unlike=unlike,
                refusals=tuple(each for each in unlike if each.weight not in waived),
                is_paired=are_paired(a, other),
                per=per,
                metrics=tuple(row[at] for row in metrics),
                devices=tuple(row[at] for row in devices),
                phases=tuple(row[at] for row in phases),
            )
        )
    return tuple(found)


def are_paired(a: Run, b: Run) -> bool:
    """Whether the executions of both were interleaved: records of one `emt bench` in which the same ones
    succeeded."""
    bench = a.tags.get("bench")
    if not bench or bench != b.tags.get("bench") or len(a.executions) != len(b.executions):
        return False
    return len(chosen := of_interest(a.executions)) >= 2 and chosen == of_interest(b.executions)


def resolution_j(run: Run, device: str | None = None) -> float:
    """The counter steps of what is counted: two executions that differ by less may have used the same."""
    return sum(
        channel.resolution_j or (channel.unit if channel.kind == "counter" else 0.0)
        for channel in counted_channels(run)
        if device is None or channel.device == device
    )


# --- quantities -------------------------------------------------------------------------------------


def _row_of_metric(
    metric: Metric, a: Run, others: Sequence[Run], scope: Scope, *, is_per_work: bool
) -> list[Compared]:
    def of(run: Run) -> Figure | None:
        found = figure(run, metric, scope)
        return found if found is None or metric == "power" else found.times(_per(run, is_per_work))

    sides = [
        Side(
            figure=of(other),
            resolution=max(_resolution(metric, run, is_per_work) for run in (a, other)),
            is_paired=are_paired(a, other),
        )
        for other in others
    ]
    return judge(metric, UNITS[metric], of(a), sides)


def _resolution(metric: Metric, run: Run, is_per_work: bool) -> float:
    """The step of that quantity, from the counters' steps; the clock's is too fine to matter."""
    if metric == "time":
        return 0.0
    if metric == "power":
        shortest_s = min(durations_s(run))
        return resolution_j(run) / shortest_s if shortest_s > 0 else 0.0
    factor = 1.0 if metric == "energy" else grams_per_joule(run) or 0.0
    return resolution_j(run) * factor * _per(run, is_per_work)


def _unit_of_work(runs: Sequence[Run]) -> str:
    units = {run.work.unit if run.work is not None and run.work.amount > 0 else "" for run in runs}
    return units.pop() if len(units) == 1 else ""


def _per(run: Run, is_per_work: bool) -> float:
    """What one execution's figure is to be multiplied by: a record's work is that of all its executions."""
    if not is_per_work or run.work is None:
        return 1.0
    return max(len(run.executions), 1) / run.work.amount


# --- devices ----------------------------------------------------------------------------------------


def _rows_of_devices(
    a: Run, others: Sequence[Run], scope: Scope, *, is_per_work: bool
) -> list[list[Compared]]:
    """A row for each device of any run; none where there is only one, whose energy is the total."""
    names = list(dict.fromkeys(row.device for run in (a, *others) for row in _counted(run)))
    if len(names) < 2:
        return []
    first, *rest = [_by_device(run, scope) for run in (a, *others)]
    rows = []
    for name in names:
        sides = [
            Side(
                figure=_scaled(found.get(name), _per(other, is_per_work)),
                resolution=max(resolution_j(run, name) * _per(run, is_per_work) for run in (a, other)),
                is_paired=are_paired(a, other),
            )
            for other, found in zip(others, rest, strict=True)
        ]
        rows.append(judge(name, "J", _scaled(first.get(name), _per(a, is_per_work)), sides))
    return rows


def _rows_of_phases(a: Run, others: Sequence[Run], *, is_per_work: bool) -> list[list[Compared]]:
    """A row for each phase that any run went through."""
    names = list(dict.fromkeys(phase.name for run in (a, *others) for phase in run.phases))
    first, *rest = [_by_phase(run) for run in (a, *others)]
    rows = []
    for name in names:
        sides = [
            Side(
                figure=_scaled(found.get(name), _per(other, is_per_work)),
                resolution=max(resolution_j(run) * _per(run, is_per_work) for run in (a, other)),
                is_paired=False,
            )
            for other, found in zip(others, rest, strict=True)
        ]
        rows.append(judge(name, "J", _scaled(first.get(name), _per(a, is_per_work)), sides))
    return rows


def _by_phase(run: Run) -> dict[str, Figure]:
    return {
        phase.name: of_values([phase.attributed_j], phase.low_j, phase.high_j)
        for phase in run.phases
        if phase.attributed_j is not None
    }


def _scaled(found: Figure | None, factor: float) -> Figure | None:
    return None if found is None else found.times(factor)


def _by_device(run: Run, scope: Scope) -> dict[str, Figure]:
    """Joules per execution. A record has only the sums over its executions, so that these are shared out
    again, each by itself, from the raw part."""
    executions = [_counted(run)]
    if run.executions:
        each = [list(account(part)[0].channels) for part in parts(run)]
        executions = [each[index] for index in of_interest(run.executions)]
    found: dict[str, Figure] = {}
    for device in dict.fromkeys(row.device for row in _counted(run)):
        sums = [_sum(rows, device, scope) for rows in executions]
        values = [value for value, _, _ in sums if value is not None]
        if len(values) == len(sums):
            _, low, high = sums[0]
            found[device] = of_values(values, low, high)
    return found


def _counted(run: Run) -> list[ChannelEnergy]:
    return [row for row in run.energy.channels if row.is_counted] if run.energy is not None else []


_BOUNDS: dict[Scope, tuple[str, str, str]] = {
    "machine": ("machine_j", "machine_low_j", "machine_high_j"),
    "tree": ("attributed_j", "low_j", "high_j"),
}


def _sum(
    rows: Sequence[ChannelEnergy], device: str, scope: Scope
) -> tuple[float | None, float | None, float | None]:
    """Value and bounds of a device's channels; what one does not know the sum does not know either."""
    own = [row for row in rows if row.is_counted and row.device == device]
    value, low, high = (_total([getattr(row, name) for row in own]) for name in _BOUNDS[scope])
    return value, low, high


def _total(known: Sequence[float | None]) -> float | None:
    return known_sum(known) if known else None
