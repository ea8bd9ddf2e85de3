"""Whether two samples really differ, and by how much: a relative change, its interval, a verdict.

The promise is that at most 5 % of comparisons of equal things find a difference, with drift and outliers
in the data, if the two were interleaved so that either is first as often (A B B A A B B A ...). It is kept
with a margin: `LEVEL` is 3 %, since choosing the method by the data, trimming short samples and rounding
each let a little more through than theory says. The tests hold it to the promise.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal

from emt_cli.analysis.statistics import OUTLIER, Center, center, checked, mean, outliers, squares
from emt_cli.analysis.student import critical, two_sided_p
from emt_cli.values import Value

LEVEL = 0.03
"""A difference is significant if its p is not above this; the interval then excludes 0."""
_FAR_OUTLIER = 2 * OUTLIER
"""From here on a comparison trims. At 3.5, one clean sample of ten in eight would be trimmed, and the
choice between two methods by the same data would cost 1.5 % more false verdicts; at 7 it costs 0.4 %."""
_TRIM = 0.2
"""Share cut off at either end: the usual compromise (Wilcox, Robust Estimation, 2012, section 4.1)."""
_FEWEST_TO_TRIM = 6
"""Of five values three would be left, whose Winsorized variance is too often too small."""
_FEWEST_UNPAIRED = 3
"""With fewer on a side no verdict: one of two values in five would be an outlier where one in ten is."""
_FEW = 5
"""Fewer values may lie close together by chance, and Welch's t would be too sure (5 % with 3 against 20)."""
_ROUNDING = 1e-12
"""Ratios this near to 1 differ by the arithmetic alone, as 0.1 + 0.2 does from 0.3."""
_LARGEST_LOG_RATIO = 700.0
"""Its exponential is still finite: an interval that knows nothing ends there, not at infinity."""

Method = Literal["paired t", "paired trimmed t", "Welch t", "Yuen t", "pooled t", "none"]


class Difference(Value):
    """How much more or less the second sample is than the first, relative to the first (-0.03: 3 % less)."""

    relative: float
    low: float | None
    """The interval holds the true difference in at least 95 of 100 cases; None: the scatter is not known."""
    high: float | None
    is_significant: bool
    p: float | None
    method: Method


def difference(a: Iterable[float], b: Iterable[float], *, pairs: bool, level: float = LEVEL) -> Difference:
    """The relative change from `a` to `b`, with its interval and whether it is more than chance.

    Works on logarithms: noise and drift of energy are relative, so a ratio of (geometric) means is the
    natural estimate, and swapping a and b only turns its sign. All values must be above 0.

    With `pairs`, a[i] and b[i] were measured one after the other, first and second place alternating: what
    drifts more slowly than a pair takes cancels. Student's t over the pairs; with a far outlier the t of
    Tukey & McLaughlin (Sankhya A 25, 1963) over their 20 % trimmed mean. Without pairs, Welch's t
    (Biometrika 34, 1947), with a far outlier Yuen's (Biometrika 61, 1974); neither is proof against drift.

    One or two values without pairs borrow the others' scatter (Student's pooled t). They get an interval,
    but no verdict: they may be outliers themselves, and nothing could tell. One against one gets neither.

    A smaller `level` serves several comparisons at once (Bonferroni: LEVEL / how many; `holm` finds more).
    Values without any scatter (a coarse counter, a model) differ significantly if they differ at all: the
    caller knows the resolution. Raises ValueError for what is empty, not above 0, not finite, or unpaired.
    """
    logs_a, logs_b = _logs(a), _logs(b)
    if pairs and len(logs_a) != len(logs_b):
        raise ValueError(f"pairs need samples of one length, not {len(logs_a)} and {len(logs_b)}")
    if len(logs_a) == len(logs_b) == 1:
        only = _ratio_less_one(logs_b[0] - logs_a[0])
        return Difference(relative=only, low=None, high=None, is_significant=False, p=None, method="none")
    if pairs:
        method, change = _of_pairs([after - before for before, after in zip(logs_a, logs_b, strict=True)])
    else:
        method, change = _of_two(logs_a, logs_b)
    p, half = _test(change, level)
    return Difference(
        relative=_ratio_less_one(change.mean),
        low=_ratio_less_one(change.mean - half),
        high=_ratio_less_one(change.mean + half),
        is_significant=p <= level and (pairs or min(len(logs_a), len(logs_b)) >= _FEWEST_UNPAIRED),
        p=p,
        method=method,
    )


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """The p of several comparisons, raised so that LEVEL holds for all of them together.

    Holm's step-down method (Scandinavian Journal of Statistics 6, 1979). Give it every comparison that
    could have been reported: where commands are compared with the best one, and the data said which is the
    best, that is each pair of commands, not only the pairs with the best.
    """
    if not all(0 <= p <= 1 for p in p_values):
        raise ValueError(f"a p value lies between 0 and 1: {list(p_values)}")
    raised = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min((len(p_values) - rank) * p_values[index], 1.0))
        raised[index] = largest
    return tuple(raised)


def _of_pairs(ratios: list[float]) -> tuple[Method, Center]:
    cut = _to_cut(ratios)
    return "paired trimmed t" if cut else "paired t", center(ratios, cut=cut)


def _of_two(a: list[float], b: list[float]) -> tuple[Method, Center]:
    few = min(len(a), len(b))
    if few < _FEWEST_UNPAIRED:
        return "pooled t", _pooled(a, b)
    cut_a, cut_b = _to_cut(a), _to_cut(b)
    if not cut_a and not cut_b:
        welch = _change(center(a), center(b))
        least = _pooled(a, b).squared_error if few < _FEW else 0.0
        return "Welch t", welch._replace(squared_error=max(welch.squared_error, least))
    # trimmed on both sides: what is compared must be the same thing
    return "Yuen t", _change(center(a, cut=_cut_of(a)), center(b, cut=_cut_of(b)))


def _change(a: Center, b: Center) -> Center:
    """Degrees of freedom by Satterthwaite (Biometrics Bulletin 2, 1946), from shares: nothing underflows."""
    squared_error = a.squared_error + b.squared_error
    share = a.squared_error / squared_error if squared_error else 0.5
    df = 1 / (share**2 / a.df + (1 - share) ** 2 / b.df)
    return Center(b.mean - a.mean, squared_error, df)


def _pooled(a: list[float], b: list[float]) -> Center:
    """Student's two-sample t: both sides are taken to scatter alike."""
    df = len(a) + len(b) - 2
    variance = (squares(a) + squares(b)) / df
    return Center(mean(b) - mean(a), variance * (1 / len(a) + 1 / len(b)), df)


def _to_cut(values: list[float]) -> int:
    """How many to cut off at either end; none without a far outlier, or if the rest would not scatter."""
    cut = _cut_of(values)
    if not cut or not outliers(values, _FAR_OUTLIER):
        return 0
    ordered = sorted(values)
    return cut if ordered[cut] < ordered[-1 - cut] else 0


def _cut_of(values: list[float]) -> int:
    return int(_TRIM * len(values)) if len(values) >= _FEWEST_TO_TRIM else 0


def _test(change: Center, level: float) -> tuple[float, float]:
    """p of the change being 0, and half the width of its interval at 1 - `level`."""
    error = math.sqrt(change.squared_error)
    if error <= _ROUNDING:
        return (1.0, abs(change.mean)) if abs(change.mean) <= _ROUNDING else (0.0, 0.0)
    return two_sided_p(change.mean / error, change.df), critical(level, change.df) * error


def _logs(values: Iterable[float]) -> list[float]:
    sample = checked(values)
    if min(sample) <= 0:
        raise ValueError(f"a relative difference needs values above 0, not {min(sample):g}")
    return [math.log(each) for each in sample]


def _ratio_less_one(log_ratio: float) -> float:
    return math.expm1(min(log_ratio, _LARGEST_LOG_RATIO))
