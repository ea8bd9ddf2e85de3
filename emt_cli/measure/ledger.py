"""Everyone who is or was in the tree, as last seen: the members alive, the dead, and what got lost with them.

Kept apart from `tree`, which decides who belongs to it: here is only what is known of each member, and
the descriptors through which it is looked at again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from emt_cli.measure import linux
from emt_cli.model import Process
from emt_cli.sensors.base import KeptFile

_MOST_DEAD = 5_000
"""Ended members kept in the ledger; beyond twice as many those with the least CPU time are forgotten."""


@dataclass(slots=True)
class Member:
    """A process that is or was in the tree, as last seen."""

    stat: linux.ProcessStat
    command: str
    file: KeptFile | None
    """None where there were no descriptors left: it is read by name then."""
    started_s: float
    """On the monotonic clock."""
    number: int
    """They are numbered as they are met."""
    is_root: bool = False
    ended_s: float | None = None
    is_reaped: bool = False
    """Set by the main thread when it has waited for it: its CPU time is among the orphans' from then on."""
    is_settled: bool = False
    """Whether the command line was read a second time: a fresh fork still shows its parent's."""
    ignores_children: bool = False
    ignored_before: bool = False
    """At the look before, too: then none of those who went between the two was waited for."""
    reaped_before_s: float = 0.0
    """What it had waited for already when it was met."""
    dropped_s: float = 0.0
    """CPU seconds, as last seen, of children that vanished while it ignored them."""
    owed_s: float = 0.0
    """CPU seconds of its other children that are gone: it should have waited for them."""
    missing_s: float = 0.0
    """What of that never turned up among its waited-for children: they have vanished as well."""

    @property
    def total_s(self) -> float:
        """Own CPU seconds and those of the children that it has waited for."""
        return self.stat.cpu_s + self.stat.reaped_s

    @property
    def is_zombie(self) -> bool:
        return self.stat.state in "ZX"

    @property
    def has_left_children(self) -> bool:
        """Whether it is dead and its children may have gone to another process of the tree. Those of the root
        come to us, and are marked when they are reaped."""
        return self.is_zombie and not self.is_root

    @property
    def lost_s(self) -> float:
        """CPU seconds that were seen of children for which nobody waited."""
        return self.dropped_s + self.missing_s

    def end(self, now_s: float) -> None:
        """It is known to be dead since now."""
        if self.ended_s is None:
            self.ended_s = max(now_s, self.started_s)

    def see(self, stat: linux.ProcessStat) -> None:
        """Take a fresh look in. A child is unlisted only after its time was added to its parent's, so what is
        missing at the next look (less what two roundings to clock ticks may hide) will not come any more.
        The children of a dead one are gone to somebody else, who waits for them."""
        self.stat = stat
        if self.has_left_children:
            return
        missing_s = self.owed_s - (stat.reaped_s - self.reaped_before_s)
        self.missing_s = max(0.0, missing_s - 2 * linux.CLOCK_TICK_S)


class Ledger:
    """`alive` by PID and `dead`; `most_files` descriptors at most are kept open.

    Only the meter's thread changes it. Other threads look up single members, or take copies of the lists.
    """

    def __init__(self, root: int, most_files: int) -> None:
        self._root = root
        self.alive: dict[int, Member] = {}
        self.dead: list[Member] = []
        self.lost_s = 0.0
        """What was lost with parents that are dead themselves."""
        self._to_monotonic = -linux.suspended_s()
        self._files_left = most_files
        self._forgotten = 0
        self._met = 0

    @property
    def count(self) -> int:
        """How many processes were seen."""
        return len(self.alive) + len(self.dead) + self._forgotten

    def find(self, stat: linux.ProcessStat) -> Member | None:
        """The living member that this is about; None for another owner of its PID."""
        member = self.alive.get(stat.pid)
        return member if member is not None and member.stat.started_s == stat.started_s else None

    def meet(self, pid: int) -> Member | None:
        """Enter a process that is seen for the first time; None if it is gone already."""
        file = self._open(pid)
        stat = _read_exactly(file, pid)
        if stat is None:
            self._close(file)
            return None
        member = self.enter(stat, linux.command_line(pid, 300), file)
        self.alive[pid] = member
        return member

    def enter(self, stat: linux.ProcessStat, command: str, file: KeptFile | None = None) -> Member:
        """A member from its first look; not yet among the living or the dead."""
        self._met += 1
        return Member(
            stat=stat,
            command=command,
            file=file,
            started_s=stat.started_s + self._to_monotonic,
            number=self._met,
            is_root=stat.pid == self._root,
            reaped_before_s=stat.reaped_s,
        )

    def refresh(self, member: Member) -> bool:
        """Look again; False if it is gone. A kept descriptor never meets a reused PID."""
        stat = _read_exactly(member.file, member.stat.pid)
        if stat is None or stat.started_s != member.stat.started_s:
            return False
        if not member.is_settled or stat.name != member.stat.name:
            member.command = linux.command_line(stat.pid, 300) or member.command
            member.is_settled = True
        member.see(stat)
        return True

    def bury(self, member: Member, now_s: float) -> None:
        """Move it from the living to the dead; what it used is due at its parent from now on."""
        del self.alive[member.stat.pid]
        member.end(now_s)
        self._close(member.file)
        member.file = None
        self.lost_s += member.lost_s
        if not member.is_reaped:
            self._charge_parent(member)
        self.add_dead(member)

    def _charge_parent(self, member: Member) -> None:
        parent = self.alive.get(member.stat.ppid)
        if parent is None or parent.number > member.number:  # another owner of that PID, or met too late
            return
        if parent.has_left_children:
            return
        # A zombie is waited for, whatever its parent says by now.
        if parent.ignores_children and parent.ignored_before and not member.is_zombie:
            parent.dropped_s += member.total_s
        else:
            parent.owed_s += member.total_s

    def add_dead(self, member: Member) -> None:
        self.dead.append(member)
        if len(self.dead) > 2 * _MOST_DEAD:
            self.dead.sort(key=lambda dead: dead.stat.cpu_s, reverse=True)
            self._forgotten += len(self.dead) - _MOST_DEAD
            del self.dead[_MOST_DEAD:]

    def close(self) -> None:
        for member in self.alive.values():
            self._close(member.file)
            member.file = None

    def _open(self, pid: int) -> KeptFile | None:
        if self._files_left <= 0:
            return None
        try:
            file = KeptFile(f"/proc/{pid}/stat", 1024)
        except OSError:  # gone, hidden or out of descriptors: reading it by name will tell
            return None
        self._files_left -= 1
        return file

    def _close(self, file: KeptFile | None) -> None:
        if file is not None:
            file.close()
            self._files_left += 1


def read(file: KeptFile | None, pid: int) -> linux.ProcessStat | None:
    """A fresh look through the kept descriptor, or by name where there is none; None if it is gone."""
    if file is None:
        return linux.process_stat(pid)
    try:
        return linux.parse_stat(file.read())
    except (OSError, ValueError, IndexError):
        return None


def _read_exactly(file: KeptFile | None, pid: int) -> linux.ProcessStat | None:
    """The same with its own CPU time to the nanosecond: /proc cuts user and system time to clock ticks.

    The clock goes by PID; a time that this process cannot have by now is another's.
    """
    stat = read(file, pid)
    if stat is None:
        return None
    try:
        own_s = linux.cpu_clock_s(pid)
    except OSError:
        return stat
    return stat._replace(cpu_s=own_s) if 0 <= own_s - stat.cpu_s < 3 * linux.CLOCK_TICK_S else stat


def is_there(member: Member) -> bool:
    """Whether the process still exists. Its times are left as they were: its children's were read before."""
    stat = read(member.file, member.stat.pid)
    return stat is not None and stat.started_s == member.stat.started_s


def rows(members: Iterable[Member], origin_s: float, root_command: str) -> tuple[Process, ...]:
    """The process table, times counted from `origin_s`; most CPU time first."""
    table = [_row(member, origin_s, root_command) for member in members]
    return tuple(sorted(table, key=lambda row: row.cpu_s, reverse=True))


def _row(member: Member, origin_s: float, root_command: str) -> Process:
    stat = member.stat
    return Process(
        pid=stat.pid,
        ppid=stat.ppid,
        name=stat.name,
        command=root_command if member.is_root else member.command,
        started_s=max(0.0, member.started_s - origin_s),
        ended_s=None if member.ended_s is None else max(0.0, member.ended_s - origin_s),
        cpu_s=stat.cpu_s,
        is_left_running=member.ended_s is None and not member.is_root,
    )
