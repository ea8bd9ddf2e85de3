"""Linux behind the seam `systems.System`: the child is forked first and held, and every signal is taken one
by one. The parts stand in `launch`, `signals`, `tree` and `cputime`; here they become one run."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NoReturn

from emt_cli.measure import linux
from emt_cli.measure import tree as trees
from emt_cli.measure.cputime import CpuMeter
from emt_cli.measure.launch import Entry, HeldChild, block_signals
from emt_cli.measure.signals import die_by, wait_for_exit, wait_for_orphans
from emt_cli.model import CgroupUse, Exit
from emt_cli.sensors.base import Machine

if TYPE_CHECKING:
    from emt_cli.measure.users import User


_DEADLY = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT})
_BROKEN = 125
"""The status of a piece of work that fell over."""


class LinuxSystem:
    """See `System`. Its methods are called in their order, each at most once."""

    def __init__(self, entry: Entry | None = None) -> None:
        self._exit: Exit | None = None
        self._entry = entry

    def enter(self) -> None:
        if self._entry is None:
            self._entry = block_signals()

    def again(self) -> LinuxSystem:
        return LinuxSystem(self._entry)

    def apart(self, work: Callable[[], None]) -> Exit:
        self.enter()
        pid = os.fork()
        if pid == 0:
            status = _BROKEN
            try:
                work()
                status = 0
            finally:
                os._exit(status)
        wait_for_exit(pid, lambda sender: linux.descends_from(sender, pid), lambda: None)
        return exit_of(os.waitpid(pid, 0)[1])

    def hold(self, command: Sequence[str], user: User | None) -> HeldChild:
        self._strangers = trees.strangers()
        assert self._entry is not None, "enter comes first"
        self._child = HeldChild(command, self._entry, user=user)
        return self._child

    def run_aside(self, command: Sequence[str]) -> Exit:
        """Apart, since a held child's release takes the command's descriptors from emt."""
        self.enter()
        inner = self.again()

        def work() -> None:
            inner.hold(command, None).release()
            ended = inner.outlast()
            if ended.signal is not None:
                die_by(ended.signal)
            os._exit(ended.code or 0)

        return self.apart(work)

    def rest(self, seconds: float) -> int | None:
        until_s = time.monotonic() + seconds
        while True:
            info = signal.sigtimedwait(_DEADLY, max(0.0, until_s - time.monotonic()))
            if info is None:
                return None
            if signal.getsignal(info.si_signo) != signal.SIG_IGN and info.si_signo not in self._ignored():
                return info.si_signo

    def _ignored(self) -> frozenset[int]:
        return frozenset() if self._entry is None else frozenset(self._entry.ignored)

    def prepare(self) -> None:
        linux.raise_descriptor_limit()
        linux.become_subreaper()

    def follow(self, helpers: frozenset[int]) -> trees.Tree:
        self._tree = trees.Tree(self._child.pid, self._strangers, helpers)
        return self._tree

    def meter(self, machine: Machine, *, use_perf: bool, use_cgroup: CgroupUse, period_s: float) -> CpuMeter:
        return CpuMeter(machine, self._tree, use_perf=use_perf, use_cgroup=use_cgroup, period_s=period_s)

    def wait(self) -> None:
        """The command is dead then, but not yet reaped."""
        wait_for_exit(self._child.pid, self._tree.has, self._collect)

    def wait_for_rest(self) -> None:
        wait_for_orphans(self._tree.orphans, self._collect)

    def reap(self) -> tuple[Exit, float]:
        _, status, usage = os.wait4(self._child.pid, 0)
        self._exit = exit_of(status)
        self._collect()
        return self._exit, usage.ru_utime + usage.ru_stime

    def outlast(self) -> Exit:
        if self._exit is None:
            wait_for_exit(self._child.pid, lambda pid: False, lambda: None)
            self._exit = exit_of(os.waitpid(self._child.pid, 0)[1])
        return self._exit

    def suspended_s(self) -> float:
        return linux.suspended_s()

    def peak_memory_bytes(self) -> int:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    def die_by(self, number: int) -> NoReturn:
        die_by(number)

    def _collect(self) -> None:
        self._tree.collect(time.monotonic())


def exit_of(status: int) -> Exit:
    """A status of wait(2)."""
    if os.WIFSIGNALED(status):
        return Exit(signal=os.WTERMSIG(status))
    return Exit(code=os.WEXITSTATUS(status))
