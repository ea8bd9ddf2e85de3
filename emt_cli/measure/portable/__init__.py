"""Every system but Linux behind the seam `systems.System`: psutil looks at a child that runs by itself.

No process is forked early and held, since nothing here loads into the child: it is started when the first
readings are taken. What is weaker than on Linux, and why:

- The tree is polled twice a second. Who lives shorter than that is seen by nobody but the parent that waits
  for it (POSIX: rusage of the command) or the job object (Windows, complete). The record says so.
- A signal does not tell its sender (no sigwaitinfo on macOS), see `signals`.
- The command is reaped as soon as it ends, just before the last readings; on Linux it is held as a zombie.
- Interval timers and an ignored SIGCHLD are not handed on to the command.

Linux runs this path in tests (`Machine(platform="darwin")`), so that all but Windows' own calls is exercised.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from emt_cli.errors import LaunchError
from emt_cli.measure.portable.child import PlannedChild
from emt_cli.measure.portable.cputime import PolledCpu
from emt_cli.measure.portable.signals import Console, Forwarding, die_by
from emt_cli.measure.portable.tree import PolledTree
from emt_cli.model import CgroupUse, Exit
from emt_cli.sensors.base import Machine

if TYPE_CHECKING:
    from emt_cli.measure.portable.windows import Job
    from emt_cli.measure.users import User

_LOOK_S = 0.1
_NOT_STARTED = 125


class PortableSystem:
    """See `System`. Its methods are called in their order, each at most once."""

    def __init__(self, platform: str, signals: Forwarding | Console | None = None) -> None:
        self._platform = platform
        self._is_windows = platform == "win32"
        self._signals = signals or (Console() if self._is_windows else Forwarding())
        self._job: Job | None = None
        self._waits_for_rest = False

    def enter(self) -> None:
        self._signals.take()

    def hold(self, command: Sequence[str], user: User | None) -> PlannedChild:
        if self._is_windows:
            from emt_cli.measure.portable.windows import Job

            self._job = Job()
        self._child = PlannedChild(command, user, self._signals, self._job)
        return self._child

    def again(self) -> PortableSystem:
        return PortableSystem(self._platform, self._signals)

    def apart(self, work: Callable[[], None]) -> Exit:
        """Right here: nothing is forked, so threads and drivers of before are in nobody's way."""
        work()
        return Exit(code=0)

    def run_aside(self, command: Sequence[str]) -> Exit:
        self.enter()
        inner = self.again()
        try:
            inner.hold(command, None).release()
        except LaunchError:
            return Exit(code=_NOT_STARTED)
        return inner.outlast()

    def rest(self, seconds: float) -> None:
        self.enter()
        until_s = time.monotonic() + seconds
        while self.interrupted_by is None and (left_s := until_s - time.monotonic()) > 0:
            time.sleep(min(left_s, _LOOK_S))

    def disregard(self, senders: Iterable[int]) -> None:
        """Nobody's signals are known by their sender here."""

    @property
    def interrupted_by(self) -> int | None:
        return self._signals.interrupted_by

    def prepare(self) -> None:
        """Nothing is to be asked for: no descriptor is kept for a process, and no orphan comes to us."""

    def follow(self, helpers: frozenset[int]) -> PolledTree:
        """Helpers are told apart by themselves: they do not descend from the root."""
        self._tree = PolledTree()
        return self._tree

    def meter(self, machine: Machine, *, use_perf: bool, use_cgroup: CgroupUse, period_s: float) -> PolledCpu:
        return PolledCpu(self._child, self._tree, self._job, period_s)

    def wait(self) -> None:
        self._child.wait()

    def wait_for_rest(self) -> None:
        """What is sent to emt meanwhile goes to each of them."""
        self._waits_for_rest = True
        self._signals.targets = self._tree.orphans
        while self._tree.orphans():
            time.sleep(_LOOK_S)

    def end(self, at_once: bool) -> bool:
        """The root first, or a shell would go on to its next command. Windows knows no polite way."""
        if self._child.is_over and not self._waits_for_rest:
            return False
        root = [] if self._child.is_over else [self._child.pid]
        numbers = [signal.SIGTERM]
        if not self._is_windows:
            numbers = [signal.SIGKILL] if at_once else [signal.SIGTERM, signal.SIGCONT]
        for pid in [*root, *self._tree.orphans()]:
            for number in numbers:
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
        return True

    def reap(self) -> tuple[Exit, float]:
        return self._child.wait()

    def outlast(self) -> Exit:
        return self._child.wait()[0]

    def suspended_s(self) -> float:
        """macOS has a clock that stops while the machine sleeps; elsewhere this is not known, and 0."""
        awake = getattr(time, "CLOCK_UPTIME_RAW", None)
        if awake is None:
            return 0.0
        return time.clock_gettime(time.CLOCK_MONOTONIC) - time.clock_gettime(awake)

    def peak_memory_bytes(self) -> int | None:
        """Peak of emt's resident memory; now's where the system keeps no peak."""
        import psutil

        memory = psutil.Process().memory_info()
        return int(getattr(memory, "peak_wset", memory.rss))

    def die_by(self, number: int) -> NoReturn:
        die_by(number)
