"""What a run took of the battery that it ran on, and how long what is left of it lasts.

It stands apart from the totals because it is about the machine's owner rather than about energy: the
battery's channel is whole-node, and this is never added to anything.
"""

from __future__ import annotations

from math import inf, isfinite

from emt_cli.model import Run
from emt_cli.values import Value


class Drain(Value):
    """`share` of a full charge was taken, between `low_share` and `high_share`; `lasts_s` is how long the
    rest lasts at the run's mean power. None: the battery does not tell what it would take to know."""

    full_j: float
    share: float
    low_share: float
    high_share: float
    lasts_s: float | None = None


def drain(run: Run) -> Drain | None:
    """What the machine drew from its battery while the command ran; None where no battery was read.

    Power is that of the time in which the battery was read: gaps are in the upper bound alone.
    """
    channel = next((c for c in run.channels if c.domain == "battery" and not c.dropped), None)
    rows = run.energy.channels if run.energy is not None else ()
    row = next((row for row in rows if channel is not None and row.id == channel.id), None)
    if channel is None or row is None or not _is_positive(channel.full_j, row.machine_j):
        return None
    full_j = channel.full_j or inf
    return Drain(
        full_j=full_j,
        share=row.machine_j / full_j,
        low_share=row.machine_low_j / full_j,
        high_share=row.machine_high_j / full_j,
        lasts_s=_lasts_s(channel.left_j, row.machine_j, run.duration_s - row.gap_s),
    )


def _lasts_s(left_j: float | None, used_j: float, seen_s: float) -> float | None:
    if left_j is None or not _is_positive(left_j, seen_s):
        return None
    return max(0.0, left_j - used_j) * seen_s / used_j


def _is_positive(*values: float | None) -> bool:
    return all(value is not None and isfinite(value) and value > 0 for value in values)
