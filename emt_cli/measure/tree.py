"""Who is in the tree: discovery by parenthood, a ledger of everyone seen, and the orphans that come to us.

One pass reads every live member's times and children, parents before children, so that a child that is
waited for in between is missed once rather than counted twice. The pass is both the process table and the
`proc` witness of CPU time.
"""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass

from emt_cli.measure import linux
from emt_cli.model import LateCpu, Process
from emt_cli.sensors.base import KeptFile

_MOST_DEAD = 5_000
"""Ended members kept in the ledger; beyond twice as many those with the least CPU time are forgotten."""
_LATE_S = 0.05
"""CPU time that is learnt only when an orphan is reaped is noted from this amount on."""


@dataclass(slots=True)
class Member:
    """A process that is or was in the tree, as last seen."""

    stat: linux.ProcessStat
    command: str
    file: KeptFile | None
    started_s: float
    """On the monotonic clock."""
    ended_s: float | None = None
    is_settled: bool = False
    """Whether the command line was read a second time: a fresh fork still shows its parent's."""
    ignores_children: bool = False

    @property
    def total_s(self) -> float:
        """Own CPU seconds and those of the children that it has waited for."""
        return self.stat.cpu_s + self.stat.reaped_s


class Tree:
    """The root, all its descendants, and what is known of their CPU time.

    `pass_over` belongs to the meter's thread, `collect` and `has` to the main thread; what they share are
    single dictionary look-ups and a float that only the main thread changes. `strangers` are processes
    that were already children of this one: they and their orphans are not counted.
    """

    def __init__(self, root: int, strangers: frozenset[int] = frozenset()) -> None:
        self.root = root
        self.strangers = strangers
        self.orphans_s = 0.0
        """CPU seconds of the orphans that were reaped here, their own waited-for children included."""
        self.late: deque[LateCpu] = deque(maxlen=1000)
        self.blind_spot = ""
        """Why /proc cannot show a part of the tree's CPU time; empty if nothing speaks for that."""
        self._me = os.getpid()
        self._to_monotonic = -linux.suspended_s()
        self._lists_children = linux.has_children_files()
        self._live: dict[int, Member] = {}
        self._dead: list[Member] = []
        self._forgotten = 0
        self._lost_s = 0.0
        self._most_s = 0.0

    @property
    def count(self) -> int:
        """How many processes were seen."""
        return len(self._live) + len(self._dead) + self._forgotten

    # --- the meter's thread -------------------------------------------------------------------------

    def pass_over(self, now_s: float) -> float:
        """Look at everyone; CPU seconds of the tree so far, which never decrease."""
        orphans_s = self.orphans_s
        seen = self._walk()
        for pid in [pid for pid in self._live if pid not in seen]:
            self._bury(pid, now_s)
        live_s = sum(member.total_s for member in seen.values())
        self._most_s = max(self._most_s, orphans_s + live_s + self._lost_s)
        return self._most_s

    def live_s(self) -> float:
        """CPU seconds of everyone but the root who was there at the last pass."""
        return sum(member.total_s for pid, member in self._live.items() if pid != self.root)

    def survivors(self) -> list[Member]:
        """Who, besides the root, was there at the last pass and is no zombie."""
        return [m for pid, m in self._live.items() if pid != self.root and m.stat.state not in "ZX"]

    def processes(self, origin_s: float, root_command: str) -> tuple[Process, ...]:
        """The process table, times counted from `origin_s`; most CPU time first."""
        rows = [self._row(member, origin_s, root_command) for member in [*self._dead, *self._live.values()]]
        return tuple(sorted(rows, key=lambda row: row.cpu_s, reverse=True))

    def close(self) -> None:
        for member in self._live.values():
            if member.file is not None:
                member.file.close()
                member.file = None

    def _walk(self) -> dict[int, Member]:
        by_parent = None if self._lists_children else linux.children_by_parent()
        seen: dict[int, Member] = {}
        self._descend([self.root], seen, by_parent)
        # Last, since whoever is orphaned meanwhile comes to us: a member is found in one place or the other.
        self._descend(self._orphans(by_parent), seen, by_parent)
        return seen

    def _descend(
        self, queue: list[int], seen: dict[int, Member], by_parent: dict[int, list[int]] | None
    ) -> None:
        while queue:
            pid = queue.pop()
            member = None if pid in seen else self._look_at(pid)
            if member is not None:
                seen[pid] = member
                queue.extend(self._children(member, by_parent))

    def _orphans(self, by_parent: dict[int, list[int]] | None) -> list[int]:
        ours = set(_children_of(self._me, 1, by_parent)) - self.strangers - {self.root}
        if not self.strangers:
            return list(ours)
        known = [pid for pid in ours if pid in self._live]
        if len(known) < len(ours):
            self.blind_spot = "orphans cannot be told from those of processes that were here before emt"
        return known

    def _children(self, member: Member, by_parent: dict[int, list[int]] | None) -> list[int]:
        pid = member.stat.pid
        found = _children_of(pid, member.stat.threads, by_parent)
        if found and not member.ignores_children and linux.ignores_sigchld(pid):
            member.ignores_children = True
            self.blind_spot = f"{member.stat.name} ({pid}) ignores SIGCHLD, its children leave no trace"
        return found

    def _look_at(self, pid: int) -> Member | None:
        """The member with fresh times; None if it is gone. A kept descriptor never meets a reused PID."""
        member = self._live.get(pid)
        stat = _read(member.file, pid) if member is not None else None
        if member is None or stat is None or stat.started_s != member.stat.started_s:
            return self._meet(pid)
        if not member.is_settled or stat.name != member.stat.name:
            member.command = linux.command_line(pid, 300) or member.command
            member.is_settled = True
        member.stat = stat
        return member

    def _meet(self, pid: int) -> Member | None:
        """A process seen for the first time, or the new owner of a PID."""
        if pid in self._live:
            self._bury(pid, self._live[pid].started_s)
        try:
            file = KeptFile(f"/proc/{pid}/stat", 1024)
        except FileNotFoundError:
            return None
        except OSError:  # out of descriptors: read it by name from now on
            file = None
        stat = _read(file, pid)
        if stat is None:
            return None
        started_s = stat.started_s + self._to_monotonic
        member = Member(stat=stat, command=linux.command_line(pid, 300), file=file, started_s=started_s)
        self._live[pid] = member
        return member

    def _bury(self, pid: int, now_s: float) -> None:
        member = self._live.pop(pid)
        member.ended_s = max(now_s, member.started_s)
        if member.file is not None:
            member.file.close()
            member.file = None
        parent = self._live.get(member.stat.ppid)
        if parent is not None and parent.ignores_children:
            self._lost_s += member.total_s
        self._dead.append(member)
        if len(self._dead) > 2 * _MOST_DEAD:
            self._dead.sort(key=lambda dead: dead.stat.cpu_s, reverse=True)
            self._forgotten += len(self._dead) - _MOST_DEAD
            del self._dead[_MOST_DEAD:]

    def _row(self, member: Member, origin_s: float, root_command: str) -> Process:
        stat = member.stat
        is_root = stat.pid == self.root
        return Process(
            pid=stat.pid,
            ppid=stat.ppid,
            name=stat.name,
            command=root_command if is_root else member.command,
            started_s=max(0.0, member.started_s - origin_s),
            ended_s=None if member.ended_s is None else max(0.0, member.ended_s - origin_s),
            cpu_s=stat.cpu_s,
            is_left_running=member.ended_s is None and not is_root and stat.state not in "ZX",
        )

    # --- the main thread ----------------------------------------------------------------------------

    def has(self, pid: int) -> bool:
        """Whether a process belongs to the tree, by its ancestors."""
        below = 0
        for _ in range(1000):
            if pid == self.root or pid in self._live:
                return True
            if pid == self._me:
                return bool(below) and below not in self.strangers and not self.strangers
            stat = linux.process_stat(pid)
            if stat is None or stat.ppid == 0:
                return False
            below, pid = pid, stat.ppid
        return False

    def collect(self, now_s: float) -> None:
        """Reap the orphans that have ended, by PID and never the root, and keep their CPU time."""
        while (pid := self._next_zombie()) is not None:
            stat = linux.process_stat(pid)
            member = self._live.get(pid)
            usage = os.wait4(pid, 0)[2]
            if self.strangers and member is None:
                continue
            spent_s = usage.ru_utime + usage.ru_stime
            unseen_s = spent_s - (member.total_s if member is not None else 0.0)
            if unseen_s > _LATE_S and stat is not None:
                born_s = stat.started_s + self._to_monotonic
                self.late.append(LateCpu(start_s=born_s, end_s=now_s, cpu_s=unseen_s))
            self.orphans_s += spent_s

    def orphans(self) -> list[int]:
        """The descendants that have become children of this process."""
        by_parent = None if self._lists_children else linux.children_by_parent()
        return self._orphans(by_parent)

    def _next_zombie(self) -> int | None:
        try:
            event = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return None
        if event is None:
            return None
        if event.si_pid != self.root and event.si_pid not in self.strangers:
            return int(event.si_pid)
        by_parent = None if self._lists_children else linux.children_by_parent()
        for pid in set(_children_of(self._me, 1, by_parent)) - self.strangers - {self.root}:
            stat = linux.process_stat(pid)
            if stat is not None and stat.state in "ZX":
                return pid
        return None


def strangers() -> frozenset[int]:
    """The children that this process has already: a wrapper may have left us some by exec."""
    me = os.getpid()
    by_parent = None if linux.has_children_files() else linux.children_by_parent()
    return frozenset(_children_of(me, 1, by_parent))


def _children_of(pid: int, threads: int, by_parent: dict[int, list[int]] | None) -> list[int]:
    if by_parent is not None:
        return by_parent.get(pid, [])
    try:
        return linux.children(pid, threads)
    except OSError:
        return []


def _read(file: KeptFile | None, pid: int) -> linux.ProcessStat | None:
    if file is None:
        return linux.process_stat(pid)
    try:
        return linux.parse_stat(file.read())
    except (OSError, ValueError, IndexError):
        return None
