"""What /proc/stat says, and of how many CPUs: the same answer for everything that shares or estimates energy.

Apart from its readers because they must agree: the CPU time that a model turns into joules is the CPU time
by which they are shared out. What stands there is not always the machine: lxcfs shows a container its own
CPUs while sysfs shows the host's, gVisor shows zeros, docker and Kubernetes show the whole host however
small the container's quota or cpuset is. So the file is believed for what it counts, and its own lines
say of how many CPUs that is.
"""

from __future__ import annotations

import os
from collections.abc import Callable

Read = Callable[[str], str]

ONLINE = "/sys/devices/system/cpu/online"

_ONE_READ = 4000
"""A text shorter than this was no page that was cut off."""


def cpu_times(text: str) -> list[int]:
    """Ticks of the machine: user, nice, system, idle, iowait, irq, softirq, steal (proc(5)). Guest time is
    inside user. Raises ValueError where the first line is none of CPU times."""
    line = text.partition("\n")[0].split()
    if len(line) < 5 or line[0] != "cpu":
        raise ValueError("/proc/stat does not begin with the cpu line")
    times = [int(word) for word in line[1:9]]
    return times + [0] * (8 - len(times))


def counts_nothing(text: str) -> bool:
    """Whether every time in it is zero: what some sandboxes show is no idle machine."""
    try:
        return not any(cpu_times(text))
    except ValueError:
        return False


def counted_cpus(text: str, read: Read) -> int:
    """How many CPUs the first line is the sum of: by the lines below it where all were read, else (a big
    machine's file does not fit into one read) by the kernel's list. `read` raises OSError."""
    lines = text.splitlines()
    count = sum(line.startswith("cpu") and line[3:4].isdigit() for line in lines)
    if count and (len(text) < _ONE_READ or any(line.startswith("intr") for line in lines)):
        return count
    try:
        return listed_cpus(read(ONLINE))
    except (OSError, ValueError):
        return count or os.cpu_count() or 1


def listed_cpus(text: str) -> int:
    """How many CPUs a list as `0-3,8` names. Raises ValueError where it is none."""
    ends = [span.partition("-") for span in text.split(",")]
    return sum(int(last or first) - int(first) + 1 for first, _, last in ends)
