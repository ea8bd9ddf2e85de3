"""A line through a run's own windows: what the machine drew at no load, and whether to believe it.

Where a run's windows range from nearly idle to busy, their power against the busy share of the CPUs is
about a line, and its intercept is the idle power that nobody measured. Apart from `statistics` because a
line always comes out: what matters here is the judgement, which names its reason when it says no.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from emt_cli.analysis.statistics import checked
from emt_cli.analysis.student import critical
from emt_cli.values import Value

FEWEST = 20
"""Windows. Below that the residuals say little about whether a line is right."""
NARROWEST_SPAN = 0.3
"""Of the busy share seen: less, and the slope is that of the noise."""
FARTHEST = 0.5
"""How far beyond the lowest share seen 0 may lie, as a part of the span seen: power is no line for ever."""
LEAST_R2 = 0.9
"""Share of the variance that the line explains. What else moves the power (clock, vector units, heat)
may have a tenth of it; with more, the intercept is the workload's, not the machine's."""
WIDEST = 0.1
"""The 95 % interval reaches at most this part of the intercept to either side: as sure as a meter that is
read for half a minute on a desktop which is never quite idle."""
MOST_BENT = 0.05
"""A parabola may meet no load at most this part away from the line. Clocks fall as more cores work, so power
often flattens towards full load, and a straight line then starts too high."""


class Fit(Value):
    """An ordinary least squares line y = intercept + slope x."""

    intercept: float
    slope: float
    intercept_low: float
    """The 95 % confidence interval of the intercept."""
    intercept_high: float
    r2: float
    n: int
    x_min: float
    x_max: float
    intercept_bent: float | None
    """Of the parabola through the same points; None where x has only two values, so that there is none."""


def fit(x: Sequence[float], y: Sequence[float]) -> Fit:
    """The line through windows in the order of time; ValueError for fewer than three, all at one x, or NaN.

    The interval is Student's t with n - 2 degrees of freedom (Draper & Smith, Applied Regression Analysis,
    3rd ed. 1998, section 1.4). Neighbouring windows resemble each other (heat, phases of the program), so
    it is widened by sqrt((1 + r) / (1 - r)), r the residuals' correlation with the next where positive: the
    effective number of values of a first-order process (Bayley & Hammersley, JRSS Supplement 8, 1946).
    """
    x, y = checked(x), checked(y)
    if len(x) != len(y):
        raise ValueError(f"as many x as y: {len(x)}, {len(y)}")
    line = _line(x, y) if len(x) >= 3 else None
    if line is None:
        raise ValueError("a line needs three windows or more, at different x")
    intercept, slope = line
    n, mean_x, mean_y = len(x), math.fsum(x) / len(x), math.fsum(y) / len(y)
    residuals = [each_y - intercept - slope * each_x for each_x, each_y in zip(x, y, strict=True)]
    unexplained = math.fsum(each * each for each in residuals)
    total = math.fsum((each - mean_y) ** 2 for each in y)
    spread_x = math.fsum((each - mean_x) ** 2 for each in x)
    error = math.sqrt(unexplained / (n - 2) * (1 / n + mean_x**2 / spread_x))
    half = critical(0.05, n - 2) * error * _widening(residuals, unexplained)
    return Fit(
        intercept=intercept,
        slope=slope,
        intercept_low=intercept - half,
        intercept_high=intercept + half,
        r2=1 - unexplained / total if total > 0 else 0.0,
        n=n,
        x_min=min(x),
        x_max=max(x),
        intercept_bent=_intercept_bent(x, residuals, intercept),
    )


def is_sound_fit(line: Fit) -> bool:
    """Whether the intercept may stand for the idle power; `why_unsound` says why not."""
    return why_unsound(line) is None


def why_unsound(line: Fit) -> str | None:
    """The first test that fails, as a sentence's end; None if the intercept can be believed.

    All must hold: enough windows, over enough of the range, near enough to idle; power that rises with the
    load from above 0; little else that moves it; a narrow interval; no bend.
    """
    span = line.x_max - line.x_min
    allowed = abs(line.intercept)
    if line.n < FEWEST:
        return f"{line.n} windows are too few, {FEWEST} are needed"
    if span < NARROWEST_SPAN:
        return f"the load varied by {span:.0%} of the CPUs only, {NARROWEST_SPAN:.0%} are needed"
    if line.x_min > FARTHEST * span:
        return f"the load never fell below {line.x_min:.0%}, too far from idle"
    if line.slope <= 0 or line.intercept <= 0:
        return "the power does not rise with the load from a level above 0"
    if line.r2 < LEAST_R2:
        return f"the load explains {line.r2:.0%} of the power's variance only, {LEAST_R2:.0%} are needed"
    if line.intercept_high - line.intercept > WIDEST * allowed:
        return f"the idle power is known to {(line.intercept_high - line.intercept) / allowed:.0%} only"
    if line.intercept_bent is None:
        return "only two loads were seen, between which a bend would not show"
    if abs(line.intercept_bent - line.intercept) > MOST_BENT * allowed:
        return "power against load is bent, so a line does not meet the idle power"
    return None


def _line(x: Sequence[float], y: Sequence[float]) -> tuple[float, float] | None:
    """Intercept and slope; None where all x are one."""
    if not x:
        return None
    mean_x, mean_y = math.fsum(x) / len(x), math.fsum(y) / len(y)
    spread_x = math.fsum((each - mean_x) ** 2 for each in x)
    if min(x) == max(x) or spread_x == 0:
        return None
    slope = math.fsum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / spread_x
    return mean_y - slope * mean_x, slope


def _intercept_bent(x: Sequence[float], residuals: Sequence[float], intercept: float) -> float | None:
    """Where a parabola meets x = 0: the line's residuals on the part of x² that no line explains."""
    squared = [each * each for each in x]
    line = _line(x, squared)
    if line is None:
        return None
    bend = [each_squared - line[0] - line[1] * each for each, each_squared in zip(x, squared, strict=True)]
    size = math.fsum(each * each for each in bend)
    if size <= 1e-12 * math.fsum(each * each for each in squared):
        return None
    return intercept - line[0] * math.fsum(a * b for a, b in zip(bend, residuals, strict=True)) / size


def _widening(residuals: Sequence[float], squares: float) -> float:
    if squares <= 0:
        return 1.0
    shared = math.fsum(a * b for a, b in pairwise(residuals)) / squares
    correlation = min(max(shared, 0.0), 0.99)
    return math.sqrt((1 + correlation) / (1 - correlation))
