"""The stretches of time over which energy is shared out, whatever the sampling frequency was.

/proc counts CPU time in steps of 10 ms, so a share over one short tick is mostly noise. A window lasts at
least a second and holds at least 50 steps of the machine's CPU time; a shorter run is one window.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from emt_cli.model import CpuTime, LateCpu, Sample

SHORTEST_WINDOW_S = 1.0
FEWEST_STEPS = 50
CLOCK_TICK_S = 0.01
"""USER_HZ is 100 on every architecture that emt runs on (proc(5))."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """One stretch: joules by channel, CPU seconds of the tree and of the machine. None: not known."""

    duration_s: float
    energy_j: tuple[float | None, ...]
    cpu_tree_s: float | None
    cpu_machine_s: float | None


@dataclass(frozen=True, slots=True)
class _Edge:
    """Everything cumulative at one instant; a channel that was not read there keeps its last value."""

    t_s: float
    energy_j: tuple[float | None, ...]
    cpu_tree_s: float | None
    cpu_machine_s: float | None


def windows(samples: Iterable[Sample], cpu: CpuTime) -> Iterator[Window]:
    """Cut a run into windows; their sums are the run's.

    CPU time that was learnt late is spread over the time in which it was spent, and the running series is
    stretched to what the best witness knew in the end. A last stretch that is too short joins the window
    before it.
    """
    stretch = _stretch(cpu)
    start: _Edge | None = None
    held: _Edge | None = None
    last: _Edge | None = None
    for edge, is_boundary in _edges(samples, cpu.late, stretch):
        last = edge
        if start is None:
            start = edge
        elif not is_boundary:
            continue
        elif held is None:
            held = edge if _is_long_enough(start, edge) else None
        elif _is_long_enough(held, edge):
            yield _between(start, held)
            start, held = held, edge
    if start is not None and last is not None and last.t_s > start.t_s:
        yield _between(start, last)


def _stretch(cpu: CpuTime) -> float:
    if cpu.tree_s is None or not cpu.series_s:
        return 1.0
    return cpu.tree_s / cpu.series_s


def _edges(
    samples: Iterable[Sample], late: Sequence[LateCpu], stretch: float
) -> Iterator[tuple[_Edge, bool]]:
    """Each sample as an edge, and whether CPU time and every living channel were read there."""
    energy_j: tuple[float | None, ...] = ()
    tree_s = machine_s = None
    for sample in samples:
        is_complete = sample.cpu_tree_s is not None or sample.cpu_machine_s is not None
        if energy_j and None in sample.energy_j:
            is_complete = is_complete and not any(
                new is None and old is not None for new, old in zip(sample.energy_j, energy_j, strict=True)
            )
            energy_j = tuple(
                old if new is None else new for new, old in zip(sample.energy_j, energy_j, strict=True)
            )
        else:
            energy_j = sample.energy_j
        tree_s = tree_s if sample.cpu_tree_s is None else sample.cpu_tree_s
        machine_s = machine_s if sample.cpu_machine_s is None else sample.cpu_machine_s
        spent_s = None if tree_s is None else tree_s * stretch + _not_yet_learnt(sample.t_s, late)
        yield _Edge(sample.t_s, energy_j, spent_s, machine_s), is_complete


def _not_yet_learnt(t_s: float, late: Sequence[LateCpu]) -> float:
    """CPU seconds that had been spent by `t_s` and were learnt afterwards."""
    total_s = 0.0
    for item in late:
        if item.start_s < t_s < item.end_s:
            total_s += item.cpu_s * (t_s - item.start_s) / (item.end_s - item.start_s)
    return total_s


def _is_long_enough(start: _Edge, end: _Edge) -> bool:
    if end.t_s - start.t_s < SHORTEST_WINDOW_S:
        return False
    if start.cpu_machine_s is None or end.cpu_machine_s is None:
        return True
    return end.cpu_machine_s - start.cpu_machine_s >= FEWEST_STEPS * CLOCK_TICK_S


def _between(start: _Edge, end: _Edge) -> Window:
    # A channel counts from its first reading, so before it there is nothing: 0.
    joules = tuple(
        None if after is None else after - (before or 0.0)
        for before, after in zip(start.energy_j, end.energy_j, strict=True)
    )
    return Window(
        duration_s=end.t_s - start.t_s,
        energy_j=joules,
        cpu_tree_s=_difference(start.cpu_tree_s, end.cpu_tree_s),
        cpu_machine_s=_difference(start.cpu_machine_s, end.cpu_machine_s),
    )


def _difference(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else end - start
