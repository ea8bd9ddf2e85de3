"""Whether the emt that records a run still lives: PID and start time, on the same boot of the same node.

A folder of its own does not say: a run whose emt was killed looks like one that goes on. Where there is no
/proc psutil tells, with start times since 1970 instead of since boot.
"""

from __future__ import annotations

import os
import time

_PROC = "/proc"
ELSEWHERE_S = 600.0
"""A run of another node counts as going on while its folder changed within this time (the journal is
copied out every minute)."""


def started_ticks(pid: int, proc: str = _PROC) -> int | None:
    """The start time of a process in clock ticks since boot; None if it is gone or has ended (a zombie).

    Field 22 of /proc/PID/stat, proc(5); the name in the second field may hold blanks and parentheses.
    """
    if proc == _PROC and not os.path.exists(f"{proc}/self"):
        return _started_by_psutil(pid)
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
    proc: str = _PROC,
    this_node: str | None = None,
) -> bool:
    """Whether the recorder of a `running` record still runs. `changed_at`: when its journal last changed."""
    if pid is None or pid <= 0:
        return False
    if node and node != (_this_node() if this_node is None else this_node):
        return time.time() - changed_at < ELSEWHERE_S
    this_boot = _boot_id(proc)
    if boot_id and this_boot and boot_id != this_boot:
        return False
    now = started_ticks(pid, proc)
    if now is None:
        return _is_hidden(pid, proc)
    return ticks is None or ticks == now


def _is_hidden(pid: int, proc: str) -> bool:
    """A process of another user under /proc's hidepid: not to be seen, but it cannot be signalled either.

    Windows hides nobody, and asking in this way would send a Ctrl-C there.
    """
    if os.path.exists(f"{proc}/{pid}") or not hasattr(os, "fork"):
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return False


def _started_by_psutil(pid: int) -> int | None:
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else round(process.create_time() * 100)
    except (psutil.Error, OverflowError):
        return None


def _this_node() -> str:
    if hasattr(os, "uname"):
        return os.uname().nodename
    import platform

    return platform.node()


def _boot_id(proc: str) -> str:
    try:
        with open(f"{proc}/sys/kernel/random/boot_id", encoding="ascii", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""
