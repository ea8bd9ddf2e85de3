"""Signals while the command runs, where a signal does not tell who sent it.

POSIX: what is sent to emt's PID is passed on by a handler, once. The terminal's own signals (Ctrl-C, Ctrl-\\)
reach the command by themselves, since it is in emt's process group; whether one came from the terminal is
guessed by whether emt's group is in the foreground. So a `kill -INT` to a foreground emt does not reach the
command, and one to the whole group from outside reaches it twice; a hang-up may, too. A stop (Ctrl-Z) stops
both by itself.

Windows: the console tells all of its processes about Ctrl-C and Ctrl-Break; emt waits for what the command
does about it.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

_FORWARDED = ("SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGINT", "SIGQUIT")
_TERMINALS = ("SIGINT", "SIGQUIT")
_DEADLY = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT")
_LONGEST_PAUSE_S = 1.0
_CONTROL_C_EXIT = 0xC000013A
"""STATUS_CONTROL_C_EXIT: with what a console program ends that Ctrl-C has ended."""


class Forwarding:
    """Hands signals on to `targets`; those that come before there is one wait for `begin`.

    A handler, not an ignore: the command would inherit that. What emt was started to ignore stays so.
    """

    def __init__(self, is_in_foreground: Callable[[], bool] | None = None) -> None:
        self.targets: Callable[[], list[int]] = list
        self.interrupted_by: int | None = None
        """The last signal with which people end a program."""
        self._is_in_foreground = is_in_foreground or in_foreground
        self._has_begun = False
        self._early: list[int] = []
        self._bell: int | None = None
        """Where a byte comes in with every signal."""

    def take(self) -> None:
        if self._bell is not None:
            return
        self._bell, write = os.pipe()
        for end in (self._bell, write):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        for number in _numbers(_FORWARDED):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._handle)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # an inherited ignore would lose the command's status

    def pause(self) -> None:
        """Return when a signal has come, a child's end included; its handler has run then.

        Without the bell a signal would wait for the end of whatever blocks here: it may come just before
        the call that it should have interrupted, or be given to another thread.
        """
        assert self._bell is not None, "take comes first"
        select.select([self._bell], [], [], _LONGEST_PAUSE_S)
        with suppress(BlockingIOError):
            os.read(self._bell, 4096)

    def begin(self) -> None:
        self._has_begun = True
        while self._early:
            self._send(self._early.pop(0))

    def _handle(self, number: int, frame: Any) -> None:
        if number in _numbers(_DEADLY):
            self.interrupted_by = number
        if number in _numbers(_TERMINALS) and self._is_in_foreground():
            return
        if self._has_begun:
            self._send(number)
        else:
            self._early.append(number)

    def _send(self, number: int) -> None:
        for pid in self.targets():
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)


class Console:
    """Windows: Ctrl-C and Ctrl-Break are the command's to answer."""

    def __init__(self) -> None:
        self.targets: Callable[[], list[int]] = list
        self.interrupted_by: int | None = None

    def take(self) -> None:
        for number in _numbers(("SIGINT", "SIGBREAK")):
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: Any) -> None:
        self.interrupted_by = number

    def begin(self) -> None:
        """The console has told the command already."""

    def pause(self) -> None:
        """Nobody waits for a signal here."""
        time.sleep(_LONGEST_PAUSE_S)


def in_foreground() -> bool:
    """Whether this process belongs to the foreground group of its terminal."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


def die_by(number: int) -> NoReturn:
    """End this process by the signal that ended the command, without a core of its own.

    Where the signal cannot end it, it exits with 128 + number; on Windows as after Ctrl-C.
    """
    if os.name == "nt":
        os._exit(_CONTROL_C_EXIT - (1 << 32))
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    with suppress(OSError):  # SIGKILL and SIGSTOP have no handler
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    os._exit(128 + number)


def _numbers(names: tuple[str, ...]) -> list[int]:
    """The signals of these names that this system has."""
    return [int(getattr(signal, name)) for name in names if hasattr(signal, name)]
