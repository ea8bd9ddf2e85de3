"""The command before and while it runs: started by the standard library when all is ready, and waited for."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from emt_cli.measure.refusals import launch_error, preparation_error
from emt_cli.model import Exit

if TYPE_CHECKING:
    from emt_cli.measure.portable.windows import Job
    from emt_cli.measure.users import User


class Targets(Protocol):
    """Whoever passes signals on: to these processes, from now on."""

    targets: Callable[[], list[int]]

    def begin(self) -> None: ...

    def pause(self) -> None: ...


class PlannedChild:
    """See `systems.Child`. `pid` is 0 until the release. It inherits all that emt was given: descriptors that
    are inheritable, terminal, environment, folder."""

    def __init__(self, command: Sequence[str], user: User | None, signals: Targets, job: Job | None) -> None:
        self.command = tuple(command)
        self.pid = 0
        self.is_released = False
        self.own_cpu_s = 0.0
        self._user, self._signals, self._job = user, signals, job
        self._process: subprocess.Popen[bytes] | None = None
        self._ended: tuple[Exit, float] | None = None

    def release(self) -> None:
        """Start the command. Raises CommandNotFoundError, NotExecutableError or LaunchError."""
        self.is_released = True
        name = self.command[0]
        if not name:
            raise launch_error(name, errno.ENOENT)
        options = _as_user(self._user)
        try:
            self._process = self._start(self.command, options)
        except PermissionError as error:
            if error.errno == errno.EPERM and self._user is not None:
                raise preparation_error(self._user, error.errno) from error
            raise launch_error(name, errno.EACCES) from error
        except OSError as error:
            raise launch_error(name, error.errno or errno.ENOENT) from error
        except ValueError as error:  # a null byte in an argument
            raise launch_error(name, errno.EINVAL) from error
        self.pid = self._process.pid
        self._signals.targets = self._targets
        self._signals.begin()

    def abandon(self) -> None:
        """Nothing runs yet."""

    @property
    def is_over(self) -> bool:
        return self._ended is not None

    def wait(self) -> tuple[Exit, float]:
        """How it ended, and its CPU seconds with those of the children that it waited for (0 on Windows,
        where the job tells them). Returns when it is over; signals are passed on meanwhile."""
        if self._ended is None:
            assert self._process is not None, "waited for before the release"
            if hasattr(os, "wait4"):
                while (told := os.wait4(self.pid, os.WNOHANG))[0] == 0:
                    self._signals.pause()
                _, status, usage = told
                code, spent_s = os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime
                self._process.returncode = code  # or Popen would wait for it once more
                exit_ = Exit(signal=-code) if code < 0 else Exit(code=code)
                self._ended = exit_, spent_s
            else:
                self._ended = Exit(code=self._process.wait()), 0.0
        return self._ended

    def _targets(self) -> list[int]:
        return [self.pid] if self._ended is None else []

    def _start(self, command: Sequence[str], options: dict[str, Any]) -> subprocess.Popen[bytes]:
        if self._job is not None:
            return self._job.start(command)
        try:
            return subprocess.Popen(command, close_fds=False, **options)
        except OSError as error:
            if error.errno != errno.ENOEXEC:
                raise
            import shutil

            path = shutil.which(command[0]) or command[0]  # as execvp(3): no magic number, so to the shell
            return subprocess.Popen(["/bin/sh", path, *command[1:]], close_fds=False, **options)


def _as_user(user: User | None) -> dict[str, Any]:
    """The options of Popen that make the child another user's."""
    if user is None:
        return {}
    environment = {**os.environ, "HOME": user.home, "USER": user.name, "LOGNAME": user.name}
    groups = os.getgrouplist(user.name, user.gid) if os.geteuid() == 0 else None
    return {"user": user.uid, "group": user.gid, "extra_groups": groups, "env": environment}
