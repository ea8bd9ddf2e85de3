"""Linux behind the seam `systems.System`: the child is forked first and held, and every signal is taken one
by one. The parts stand in `launch`, `signals`, `tree` and `cputime`; here they become one run."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from emt_cli.errors import LaunchError
from emt_cli.measure import linux
from emt_cli.measure import tree as trees
from emt_cli.measure.cputime import CpuMeter
from emt_cli.measure.launch import Entry, HeldChild, block_signals, fill_closed_standard_descriptors
from emt_cli.measure.signals import die_by, has_exited, stop_by, wait_for_exit, wait_for_orphans
from emt_cli.model import CgroupUse, Exit
from emt_cli.sensors.base import Machine

if TYPE_CHECKING:
    from emt_cli.measure.users import User


_DEADLY = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT})
"""With what people and systems end a program; other signals are the command's business."""
_BROKEN = 125
"""The status of a piece of work that fell over."""


class LinuxSystem:
    """See `System`. Its methods are called in their order, each at most once."""

    def __init__(self, entry: Entry | None = None) -> None:
        self._orders: list[tuple[int, int]] = []
        """Signals that would have ended emt, and who sent them (0: the kernel)."""
        self._insiders: frozenset[int] = frozenset()
        self._exit: Exit | None = None
        self._entry = entry
        self._waits_for_rest = False
        self._reaping = threading.Lock()
        """Until the command is reaped its PID is nobody else's."""

    def enter(self) -> None:
        if self._entry is None:
            self._entry = block_signals()
            with suppress(OSError):  # who holds a child tries again, and says so
                fill_closed_standard_descriptors()

    def again(self) -> LinuxSystem:
        return LinuxSystem(self._entry)

    def apart(self, work: Callable[[], None]) -> Exit:
        self.enter()
        try:
            pid = os.fork()
        except OSError as error:
            raise LaunchError(
                f"no process can be started: {error.strerror}", hint="see: ulimit -a"
            ) from error
        if pid == 0:
            status = _BROKEN
            try:
                work()
                status = 0
            finally:
                os._exit(status)
        wait_for_exit(pid, lambda sender: linux.descends_from(sender, pid), lambda: None, self._note)
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

    def rest(self, seconds: float) -> None:
        self.enter()
        until_s = time.monotonic() + seconds
        while self.interrupted_by is None:
            info = signal.sigtimedwait(_DEADLY | {signal.SIGTSTP}, max(0.0, until_s - time.monotonic()))
            if info is None:
                return
            if info.si_signo == signal.SIGTSTP and not self._is_ignored(signal.SIGTSTP):
                stop_by(signal.SIGTSTP)
            self._note(info)

    def disregard(self, senders: Iterable[int]) -> None:
        self._insiders = frozenset(senders)
        self._orders = [(number, sender) for number, sender in self._orders if sender not in self._insiders]

    @property
    def interrupted_by(self) -> int | None:
        return self._orders[-1][0] if self._orders else None

    def _note(self, info: signal.struct_siginfo) -> None:
        is_deadly = info.si_signo in _DEADLY and not self._is_ignored(info.si_signo)
        if is_deadly and info.si_pid not in self._insiders:
            self._orders.append((info.si_signo, info.si_pid))

    def _is_ignored(self, number: int) -> bool:
        return self._entry is not None and number in self._entry.ignored

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
        self._waits_for_rest = True
        wait_for_orphans(self._tree.orphans, self._collect)

    def end(self, at_once: bool) -> bool:
        """The root first, or a shell would go on to its next command; what it left stopped goes on to end, as
        with timeout(1). Who was born meanwhile is killed in a second round."""
        numbers = (signal.SIGKILL,) if at_once else (signal.SIGTERM, signal.SIGCONT)
        with self._reaping:
            if self._exit is not None or (has_exited(self._child.pid) and not self._waits_for_rest):
                return False
            members = self._tree.living()
            for number in numbers:
                os.kill(members[0], number)
        for pid in [*members[1:], *(self._tree.living()[1:] if at_once else ())]:
            for number in numbers:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, number)
        return True

    def reap(self) -> tuple[Exit, float]:
        with self._reaping:
            _, status, usage = os.wait4(self._child.pid, 0)
            self._exit = exit_of(status)
        self._collect()
        return self._exit, usage.ru_utime + usage.ru_stime

    def outlast(self) -> Exit:
        if self._exit is None:
            root = self._child.pid
            wait_for_exit(root, lambda sender: linux.descends_from(sender, root), lambda: None)
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
