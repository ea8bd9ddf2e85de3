"""How sure a number is: worst-case terms, added linearly, for each channel and over channels.

An interval always encloses the value. A half-width is given only where the interval is near symmetric.
"""

from __future__ import annotations

from math import inf
from typing import NamedTuple

from emt_cli.analysis.attribution import CpuSplit, Shared
from emt_cli.analysis.windows import CLOCK_TICK_S
from emt_cli.model import Channel, CpuTime, Observed
from emt_cli.values import Value

TICKS_PER_EDGE = 2
"""Clock ticks by which each CPU's accounting can be off over a run: one at each end."""
IDLE_POWER_ERROR = 0.1
"""How well anybody knows an idle power: it moves with temperature, firmware and what else is plugged in.
A choice, not a measurement; it matters only where a policy shares idle energy otherwise than busy time."""
_EXACT_WITNESSES = frozenset({"perf", "rusage", "cgroup", "job"})
"""They count nano- or microseconds; the others read the 10 ms steps of /proc."""
_NEAR_SYMMETRIC = 0.25
"""The two sides may differ by this share of the interval and still be told as one half-width."""


class Interval(NamedTuple):
    low: float
    high: float


class MachineBounds(Value):
    """How far the joules of a device may be off, by the shape of the error.

    `below_j`, `above_j`: spread over the run like the energy itself (accuracy, a model's bounds). `local_j`:
    on either side, at some instant of the run (edges, counter step, trapezoid). `gaps_j`: missing.
    """

    energy_j: float
    below_j: float = 0.0
    above_j: float = 0.0
    local_j: float = 0.0
    gaps_j: float = 0.0

    @property
    def interval(self) -> Interval:
        low = self.energy_j - self.below_j - self.local_j
        return Interval(max(0.0, low), self.energy_j + self.above_j + self.local_j + self.gaps_j)


def of_machine(
    channel: Channel, observed: Observed, energy_j: float, peak_w: float, duration_s: float
) -> MachineBounds:
    """Bounds on what the channel's device used.

    A counter shows what it held at its last update, up to one update period ago. At the start edge that can
    only add energy (from before the run), at the end edge only hide some: so one update period of power
    bounds either side, and so does one counter step. Then what was cut off at the edges along a straight
    line, the trapezoid bound, the maker's stated accuracy, and gaps with the largest seen power. A model lies
    between its bounds, whatever its point.
    """
    if channel.kind == "model" and channel.low_w is not None and channel.high_w is not None:
        return MachineBounds(
            energy_j=energy_j,
            below_j=max(0.0, energy_j - channel.low_w * duration_s),
            above_j=max(0.0, channel.high_w * duration_s - energy_j),
        )
    power_w = _largest_power_w(channel, observed, energy_j, peak_w, duration_s)
    edge_j = (channel.update_period_s or 0.0) * power_w + (channel.resolution_j or 0.0)
    accuracy_j = (channel.accuracy or 0.0) * energy_j
    return MachineBounds(
        energy_j=energy_j,
        below_j=accuracy_j,
        above_j=accuracy_j,
        local_j=edge_j + max(0.0, observed.edge_j) + observed.trapezoid_j,
        gaps_j=observed.gap_s * power_w,
    )


def _largest_power_w(
    channel: Channel, observed: Observed, energy_j: float, peak_w: float, duration_s: float
) -> float:
    """The largest power seen; what the device can draw where the run was too short to see any.

    A run holds the energy of at least as many updates as fit into it as a whole, which bounds its mean
    power from above.
    """
    period_s = channel.update_period_s or 0.0
    seen_w = max(observed.max_power_w, peak_w)
    if seen_w <= 0 and (duration_s < 2 * period_s or observed.gap_s > 0):
        return channel.max_power_w
    if period_s > 0:
        mean_w = energy_j / (max(1, duration_s // period_s) * period_s)
        seen_w = max(seen_w, min(mean_w, channel.max_power_w))
    return seen_w


def of_cpu_share(machine: MachineBounds, shared: Shared, split: CpuSplit, cpu: CpuTime) -> Interval | None:
    """Bounds on a share by CPU time; None where the share is not known.

    What may be misplaced or missing of the machine's joules counts with the tree's largest share of any
    window, since it may all have been there. Then the clock ticks of both CPU times, and the error of the
    idle power where the policy depends on it. Idle power unknown: whatever it was (see `Shared`). A part of
    the tree out of sight, or no busy time known: it may bear everything.
    """
    value = shared.attributed_j
    if value is None or split.cpu_tree_s is None:
        return None
    whole, busy_s = machine.interval, split.cpu_machine_s
    mean = _mean_share(machine.energy_j, value, split.cpu_tree_s, busy_s)
    idle_is_known = shared.idle_j is not None
    low, high = (value, value) if idle_is_known else (min(shared.least_j, value), max(shared.most_j, value))
    idle_error = IDLE_POWER_ERROR if shared.idle_error is None else shared.idle_error
    idle_j = idle_error * abs(shared.idle_shift_j)
    below, above = _clock_ticks(value, machine.energy_j, split, cpu)
    low -= mean * machine.below_j + split.peak_share * machine.local_j + idle_j + below
    high += mean * machine.above_j + split.peak_share * (machine.local_j + machine.gaps_j) + idle_j + above
    if busy_s is None or (cpu.blind_spot and cpu.coverage is None):
        high = whole.high
    return Interval(min(max(0.0, low), value), max(min(high, whole.high), value))


def _mean_share(energy_j: float, attributed_j: float, tree_s: float, busy_s: float | None) -> float:
    """The tree's share of the channel; of busy time where there are no joules to tell it from."""
    if energy_j > 0:
        return attributed_j / energy_j
    if busy_s is None or tree_s <= 0 or tree_s >= busy_s:
        return 1.0 if tree_s > 0 else 0.0
    return tree_s / busy_s


def _clock_ticks(attributed_j: float, energy_j: float, split: CpuSplit, cpu: CpuTime) -> tuple[float, float]:
    """Joules below and above that the steps of CPU accounting may cost.

    The machine's busy time is off by two ticks per CPU, but never less than the tree's; the tree's by two
    ticks where only /proc tells it.
    """
    tree_s, busy_s = split.cpu_tree_s or 0.0, split.cpu_machine_s
    step_s = TICKS_PER_EDGE * CLOCK_TICK_S
    tree_step_s = 0.0 if cpu.winner in _EXACT_WITNESSES else step_s
    most_tree_s = tree_s + tree_step_s
    if busy_s is None or busy_s <= 0:
        return attributed_j, inf if most_tree_s > 0 else 0.0
    tree_j = energy_j * tree_step_s / busy_s
    step_s *= cpu.logical_cpus
    least_s = max(busy_s - step_s, min(most_tree_s, busy_s))
    above_j = attributed_j * (busy_s / least_s - 1.0) if least_s > 0 else 0.0
    return tree_j + attributed_j * step_s / busy_s, tree_j + above_j


def half_width(value: float | None, interval: Interval | None) -> float | None:
    """Half the interval's width where the value is near its middle, else None."""
    if value is None or interval is None:
        return None
    below, above = value - interval.low, interval.high - value
    if abs(above - below) > _NEAR_SYMMETRIC * (above + below):
        return None
    return max(below, above)
