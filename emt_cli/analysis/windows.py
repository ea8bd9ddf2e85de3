"""The stretches of time over which energy is shared out, whatever the sampling frequency was.

/proc counts CPU time in steps of 10 ms, so a share over one short tick is mostly noise. A window is made of
whole seconds of the run, so that any frequency from 1 Hz on cuts at the same instants, and holds at least 50
steps of the machine's CPU time; a shorter run is one window.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import ceil, inf
from typing import NamedTuple

from emt_cli.model import CpuTime, LateCpu, Sample

SHORTEST_WINDOW_S = 1.0
FEWEST_STEPS = 50
CLOCK_TICK_S = 0.01
"""USER_HZ is 100 on every architecture that emt runs on (proc(5))."""
_EARLY_S = 0.0005
"""A tick may stand so long before its second: rounding, and the middle of a reading that takes a moment."""
_PATIENCE_S = 5.0
"""How long a window waits for a reading of every channel: a sensor may be slow, or stuck for good."""

Joules = tuple[float | None, ...]


class Window(NamedTuple):
    """One stretch: joules by channel, CPU seconds of the tree and of the machine. None: not known."""

    start_s: float
    duration_s: float
    energy_j: Joules
    cpu_tree_s: float | None
    cpu_machine_s: float | None


class _Edge(NamedTuple):
    """Everything cumulative at one instant; a channel that was not read there keeps its last value."""

    t_s: float
    energy_j: Joules
    cpu_tree_s: float | None
    cpu_machine_s: float | None


def windows(samples: Iterable[Sample], cpu: CpuTime) -> Iterator[Window]:
    """Cut a run into windows; their sums are the run's.

    CPU time that was learnt late is spread over the time in which it was spent, and the running series is
    stretched to what the best witness knew in the end; a run whose samples tell none is one window with
    the CPU time that is known of it as a whole. A last stretch that is too short joins the window before.
    """
    start: _Edge | None = None
    held: _Edge | None = None
    last: _Edge | None = None
    for last in _edges(samples, cpu):
        if start is None:
            start = last
        elif held is None:
            held = last if _is_long_enough(start, last) else None
        elif _is_long_enough(held, last):
            yield _between(start, held)
            start, held = held, last
    if start is not None and last is not None and last.t_s > start.t_s:
        yield _between(start, last)


def carried(new: Joules, old: Joules) -> Joules:
    """The newest value of every channel: what was not read now is as it was."""
    if None not in new or not old:
        return new
    return tuple([before if now is None else now for now, before in zip(new, old, strict=True)])


def _edges(samples: Iterable[Sample], cpu: CpuTime) -> Iterator[_Edge]:
    """The first sample, then of each second the first one where everything was read, then the last."""
    clock = _TreeClock(cpu)
    joules: Joules = ()
    machine_s: float | None = None
    due_s = -inf
    sample = cut = None
    for sample in samples:
        joules = carried(sample.energy_j, joules)
        if (tree_s := sample.cpu_tree_s) is not None:
            clock.read_s = tree_s
        if sample.cpu_machine_s is not None:
            machine_s = sample.cpu_machine_s if machine_s is None else max(machine_s, sample.cpu_machine_s)
        if sample.t_s < due_s:
            continue
        is_told = tree_s is not None and (sample.cpu_machine_s is not None or machine_s is None)
        is_read = joules == sample.energy_j or sample.t_s >= due_s + _PATIENCE_S
        if cut is None or (clock.is_told and is_told and is_read):
            cut = sample
            yield _Edge(sample.t_s, joules, clock.spent_by(sample.t_s), machine_s)
            due_s = ceil(sample.t_s - CLOCK_TICK_S) + SHORTEST_WINDOW_S - _EARLY_S
    if sample is not None and sample is not cut:
        machine_s = cpu.machine_s if machine_s is None else machine_s
        yield _Edge(sample.t_s, joules, clock.spent_in_all(sample.t_s), machine_s)


class _TreeClock:
    """The tree's CPU seconds up to an instant: what was read, stretched, and what was learnt only later.

    Asked in the order of time; never runs backwards, nor beyond what the tree spent in all.
    """

    def __init__(self, cpu: CpuTime) -> None:
        self.read_s: float | None = None
        self.is_told = cpu.series_s != 0 or not cpu.tree_s
        """False where some witness knew of CPU time, but none while the run went on."""
        self._total_s = cpu.tree_s
        self._stretch = cpu.tree_s / cpu.series_s if cpu.tree_s is not None and cpu.series_s else 1.0
        self._ahead = sorted(
            (item for item in cpu.late if item.end_s > item.start_s), key=lambda item: -item.start_s
        )
        self._open: list[LateCpu] = []
        self._spent_s = 0.0

    def spent_by(self, t_s: float) -> float | None:
        if self.read_s is None or not self.is_told:
            return None
        spent_s = (self.read_s + self._not_yet_learnt(t_s)) * self._stretch
        if self._total_s is not None:
            spent_s = min(spent_s, self._total_s)
        self._spent_s = max(self._spent_s, spent_s)
        return self._spent_s

    def spent_in_all(self, end_s: float) -> float | None:
        spent_s = self.spent_by(end_s)
        return self._total_s if spent_s is None else spent_s

    def _not_yet_learnt(self, t_s: float) -> float:
        """CPU seconds that had been spent by `t_s` and were learnt afterwards."""
        while self._ahead and self._ahead[-1].start_s < t_s:
            self._open.append(self._ahead.pop())
        if self._open:
            self._open = [item for item in self._open if item.end_s > t_s]
        return sum(item.cpu_s * (t_s - item.start_s) / (item.end_s - item.start_s) for item in self._open)


def _is_long_enough(start: _Edge, end: _Edge) -> bool:
    if end.t_s - start.t_s < SHORTEST_WINDOW_S - 2 * CLOCK_TICK_S:
        return False
    if start.cpu_machine_s is None or end.cpu_machine_s is None:
        return True
    return end.cpu_machine_s - start.cpu_machine_s >= FEWEST_STEPS * CLOCK_TICK_S


def _between(start: _Edge, end: _Edge) -> Window:
    """What a cumulative value gained; before its first reading there was nothing."""
    return Window(
        start_s=start.t_s,
        duration_s=end.t_s - start.t_s,
        energy_j=tuple(
            [
                None if after is None else after - (before or 0.0)
                for before, after in zip(start.energy_j, end.energy_j, strict=True)
            ]
        ),
        cpu_tree_s=None if end.cpu_tree_s is None else end.cpu_tree_s - (start.cpu_tree_s or 0.0),
        cpu_machine_s=None if end.cpu_machine_s is None else end.cpu_machine_s - (start.cpu_machine_s or 0.0),
    )
