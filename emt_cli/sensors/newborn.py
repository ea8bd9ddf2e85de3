"""Young processes: those that were born since the first look, and what that costs to find out.

It stands apart from `fdinfo`, which looks at them more often than at the rest: a command's own processes are
new as a rule, and short runs would be over before all of /proc is gone through again.
"""

from __future__ import annotations

from contextlib import suppress

from emt_cli.sensors.base import File, Machine

YOUNG_S = 30.0
"""So long after its start a process is expected to open the GPU (importing torch takes 10 s)."""


class Newborn:
    """Processes that were not there at the first look, until they are `YOUNG_S` old.

    The last PID that the kernel gave (in /proc/loadavg) tells whether there can be new ones at all.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._loadavg: File | None = None
        with suppress(OSError):
            self._loadavg = machine.keep("/proc/loadavg")
        self._last_pid = b""
        self._seen: set[int] | None = None
        self._born_s: dict[int, float] = {}

    def young(self, now_s: float) -> list[int]:
        """Their PIDs, the oldest first; some of them may have ended."""
        fresh: list[int] = []
        if self._may_have_more():
            there = set(pids(self._machine))
            fresh = [] if self._seen is None else sorted(there - self._seen)
            self._seen = there
            self._born_s = {pid: at_s for pid, at_s in self._born_s.items() if pid in there}
        self._born_s = {pid: at_s for pid, at_s in self._born_s.items() if now_s - at_s < YOUNG_S}
        self._born_s |= dict.fromkeys(fresh, now_s)
        return list(self._born_s)

    def close(self) -> None:
        if self._loadavg is not None:
            self._loadavg.close()

    def _may_have_more(self) -> bool:
        before, self._last_pid = self._last_pid, b""
        if self._loadavg is not None:
            with suppress(OSError):
                self._last_pid = self._loadavg.read().rpartition(b" ")[2]
        return self._last_pid != before or not self._last_pid


def pids(machine: Machine) -> list[int]:
    """The processes that are there, ascending."""
    return sorted(int(name) for name in machine.names("/proc") if name.isdecimal())
