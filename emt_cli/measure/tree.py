"""Who is in the tree: discovery by parenthood, and the orphans that come to us.

One pass reads every live member's times and children, parents before children, so that a child that is
waited for in between is missed once rather than counted twice. The pass is both the process table and the
`proc` witness of CPU time.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator

from emt_cli.measure import linux
from emt_cli.measure.ledger import Ledger, Member, is_there, rows
from emt_cli.model import LateCpu, Process

_LATE_S = 0.05
"""CPU time that is learnt only when an orphan is reaped is noted from this amount on."""
_MANY = 2
"""Threads: a process whose number of them is not known is asked for all of them."""
_UNNAMED = 0
"""Stands for children that were here before and cannot be named, since /proc is hidden."""


class Tree:
    """The root, all its descendants, and what is known of their CPU time.

    `pass_over` belongs to the meter's thread, `collect` and `has` to the main thread; what they share are
    single dictionary look-ups, queues, and a float that only the main thread changes. `strangers` are
    processes that were already children of this one: they and their orphans are not counted. `helpers` are
    children that emt has started for itself: they leave no orphans, and are not counted or reaped either.
    """

    def __init__(
        self,
        root: int,
        strangers: frozenset[int] = frozenset(),
        helpers: frozenset[int] = frozenset(),
    ) -> None:
        self.root = root
        self.strangers = strangers
        self._others = strangers | helpers | {root}
        """Children of this process that are no orphans of the tree, whoever they are."""
        self.orphans_s = 0.0
        """CPU seconds of the orphans that were reaped here, their own waited-for children included."""
        self.late: deque[LateCpu] = deque(maxlen=1000)
        self.blind_spot = ""
        """Why /proc cannot show a part of the tree's CPU time; empty if nothing speaks for that."""
        self.is_visible = linux.processes_are_visible()
        self._me = os.getpid()
        self._lists_children = linux.has_children_files()
        self._ledger = Ledger(root, linux.spare_descriptors())
        self._reaped: deque[tuple[Member, linux.ProcessStat, LateCpu]] = deque()
        """Orphans that the main thread has reaped: their last look, and the CPU time that was new in it."""
        self._last_pass_s = 0.0
        self._most_s = 0.0

    @property
    def count(self) -> int:
        """How many processes were seen."""
        return self._ledger.count

    # --- the meter's thread -------------------------------------------------------------------------

    def pass_over(self, now_s: float) -> float:
        """Look at everyone; CPU seconds of the tree so far, which never decrease."""
        self.enter_reaped(now_s)
        orphans_s = self.orphans_s  # before the walk: who is reaped meanwhile must not count twice
        seen = self._walk() if self.is_visible else {}
        for member in [member for pid, member in self._ledger.alive.items() if pid not in seen]:
            if is_there(member):  # given to another parent during the walk: a descendant all the same
                seen[member.stat.pid] = member
            else:
                self._ledger.bury(member, now_s)
        live_s = sum(member.total_s + member.lost_s for member in seen.values())
        self._most_s = max(self._most_s, orphans_s + live_s + self._ledger.lost_s)
        self._note_ends(seen, now_s)
        self._last_pass_s = now_s
        return self._most_s

    def enter_reaped(self, now_s: float) -> None:
        """Put the reaped orphans into the books; what they used counts in the running series from now on."""
        while self._reaped:
            member, stat, late = self._reaped.popleft()
            if late.cpu_s > _LATE_S:
                self.late.append(LateCpu(start_s=late.start_s, end_s=now_s, cpu_s=late.cpu_s))
            met = self._ledger.find(stat) if member.stat is stat else None
            if met is not None:  # a pass came upon it in the same moment
                met.is_reaped = True
            elif member.stat is stat:  # never seen before
                self._ledger.add_dead(member)
            member.stat = stat

    def live_s(self) -> float:
        """CPU seconds of everyone but the root who was there at the last pass and was not reaped since."""
        members = list(self._ledger.alive.values())
        return sum(member.total_s for member in members if not member.is_root and not member.is_reaped)

    def processes(self, origin_s: float, root_command: str) -> tuple[Process, ...]:
        """The process table, times counted from `origin_s`; most CPU time first."""
        members = [*self._ledger.dead, *self._ledger.alive.values()]
        return rows(members, origin_s, root_command)

    def close(self) -> None:
        self._ledger.close()

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
            # One that has moved behind a parent whose turn is yet to come is met again there.
            if member is not None and (member.stat.ppid == self._me or member.stat.ppid in seen):
                seen[pid] = member
                queue.extend(self._children(member, by_parent))

    def _orphans(self, by_parent: dict[int, list[int]] | None) -> list[int]:
        ours = set(_children_of(self._me, 1, by_parent)) - self._others
        if not self.strangers:
            return list(ours)
        known = [pid for pid in ours if pid in self._ledger.alive]
        if len(known) < len(ours):
            self.blind_spot = "orphans cannot be told from those of processes that were here before emt"
        return known

    def _children(self, member: Member, by_parent: dict[int, list[int]] | None) -> list[int]:
        pid = member.stat.pid
        found = _children_of(pid, member.stat.threads, by_parent)
        member.ignored_before = member.ignores_children
        if found:
            member.ignores_children = linux.ignores_sigchld(pid)
            if member.ignores_children:
                self.blind_spot = f"{member.stat.name} ({pid}) ignores SIGCHLD, its children leave no trace"
        return found

    def _look_at(self, pid: int) -> Member | None:
        """The member with fresh times, or the new owner of its PID; None if there is nobody."""
        member = self._ledger.alive.get(pid)
        if member is None:
            return self._ledger.meet(pid)
        if self._ledger.refresh(member):
            return member
        self._ledger.bury(member, self._last_pass_s)
        return self._ledger.meet(pid)

    def _note_ends(self, seen: dict[int, Member], now_s: float) -> None:
        for member in seen.values():
            if member.is_zombie:
                member.end(now_s)
            if member.lost_s > 0 and not self.blind_spot:
                stat = member.stat
                self.blind_spot = f"children of {stat.name} ({stat.pid}) vanished without being waited for"

    # --- the main thread ----------------------------------------------------------------------------

    def has(self, pid: int) -> bool:
        """Whether a process belongs to the tree, by its ancestors."""
        below = 0
        for _ in range(1000):
            if pid == self.root or pid in self._ledger.alive:
                return True
            if pid == self._me:
                return bool(below) and below not in self._others and not self.strangers
            stat = linux.process_stat(pid) if self.is_visible else None
            if stat is None or stat.ppid == 0:
                return False
            below, pid = pid, stat.ppid
        return False

    def collect(self, now_s: float) -> None:
        """Reap the orphans that have ended, by PID and never the root, and keep their CPU time."""
        for pid in self._zombies():
            stat = linux.process_stat(pid) if self.is_visible else None
            member = None if stat is None else self._ledger.find(stat)
            if member is not None:
                member.is_reaped = True  # first, or the meter could take it for one that vanished
            usage = os.wait4(pid, 0)[2]
            if self.strangers and member is None:
                continue
            spent_s = usage.ru_utime + usage.ru_stime
            if stat is not None:
                self._note_reaped(member, stat, spent_s, now_s)
            self.orphans_s += spent_s

    def orphans(self) -> list[int]:
        """The descendants that have become children of this process."""
        by_parent = None if self._lists_children else linux.children_by_parent()
        return self._orphans(by_parent)

    def living(self) -> list[int]:
        """The root and its descendants that can be found now, the elder first; for any thread."""
        by_parent = None if self._lists_children else linux.children_by_parent()
        found = dict.fromkeys([self.root, *self._orphans(by_parent)])
        queue = list(found)
        while queue:
            born = [pid for pid in _children_of(queue.pop(0), _MANY, by_parent) if pid not in found]
            found |= dict.fromkeys(born)
            queue += born
        return list(found)

    def _note_reaped(
        self, member: Member | None, stat: linux.ProcessStat, spent_s: float, now_s: float
    ) -> None:
        known_s = 0.0 if member is None else member.total_s
        if member is None:
            member = self._ledger.enter(stat, linux.command_line(stat.pid, 300))
            since_s = member.started_s
        else:
            since_s = max(member.started_s, self._last_pass_s)
        member.is_reaped = True
        member.end(now_s)
        # Its look is entered between two passes: in the middle of one, a child of it may be counted already.
        late = LateCpu(start_s=since_s, end_s=now_s, cpu_s=spent_s - known_s)
        self._reaped.append((member, stat, late))

    def _zombies(self) -> Iterator[int]:
        """Children that have ended and are to be reaped, each of them before the next is asked for."""
        while (pid := _ended_child()) is not None:
            if pid in self._others:  # it stays, and hides those behind it
                yield from self._listed_zombies()
                return
            yield pid

    def _listed_zombies(self) -> Iterator[int]:
        by_parent = None if self._lists_children else linux.children_by_parent()
        for pid in set(_children_of(self._me, 1, by_parent)) - self._others:
            stat = linux.process_stat(pid)
            if stat is not None and stat.state in "ZX":
                yield pid


def strangers() -> frozenset[int]:
    """The children that this process has already: a wrapper may have left us some by exec."""
    if not linux.processes_are_visible():
        return frozenset({_UNNAMED}) if _has_children() else frozenset()
    by_parent = None if linux.has_children_files() else linux.children_by_parent()
    return frozenset(_children_of(os.getpid(), 1, by_parent))


def _children_of(pid: int, threads: int, by_parent: dict[int, list[int]] | None) -> list[int]:
    if by_parent is not None:
        return by_parent.get(pid, [])
    try:
        return linux.children(pid, threads)
    except OSError:
        return []


def _ended_child() -> int | None:
    """A child of ours that has ended and is not yet reaped, the eldest first."""
    try:
        event = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return None if event is None else event.si_pid


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True
