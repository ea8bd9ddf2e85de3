"""Several runs of one command as the executions of one run: raw parts put one behind the other.

The pauses between them are left out: the merged run's time line holds the executions alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from math import ceil

from emt_cli.analysis.sums import known_sum
from emt_cli.model import (
    Channel,
    CpuTime,
    DeviceUse,
    Execution,
    GapSpan,
    Observed,
    Process,
    Run,
    Sample,
    Sampling,
    Work,
)

_STEP_S = 1e-6
"""The step of the times in samples.csv: so far apart are the last sample of one and the first of the next."""
_GONE = "it was not there in this execution"


def merged(draft: Run, runs: Sequence[Run]) -> Run:
    """`draft` with the executions of these runs, one at least. A channel that was not there in one of them
    is a gap for as long as that one took."""
    channels = _channels(runs)
    runs = [_with_channels(run, channels) for run in runs]
    placed = list(zip(_starts(runs), runs, strict=True))
    failed = [run for run in runs if run.exit.code != 0]
    return replace(
        draft,
        channels=channels,
        state="complete",
        duration_s=sum(run.duration_s for run in runs),
        exit=(failed or runs)[0].exit,
        sampling=_sampling(runs),
        observed=tuple(_observed(runs)),
        gaps=tuple(_gaps(placed)),
        cpu_time=_cpu_time(placed),
        devices=tuple(_devices(runs)),
        processes=tuple(_processes(placed)),
        suspended_s=sum(run.suspended_s for run in runs),
        paused_s=sum(run.paused_s for run in runs),
        notices=tuple(dict.fromkeys(each for run in (draft, *runs) for each in run.notices)),
        work=_work(runs),
        executions=tuple(_execution(start_s, run) for start_s, run in placed),
        samples=_Chain(placed),
    )


def _channels(runs: Sequence[Run]) -> tuple[Channel, ...]:
    """Those of all runs, in the order in which they were first seen."""
    found: dict[str, Channel] = {}
    for run in runs:
        for channel in run.channels:
            found.setdefault(channel.id, channel)
    return tuple(found.values())


def _with_channels(run: Run, channels: Sequence[Channel]) -> Run:
    """The run as if it had had all of these channels: those that it had not have never been read."""
    own = [channel.id for channel in run.channels]
    if own == [channel.id for channel in channels]:
        return run
    places = [own.index(channel.id) if channel.id in own else None for channel in channels]
    missing = [channel.id for channel in channels if channel.id not in own]
    gone = [GapSpan(channel=id, start_s=0.0, end_s=run.duration_s, reason=_GONE) for id in missing]
    unread = [Observed(channel=id, gap_s=run.duration_s) for id in missing]
    return replace(
        run,
        channels=tuple(channels),
        observed=(*run.observed, *unread),
        gaps=(*run.gaps, *gone),
        samples=_Placed(run.samples, places),
    )


class _Placed:
    """Samples whose columns are in another order; None: one that was not there."""

    def __init__(self, samples: Iterable[Sample], places: Sequence[int | None]) -> None:
        self._samples, self._places = samples, places

    def __iter__(self) -> Iterator[Sample]:
        for each in self._samples:
            energy_j = tuple([None if at is None else each.energy_j[at] for at in self._places])
            power_w = tuple([None if at is None else each.power_w[at] for at in self._places])
            yield each._replace(energy_j=energy_j, power_w=power_w)


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


def _devices(runs: Sequence[Run]) -> Iterator[DeviceUse]:
    """Who used each device over all; a user of before may be gone, and is named all the same."""
    uses: dict[str, list[DeviceUse]] = {}
    for run in runs:
        for use in run.devices:
            uses.setdefault(use.device, []).append(use)
    for same in uses.values():
        yield replace(
            same[0],
            tree_busy_s=known_sum([use.tree_busy_s for use in same]),
            total_busy_s=known_sum([use.total_busy_s for use in same]),
            tree_pids=tuple(dict.fromkeys(pid for use in same for pid in use.tree_pids)),
            other_pids=tuple(dict.fromkeys(pid for use in same for pid in use.other_pids)),
            sees_others=all(use.sees_others for use in same),
        )


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
        tree_s=known_sum([each.tree_s for each in times]),
        machine_s=known_sum([each.machine_s for each in times]),
        witnesses={name: sum(each.witnesses[name] for each in times) for name in names},
        winner=times[0].winner,
        spread_s=known_sum([each.spread_s for each in times]),
        series_s=known_sum([each.series_s for each in times]),
        coverage=min(known) if len(known) == len(coverages) else None,
        stolen_s=known_sum([each.stolen_s for each in times]),
        logical_cpus=times[0].logical_cpus,
        refusals={name: why for each in times for name, why in each.refusals.items()},
        blind_spot=next((each.blind_spot for each in times if each.blind_spot), ""),
        processes_seen=sum(each.processes_seen for each in times),
        late=tuple(
            replace(late, start_s=late.start_s + start_s, end_s=late.end_s + start_s)
            for start_s, run in placed
            for late in run.cpu_time.late
        ),
    )


def _work(runs: Sequence[Run]) -> Work | None:
    """What all of them got done; not known as soon as one of them does not tell, or tells another unit."""
    works = [run.work for run in runs]
    known = [work for work in works if work is not None]
    if len(known) < len(works) or len({work.unit for work in known}) != 1:
        return None
    return Work(amount=sum(work.amount for work in known), unit=known[0].unit)


def _sampling(runs: Sequence[Run]) -> Sampling:
    first = runs[0].sampling
    peaks = [run.sampling.peak_memory_bytes for run in runs if run.sampling.peak_memory_bytes is not None]
    return replace(
        first,
        ticks=sum(run.sampling.ticks for run in runs),
        late=sum(run.sampling.late for run in runs),
        lost_rows=sum(run.sampling.lost_rows for run in runs),
        own_cpu_s=known_sum([run.sampling.own_cpu_s for run in runs]),
        own_total_cpu_s=known_sum([run.sampling.own_total_cpu_s for run in runs]),
        peak_memory_bytes=max(peaks, default=None),
    )
