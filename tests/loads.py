"""A machine for the sensors that go by the load of the CPUs: its clock and /proc are the test's to set."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from emt_cli.sensors.base import Machine

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Text:
    """A kernel file that is rendered anew for each read."""

    def __init__(self, render: Callable[[], str]) -> None:
        self.render = render

    def read(self) -> bytes:
        return self.render().encode()[:4096]

    def close(self) -> None:
        self.render = _closed


def _closed() -> str:
    raise OSError(errno.EBADF, os.strerror(errno.EBADF))


class FakeMachine:
    """`cpus` logical CPUs that have been busy for `busy_s` CPU seconds since `clock` began; the rest idle."""

    def __init__(self, cpus: int = 4, cpuinfo: str | None = "", memory_kb: int = 16 * 2**20) -> None:
        self.clock = Clock()
        self.cpus, self.busy_s, self.iowait_s, self.steal_s = cpus, 0.0, 0.0, 0.0
        self.fault: OSError | None = None
        self.files: dict[str, Callable[[], str]] = {
            "/proc/stat": self.stat,
            "/proc/meminfo": lambda: f"MemTotal:       {memory_kb} kB\nMemFree: 1 kB\n",
            "/sys/devices/system/cpu/online": lambda: f"0-{cpus - 1}",
        }
        if cpuinfo is not None:
            self.files["/proc/cpuinfo"] = lambda: cpuinfo
        self.machine = Machine(open_file=self.open_file, environ={})

    def open_file(self, path: str) -> Text:
        if path not in self.files:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)

        def render() -> str:  # whatever stands there by then
            return self.files[path]()

        return Text(render)

    def show(self, path: str, text: str) -> None:
        self.files[path] = lambda: text

    def spend(self, seconds: float, load: float = 0.0) -> None:
        """Let time go by with that share of all CPUs busy."""
        self.clock.now_s += seconds
        self.busy_s += seconds * load * self.cpus

    def stat(self) -> str:
        if self.fault is not None:
            raise self.fault
        total_s = self.cpus * (self.clock.now_s - 900)
        idle_s = total_s - self.busy_s - self.iowait_s - self.steal_s
        busy = [self.busy_s * 0.75, 0, self.busy_s * 0.25]
        columns_s = [*busy, idle_s, self.iowait_s, 0, 0, self.steal_s, 0, 0]
        line = " ".join(str(round(seconds * TICKS_PER_S)) for seconds in columns_s)
        cpus = "".join(f"cpu{n} 1 2 3 4 5 6 7 8 0 0\n" for n in range(self.cpus))
        return f"cpu  {line}\n{cpus}intr 1 2 3\n"
