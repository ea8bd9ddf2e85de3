"""How sure a number is: worst-case terms, added linearly, for each channel and over channels.

An interval always encloses the value. A half-width is given only where the interval is near symmetric.
"""

from __future__ import annotations

from dataclasses import dataclass

from emt_cli.analysis.windows import CLOCK_TICK_S
from emt_cli.model import Channel, Observed

TICKS_PER_EDGE = 2
"""Clock ticks by which each CPU's accounting can be off over a run: one at each end."""
_NEAR_SYMMETRIC = 0.25
"""The two sides may differ by this share of the interval and still be told as one half-width."""


@dataclass(frozen=True, slots=True)
class Interval:
    low: float
    high: float


def of_machine(
    channel: Channel, observed: Observed, energy_j: float, peak_w: float, duration_s: float
) -> Interval:
    """Bounds on what the channel's device used.

    Terms: one update period at the largest mean power and one counter step at each edge; the trapezoid
    bound; the maker's stated accuracy. Gaps are never filled, but may have held the largest seen power. A
    model lies between its bounds, whatever its point.
    """
    gaps_j = observed.gap_s * max(observed.max_power_w, peak_w)
    if channel.kind == "model" and channel.low_w is not None and channel.high_w is not None:
        return Interval(
            min(energy_j, channel.low_w * duration_s), max(energy_j, channel.high_w * duration_s) + gaps_j
        )
    edges_j = 2 * (channel.update_period_s or 0.0) * peak_w + 2 * (channel.resolution_j or 0.0)
    spread_j = edges_j + observed.trapezoid_j + (channel.accuracy or 0.0) * energy_j
    return Interval(max(0.0, energy_j - spread_j), energy_j + spread_j + gaps_j)


def of_cpu_share(
    machine: Interval,
    energy_j: float,
    attributed_j: float,
    *,
    cpu_tree_s: float,
    cpu_machine_s: float | None,
    logical_cpus: int,
    duration_s: float,
    idle_is_known: bool,
    is_complete: bool,
) -> Interval:
    """Bounds on a share by CPU time, from the machine's bounds and the coarseness of the accounting.

    Idle power unknown: the tree may bear as little as its part of all CPU time there was. A part of the
    tree out of sight: it may bear everything.
    """
    if energy_j <= 0:
        return Interval(0.0, machine.high if attributed_j > 0 or not is_complete else 0.0)
    low = machine.low * attributed_j / energy_j
    high = machine.high * attributed_j / energy_j
    step_s = TICKS_PER_EDGE * CLOCK_TICK_S * logical_cpus
    if cpu_machine_s is not None:
        low *= cpu_machine_s / (cpu_machine_s + step_s) if cpu_machine_s > 0 else 0.0
        high *= cpu_machine_s / (cpu_machine_s - step_s) if cpu_machine_s > step_s else float("inf")
    if not idle_is_known and duration_s > 0:
        low = min(low, machine.low * cpu_tree_s / (logical_cpus * duration_s))
    if cpu_machine_s is None or not is_complete:
        high = machine.high
    return Interval(min(low, attributed_j), max(min(high, machine.high), attributed_j))


def half_width(value: float, interval: Interval) -> float | None:
    """Half the interval's width where the value is near its middle, else None."""
    below, above = value - interval.low, interval.high - value
    if abs(above - below) > _NEAR_SYMMETRIC * (above + below):
        return None
    return max(below, above)
