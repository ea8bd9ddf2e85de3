"""Adding up what may be unknown: a sum is known only where all of its parts are."""

from __future__ import annotations

from collections.abc import Iterable


def known_sum(values: Iterable[float | None]) -> float | None:
    """The sum; unknown as soon as one part is. Of nothing at all: 0."""
    total = 0.0
    for value in values:
        if value is None:
            return None
        total += value
    return total
