"""What repeated measurements are worth: a mean with its interval, and which values stand apart.

Pure functions over plain numbers, without scipy; every method is named with its source where it is used.
`difference` builds on the same arithmetic and says whether two samples really differ.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from emt_cli.analysis.student import critical
from emt_cli.values import Value

CONFIDENCE = 0.95
"""Of the interval of a mean."""
OUTLIER = 3.5
"""Modified z-score from which a value is reported as an outlier (Iglewicz & Hoaglin 1993)."""
_LARGEST = 1e100
"""No energy, time or power is larger; squares of larger numbers would overflow."""


class Summary(Value):
    """A sample in a few numbers. One value has no scatter and no interval: None, not 0."""

    n: int
    mean: float
    sd: float | None = None
    """With n - 1 in the denominator."""
    sem: float | None = None
    low: float | None = None
    """The 95 % confidence interval of the mean."""
    high: float | None = None
    min: float
    max: float
    median: float
    outliers: tuple[int, ...] = ()
    """Which values stand far from the others, counted from 0."""


class Center(NamedTuple):
    """A mean, its squared standard error, and the degrees of freedom of the latter."""

    mean: float
    squared_error: float
    df: float


def summary(values: Iterable[float]) -> Summary:
    """Mean with Student's t interval (Student 1908), and outliers; ValueError if empty or not finite."""
    sample = checked(values)
    least, most, middle = min(sample), max(sample), median(sample)
    if len(sample) == 1:
        return Summary(n=1, mean=middle, min=least, max=most, median=middle)
    found = center(sample)
    sem = math.sqrt(found.squared_error)
    half = critical(1 - CONFIDENCE, found.df) * sem
    return Summary(
        n=len(sample),
        mean=found.mean,
        sd=sem * math.sqrt(len(sample)),
        sem=sem,
        low=found.mean - half,
        high=found.mean + half,
        min=least,
        max=most,
        median=middle,
        outliers=outliers(sample),
    )


def outliers(values: Iterable[float], threshold: float = OUTLIER) -> tuple[int, ...]:
    """Indices of the values whose modified z-score exceeds the threshold.

    Iglewicz & Hoaglin, How to Detect and Handle Outliers (1993): 0.6745 |x - median| / MAD > 3.5. Where more
    than half of the values are equal the MAD is 0 and tells nothing; then the mean absolute deviation takes
    its place with its own factor, sqrt(pi / 2) (so does IBM SPSS). Of two values neither is one.
    """
    sample = checked(values)
    middle = median(sample)
    deviations = [abs(each - middle) for each in sample]
    scale = median(deviations) / 0.6745 or math.sqrt(math.pi / 2) * mean(deviations)
    if scale == 0:
        return ()
    return tuple(index for index, each in enumerate(deviations) if each / scale > threshold)


def center(values: list[float], *, cut: int = 0) -> Center:
    """Mean without the `cut` smallest and largest, and its error from the Winsorized deviations.

    Yuen (Biometrika 61, 1974): squared error = SSD_w / (h (h - 1)) with h values left, two at
    least. Without a cut that is s² / n.
    """
    ordered = sorted(values)
    middle = ordered[cut : len(ordered) - cut]
    left = len(middle)
    winsorized = [middle[0]] * cut + middle + [middle[-1]] * cut
    return Center(mean(middle), squares(winsorized) / (left * (left - 1)), left - 1)


def mean(values: list[float]) -> float:
    """Never outside the values, which rounding could achieve."""
    return min(max(math.fsum(values) / len(values), min(values)), max(values))


def squares(values: list[float]) -> float:
    """The sum of the squared deviations from the mean."""
    middle = mean(values)
    return math.fsum((each - middle) * (each - middle) for each in values)


def median(values: list[float]) -> float:
    """The value in the middle, or the mean of the two there."""
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def checked(values: Iterable[float]) -> list[float]:
    """The values, of which there is one at least, all finite; else ValueError."""
    sample = [float(each) for each in values]
    if not sample:
        raise ValueError("no values")
    for each in sample:
        if not abs(each) <= _LARGEST:
            raise ValueError(f"not a number that can be measured: {each}")
    return sample
