"""The power curve: mean power over at most so many stretches of the run, for a picture of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from emt_cli.analysis.windows import Joules, carried
from emt_cli.model import CurvePoint, Sample

POINTS = 120


class _Edge(NamedTuple):
    t_s: float
    shared_j: float
    """Joules of what CPU time shares out."""
    device_j: float
    ours_j: float
    """Joules of the other devices, and the tree's part of them."""
    tree_s: float
    machine_s: float


class Curve:
    """Thins a run while its samples pass by: `watch` hands every sample on untouched.

    `shares` gives the tree's share of each counted channel by index; None where CPU time tells it.
    """

    def __init__(
        self, shares: Sequence[tuple[int, float | None]], duration_s: float, points: int = POINTS
    ) -> None:
        self._shared = [index for index, share in shares if share is None]
        self._devices = [(index, share) for index, share in shares if share is not None]
        self._step_s = duration_s / points
        self._most = 2 * points
        self._edges: list[_Edge] = []

    def watch(self, samples: Iterable[Sample]) -> Iterator[Sample]:
        joules: Joules = ()
        tree_s = machine_s = next_s = 0.0
        sample = None
        for sample in samples:
            joules = carried(sample.energy_j, joules)
            if sample.cpu_tree_s is not None:
                tree_s = sample.cpu_tree_s
            if sample.cpu_machine_s is not None:
                machine_s = sample.cpu_machine_s
            if sample.t_s >= next_s:
                self._mark(sample.t_s, joules, tree_s, machine_s)
                next_s = sample.t_s + self._step_s
            yield sample
        if sample is not None:
            self._mark(sample.t_s, joules, tree_s, machine_s)

    def points(self, attributed_j: float) -> tuple[CurvePoint, ...]:
        """The curve; `attributed_j` is what the tree got of the channels that CPU time shares out.

        Shares over so short stretches are coarse: they are scaled to add up to that.
        """
        spans = [(old, new) for old, new in pairwise(self._edges) if new.t_s > old.t_s]
        ours_j = list(_by_cpu_time(spans, attributed_j))
        return tuple(
            CurvePoint(
                t_s=new.t_s,
                machine_w=(new.shared_j + new.device_j - old.shared_j - old.device_j) / (new.t_s - old.t_s),
                attributed_w=(joules + new.ours_j - old.ours_j) / (new.t_s - old.t_s),
            )
            for (old, new), joules in zip(spans, ours_j, strict=True)
        )

    def _mark(self, t_s: float, joules: Joules, tree_s: float, machine_s: float) -> None:
        shared_j = sum(joules[index] or 0.0 for index in self._shared)
        device_j = sum(joules[index] or 0.0 for index, _ in self._devices)
        ours_j = sum((joules[index] or 0.0) * share for index, share in self._devices)
        self._edges.append(_Edge(t_s, shared_j, device_j, ours_j, tree_s, machine_s))
        if len(self._edges) > self._most:  # the run is longer than its record says
            del self._edges[1:-1:2]
            self._step_s *= 2


def _by_cpu_time(spans: Sequence[tuple[_Edge, _Edge]], total_j: float) -> Iterator[float]:
    """The tree's joules of each span, in proportion to energy x share of busy time; `total_j` in all."""
    weights = []
    share = 0.0
    for old, new in spans:
        busy_s = new.machine_s - old.machine_s
        if busy_s > 0:  # CPU time is read less often than some sensors: the last share holds on
            share = min(1.0, max(0.0, new.tree_s - old.tree_s) / busy_s)
        weights.append((new.shared_j - old.shared_j) * share)
    whole_j = sum(weights)
    if whole_j <= 0:
        weights = [new.shared_j - old.shared_j for old, new in spans]
        whole_j = sum(weights)
    scale = total_j / whole_j if whole_j > 0 else 0.0
    for (old, new), weight in zip(spans, weights, strict=True):
        yield min(new.shared_j - old.shared_j, weight * scale)
