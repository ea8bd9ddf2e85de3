"""Whether the emt that records a run still lives: PID and start time, on the same boot of the same node.

A folder of its own does not say: a run whose emt was killed looks like one that goes on.
"""

from __future__ import annotations

import os
import time

ELSEWHERE_S = 600.0
"""A run of another node counts as going on while its folder changed within this time (the journal is
copied out every minute)."""


def started_ticks(pid: int, proc: str = "/proc") -> int | None:
    """The start time of a process in clock ticks since boot; None if it is gone or has ended (a zombie).

    Field 22 of /proc/PID/stat, proc(5); the name in the second field may hold blanks and parentheses.
    """
    try:
        with open(f"{proc}/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    if len(fields) < 20 or fields[0] in (b"Z", b"X"):
        return None
    return int(fields[19])


def is_alive(
    pid: int | None,
    ticks: int | None,
    *,
    node: str,
    boot_id: str,
    changed_at: float,
    proc: str = "/proc",
    this_node: str | None = None,
) -> bool:
    """Whether the recorder of a `running` record still runs. `changed_at`: when its journal last changed."""
    if pid is None or pid <= 0:
        return False
    if node and node != (os.uname().nodename if this_node is None else this_node):
        return time.time() - changed_at < ELSEWHERE_S
    this_boot = _boot_id(proc)
    if boot_id and this_boot and boot_id != this_boot:
        return False
    now = started_ticks(pid, proc)
    if now is None:
        return _is_hidden(pid, proc)
    return ticks is None or ticks == now


def _is_hidden(pid: int, proc: str) -> bool:
    """A process of another user under /proc's hidepid: not to be seen, but it cannot be signalled either."""
    if os.path.exists(f"{proc}/{pid}"):
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return False


def _boot_id(proc: str) -> str:
    try:
        with open(f"{proc}/sys/kernel/random/boot_id", encoding="ascii", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""
