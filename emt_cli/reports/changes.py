"""Differences in words: by how much less or more, within which interval, and what that is worth.

`compared`, `checked` and whatever else tells of a difference say it here, so that it reads alike everywhere.
"""

from __future__ import annotations

from math import floor, log10

from emt_cli import units
from emt_cli.analysis.verdicts import Compared

_TIMES_FROM = 1.0
"""From twice as much on, people say times rather than per cent."""
_LARGEST_TIMES = 1e4
_NEAR_SYMMETRIC = 1.25
"""Up to so much of the half-width may lie on one side for an interval to be told as a half-width."""


def change(relative: float, low: float | None, high: float | None) -> str:
    """`3.1 % less, ± 0.8 %`, `12 % more (5 to 31 %)`, `2.4 times as much (2.3 to 2.5)`; 0 is `as much`."""
    if relative >= _TIMES_FROM:
        return _times(relative, low, high)
    word = "less" if relative < 0 else "more"
    if low is None or high is None:
        return f"{_percent(relative)} % {word}"
    half = (high - low) / 2
    if half == 0:
        return f"{units.significant(abs(100 * relative), 3)} % {word}"
    if max(relative - low, high - relative) <= _NEAR_SYMMETRIC * half:
        places = _places(100 * half)
        return f"{abs(100 * relative):.{places}f} % {word}, ± {100 * half:.{places}f} %"
    return f"{_percent(relative)} % {word} ({_span(low, high)})"


def _span(low: float, high: float) -> str:
    """`5 to 31 %` where both ends have one sign, `-2.0 to +31 %` otherwise."""
    if high > _LARGEST_TIMES:
        return "anything"
    if low >= 0 or high <= 0:
        least, most = sorted((abs(low), abs(high)))
        return f"{_percent(least)} to {_percent(most)} %"
    return f"-{_percent(low)} to +{_percent(high)} %"


def _times(relative: float, low: float | None, high: float | None) -> str:
    said = f"{units.significant(1 + relative, 2)} times as much"
    if low is None or high is None:
        return said
    if high > _LARGEST_TIMES:
        return f"{said} (anything)"
    if high == low:
        return said
    return f"{said} ({units.significant(1 + low, 2)} to {units.significant(1 + high, 2)})"


def _percent(share: float) -> str:
    return units.significant(abs(100 * share), 2)


def _places(half: float) -> int:
    """Decimals that a half-width in per cent is worth: one digit of it, two if the first is 1 or 2."""
    if half <= 0:
        return 1
    leading = floor(log10(half))
    is_small = half / 10**leading < 3
    return min(max(0, (1 if is_small else 0) - leading), 3)


def verdict(row: Compared) -> str:
    """What a table says of one quantity, in some 37 letters."""
    said = "" if row.relative is None else change(row.relative, row.low, row.high).replace(" as much", "")
    if row.verdict in ("less", "more"):
        return said
    if row.verdict == "same":
        return _no_difference(row)
    if row.verdict == "few":
        return f"{said}: too few"
    if row.verdict == "apart":
        return f"{said}, one run each"
    return {
        "unresolved": "no difference: within the counter's step",
        "overlap": "cannot be told apart: one run each",
        "zero": "no ratio: one of them is 0",
        "unknown": f"unknown of {_unknown(row)}",
    }[row.verdict]


def _no_difference(row: Compared) -> str:
    """With the interval in which the difference lies if there is one."""
    if row.relative is None or row.low is None or row.high is None:
        return "no significant difference"
    half = (row.high - row.low) / 2
    if max(row.relative - row.low, row.high - row.relative) > _NEAR_SYMMETRIC * half:
        return f"not significant ({_span(row.low, row.high)})"
    return f"no significant difference, ± {100 * half:.{_places(100 * half)}f} %"


def _unknown(row: Compared) -> str:
    sides = [side for side, found in (("the first", row.a), ("this one", row.b)) if found is None]
    return "both" if len(sides) == 2 else "".join(sides)
