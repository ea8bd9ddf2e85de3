"""The tree whose root is this process, on Linux: `tree` and `cputime` with what is different about oneself.

Apart from `own_time` because these load all of /proc's reading, which other systems do not have.
"""

from __future__ import annotations

import os
import time

from emt_cli.measure import linux
from emt_cli.measure.cputime import CpuMeter
from emt_cli.measure.ledger import Ledger, Member
from emt_cli.measure.spent import reaped_s, spent_s
from emt_cli.measure.systems import CpuReading
from emt_cli.measure.tree import Tree
from emt_cli.sensors.base import Machine

_MOST_FILES = 32
"""Descriptors that may be kept open for descendants; the others are read by name."""
_PASS_SHARE = 0.02
"""The passes may take this share of one core."""


class OwnTree(Tree):
    """See `Tree`; `collect` is never called. Children that were there before the start belong to it, with
    what they use from then on. A daemon is followed if it was met before it lost its parent."""

    def __init__(self, helpers: frozenset[int] = frozenset()) -> None:
        super().__init__(os.getpid(), helpers=helpers)
        self._ledger = Ledger(self.root, min(_MOST_FILES, linux.spare_descriptors()))
        self.base_s = 0.0
        self._helpers = helpers
        self._strays: set[int] = set()
        """Members that had a parent elsewhere when they were last looked at."""

    def has(self, pid: int) -> bool:
        return pid not in self._helpers and super().has(pid)

    def begin(self) -> None:
        """What was used until now is not the run's."""
        self.base_s = super().pass_over(time.monotonic()) if self.is_visible else spent_s()

    def pass_over(self, now_s: float) -> float:
        total_s = super().pass_over(now_s) if self.is_visible else spent_s()
        return max(0.0, total_s - self.base_s)

    def _walk(self) -> dict[int, Member]:
        by_parent = None if self._lists_children else linux.children_by_parent()
        seen: dict[int, Member] = {}
        me = self._look_at(self.root)
        if me is None:  # out of descriptors: the last look stands
            return dict(self._ledger.alive)
        me.stat = me.stat._replace(reaped_s=reaped_s())  # /proc tells it in clock ticks only
        seen[self.root] = me
        children = [pid for pid in self._children(me, by_parent) if pid not in self._helpers]
        self._descend(children, seen, by_parent)
        self._follow_strays(seen, by_parent)
        return seen

    def _follow_strays(self, seen: dict[int, Member], by_parent: dict[int, list[int]] | None) -> None:
        """Who was met as a descendant and now has a parent elsewhere; nobody of ours will wait for it."""
        for pid, member in list(self._ledger.alive.items()):
            was_stray = pid in self._strays
            self._strays.discard(pid)
            if pid in seen:
                continue
            if self._ledger.refresh(member):
                seen[pid] = member
                if member.stat.ppid not in self._ledger.alive:
                    self._strays.add(pid)
                self._descend(self._children(member, by_parent), seen, by_parent)
            elif was_stray:
                self._ledger.lost_s += member.total_s


class OwnCpu(CpuMeter):
    """See `CpuMeter`. Neither perf, which would count from an exec on, nor a control group; but one process
    is soon looked at, so it is at every reading."""

    def __init__(self, machine: Machine, tree: OwnTree, period_s: float) -> None:
        super().__init__(machine, tree, use_perf=False, period_s=period_s)
        self._own_tree = tree
        for name in ("perf", "cgroup"):  # nobody refused them
            self.refusals.pop(name, None)

    def begin(self) -> CpuReading:
        reading = super().begin()
        self._own_tree.begin()
        return reading

    def _look_at_tree(self, now: float) -> None:
        self._proc_s = self._own_tree.pass_over(now)
        self._next_pass_s = now + (time.monotonic() - now) / _PASS_SHARE
