"""Who is in the tree, by polling psutil: the process table and a lower bound of the CPU time.

A process is its PID and its creation time. Children are asked of everyone who was met before, so that an
orphan keeps its place in the tree; who is born and dead between two looks is never met.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from emt_cli.model import Process

_LONGEST_COMMAND = 4096
BLIND_SPOT = "children that live shorter than half a second and are not waited for leave no trace here"


@dataclass(slots=True)
class Member:
    """One process of the tree; `own_s` and `reaped_s` as of the last look. Times are monotonic."""

    process: Any
    pid: int
    started_s: float
    ppid: int = 0
    name: str = ""
    command: str = ""
    own_s: float = 0.0
    reaped_s: float = 0.0
    ended_s: float | None = None
    looks: int = 0


class PolledTree:
    """The root, all descendants that were seen, and their CPU time. `pass_over` belongs to one thread; the
    others look single things up."""

    def __init__(self) -> None:
        import psutil

        self._psutil = psutil
        self._root: Member | None = None
        self._alive: dict[int, Member] = {}
        self._dead: list[Member] = []
        self._dead_s = 0.0
        self._most_s = 0.0

    @property
    def count(self) -> int:
        return len(self._alive) + len(self._dead)

    def plant(self, pid: int) -> None:
        """Begin with the root, as soon as it runs."""
        try:
            process = self._psutil.Process(pid)
        except self._psutil.Error:  # over already: only its status and its job tell of it
            return
        self._root = self._meet(process, time.monotonic())
        self._look_at(self._root)

    def pass_over(self, now_s: float) -> float:
        """Look at everyone; CPU seconds of the tree so far, which never decrease.

        Parents are looked at before their children, so that one that is waited for meanwhile does not
        count twice. The larger of two sums that are both too small: own times of all who were met, and
        of those alive with the times of the children that they have waited for (Linux tells those).
        """
        for member in self._walk(now_s):
            if not self._look_at(member):
                self._bury(member, now_s)
        alive = list(self._alive.values())
        own_s = sum(member.own_s for member in alive)
        reaped_s = sum(member.reaped_s for member in alive)
        self._most_s = max(self._most_s, own_s + self._dead_s, own_s + reaped_s)
        return self._most_s

    def live_s(self) -> float:
        """CPU seconds of everyone but the root who was there at the last pass."""
        return sum(member.own_s for member in list(self._alive.values()) if member is not self._root)

    def has(self, pid: int) -> bool:
        return pid in self._alive

    def orphans(self) -> list[int]:
        """The descendants that outlive the root."""
        members = [member for member in list(self._alive.values()) if member is not self._root]
        return [member.pid for member in members if self._is_running(member)]

    def processes(self, origin_s: float, root_command: str) -> tuple[Process, ...]:
        """The process table, times counted from `origin_s`; most CPU time first."""
        table = [
            Process(
                pid=member.pid,
                ppid=member.ppid,
                name=member.name,
                command=root_command if member is self._root else member.command,
                started_s=max(0.0, member.started_s - origin_s),
                ended_s=None if member.ended_s is None else max(0.0, member.ended_s - origin_s),
                cpu_s=member.own_s,
                is_left_running=member.ended_s is None and member is not self._root,
            )
            for member in [*self._dead, *list(self._alive.values())]
        ]
        return tuple(sorted(table, key=lambda row: row.cpu_s, reverse=True))

    def _walk(self, now_s: float) -> list[Member]:
        """Everyone who was met before, in the order of meeting, each before the descendants that it has."""
        found: dict[int, Member] = {}
        for member in list(self._alive.values()):
            if member.pid in found:
                continue
            found[member.pid] = member
            try:
                children = member.process.children(recursive=True)
            except self._psutil.Error:
                continue
            for child in children:
                known = self._alive.get(child.pid)
                if known is not None and known.process != child:  # another owner of that PID
                    self._bury(known, now_s)
                    known = None
                found[child.pid] = known or self._meet(child, now_s)
        return list(found.values())

    def _meet(self, process: Any, now_s: float) -> Member:
        try:
            age_s = max(0.0, time.time() - process.create_time())
        except self._psutil.Error:
            age_s = 0.0
        member = Member(process=process, pid=process.pid, started_s=now_s - age_s)
        self._alive[member.pid] = member
        return member

    def _look_at(self, member: Member) -> bool:
        """Fresh times of a member; False if it is over."""
        process, psutil = member.process, self._psutil
        try:
            with process.oneshot():
                if process.status() == psutil.STATUS_ZOMBIE:
                    self._note_times(member)
                    return False
                if not member.looks:
                    member.ppid = process.ppid()
                if member.looks < 2:  # at the first look it may not have executed its program yet
                    member.name = process.name()
                    member.command = " ".join(process.cmdline())[:_LONGEST_COMMAND]
                member.looks += 1
                self._note_times(member)
        except psutil.AccessDenied:  # it has become another user's
            return bool(process.is_running())
        except psutil.Error:
            return False
        return True

    def _note_times(self, member: Member) -> None:
        times = member.process.cpu_times()
        member.own_s = times.user + times.system
        member.reaped_s = getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)

    def _is_running(self, member: Member) -> bool:
        try:
            return bool(member.process.is_running() and member.process.status() != self._psutil.STATUS_ZOMBIE)
        except self._psutil.Error:
            return False

    def _bury(self, member: Member, now_s: float) -> None:
        self._alive.pop(member.pid, None)
        member.ended_s = now_s
        self._dead_s += member.own_s
        self._dead.append(member)
