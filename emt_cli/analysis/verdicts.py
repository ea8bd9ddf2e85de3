"""One quantity of a run against the same of another: the relative change, its interval, and a verdict.

Apart from `comparison` because it knows figures only, neither runs nor hosts. Repeated runs are judged by
the statistics of `difference`; plain runs have no scatter, and their own uncertainties say whether they can
be told apart at all, which is less than to know that one is better.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from emt_cli.analysis.difference import LEVEL, Difference, difference, holm
from emt_cli.analysis.figures import Figure
from emt_cli.values import Value

Verdict = Literal["less", "more", "same", "unresolved", "few", "apart", "overlap", "zero", "unknown"]
"""less, more: significantly. same: no significant difference. unresolved: one, but below the counters' step.
few: one or two executions on a side, an interval but no verdict. apart, overlap: one run each, whose
uncertainties do or do not keep them apart. zero: no ratio can be told. unknown: a side has no figure."""

_FEWEST = 3
"""Executions on either side that a verdict needs (see `difference`); pairs need two."""


class Compared(Value):
    """One quantity of the first run (`a`) and of another (`b`). `relative` (-0.03: 3 % less than the first)
    has the interval `low` to `high`; None: not known."""

    name: str
    """The metric, or the device."""
    unit: str
    a: Figure | None
    b: Figure | None
    verdict: Verdict
    relative: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    method: str = "none"

    @property
    def is_beyond(self) -> bool:
        """Whether the difference is more than chance and uncertainty can explain, however few the runs."""
        if self.verdict == "few":
            return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)
        return self.verdict in ("less", "more", "apart")


class Side(Value):
    """The other run's figure, the step below which a difference to the first is none, and whether the two
    runs' executions are pairs."""

    figure: Figure | None
    resolution: float
    is_paired: bool


def judge(name: str, unit: str, first: Figure | None, others: Sequence[Side]) -> list[Compared]:
    """The others against the first, judged together: `LEVEL` holds for all verdicts at once (Holm 1979)."""
    rows = [_compared(name, unit, first, other) for other in others]
    open_ones = [at for at, row in enumerate(rows) if row.verdict == "same"]
    samples = [(*_values(rows[at]), others[at].is_paired) for at in open_ones]
    for at, found in zip(open_ones, _differences(samples), strict=True):
        rows[at] = _told(rows[at], found, others[at])
    return rows


def _compared(name: str, unit: str, a: Figure | None, other: Side) -> Compared:
    """What can be told without statistics; `same` stands for what they have to judge."""
    b = other.figure
    row = Compared(name=name, unit=unit, a=a, b=b, verdict="unknown")
    if a is None or b is None:
        return row
    if min(*a.values, *b.values) <= 0:
        return replace(row, verdict="zero")
    row = replace(row, relative=b.mean / a.mean - 1)
    if len(a.values) == len(b.values) == 1:
        return _of_single_runs(row, a, b, other.resolution)
    return replace(row, verdict="same")


def _of_single_runs(row: Compared, a: Figure, b: Figure, resolution: float) -> Compared:
    """Two values, each somewhere in its own interval. Without one nothing can be kept apart."""
    row = replace(row, verdict="overlap")
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return row
    low = b.low / a.high - 1 if a.high > 0 else None
    high = b.high / a.low - 1 if a.low > 0 else None
    is_apart = (a.high < b.low or b.high < a.low) and abs(b.mean - a.mean) > resolution
    return replace(row, low=low, high=high, verdict="apart" if is_apart else "overlap")


def _values(row: Compared) -> tuple[tuple[float, ...], tuple[float, ...]]:
    assert row.a is not None and row.b is not None, "rows without a figure are not judged"
    return row.a.values, row.b.values


Samples = tuple[Sequence[float], Sequence[float], bool]
"""Two samples, and whether they are pairs."""


def _differences(several: Sequence[Samples]) -> list[Difference]:
    """The differences, significant by Holm's method; each interval at the level at which its verdict fell, so
    that it excludes 0 where the verdict is a difference, and only there."""
    found = [difference(a, b, pairs=pairs) for a, b, pairs in several]
    judged = [at for at, (a, b, pairs) in enumerate(several) if _is_enough(len(a), len(b), is_paired=pairs)]
    raised = dict(zip(judged, holm([_p(found[at]) for at in judged]), strict=True))
    ranked = sorted(judged, key=lambda at: _p(found[at]))
    significant = [at for at in ranked if raised[at] <= LEVEL]
    for rank, at in enumerate(ranked):
        a, b, pairs = several[at]
        level = LEVEL / (len(ranked) - min(rank, len(significant), len(ranked) - 1))
        told = difference(a, b, pairs=pairs, level=level)
        found[at] = replace(told, p=raised[at], is_significant=at in significant)
    return found


def _p(found: Difference) -> float:
    return 1.0 if found.p is None else found.p


def _is_enough(a: int, b: int, *, is_paired: bool) -> bool:
    return is_paired or min(a, b) >= _FEWEST


def _told(row: Compared, found: Difference, other: Side) -> Compared:
    a, b = _values(row)
    verdict: Verdict = "same"
    if not _is_enough(len(a), len(b), is_paired=other.is_paired):
        verdict = "few"
    elif found.is_significant:
        verdict = "less" if found.relative < 0 else "more"
    row = replace(
        row,
        verdict=verdict,
        relative=found.relative,
        low=found.low,
        high=found.high,
        p=found.p,
        method=found.method,
    )
    is_resolved = row.a is None or row.b is None or abs(row.b.mean - row.a.mean) > other.resolution
    return row if is_resolved or not row.is_beyond else replace(row, verdict="unresolved")
