"""A run's energy shared out among stretches of it: the tests of a session, the windows of a meter.

Stretches may last milliseconds, where CPU accounting of the machine comes in steps of 10 ms and sensors are
read ten times a second. So nothing is measured anew; what the run was attributed is divided:

- Channels that CPU time shares out: window by window (at least 1 s, see `windows`), in proportion to the CPU
  seconds of each stretch, by its own exact clock, in all CPU seconds of the tree in that window. Within a
  window every CPU second costs the same.
- Devices (GPUs): between two samples, in proportion to the time that each stretch takes of it.

What no stretch can claim stays outside of them, and the parts are never more than the whole: stretches and
the rest add up to what the run was attributed. Stretches that run side by side (workers) share as well.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from emt_cli.analysis.windows import Window, carried, windows
from emt_cli.model import ChannelEnergy, Run
from emt_cli.values import Value

COARSE_S = 0.05
"""A shorter stretch is half a period of the usual 10 Hz: its own power was never seen."""
_BY_CPU = frozenset({"cpu_share", "capacity_share"})


class Stretch(NamedTuple):
    """A part of a run, on the run's own time line, and the CPU seconds that were spent for it."""

    start_s: float
    end_s: float
    cpu_s: float

    @property
    def is_coarse(self) -> bool:
        return self.end_s - self.start_s < COARSE_S


class Share(Value):
    """Joules of a stretch; None where the run's are not known. The interval is the run's, in proportion."""

    energy_j: float | None = None
    low_j: float | None = None
    high_j: float | None = None
    is_coarse: bool = False


class _Cell(NamedTuple):
    """A stretch of the run whose joules are divided, and the CPU seconds of the tree in it."""

    start_s: float
    end_s: float
    joules: float
    cpu_s: float


class Division:
    """One run to be divided, made once for many questions; the run must have its results."""

    def __init__(self, run: Run) -> None:
        self._energy = run.energy
        is_known = run.energy is not None and run.energy.attributed_j is not None
        self._by_cpu = _by_window(run) if is_known else []
        self._by_time = _by_sample(run) if is_known else []

    def among(self, stretches: Sequence[Stretch]) -> tuple[Share, ...]:
        """What each of them gets of `run.energy.attributed_j`, all together no more than that."""
        energy = self._energy
        if energy is None or energy.attributed_j is None:
            return tuple(Share(is_coarse=each.is_coarse) for each in stretches)
        joules = [0.0] * len(stretches)
        _divide(self._by_cpu, stretches, joules, is_by_cpu=True)
        _divide(self._by_time, stretches, joules, is_by_cpu=False)
        whole_j = energy.attributed_j
        low = 1.0 if energy.low_j is None or whole_j <= 0 else energy.low_j / whole_j
        high = 1.0 if energy.high_j is None or whole_j <= 0 else energy.high_j / whole_j
        return tuple(
            Share(energy_j=part_j, low_j=part_j * low, high_j=part_j * high, is_coarse=each.is_coarse)
            for each, part_j in zip(stretches, joules, strict=True)
        )


def _by_window(run: Run) -> list[_Cell]:
    """The tree's joules of every window, of the channels that CPU time shares out."""
    cut = list(windows(run.samples, run.cpu_time))
    if not cut and run.duration_s > 0:
        cut = [Window(0.0, run.duration_s, _observed(run), run.cpu_time.tree_s, run.cpu_time.machine_s)]
    joules = [0.0] * len(cut)
    for index, row in _rows(run):
        if row.rule not in _BY_CPU:
            continue
        weights = [(window.energy_j[index] or 0.0) * _busy_share(run, window) for window in cut]
        if sum(weights) <= 0:
            weights = [window.duration_s for window in cut]
        scale = (row.attributed_j or 0.0) / sum(weights)
        for number, weight in enumerate(weights):
            joules[number] += weight * scale
    return [
        _Cell(window.start_s, window.start_s + window.duration_s, part_j, window.cpu_tree_s or 0.0)
        for window, part_j in zip(cut, joules, strict=True)
    ]


def _observed(run: Run) -> tuple[float | None, ...]:
    seen = {each.channel: each.energy_j for each in run.observed}
    return tuple(seen.get(channel.id) for channel in run.channels)


def _busy_share(run: Run, window: Window) -> float:
    """The tree's share of a window's busy time, as in `attribution`; the sums are scaled to its results."""
    machine_s = window.cpu_machine_s
    if machine_s is None:
        machine_s = max(1, run.cpu_time.logical_cpus) * window.duration_s
    return min(1.0, (window.cpu_tree_s or 0.0) / machine_s) if machine_s > 0 else 0.0


def _by_sample(run: Run) -> list[_Cell]:
    """The tree's joules of the devices between every two samples; nothing where there are no such devices."""
    devices = [(index, row) for index, row in _rows(run) if row.rule not in _BY_CPU]
    if not devices:
        return []
    marks: list[tuple[float, tuple[float | None, ...]]] = []
    for sample in run.samples:
        marks.append((sample.t_s, carried(sample.energy_j, marks[-1][1] if marks else ())))
    spans = [(old, new) for old, new in pairwise(marks) if new[0] > old[0]]
    joules = [0.0] * len(spans)
    for index, row in devices:
        steps = [(new[index] or 0.0) - (old[index] or 0.0) for (_, old), (_, new) in spans]
        whole_j = sum(steps)
        scale = (row.attributed_j or 0.0) / whole_j if whole_j > 0 else 0.0
        joules = [before + step * scale for before, step in zip(joules, steps, strict=True)]
    ends = [(old_s, new_s) for (old_s, _), (new_s, _) in spans]
    return [_Cell(*times, part_j, 0.0) for times, part_j in zip(ends, joules, strict=True)]


def _rows(run: Run) -> Iterator[tuple[int, ChannelEnergy]]:
    """The counted channels whose share is known, each with its place in the samples."""
    places = {channel.id: index for index, channel in enumerate(run.channels)}
    for row in run.energy.channels if run.energy is not None else ():
        if row.is_counted and row.attributed_j is not None and row.id in places:
            yield places[row.id], row


def _divide(
    cells: Sequence[_Cell], stretches: Sequence[Stretch], joules: list[float], *, is_by_cpu: bool
) -> None:
    """Add each stretch's part of every cell to `joules`."""
    starts = [cell.start_s for cell in cells]
    claims: list[list[tuple[int, float]]] = [[] for _ in cells]
    for index, stretch in enumerate(stretches):
        for place, amount in _claims(stretch, cells, starts, is_by_cpu=is_by_cpu):
            claims[place].append((index, amount))
    for cell, claimed in zip(cells, claims, strict=True):
        all_there_is = cell.cpu_s if is_by_cpu else cell.end_s - cell.start_s
        whole = max(all_there_is, sum(amount for _, amount in claimed))
        for index, amount in claimed:
            joules[index] += cell.joules * amount / whole if whole > 0 else 0.0


def _claims(
    stretch: Stretch, cells: Sequence[_Cell], starts: Sequence[float], *, is_by_cpu: bool
) -> list[tuple[int, float]]:
    """What a stretch claims of each cell that it lies in: its CPU seconds, spread as the tree's were over the
    time; or its seconds."""
    found: list[tuple[int, float]] = []
    place = max(0, bisect_right(starts, stretch.start_s) - 1)
    while place < len(cells) and cells[place].start_s <= stretch.end_s:
        cell = cells[place]
        seconds = min(cell.end_s, stretch.end_s) - max(cell.start_s, stretch.start_s)
        if seconds > 0:
            found.append((place, seconds))
        place += 1
    if not is_by_cpu:
        return found
    weights = [seconds * cells[at].cpu_s / (cells[at].end_s - cells[at].start_s) for at, seconds in found]
    if sum(weights) <= 0:
        weights = [seconds for _, seconds in found]
    whole = sum(weights)
    return [(at, stretch.cpu_s * weight / whole) for (at, _), weight in zip(found, weights, strict=True)]
