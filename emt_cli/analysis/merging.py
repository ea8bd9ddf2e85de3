"""Several runs of one command as the executions of one run: raw parts put one behind the other.

The pauses between them are left out: the merged run's time line holds the executions alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from math import ceil

from emt_cli.errors import RecordError
from emt_cli.model import CpuTime, Execution, GapSpan, Observed, Process, Run, Sample, Sampling

_STEP_S = 1e-6
"""The step of the times in samples.csv: so far apart are the last sample of one and the first of the next."""


def merged(draft: Run, runs: Sequence[Run]) -> Run:
    """`draft` with the executions of these runs. Raises RecordError where their channels differ: a sum
    over other sensors would be no sum."""
    first = runs[0]
    for run in runs[1:]:
        if [c.id for c in run.channels] != [c.id for c in first.channels]:
            raise RecordError(
                "the executions were read by different sensors: a device came or went in between",
                hint="emt sensors lists what is here; --only leaves the unsteady one out",
            )
    starts_s = list(_starts(runs))
    placed = list(zip(starts_s, runs, strict=True))
    failed = [run for run in runs if run.exit.code != 0]
    return replace(
        draft,
        channels=first.channels,
        state="complete",
        duration_s=sum(run.duration_s for run in runs),
        exit=(failed[0] if failed else runs[-1]).exit,
        sampling=_sampling(runs),
        observed=tuple(_observed(runs)),
        gaps=tuple(_gaps(placed)),
        cpu_time=_cpu_time(placed),
        devices=first.devices,
        processes=tuple(_processes(placed)),
        suspended_s=sum(run.suspended_s for run in runs),
        paused_s=sum(run.paused_s for run in runs),
        notices=tuple(dict.fromkeys(each for run in (draft, *runs) for each in run.notices)),
        executions=tuple(_execution(start_s, run) for start_s, run in placed),
        samples=_Chain(placed),
    )


def _starts(runs: Sequence[Run]) -> Iterator[float]:
    """When each begins: where the one before ends, and after its last sample."""
    at_s = 0.0
    for run in runs:
        yield at_s
        last_s = 0.0
        for sample in run.samples:
            last_s = sample.t_s
        at_s = ceil((at_s + max(run.duration_s, last_s + _STEP_S)) / _STEP_S) * _STEP_S


class _Chain:
    """The samples of all, cumulative over all of them; can be iterated again and again."""

    def __init__(self, placed: Sequence[tuple[float, Run]]) -> None:
        self._placed = placed

    def __iter__(self) -> Iterator[Sample]:
        width = len(self._placed[0][1].channels)
        joules, tree_s, machine_s = [0.0] * width, 0.0, 0.0
        for start_s, run in self._placed:
            base, base_tree_s, base_machine_s = list(joules), tree_s, machine_s
            for sample in run.samples:
                energy_j = [None if j is None else j + b for j, b in zip(sample.energy_j, base, strict=True)]
                joules = [old if new is None else new for old, new in zip(joules, energy_j, strict=True)]
                if sample.cpu_tree_s is not None:
                    tree_s = base_tree_s + sample.cpu_tree_s
                if sample.cpu_machine_s is not None:
                    machine_s = base_machine_s + sample.cpu_machine_s
                yield Sample(
                    round(start_s + sample.t_s, 6),
                    tuple(energy_j),
                    sample.power_w,
                    None if sample.cpu_tree_s is None else tree_s,
                    None if sample.cpu_machine_s is None else machine_s,
                )


def _execution(start_s: float, run: Run) -> Execution:
    return Execution(
        start_s=start_s,
        duration_s=run.duration_s,
        exit=run.exit,
        observed=run.observed,
        cpu_time=run.cpu_time,
        devices=run.devices,
    )


def _observed(runs: Sequence[Run]) -> Iterator[Observed]:
    by_channel: dict[str, Observed] = {}
    for run in runs:
        for new in run.observed:
            old = by_channel.get(new.channel, Observed(channel=new.channel))
            by_channel[new.channel] = Observed(
                channel=new.channel,
                energy_j=old.energy_j + new.energy_j,
                readings=old.readings + new.readings,
                failed=old.failed + new.failed,
                wraps=old.wraps + new.wraps,
                resets=old.resets + new.resets,
                gap_s=old.gap_s + new.gap_s,
                max_power_w=max(old.max_power_w, new.max_power_w),
                trapezoid_j=old.trapezoid_j + new.trapezoid_j,
                edge_j=old.edge_j + new.edge_j,
            )
    yield from by_channel.values()


def _gaps(placed: Iterable[tuple[float, Run]]) -> Iterator[GapSpan]:
    for start_s, run in placed:
        for gap in run.gaps:
            yield replace(gap, start_s=gap.start_s + start_s, end_s=gap.end_s + start_s)


def _processes(placed: Iterable[tuple[float, Run]]) -> Iterator[Process]:
    for start_s, run in placed:
        for each in run.processes:
            ended_s = None if each.ended_s is None else each.ended_s + start_s
            yield replace(each, started_s=each.started_s + start_s, ended_s=ended_s)


def _cpu_time(placed: Sequence[tuple[float, Run]]) -> CpuTime:
    """Sums; a witness that was not there every time saw not all of it, and is left out."""
    times = [run.cpu_time for _, run in placed]
    names = [name for name in times[0].witnesses if all(name in each.witnesses for each in times)]
    coverages = [each.coverage for each in times]
    known = [coverage for coverage in coverages if coverage is not None]
    return CpuTime(
        tree_s=_sum([each.tree_s for each in times]),
        machine_s=_sum([each.machine_s for each in times]),
        witnesses={name: sum(each.witnesses[name] for each in times) for name in names},
        winner=times[0].winner,
        spread_s=_sum([each.spread_s for each in times]),
        series_s=_sum([each.series_s for each in times]),
        coverage=min(known) if len(known) == len(coverages) else None,
        stolen_s=_sum([each.stolen_s for each in times]),
        logical_cpus=times[0].logical_cpus,
        refusals=times[0].refusals,
        blind_spot=next((each.blind_spot for each in times if each.blind_spot), ""),
        processes_seen=sum(each.processes_seen for each in times),
        late=tuple(
            replace(late, start_s=late.start_s + start_s, end_s=late.end_s + start_s)
            for start_s, run in placed
            for late in run.cpu_time.late
        ),
    )


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _sampling(runs: Sequence[Run]) -> Sampling:
    first = runs[0].sampling
    peaks = [run.sampling.peak_memory_bytes for run in runs if run.sampling.peak_memory_bytes is not None]
    return replace(
        first,
        ticks=sum(run.sampling.ticks for run in runs),
        late=sum(run.sampling.late for run in runs),
        lost_rows=sum(run.sampling.lost_rows for run in runs),
        own_cpu_s=_sum([run.sampling.own_cpu_s for run in runs]),
        own_total_cpu_s=_sum([run.sampling.own_total_cpu_s for run in runs]),
        peak_memory_bytes=max(peaks, default=None),
    )
