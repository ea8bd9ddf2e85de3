"""The held child: forked first, let go when the first readings are taken, and otherwise left alone.

The child is forked before a library is loaded or a file opened, waits on a pipe, and execs when it is
released; end of file on that pipe means that emt gave up or died, and the child leaves without a trace.
Everything that it inherits (descriptors, signal mask, dispositions, limits) is what emt was started with.
"""

from __future__ import annotations

import errno
import os
import signal
import struct
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from emt_cli.errors import CommandNotFoundError, LaunchError, NotExecutableError

_CPU_TIME = struct.Struct("=q")
_ERRNO = struct.Struct("=i")
_HIDDEN_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)
"""Python ignores these two at start-up and so hides whether they were ignored before: a stated limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """The signal state that emt was started with, and that the child gets back."""

    mask: frozenset[int]
    ignored: frozenset[int]


def block_signals() -> Entry:
    """Block every signal in this thread (and in threads it starts) and take SIGCHLD back to its default.

    An inherited ignore of SIGCHLD would lose the child's status.
    """
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    ignored = frozenset(
        int(number)
        for number in signal.valid_signals()
        if number not in _HIDDEN_BY_PYTHON and signal.getsignal(number) is signal.SIG_IGN
    )
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    return Entry(mask=frozenset(int(number) for number in mask), ignored=ignored)


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Whom the child becomes."""

    name: str
    uid: int
    gid: int
    home: str


def find_user(name: str) -> User:
    """Raises LaunchError where there is no such user or this process may not become it."""
    import pwd

    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise LaunchError(f"there is no user '{name}'", hint="see: getent passwd") from None
    if os.geteuid() != 0 and os.geteuid() != entry.pw_uid:
        raise LaunchError(
            f"only root may run a command as '{name}'", hint=f"sudo emt run --user {name} -- ..."
        )
    return User(name=name, uid=entry.pw_uid, gid=entry.pw_gid, home=entry.pw_dir)


class HeldChild:
    """A forked process that waits to become the command.

    `release` lets it go and returns when the exec has happened; `abandon` sends it away. Exactly one of
    the two is called once.
    """

    def __init__(self, command: Sequence[str], entry: Entry, *, user: User | None = None) -> None:
        self.command = tuple(command)
        _fill_closed_standard_descriptors()
        go_read, self._go = os.pipe()
        self._answer, answer_write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._go)
            os.close(self._answer)
            _become(self.command, entry, user, go_read, answer_write)
        os.close(go_read)
        os.close(answer_write)
        self.own_cpu_s = 0.0
        """CPU time that the child spent on emt's behalf before the exec; known after `release`."""

    def release(self) -> None:
        """Let the command start. Raises CommandNotFoundError, NotExecutableError or LaunchError."""
        os.write(self._go, b"\0")
        os.close(self._go)
        answer = b""
        while block := os.read(self._answer, 64):
            answer += block
        os.close(self._answer)
        if len(answer) >= _CPU_TIME.size:
            self.own_cpu_s = _CPU_TIME.unpack_from(answer)[0] * 1e-9
        if len(answer) >= _CPU_TIME.size + _ERRNO.size:
            os.waitpid(self.pid, 0)
            raise _launch_error(self.command[0], _ERRNO.unpack_from(answer, _CPU_TIME.size)[0])

    def abandon(self) -> None:
        """Let the child leave without having started anything."""
        os.close(self._go)
        os.close(self._answer)
        os.waitpid(self.pid, 0)


def _fill_closed_standard_descriptors() -> None:
    """Keep emt's own files off closed descriptors 0 to 2; the child finds them closed again."""
    while (fd := os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)) <= 2:
        pass
    os.close(fd)


def _become(command: tuple[str, ...], entry: Entry, user: User | None, go: int, answer: int) -> None:
    """The child's whole life before the exec. Never returns."""
    status = 0
    try:
        if os.read(go, 1):
            environment = dict(os.environ)
            if user is not None:
                _switch_user(user, environment)
            _restore_signals(entry)
            os.write(answer, _CPU_TIME.pack(time.process_time_ns()))
            _execute(command, environment)
    except (OSError, ValueError) as error:
        os.write(answer, _ERRNO.pack(getattr(error, "errno", None) or errno.EINVAL))
        status = 127
    finally:
        os._exit(status)


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


def _launch_error(name: str, number: int) -> LaunchError:
    if not name:
        return CommandNotFoundError("the command is empty", hint="emt run -- COMMAND [ARGS...]")
    if number in (errno.ENOENT, errno.ENOTDIR):
        if os.path.isfile(name):
            return CommandNotFoundError(
                f"{name}: the interpreter named in its first line does not exist", hint=f"see: head -1 {name}"
            )
        hint = f"is it installed and on PATH? see: command -v {name}"
        if " " in name:
            hint = "separate words: emt run -- CMD ARG, or use --shell for one string"
        return CommandNotFoundError(f"{name}: command not found", hint=hint)
    if os.path.isdir(name):
        return NotExecutableError(f"{name}: is a directory", hint="name a program inside it")
    if number == errno.EACCES:
        return NotExecutableError(f"{name}: permission denied", hint=f"is it executable? chmod +x {name}")
    if number == errno.EPERM:
        return LaunchError(f"{name}: {os.strerror(number)}", hint="is --user allowed here?")
    return NotExecutableError(f"{name}: {os.strerror(number)}", hint=f"see: file {name}")
