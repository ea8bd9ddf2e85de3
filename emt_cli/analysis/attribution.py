"""How much of a channel's energy belongs to the tree: named rules, as pure functions.

With E a channel's joules in a window, C_t and C_m the CPU seconds of tree and machine, N logical CPUs, T
the window's length and P0 the idle power where it is known:

    active     = (E - P0 T) C_t / C_m
    idle share = P0 T x the policy's share      (busy: C_t / C_m; reserved: reserved CPUs / N;
                                                 capacity: C_t / (N T); none: 0)
    attributed = active + idle share            (P0 unknown: E C_t / C_m, unsplit)

Windows are summed. Coarse accounting can make C_t exceed C_m in a window; the excess is carried into the
next ones, since cutting it off there would bias the sum, and only what is left over at the end is cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from emt_cli.analysis.windows import Window
from emt_cli.model import DeviceUse, IdlePolicy

SHORT_RUN_S = 0.5
"""Below this the machine's CPU time is too coarse to be smaller than the tree's."""


@dataclass(slots=True)
class Shared:
    """What a rule gave the tree of one channel, summed over the run; joules."""

    rule: str
    machine_j: float = 0.0
    attributed_j: float = 0.0
    active_j: float | None = None
    idle_share_j: float | None = None
    idle_j: float | None = None
    clamped_j: float = 0.0
    peak_w: float = 0.0
    """Largest mean power of a window."""


@dataclass(slots=True)
class CpuSplit:
    """All CPU-shared channels of a run, and what the sharing rested on."""

    channels: list[Shared]
    cpu_tree_s: float = 0.0
    cpu_machine_s: float | None = 0.0
    duration_s: float = 0.0
    windows: int = 0
    carried_s: float = 0.0
    """CPU seconds of the tree that found no busy machine time to be a share of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Idle:
    """What is known of idleness: the power of each channel, and whose share of it the tree bears."""

    power_w: Sequence[float | None]
    policy: IdlePolicy
    reserved_share: float = 0.0
    logical_cpus: int = 1


@dataclass(slots=True)
class _Ledger:
    """The CPU seconds of the tree that wait for machine time to be shared against."""

    carried_s: float = 0.0
    is_short: bool = False
    unknown: bool = field(default=False)

    def share(self, window: Window, logical_cpus: int) -> float:
        """The tree's share of the busy CPU time of a window, between 0 and 1."""
        tree_s = (window.cpu_tree_s or 0.0) + self.carried_s
        if window.cpu_machine_s is None:  # no /proc/stat: the share of all there could have been
            self.unknown, self.carried_s = True, 0.0
            return min(1.0, tree_s / (logical_cpus * window.duration_s))
        machine_s = max(window.cpu_machine_s, tree_s) if self.is_short else window.cpu_machine_s
        taken_s = min(tree_s, machine_s)
        self.carried_s = tree_s - taken_s
        return taken_s / machine_s if machine_s > 0 else 0.0


def split_by_cpu(windows: Iterable[Window], idle: Idle, width: int, *, duration_s: float) -> CpuSplit:
    """Share `width` channels out by CPU time, window by window."""
    split = CpuSplit(channels=[Shared(rule="cpu_share") for _ in range(width)])
    ledger = _Ledger(is_short=duration_s < SHORT_RUN_S)
    for window in windows:
        share = ledger.share(window, idle.logical_cpus)
        split.windows += 1
        split.duration_s += window.duration_s
        split.cpu_tree_s += window.cpu_tree_s or 0.0
        if window.cpu_machine_s is None or split.cpu_machine_s is None:
            split.cpu_machine_s = None
        else:
            split.cpu_machine_s += window.cpu_machine_s
        for index, shared in enumerate(split.channels):
            _add(shared, window, window.energy_j[index], share, idle, idle.power_w[index])
    split.carried_s = ledger.carried_s
    for shared in split.channels:
        if ledger.unknown:
            shared.rule = "capacity_share"
        _settle(shared, split)
    return split


def _add(
    shared: Shared, window: Window, joules: float | None, share: float, idle: Idle, idle_w: float | None
) -> None:
    if joules is None:
        return
    shared.machine_j += joules
    shared.peak_w = max(shared.peak_w, joules / window.duration_s)
    if idle_w is None:
        shared.attributed_j += joules * share
        return
    idle_j = idle_w * window.duration_s
    shared.idle_j = (shared.idle_j or 0.0) + idle_j
    shared.active_j = (shared.active_j or 0.0) + (joules - idle_j) * share
    shared.idle_share_j = (shared.idle_share_j or 0.0) + idle_j * _idle_share(share, window, idle)


def _idle_share(share: float, window: Window, idle: Idle) -> float:
    if idle.policy == "busy":
        return share
    if idle.policy == "reserved":
        return idle.reserved_share
    if idle.policy == "capacity":
        return min(1.0, (window.cpu_tree_s or 0.0) / (idle.logical_cpus * window.duration_s))
    return 0.0


def _settle(shared: Shared, split: CpuSplit) -> None:
    """Close the sum: parts within the whole, nothing below zero, and a note of what was cut."""
    if shared.active_j is not None and shared.idle_share_j is not None:
        if shared.active_j < 0:
            shared.clamped_j += shared.active_j
            shared.active_j = 0.0
        if (excess := shared.active_j + shared.idle_share_j - shared.machine_j) > 0:
            shared.clamped_j += excess
            shared.idle_share_j = max(0.0, shared.idle_share_j - excess)
            shared.active_j = min(shared.active_j, shared.machine_j)
        shared.attributed_j = shared.active_j + shared.idle_share_j
    if split.carried_s > 0 and split.cpu_machine_s:
        shared.clamped_j += split.carried_s * shared.machine_j / split.cpu_machine_s


def share_of_device(use: DeviceUse | None) -> tuple[float, float, float, str]:
    """The tree's share of a GPU, its lower and upper bound, and the rule's name.

    A device that only the tree used is the tree's; a shared one goes by compute-unit time, else equally;
    where the driver cannot tell processes apart, the whole device is attributed (and a notice says so).
    """
    if use is None:
        return 1.0, 0.0, 1.0, "whole_device_unknown"
    if not use.tree_pids:
        return 0.0, 0.0, 0.0, "not_used_by_tree"
    if not use.other_pids:
        return 1.0, 1.0, 1.0, "whole_device"
    equal = len(use.tree_pids) / (len(use.tree_pids) + len(use.other_pids))
    if use.tree_busy_s is None or not use.total_busy_s:
        return equal, 0.0, 1.0, "equal_share"
    share = min(1.0, use.tree_busy_s / use.total_busy_s)
    return share, min(share, equal), max(share, equal), "sm_time_share"
