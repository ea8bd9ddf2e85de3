"""What only Linux has: the task clock of perf, /proc, the subreaper, orphans.

`cputime`, `tree` and `on_linux` use these functions and know no other way to the kernel; other systems stand
behind `systems.System`, a level higher.
"""

from __future__ import annotations

import errno
import os
import time
from typing import NamedTuple

from emt_cli import perf_event
from emt_cli.proc_stat import counted_cpus, counts_nothing
from emt_cli.sensors.base import File, KeptFile, Machine
from emt_cli.units import SECONDS_PER_NANOSECOND

CLOCK_TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")
"""The step of every CPU time in /proc (USER_HZ)."""

_PR_SET_CHILD_SUBREAPER = 36
_PERF_TYPE_SOFTWARE = 1
_PERF_COUNT_SW_TASK_CLOCK = 1
_CPUCLOCK_SCHED = 2
"""The clock of the scheduler in a clock number made of a PID (include/linux/posix-timers.h)."""
_SIGCHLD_BIT = 1 << 16
_SMALLEST_PART = 2048
"""A list in /proc comes in pages of at least 4096 bytes, cut at an entry: one this short is complete."""
_MOST_DESCRIPTORS = 1 << 20
_DESCRIPTORS_KEPT_BACK = 128
"""For sensors, journal and record: the processes of a tree must not take the last descriptors."""


def become_subreaper() -> bool:
    """Orphans of the tree become children of this process instead of init's. False if the kernel refuses."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)


class TaskClock:
    """The CPU seconds of a process and of all it starts from its next exec on: perf's task-clock, inherited.

    Kernel and hypervisor are excluded from the event, which is what makes it free of privileges at
    `perf_event_paranoid` 2; the clock counts system time all the same (perf_event_open(2)). Raises OSError
    where perf is refused (EACCES, EPERM), missing (ENOSYS, ENOENT) or the process is gone (ESRCH).
    """

    def __init__(self, pid: int) -> None:
        flags = (
            perf_event.DISABLED
            | perf_event.INHERIT
            | perf_event.EXCLUDE_KERNEL
            | perf_event.EXCLUDE_HV
            | perf_event.ENABLE_ON_EXEC
        )
        self._event = perf_event.of_process(pid, _PERF_TYPE_SOFTWARE, _PERF_COUNT_SW_TASK_CLOCK, flags)

    def seconds(self) -> float:
        return self._event.count() * SECONDS_PER_NANOSECOND

    def close(self) -> None:
        self._event.close()


class ProcessStat(NamedTuple):
    """One line of /proc/PID/stat. `reaped_s` is the CPU time of children that it has waited for."""

    pid: int
    name: str
    state: str
    ppid: int
    cpu_s: float
    reaped_s: float
    threads: int
    started_s: float
    """Seconds after boot: with the pid, the identity of a process."""


def parse_stat(line: bytes) -> ProcessStat:
    """Raises ValueError or IndexError where the line is no stat line. A name may hold spaces and brackets."""
    head, _, tail = line.rpartition(b")")
    pid, _, name = head.partition(b"(")
    fields = tail.split()
    return ProcessStat(
        pid=int(pid),
        name=name.decode("utf-8", "replace"),
        state=fields[0].decode("ascii", "replace"),
        ppid=int(fields[1]),
        cpu_s=(int(fields[11]) + int(fields[12])) * CLOCK_TICK_S,
        reaped_s=(int(fields[13]) + int(fields[14])) * CLOCK_TICK_S,
        threads=int(fields[17]),
        started_s=int(fields[19]) * CLOCK_TICK_S,
    )


def process_stat(pid: int) -> ProcessStat | None:
    """None where there is no such process, or it is hidden."""
    try:
        file = KeptFile(f"/proc/{pid}/stat")
    except OSError:
        return None
    try:
        return parse_stat(file.read())
    except (OSError, ValueError, IndexError):
        return None
    finally:
        file.close()


def children(pid: int, threads: int = 1) -> list[int]:
    """The children of every thread of a process; of the first thread alone where it has only one.

    A thread that ends meanwhile has none: its children went to another one. Raises OSError where the
    process is gone or hidden.
    """
    tasks = [str(pid)] if threads == 1 else os.listdir(f"/proc/{pid}/task")
    found: list[int] = []
    for task in tasks:
        try:
            found.extend(map(int, _whole(f"/proc/{pid}/task/{task}/children").split()))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def _whole(path: str) -> bytes:
    """A list in /proc to its end: the kernel hands it out by the page, however much is asked for."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        content = os.read(fd, 1 << 16)
        if len(content) < _SMALLEST_PART:
            return content
        parts = [content]
        while part := os.read(fd, 1 << 16):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(fd)


def has_children_files() -> bool:
    """Whether the kernel lists children (CONFIG_PROC_CHILDREN); else every process must be looked at."""
    return os.path.exists(f"/proc/self/task/{os.getpid()}/children")


def children_by_parent() -> dict[int, list[int]]:
    """Every process' children, by one look at all of /proc: the slow way, for kernels without the list."""
    found: dict[int, list[int]] = {}
    for entry in os.listdir("/proc") if processes_are_visible() else ():
        if entry.isdigit() and (stat := process_stat(int(entry))) is not None:
            found.setdefault(stat.ppid, []).append(stat.pid)
    return found


def ignores_sigchld(pid: int) -> bool:
    """Whether a process lets its children vanish unwaited (SIGCHLD ignored), CPU time and all."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            for line in file:
                if line.startswith(b"SigIgn:"):
                    return bool(int(line.split()[1], 16) & _SIGCHLD_BIT)
    except (OSError, ValueError, IndexError):
        return False
    return False


def descends_from(pid: int, ancestor: int) -> bool:
    """Whether a process is another one or a descendant of it, as far as its parents tell."""
    for _ in range(1000):
        if pid == ancestor:
            return True
        stat = process_stat(pid)
        if stat is None or stat.ppid == 0:
            return False
        pid = stat.ppid
    return False


def command_line(pid: int, limit: int = 4096) -> str:
    """The arguments joined by spaces; empty for a zombie or a kernel thread."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read(limit).replace(b"\0", b" ").decode("utf-8", "replace").strip()
    except OSError:
        return ""


def processes_are_visible() -> bool:
    """False where /proc is missing, hides processes even from their owner, or is another namespace's."""
    try:
        return os.readlink("/proc/self") == str(os.getpid()) and process_stat(os.getpid()) is not None
    except OSError:
        return False


def cpu_clock_s(pid: int) -> float:
    """A process' own CPU seconds by its clock, to the nanosecond (clock_getcpuclockid(3)); its children's
    are not among them. Raises OSError where there is no such process."""
    return time.clock_gettime((~pid << 3) | _CPUCLOCK_SCHED)


class MachineCpu(NamedTuple):
    """CPU seconds of the whole machine since boot, from the first line of /proc/stat, and when it was read.

    `busy_s` is user, nice, system, irq and softirq time; guest time is inside user.
    """

    t_s: float
    idle_s: float
    iowait_s: float
    busy_s: float
    stolen_s: float


class MachineClock:
    """Reads `MachineCpu` again and again. Raises OSError at opening where there is no /proc/stat, or one that
    counts nothing."""

    def __init__(self, machine: Machine) -> None:
        text = machine.text("/proc/stat")
        if counts_nothing(text):
            raise OSError(errno.ENODATA, "it counts nothing here")
        self._file: File = machine.keep("/proc/stat")
        self.cpus = counted_cpus(text, machine.text)

    def read(self) -> MachineCpu:
        """Raises OSError or ValueError where the file is not readable as CPU times."""
        before = time.monotonic()
        line = self._file.read().split(b"\n", 1)[0].split()
        now = (before + time.monotonic()) / 2
        if not line or line[0] != b"cpu":
            raise ValueError("/proc/stat does not begin with the cpu line")
        user, nice, system, idle, iowait, irq, softirq, steal = (
            int(field) * CLOCK_TICK_S for field in [*line[1:9], *[b"0"] * 8][:8]
        )
        return MachineCpu(now, idle, iowait, user + nice + system + irq + softirq, steal)

    def close(self) -> None:
        self._file.close()


def suspended_s() -> float:
    """Seconds since boot that the machine was suspended; only differences mean anything."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)


def raise_descriptor_limit() -> None:
    """Allow this process as many descriptors as it may have: one is kept for each process of the tree."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def spare_descriptors() -> int:
    """How many descriptors may be kept open for processes, some being kept back for everything else."""
    import resource

    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    limit = _MOST_DESCRIPTORS if soft == resource.RLIM_INFINITY else min(soft, _MOST_DESCRIPTORS)
    return max(0, limit - _DESCRIPTORS_KEPT_BACK)
