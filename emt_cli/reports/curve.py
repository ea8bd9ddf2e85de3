"""The power curve as rows of characters: resampled to the columns there are, drawn in blocks or ASCII."""

from __future__ import annotations

from collections.abc import Sequence

from emt_cli.reports.phrases import finite

_BLOCKS = " ▁▂▃▄▅▆▇█"
_ASCII = " .:#"


def resample(points: Sequence[tuple[float, float]], end_s: float, columns: int) -> list[float | None]:
    """Mean power in each of so many equal stretches from 0 to `end_s`.

    A point holds from its own time until the next one's. Values that are no power (negative, not a
    number) count as unknown; a stretch without any is None.
    """
    if columns <= 0 or not points or finite(end_s) is None or end_s <= 0:
        return []
    sums, held = [0.0] * columns, [0.0] * columns
    ends = [time for time, _ in points[1:]] + [end_s]
    for (start, watts), end in zip(points, ends, strict=True):
        if finite(watts) is None or watts < 0 or not 0 <= start < end <= end_s * 1.001:
            continue
        first, last = start / end_s * columns, min(end / end_s * columns, columns)
        for column in range(int(first), min(int(last) + 1, columns)):
            overlap = min(last, column + 1) - max(first, column)
            if overlap > 0:
                sums[column] += watts * overlap
                held[column] += overlap
    return [total / weight if weight > 0 else None for total, weight in zip(sums, held, strict=True)]


def draw(values: Sequence[float | None], *, top: float, rows: int, blocks: bool) -> list[str]:
    """Bars from zero to `top`, the highest row first. An unknown value is a blank column."""
    steps = _BLOCKS if blocks else _ASCII
    per_row = len(steps) - 1
    heights = [_height(value, top, rows * per_row) for value in values]
    return [
        "".join(steps[min(max(height - row * per_row, 0), per_row)] for height in heights)
        for row in range(rows - 1, -1, -1)
    ]


def _height(value: float | None, top: float, steps: int) -> int:
    if value is None or top <= 0:
        return 0
    return max(1, round(min(value / top, 1.0) * steps)) if value > 0 else 0
