"""Student's t distribution, exact and without scipy: how unlikely a deviation is, and which one is.

Apart from `statistics` because it is mathematics that knows no energy. The tail is the regularised
incomplete beta function (DLMF 8.17; Abramowitz & Stegun 1964, 26.5.27 and 26.7.1), here by its continued
fraction in the modified Lentz form (Lentz 1976; Thompson & Barnett 1986; Press et al., Numerical Recipes,
3rd ed. 2007, section 6.4); tested against published tables.
"""

from __future__ import annotations

import math
from functools import lru_cache

_CONVERGED = 1e-15
_TINY = 1e-300
_MOST_TERMS = 100_000
"""The fraction takes some sqrt(df) terms: enough for every sample that fits into memory."""


def two_sided_p(t: float, df: float) -> float:
    """The probability that |T| > |t| for Student's T with `df` > 0 degrees of freedom (any real number)."""
    if not df > 0 or math.isinf(df) or math.isnan(t):
        raise ValueError(f"no t distribution: t {t}, degrees of freedom {df}")
    if math.isinf(t * t):
        return 0.0
    return _incomplete_beta(df / 2, 0.5, df / (df + t * t), t * t / (df + t * t))


@lru_cache(maxsize=256)
def critical(level: float, df: float) -> float:
    """The t > 0 with P(|T| > t) = `level`: 2.262 for 0.05 and 9 degrees of freedom; 0 < level < 1.

    Newton's method. The tail is convex in t, so from a point left of the root every step stays left of
    it: no bracket is needed. Starting within a factor of two keeps the steps few.
    """
    if not 0 < level < 1:
        raise ValueError(f"a level lies between 0 and 1: {level}")
    t = 1.0
    while two_sided_p(2 * t, df) > level:
        t *= 2
    while two_sided_p(t, df) < level:
        t /= 2
    for _ in range(100):
        step = (two_sided_p(t, df) - level) / (2 * _density(t, df))
        t += step
        if abs(step) <= 1e-13 * t:
            break
    return t


def _density(t: float, df: float) -> float:
    log = math.lgamma((df + 1) / 2) - math.lgamma(df / 2) - (df + 1) / 2 * math.log1p(t * t / df)
    return math.exp(log) / math.sqrt(df * math.pi)


def _incomplete_beta(a: float, b: float, x: float, rest: float) -> float:
    """I_x(a, b), with `rest` = 1 - x given apart since near x = 1 the difference would lose its digits."""
    if x <= 0 or rest <= 0:
        return 0.0 if x <= 0 else 1.0
    log_beta = math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
    front = math.exp(a * math.log(x) + b * math.log(rest) - log_beta)
    if x < (a + 1) / (a + b + 2):
        return min(front * _continued_fraction(a, b, x) / a, 1.0)
    return max(1.0 - front * _continued_fraction(b, a, rest) / b, 0.0)


def _continued_fraction(a: float, b: float, x: float) -> float:
    """DLMF 8.17.22; converges quickly for x < (a + 1) / (a + b + 2)."""
    c, d = 1.0, 1 / _away_from_zero(1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, _MOST_TERMS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1 / _away_from_zero(1 + term * d)
            c = _away_from_zero(1 + term / c)
            value *= c * d
        if abs(c * d - 1) < _CONVERGED:
            return value
    raise ArithmeticError(f"the incomplete beta function did not converge: {a}, {b}, {x}")


def _away_from_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
