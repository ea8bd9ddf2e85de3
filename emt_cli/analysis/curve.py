"""The power curve: mean power over at most so many stretches of the run, for a picture of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from emt_cli.model import CurvePoint, Sample

POINTS = 120


class Curve:
    """Thins a run while its samples pass by: `watch` hands every sample on untouched."""

    def __init__(self, counted: Sequence[int], duration_s: float, points: int = POINTS) -> None:
        self._counted = counted
        self._step_s = duration_s / points
        self._next_s = 0.0
        self._edges: list[tuple[float, float, float, float]] = []
        self._energy_j: list[float] = [0.0] * len(counted)
        self._tree_s = self._machine_s = 0.0
        self._last_s = 0.0

    def watch(self, samples: Iterable[Sample]) -> Iterator[Sample]:
        for sample in samples:
            for place, index in enumerate(self._counted):
                value = sample.energy_j[index]
                if value is not None:
                    self._energy_j[place] = value
            self._tree_s = self._tree_s if sample.cpu_tree_s is None else sample.cpu_tree_s
            self._machine_s = self._machine_s if sample.cpu_machine_s is None else sample.cpu_machine_s
            self._last_s = sample.t_s
            if sample.t_s >= self._next_s:
                self._mark()
            yield sample
        self._mark()

    def points(self) -> tuple[CurvePoint, ...]:
        found = []
        for (t0, joules0, tree0, machine0), (t1, joules1, tree1, machine1) in zip(
            self._edges, self._edges[1:], strict=False
        ):
            if t1 > t0:
                watts = (joules1 - joules0) / (t1 - t0)
                share = min(1.0, (tree1 - tree0) / (machine1 - machine0)) if machine1 > machine0 else 0.0
                found.append(CurvePoint(t_s=t1, machine_w=watts, attributed_w=watts * max(0.0, share)))
        return tuple(found)

    def _mark(self) -> None:
        self._edges.append((self._last_s, sum(self._energy_j), self._tree_s, self._machine_s))
        self._next_s = self._last_s + self._step_s
