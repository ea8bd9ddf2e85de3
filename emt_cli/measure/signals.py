"""While the command runs: pass signals on, stop and go on with it, collect orphans, and die as it died.

The main thread does nothing else. Every signal is blocked and taken one by one with its sender, which
tells what the terminal, the kernel and the tree itself sent (the child has those already) from what was
sent to emt.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from typing import NoReturn

_SI_KERNEL = 0x80
_HANGUP = (signal.SIGHUP, signal.SIGCONT)
_PR_SET_DUMPABLE = 4
_JOB_STOPS = frozenset({signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU})


def wait_for_exit(
    pid: int,
    is_of_tree: Callable[[int], bool],
    collect_orphans: Callable[[], None],
    note: Callable[[signal.struct_siginfo], None] = lambda info: None,
) -> None:
    """Return when the child is dead but not yet reaped.

    `is_of_tree(pid)` tells whether a signal's sender belongs to the command; `collect_orphans()` reaps
    descendants that became our children. A signal sent to emt reaches the child exactly once. `note(info)` is
    told of every signal that came from outside of the command, whoever else was sent it.
    """
    signals = signal.valid_signals()
    while not has_exited(pid):
        stopped_by = _take_stop(pid)
        if stopped_by in _JOB_STOPS:
            _stop_with(pid, stopped_by)
        info = signal.sigwaitinfo(signals)
        if info.si_signo == signal.SIGCHLD and info.si_code > 0:
            collect_orphans()
        elif not (info.si_pid and is_of_tree(info.si_pid)):
            if info.si_pid != os.getpid():
                note(info)
            if _is_for_emt_alone(info):
                _send(pid, info.si_signo)


def _is_for_emt_alone(info: signal.struct_siginfo) -> bool:
    """Whether somebody has sent it to emt, and the kernel has not sent it to the command too.

    What the kernel sends goes to a process group, but a terminal that hangs up tells the session leader
    alone (tty_ioctl(4), TIOCNOTTY). SIGXFSZ and SIGPIPE for a write of emt's own come from itself.
    """
    if info.si_code != _SI_KERNEL:
        return info.si_pid != os.getpid()
    return info.si_signo in _HANGUP and os.getsid(0) == os.getpid()


def wait_for_orphans(orphans: Callable[[], list[int]], collect_orphans: Callable[[], None]) -> None:
    """Return when the root's descendants are gone too; what is sent to emt meanwhile goes to each of them."""
    signals = signal.valid_signals()
    while True:
        collect_orphans()
        alive = orphans()
        if not alive:
            return
        info = signal.sigwaitinfo(signals)
        if info.si_signo != signal.SIGCHLD and _is_for_emt_alone(info) and info.si_pid not in alive:
            for pid in alive:
                _send(pid, info.si_signo)


def die_by(number: int) -> NoReturn:
    """End this process by the signal that killed the command, without a core of its own.

    Where the signal cannot end it (PID 1 of a container) it exits with 128 + number.
    """
    _forbid_core()
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os._exit(128 + number)


def _forbid_core() -> None:
    """A limit of 0 stops a core file, but not a pipe to a crash collector; a process that is not dumpable
    gives neither (core(5))."""
    import ctypes
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def has_exited(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _take_stop(pid: int) -> int | None:
    """The signal that has stopped the child since the last look; None if it runs, or has just ended."""
    stopped_by = None
    with contextlib.suppress(ChildProcessError):  # ended since: a zombie does neither stop nor go on
        while (event := os.waitid(os.P_PID, pid, os.WSTOPPED | os.WCONTINUED | os.WNOHANG)) is not None:
            stopped_by = event.si_status if event.si_code == os.CLD_STOPPED else None
        return stopped_by
    return None


def _stop_with(pid: int, number: int) -> None:
    """Stop as the child did, so that the shell sees the job stopped; when continued, continue the child.

    A shell's `fg` continues the whole group: the child runs already then and gets no second SIGCONT. One
    that has come already would be lost by stopping now, and with it the run. PID 1 cannot be stopped, and
    trying to would throw away a SIGCONT that comes in the same moment (signal(7), kernel/signal.c).
    """
    if os.getpid() == 1 or signal.SIGCONT in signal.sigpending():
        return
    signal.sigtimedwait({number}, 0)
    if _stop(number) and _stays_stopped(pid):
        _send(pid, signal.SIGCONT)


def stop_by(number: int) -> None:
    """Stop by a signal of job control that came while nothing runs; return when continued."""
    if os.getpid() != 1 and signal.SIGCONT not in signal.sigpending():
        _stop(number)


def _stop(number: int) -> bool:
    """Whether a SIGCONT was there to be taken afterwards."""
    handler = signal.getsignal(number)
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    signal.signal(number, handler)
    return signal.sigtimedwait({signal.SIGCONT}, 0) is not None


def _stays_stopped(pid: int) -> bool:
    """Whether the child is still stopped a moment later: the kernel continues a group one by one."""
    event = None
    for _ in range(10):
        event = os.waitid(os.P_PID, pid, os.WCONTINUED | os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if event is not None:
            return False
        time.sleep(0.002)
    return True


def _send(pid: int, number: int) -> None:
    """It is our own unreaped child, so the PID cannot be another's; after setuid it may be out of reach."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
    except PermissionError:
        message = f"emt: may not pass signal {number} on to process {pid} (it changed its user)\n"
        with contextlib.suppress(OSError):  # nobody reads it, or there is no stderr
            os.write(2, message.encode())
