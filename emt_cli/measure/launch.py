"""The held child: forked first, let go when the first readings are taken, and otherwise left alone.

The child is forked before a library is loaded or a file opened, waits on a pipe, and execs when it is
released; end of file on that pipe means that emt gave up or died, and the child leaves without a trace.
Everything that it inherits (descriptors, environment, signal mask and dispositions, timers, limits) is what
emt was started with.
"""

from __future__ import annotations

import errno
import os
import signal
import struct
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from emt_cli.errors import LaunchError
from emt_cli.units import SECONDS_PER_NANOSECOND
from emt_cli.values import Value

if TYPE_CHECKING:
    from emt_cli.measure.users import User

_CPU_TIME = struct.Struct("=q")
_FAILURE = struct.Struct("=i?")
"""The errno, and whether it was the exec that failed."""
_NOT_STARTED = 125
_HIDDEN_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)
"""Python ignores these two at start-up and so hides whether they were ignored before: a stated limit."""
_TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
_NOWHERE = os.O_PATH | os.O_CLOEXEC
"""With these flags even "/" opens as a descriptor that cannot be read or written: EBADF, as if closed."""


class Timer(Value):
    """A running interval timer: an exec keeps it (`perl -e 'alarm 60; exec @ARGV'`), a fork does not."""

    which: int
    remaining_s: float
    interval_s: float
    read_s: float
    """When `remaining_s` was true, on the monotonic clock."""

    def set(self) -> None:
        passed_s = time.monotonic() - self.read_s if self.which == signal.ITIMER_REAL else 0.0
        signal.setitimer(self.which, max(self.remaining_s - passed_s, 1e-6), self.interval_s)


class Entry(Value):
    """The signal state that emt was started with, and that the child gets back."""

    mask: frozenset[int]
    ignored: frozenset[int]
    timers: tuple[Timer, ...] = ()


def block_signals() -> Entry:
    """Block every signal in this thread (and in threads it starts) and take SIGCHLD back to its default.

    An inherited ignore of SIGCHLD would lose the child's status. Timers stop here and go on in the child.
    """
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    ignored = frozenset(
        int(number)
        for number in signal.valid_signals()
        if number not in _HIDDEN_BY_PYTHON and signal.getsignal(number) is signal.SIG_IGN
    )
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    return Entry(mask=frozenset(int(number) for number in mask), ignored=ignored, timers=_take_timers())


def _take_timers() -> tuple[Timer, ...]:
    now = time.monotonic()
    states = [(which, *signal.setitimer(which, 0)) for which in _TIMERS]
    return tuple(
        Timer(which=which, remaining_s=remaining_s, interval_s=interval_s, read_s=now)
        for which, remaining_s, interval_s in states
        if remaining_s > 0
    )


class HeldChild:
    """A forked process that waits to become the command.

    `release` lets it go and returns when the exec has happened; `abandon` sends it away. Exactly one of
    the two is called once. Raises LaunchError where no process can be made.
    """

    def __init__(self, command: Sequence[str], entry: Entry, *, user: User | None = None) -> None:
        self.command = tuple(command)
        self._user = user
        self._inherited = _inherited_descriptors()
        environment = _entry_environment()
        try:
            fill_closed_standard_descriptors()
            go_read, self._go = os.pipe()
            self._answer, answer_write = os.pipe()
            self.pid = os.fork()
        except OSError as error:
            raise LaunchError(
                f"no process can be started: {error.strerror}", hint="see: ulimit -a"
            ) from error
        if self.pid == 0:
            os.close(self._go)
            os.close(self._answer)
            _become(self.command, environment, entry, user, go_read, answer_write)
        os.close(go_read)
        os.close(answer_write)
        self.is_released = False
        self.own_cpu_s = 0.0
        """CPU time that the child spent on emt's behalf before the exec; known after `release`."""

    def release(self) -> None:
        """Let the command start. Raises CommandNotFoundError, NotExecutableError or LaunchError.

        Nothing is raised where the child was killed while it was held: it then died as the command would.
        """
        self.is_released = True
        with suppress(BrokenPipeError):
            os.write(self._go, b"\0")
        os.close(self._go)
        answer = b""
        while block := os.read(self._answer, 64):
            answer += block
        os.close(self._answer)
        if len(answer) >= _CPU_TIME.size:
            self.own_cpu_s = _CPU_TIME.unpack_from(answer)[0] * SECONDS_PER_NANOSECOND
        if len(answer) >= _CPU_TIME.size + _FAILURE.size:
            os.waitpid(self.pid, 0)
            from emt_cli.measure.refusals import launch_error, preparation_error

            number, is_exec = _FAILURE.unpack_from(answer, _CPU_TIME.size)
            if not is_exec:
                raise preparation_error(self._user, number)
            raise launch_error(self.command[0], number)
        self._let_go_of_inherited()

    def abandon(self) -> None:
        """Let the child leave without having started anything."""
        os.close(self._go)
        os.close(self._answer)
        os.waitpid(self.pid, 0)

    def _let_go_of_inherited(self) -> None:
        """Keep no copy of the command's descriptors but stderr: who reads a pipe of its must see it end when
        the command closes it, not when emt leaves."""
        try:
            nowhere = os.open("/", _NOWHERE)
        except OSError:  # out of descriptors
            return
        for fd in self._inherited:
            with suppress(OSError):  # above the limit, which was lowered after it was opened
                os.dup2(nowhere, fd, inheritable=False)
        os.close(nowhere)


def _inherited_descriptors() -> tuple[int, ...]:
    """The descriptors that were handed to emt, stderr left out; Python marks its own as not inheritable."""
    try:
        numbers = [int(name) for name in os.listdir("/proc/self/fd")]
    except OSError:
        numbers = [0, 1]
    found = []
    for fd in numbers:
        with suppress(OSError):  # closed: the listing's own descriptor, or 0 or 1
            if fd != 2 and os.get_inheritable(fd):
                found.append(fd)
    return tuple(found)


def _entry_environment() -> dict[str, str]:
    """The environment that emt was started with: in the C locale Python adds an LC_CTYPE (PEP 538)."""
    environment = dict(os.environ)
    if "LC_CTYPE" in environment:
        with suppress(OSError), open("/proc/self/environ", "rb") as file:
            if not any(entry.startswith(b"LC_CTYPE=") for entry in file.read().split(b"\0")):
                del environment["LC_CTYPE"]
    return environment


def fill_closed_standard_descriptors() -> None:
    """Keep emt's own files off closed descriptors 0 to 2; the child finds them closed again."""
    while (fd := os.open("/", _NOWHERE)) <= 2:
        pass
    os.close(fd)


def _become(
    command: tuple[str, ...],
    environment: dict[str, str],
    entry: Entry,
    user: User | None,
    go: int,
    answer: int,
) -> None:
    """The child's whole life before the exec. Never returns."""
    number, is_exec = errno.ECANCELED, False
    try:
        if not os.read(go, 1):
            os._exit(0)
        os.write(answer, _CPU_TIME.pack(time.process_time_ns()))
        if user is not None:
            _switch_user(user, environment)
        for timer in entry.timers:
            timer.set()
        _restore_signals(entry)
        is_exec = True
        _execute(command, environment)
    except OSError as error:
        number = error.errno or number
    finally:
        os.write(answer, _FAILURE.pack(number, is_exec))
        os._exit(_NOT_STARTED)


def _switch_user(user: User, environment: dict[str, str]) -> None:
    if os.geteuid() == 0:
        os.initgroups(user.name, user.gid)
    os.setgid(user.gid)
    os.setuid(user.uid)
    environment.update(HOME=user.home, USER=user.name, LOGNAME=user.name)


def _restore_signals(entry: Entry) -> None:
    """Dispositions first: a signal that arrived while the child was held must meet the command's own."""
    for number in signal.valid_signals():
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_IGN if number in entry.ignored else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, entry.mask)


def _execute(command: tuple[str, ...], environment: Mapping[str, str]) -> None:
    """execvpe(3): the search along PATH, and a file without a magic number goes to the shell."""
    name = command[0]
    if "/" in name:
        candidates = [name]
    else:
        folders = environment.get("PATH", os.defpath).split(os.pathsep)
        candidates = [os.path.join(folder or ".", name) for folder in folders] if name else []
    failure = OSError(errno.ENOENT, os.strerror(errno.ENOENT))
    for path in candidates:
        try:
            os.execve(path, command, environment)
        except OSError as error:
            if error.errno == errno.ENOEXEC:
                os.execve("/bin/sh", ["/bin/sh", path, *command[1:]], environment)
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                failure = error
                if error.errno != errno.EACCES:
                    break
    raise failure
