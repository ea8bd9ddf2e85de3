"""A repeated run: its executions taken apart, each accounted for by itself, and added up again.

Each execution has edges, windows and gaps of its own, so the sum of their results is right where one look at
the whole would take the seams between them for energy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from emt_cli.analysis import uncertainty
from emt_cli.analysis.energy import account
from emt_cli.analysis.statistics import summary
from emt_cli.analysis.sums import known_sum
from emt_cli.analysis.uncertainty import Interval
from emt_cli.model import (
    Attribution,
    ChannelEnergy,
    CurvePoint,
    Energy,
    Execution,
    GapSpan,
    Repeat,
    Run,
    Sample,
    Sampling,
    Spread,
    weakest,
)

_POINTS = 240
"""Points of a repeated run's curve: those of every execution, thinned to so many."""

_FEWEST_WITH_OUTLIERS = 5
"""Of fewer values one often lies far from the others by chance."""


def account_each(run: Run) -> tuple[Energy, Attribution, tuple[CurvePoint, ...], tuple[Execution, ...]]:
    """As `energy.account`, for a run with executions; these come back with their results."""
    energies: list[Energy] = []
    attributions: list[Attribution] = []
    points: list[CurvePoint] = []
    executions: list[Execution] = []
    for execution, part in zip(run.executions, parts(run), strict=True):
        energy, attribution, curve = account(part)
        energies.append(energy)
        attributions.append(attribution)
        points += [replace(point, t_s=point.t_s + execution.start_s) for point in curve]
        executions.append(
            replace(
                execution,
                machine_j=energy.machine_j,
                attributed_j=energy.attributed_j,
                low_j=energy.low_j,
                high_j=energy.high_j,
                active_j=energy.active_j,
                idle_share_j=energy.idle_share_j,
            )
        )
    return _sum(energies), _together(attributions), _thinned(points), tuple(executions)


def parts(run: Run) -> Iterator[Run]:
    """Every execution as a run of its own, its time and its joules counted from its own start."""
    samples = iter(run.samples)
    held = next(samples, None)
    ends = [*(execution.start_s for execution in run.executions[1:]), float("inf")]
    for execution, end_s in zip(run.executions, ends, strict=True):
        own: list[Sample] = []
        while held is not None and held.t_s < end_s:
            own.append(held)
            held = next(samples, None)
        share = execution.duration_s / run.duration_s if run.duration_s > 0 else 0.0
        yield replace(
            run,
            executions=(),
            sampling=_part_of(run.sampling, share),
            duration_s=execution.duration_s,
            exit=execution.exit,
            observed=execution.observed,
            cpu_time=execution.cpu_time,
            devices=execution.devices,
            gaps=tuple(_gaps_of(run.gaps, execution.start_s, end_s)),
            samples=_from_zero(own, execution.start_s),
        )


def _part_of(sampling: Sampling, share: float) -> Sampling:
    """emt's own CPU time is known as a sum over all executions: it goes by their time."""
    own_s = sampling.own_cpu_s
    return replace(sampling, own_cpu_s=None if own_s is None else own_s * share)


def _gaps_of(gaps: Iterable[GapSpan], start_s: float, end_s: float) -> Iterator[GapSpan]:
    for gap in gaps:
        if start_s <= gap.start_s < end_s:
            yield replace(gap, start_s=gap.start_s - start_s, end_s=gap.end_s - start_s)


def _from_zero(samples: Sequence[Sample], start_s: float) -> list[Sample]:
    """Samples whose cumulative values begin at the first one's."""
    if not samples:
        return []
    base = [0.0] * len(samples[0].energy_j)
    for index in range(len(base)):
        base[index] = next((s.energy_j[index] or 0.0 for s in samples if s.energy_j[index] is not None), 0.0)
    tree_s = next((s.cpu_tree_s for s in samples if s.cpu_tree_s is not None), 0.0)
    machine_s = next((s.cpu_machine_s for s in samples if s.cpu_machine_s is not None), 0.0)
    return [
        Sample(
            sample.t_s - start_s,
            tuple([None if j is None else j - base[at] for at, j in enumerate(sample.energy_j)]),
            sample.power_w,
            None if sample.cpu_tree_s is None else sample.cpu_tree_s - tree_s,
            None if sample.cpu_machine_s is None else sample.cpu_machine_s - machine_s,
        )
        for sample in samples
    ]


# --- adding up --------------------------------------------------------------------------------------


def _sum(energies: Sequence[Energy]) -> Energy:
    """The totals and every channel; what one execution does not know the sum does not know either."""
    low_j, high_j = _total(energies, "low_j"), _total(energies, "high_j")
    attributed_j = _total(energies, "attributed_j")
    interval = None if low_j is None or high_j is None else Interval(low_j, high_j)
    by_provenance: dict[str, float] = {}
    for energy in energies:
        for name, joules in energy.by_provenance.items():
            by_provenance[name] = by_provenance.get(name, 0.0) + joules
    ids = dict.fromkeys(row.id for energy in energies for row in energy.channels)
    return Energy(
        machine_j=_total(energies, "machine_j"),
        machine_low_j=_total(energies, "machine_low_j"),
        machine_high_j=_total(energies, "machine_high_j"),
        platform_j=_total(energies, "platform_j"),
        attributed_j=attributed_j,
        active_j=_total(energies, "active_j"),
        idle_share_j=_total(energies, "idle_share_j"),
        idle_j=_total(energies, "idle_j"),
        low_j=low_j,
        high_j=high_j,
        uncertainty_j=uncertainty.half_width(attributed_j, interval),
        provenance=weakest(energy.provenance for energy in energies),
        by_provenance=by_provenance,
        own_j=_total(energies, "own_j"),
        channels=tuple(_row([row for e in energies for row in e.channels if row.id == id]) for id in ids),
    )


def _row(rows: Sequence[ChannelEnergy]) -> ChannelEnergy:
    """One channel over all executions that read it."""
    low_j, high_j = _total(rows, "low_j"), _total(rows, "high_j")
    attributed_j = _total(rows, "attributed_j")
    interval = None if low_j is None or high_j is None else Interval(low_j, high_j)
    rules = dict.fromkeys(row.rule for row in rows)
    return replace(
        rows[0],
        provenance=weakest(row.provenance for row in rows),
        rule=", ".join(rules),
        machine_j=sum(row.machine_j for row in rows),
        machine_low_j=sum(row.machine_low_j for row in rows),
        machine_high_j=sum(row.machine_high_j for row in rows),
        attributed_j=attributed_j,
        low_j=low_j,
        high_j=high_j,
        active_j=_total(rows, "active_j"),
        idle_share_j=_total(rows, "idle_share_j"),
        idle_j=_total(rows, "idle_j"),
        uncertainty_j=uncertainty.half_width(attributed_j, interval),
        clamped_j=sum(row.clamped_j for row in rows),
        gap_s=sum(row.gap_s for row in rows),
    )


def _total(values: Sequence[object], name: str) -> float | None:
    return known_sum(getattr(value, name) for value in values) if values else None


def _together(attributions: Sequence[Attribution]) -> Attribution:
    count = sum(each.windows for each in attributions)
    return replace(
        attributions[0],
        idle_source=", ".join(dict.fromkeys(each.idle_source for each in attributions)),
        windows=count,
        window_s=sum(each.window_s * each.windows for each in attributions) / count if count else 0.0,
        clamped_j=sum(each.clamped_j for each in attributions),
        carried_cpu_s=sum(each.carried_cpu_s for each in attributions),
    )


# --- one execution like another ---------------------------------------------------------------------


def has_succeeded(execution: Execution) -> bool:
    return execution.exit.code == 0


def of_interest(executions: Sequence[Execution]) -> tuple[int, ...]:
    """Which of them tell what one execution uses: those that succeeded, since a failure is another amount of
    work; all of them where none did (a program whose status says something else)."""
    succeeded = tuple(index for index, each in enumerate(executions) if has_succeeded(each))
    return succeeded or tuple(range(len(executions)))


def repeat(executions: Sequence[Execution]) -> Repeat | None:
    """Mean, interval and outliers (see `statistics`) of what one execution uses; an energy that is not known
    of all of them has none."""
    indices = of_interest(executions)
    if not indices:
        return None
    chosen = [executions[index] for index in indices]
    times_s = [each.duration_s for each in chosen]
    machine_j, attributed_j = [each.machine_j for each in chosen], [each.attributed_j for each in chosen]
    duration_s = _spread(times_s, indices)
    if duration_s is None:
        return None
    return Repeat(
        executions=len(chosen),
        duration_s=duration_s,
        machine_j=_spread(machine_j, indices),
        attributed_j=_spread(attributed_j, indices),
        machine_w=_spread(_watts(machine_j, times_s), indices),
        attributed_w=_spread(_watts(attributed_j, times_s), indices),
    )


def spread(values: Sequence[float | None]) -> Spread | None:
    """Of values that are numbered as they come; None if one of them is not known."""
    return _spread(values, range(len(values)))


def _watts(joules: Sequence[float | None], times_s: Sequence[float]) -> list[float | None]:
    pairs = zip(joules, times_s, strict=True)
    return [None if energy_j is None or time_s <= 0 else energy_j / time_s for energy_j, time_s in pairs]


def _spread(values: Sequence[float | None], indices: Sequence[int]) -> Spread | None:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    try:
        found = summary(known)
    except ValueError:  # not a number: a damaged record
        return None
    return Spread(
        n=found.n,
        mean=found.mean,
        sd=found.sd,
        low=found.low,
        high=found.high,
        min=found.min,
        max=found.max,
        median=found.median,
        outliers=tuple(indices[at] for at in found.outliers) if found.n >= _FEWEST_WITH_OUTLIERS else (),
    )


def _thinned(points: Sequence[CurvePoint]) -> tuple[CurvePoint, ...]:
    step = max(1, -(-len(points) // _POINTS))
    return tuple(points[::step])
