"""How much of a channel's energy belongs to the tree: named rules, as pure functions.

With E a channel's joules in a window, C_t and C_m the CPU seconds of tree and machine, N logical CPUs, T
the window's length (less the channel's gaps) and P0 the idle power where it is known:

    active     = (E - P0 T) C_t / C_m
    idle share = P0 T x the policy's share      (busy: C_t / C_m; reserved: reserved CPUs / N;
                                                 capacity: C_t / (N T); none: 0)
    attributed = active + idle share            (P0 unknown: E C_t / C_m, unsplit)

Windows are summed. Coarse accounting can make C_t exceed C_m in a window; cutting the excess off there
would bias the sum, so it is shared against the next windows' busy time, at the end against what nobody
claimed by then, and only what exceeds the whole run's busy time is cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from emt_cli.analysis.windows import Window
from emt_cli.model import DeviceUse, IdlePolicy
from emt_cli.values import Value

SHORT_RUN_S = 0.5
"""Below this the machine's CPU time is too coarse to be smaller than the tree's."""


class Shared:
    """What a rule gave the tree of one channel, summed over the run; joules. None: not known."""

    def __init__(self, rule: str, machine_j: float | None = None, attributed_j: float | None = 0.0) -> None:
        self.rule = rule
        self.machine_j = machine_j
        self.attributed_j = attributed_j
        self.active_j: float | None = None
        self.idle_share_j: float | None = None
        self.idle_j: float | None = None
        self.least_j = self.most_j = 0.0
        """What `attributed_j` would be if all of a channel of unknown idle power had been idle."""
        self.idle_shift_j = 0.0
        """How much of the idle energy the policy moves to the tree (or away), against the busy share."""
        self.idle_error: float | None = None
        """How sure the idle power is, relative, where that is known."""
        self.note = ""
        self.clamped_j = 0.0
        self.peak_w = 0.0
        """Largest mean power of a window."""
        self.free_active_j = self.free_idle_j = 0.0
        """What the busy time of others was worth; some of it may turn out to be the tree's."""

    def scale(self, factor: float) -> None:
        """Make it the same parts of a whole that is a little larger or smaller; `peak_w` stays."""
        for name, value in vars(self).items():
            if name.endswith("_j") and value is not None:
                setattr(self, name, value * factor)


class CpuSplit:
    """All CPU-shared channels of a run, and what the sharing rested on."""

    def __init__(self, width: int) -> None:
        self.channels = [Shared("cpu_share") for _ in range(width)]
        self.cpu_tree_s: float | None = 0.0
        self.cpu_machine_s: float | None = 0.0
        self.duration_s = 0.0
        self.windows = 0
        self.peak_share = 0.0
        """The tree's largest share of a window's energy."""
        self.carried_s = 0.0
        """CPU seconds of the tree beyond all busy time of the machine."""


class Gaps:
    """One channel's stretches of unknown energy; asked in the order of time."""

    def __init__(self, spans: Iterable[tuple[float, float]]) -> None:
        self._ahead = sorted(spans, reverse=True)
        self._over_s = self._told_s = 0.0

    def lost_until(self, t_s: float) -> float:
        """Seconds lost since it was last asked."""
        while self._ahead and self._ahead[-1][1] <= t_s:
            start_s, end_s = self._ahead.pop()
            self._over_s += end_s - start_s
        begun_s = max(0.0, t_s - self._ahead[-1][0]) if self._ahead else 0.0
        before_s, self._told_s = self._told_s, max(self._told_s, self._over_s + begun_s)
        return self._told_s - before_s


class _Shares(NamedTuple):
    """The tree's shares of one window: of busy time, of all CPU time, of idle energy; `free` is others'."""

    busy: float
    free: float
    capacity: float
    idle: float


class Idle(Value):
    """What is known of idleness: the power of each channel, and whose share of it the tree bears."""

    power_w: Sequence[float | None]
    policy: IdlePolicy
    reserved_share: float = 0.0
    logical_cpus: int = 1
    gaps: Sequence[Gaps] = ()
    """Of each channel, or nothing where no channel has any."""

    def shares(self, busy: float, free: float, window: Window) -> _Shares:
        capacity = min(1.0, (window.cpu_tree_s or 0.0) / (self.logical_cpus * window.duration_s))
        by_policy = {"busy": busy, "reserved": self.reserved_share, "capacity": capacity, "none": 0.0}
        return _Shares(busy, free, capacity, by_policy[self.policy])

    def energy_j(self, index: int, window: Window) -> float | None:
        """A channel's idle energy in a window, where it was read: in a gap it is as unknown as the rest."""
        lost_s = self.gaps[index].lost_until(window.start_s + window.duration_s) if self.gaps else 0.0
        power_w = self.power_w[index]
        return None if power_w is None else power_w * max(0.0, window.duration_s - lost_s)


class _Ledger:
    """The tree's CPU seconds against the machine's: those that wait for busy time, and what stays free."""

    def __init__(self, *, is_short: bool, logical_cpus: int) -> None:
        self.carried_s = self.free_s = self.machine_s = 0.0
        self.is_blind = False
        self._is_short = is_short
        self._logical_cpus = logical_cpus

    def share(self, window: Window) -> tuple[float, float]:
        """The shares of the tree and of all others in a window's busy time; both 0 where there was none."""
        machine_s = window.cpu_machine_s
        if machine_s is None:  # no /proc/stat: the share of all there could have been
            machine_s, self.is_blind = self._logical_cpus * window.duration_s, True
        tree_s = (window.cpu_tree_s or 0.0) + self.carried_s
        if self._is_short:
            machine_s = max(machine_s, tree_s)
        taken_s = min(tree_s, machine_s)
        self.carried_s = tree_s - taken_s
        if machine_s <= 0:
            return 0.0, 0.0
        self.machine_s += machine_s
        self.free_s += machine_s - taken_s
        return taken_s / machine_s, (machine_s - taken_s) / machine_s

    def settle(self) -> float:
        """The part of what stayed free that is due to what was carried to the end."""
        due_s = min(self.carried_s, self.free_s)
        if due_s <= 0:
            return 0.0
        self.carried_s -= due_s
        return due_s / self.free_s


def split_by_cpu(windows: Iterable[Window], idle: Idle, width: int, *, duration_s: float) -> CpuSplit:
    """Share `width` channels out by CPU time, window by window."""
    split = CpuSplit(width)
    ledger = _Ledger(is_short=duration_s < SHORT_RUN_S, logical_cpus=idle.logical_cpus)
    for window in windows:
        split.windows += 1
        split.duration_s += window.duration_s
        split.cpu_tree_s = _plus(split.cpu_tree_s, window.cpu_tree_s)
        shares = idle.shares(*ledger.share(window), window)
        split.peak_share = max(split.peak_share, shares.busy, shares.idle)
        for index, shared in enumerate(split.channels):
            idle_j = idle.energy_j(index, window)
            if (joules := window.energy_j[index]) is not None:
                _add(shared, joules, window.duration_s, shares, idle_j)
    if not split.windows:
        split.cpu_tree_s = None
    late = ledger.settle()
    split.cpu_machine_s = None if ledger.is_blind else ledger.machine_s
    split.carried_s = ledger.carried_s
    split.peak_share += (1.0 - split.peak_share) * late
    for shared in split.channels:
        _settle(shared, split, late, idle.policy)
    return split


def _plus(total: float | None, more: float | None) -> float | None:
    return None if total is None or more is None else total + more


def _add(shared: Shared, joules: float, duration_s: float, shares: _Shares, idle_j: float | None) -> None:
    busy, free, capacity, idle = shares
    shared.machine_j = (shared.machine_j or 0.0) + joules
    shared.peak_w = max(shared.peak_w, joules / duration_s)
    if idle_j is not None and busy + free <= 0:  # nobody was busy: all of it was idle, whatever P0 says
        idle_j = joules
    if idle_j is None:
        shared.attributed_j = (shared.attributed_j or 0.0) + joules * busy
        shared.least_j += joules * min(busy, capacity, idle)
        shared.most_j += joules * max(busy, idle)
        shared.free_active_j += joules * free
        return
    shared.idle_j = (shared.idle_j or 0.0) + idle_j
    shared.active_j = (shared.active_j or 0.0) + (joules - idle_j) * busy
    shared.idle_share_j = (shared.idle_share_j or 0.0) + idle_j * idle
    shared.idle_shift_j += idle_j * (idle - busy)
    shared.free_active_j += (joules - idle_j) * free
    shared.free_idle_j += idle_j * free


def _settle(shared: Shared, split: CpuSplit, late: float, policy: IdlePolicy) -> None:
    """Close the sum: parts within the whole, nothing below zero, and a note of what was cut."""
    if split.cpu_tree_s is None:
        shared.rule = "unknown"
        shared.attributed_j = shared.active_j = shared.idle_share_j = None
        return
    if split.cpu_machine_s is None:
        shared.rule = "capacity_share"
    machine_j = max(0.0, shared.machine_j or 0.0)
    active_j = (shared.active_j or 0.0) + shared.free_active_j * late
    if shared.active_j is None or shared.idle_share_j is None or shared.idle_j is None:
        raw_j = (shared.attributed_j or 0.0) + shared.free_active_j * late
        shared.most_j += shared.free_active_j * late
        shared.attributed_j = min(max(0.0, raw_j), machine_j)
    else:
        idle_share_j = shared.idle_share_j + (shared.free_idle_j * late if policy == "busy" else 0.0)
        raw_j = active_j + idle_share_j
        shared.attributed_j = min(max(0.0, raw_j), machine_j)
        # Less than nothing is active: what was taken for idle was not all there.
        shared.active_j = min(max(0.0, active_j), shared.attributed_j)
        shared.idle_share_j = shared.attributed_j - shared.active_j
        shared.idle_j = min(shared.idle_j, machine_j)
    shared.clamped_j = abs(raw_j - shared.attributed_j)
    if split.carried_s > 0 and split.cpu_machine_s:
        shared.clamped_j += split.carried_s * machine_j / split.cpu_machine_s


def share_of_device(use: DeviceUse | None, *, sees_pids: bool = True) -> tuple[float, float, float, str]:
    """The tree's share of a GPU, its lower and upper bound, and the rule's name.

    A device that only the tree used is the tree's; a shared one goes by compute-unit time, else equally; one
    that is divided by MIG by the slices of the instances, of which nobody knows what each of them drew.
    Where the driver cannot tell processes apart (PID 0), or tells PIDs that mean nothing here (in a container
    they may be the host's), the whole device is attributed, and a notice says so. Compute-unit time that is
    zero for everybody was not told: the driver averages over about a second. Where other accounts' users are
    out of sight, the share is an upper bound.
    """
    share, low, high, rule = _share_by_users(use, sees_pids=sees_pids)
    return share, low if use is None or use.sees_others else 0.0, high, rule


def _share_by_users(use: DeviceUse | None, *, sees_pids: bool) -> tuple[float, float, float, str]:
    if use is None or (use.other_pids and not use.tree_pids and not sees_pids):
        return 1.0, 0.0, 1.0, "whole_device_unknown"
    if use.slice_share is not None and 0 < use.slice_share < 1:
        return use.slice_share, 0.0, 1.0, "mig_slice_share"
    if not use.tree_pids:
        if 0 in use.other_pids and use.slice_share != 0:
            return 1.0, 0.0, 1.0, "whole_device_unknown"
        return 0.0, 0.0, 0.0, "not_used_by_tree"
    if not use.other_pids:
        return 1.0, 1.0, 1.0, "whole_device"
    equal = len(use.tree_pids) / (len(use.tree_pids) + len(use.other_pids))
    if use.tree_busy_s is None or not use.total_busy_s:
        return equal, 0.0, 1.0, "equal_share"
    share = min(1.0, use.tree_busy_s / use.total_busy_s)
    return share, min(share, equal), max(share, equal), "sm_time_share"
