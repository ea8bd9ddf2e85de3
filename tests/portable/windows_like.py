"""`python -m tests.portable.windows_like ARGS...`: the whole `emt` command with the Python that Windows has.

Modules and functions that only POSIX has are gone, folders cannot be opened, files that are open can be
neither deleted nor replaced, a rename never replaces, and files are opened in text mode unless told
otherwise. That is what emt's modules see; libraries that were imported before keep the real thing, and
`sys.platform` stays as it is: emt is told by `Machine`.
"""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import types
from collections.abc import Sequence
from typing import Any

GONE_MODULES = ("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog")
GONE = (
    "pread pwrite fchown chown fchmod geteuid getuid getgid getegid uname sysconf wait4 wait3 waitid fork "
    "getsid setsid getpgrp getpgid killpg tcgetpgrp setuid setgid initgroups getgrouplist ctermid mkfifo "
    "O_NOFOLLOW O_DIRECTORY O_CLOEXEC O_NONBLOCK O_NOCTTY O_PATH O_SYNC P_PID P_ALL WNOWAIT WEXITED "
    "WIFSIGNALED WTERMSIG WEXITSTATUS statvfs posix_fadvise sched_getaffinity"
)
GONE_SIGNALS = (
    "pthread_sigmask sigwaitinfo sigtimedwait sigpending setitimer getitimer siginterrupt SIGHUP SIGCHLD "
    "SIGQUIT SIGUSR1 SIGUSR2 SIGALRM SIGCONT SIGTSTP SIGTTIN SIGTTOU SIGSTOP SIGKILL SIGPIPE SIGXFSZ "
    "SIGWINCH ITIMER_REAL ITIMER_VIRTUAL ITIMER_PROF SIGRTMIN"
)
O_BINARY = 0x8000
"""O_LARGEFILE to Linux, which has it set anyway."""
_STANDARD_LIBRARY = (
    "typer rich.console rich.table psutil json csv tempfile shutil datetime threading importlib.metadata "
    "plistlib tomllib multiprocessing.connection zoneinfo typer.main shellingham"
)
"""Imported while all is there, with everything that they import."""

real_open, real_unlink, real_replace, real_rename = os.open, os.unlink, os.replace, os.rename


def _is_open(path: str) -> bool:
    held = []
    for number in os.listdir("/proc/self/fd"):
        try:
            held.append(os.readlink(f"/proc/self/fd/{number}"))
        except OSError:
            continue
    return os.path.realpath(path) in held


def _refuse(path: str) -> None:
    if _is_open(path):
        raise PermissionError(13, "used by another process", path)


def windows_open(path: str, flags: int, mode: int = 0o777) -> int:
    if os.path.isdir(path):
        raise PermissionError(13, "Permission denied", path)
    if not path.startswith("/dev/"):
        assert flags & O_BINARY, f"{path} is opened in text mode"
    return real_open(path, flags & ~O_BINARY, mode)


def windows_unlink(path: str) -> None:
    _refuse(path)
    real_unlink(path)


def windows_replace(old: str, new: str) -> None:
    for path in (old, new):
        _refuse(path)
    real_replace(old, new)


def windows_rename(old: str, new: str) -> None:
    if os.path.lexists(new):
        raise FileExistsError(17, "File exists", new)
    real_rename(old, new)


def lock(fd: int, mode: int, size: int) -> None:
    assert os.lseek(fd, 0, os.SEEK_CUR) > 1 << 20, "a lock inside the file keeps its readers out"


class Job:
    """Stands for the job object: knows what the processes that are still there have used."""

    refusal = ""

    def start(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        self._process = subprocess.Popen(command, close_fds=False)
        return self._process

    def seconds(self) -> float | None:
        return 1.25

    def close(self) -> None: ...


def pretend() -> None:
    for name in _STANDARD_LIBRARY.split():
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            continue
    for name in GONE_MODULES:
        sys.modules[name] = None  # type: ignore[assignment]
    sys.modules["msvcrt"] = types.SimpleNamespace(LK_NBLCK=2, locking=lock)  # type: ignore[assignment]
    windows: dict[str, Any] = {
        "open": windows_open,
        "unlink": windows_unlink,
        "replace": windows_replace,
        "rename": windows_rename,
        "O_BINARY": O_BINARY,
        "supports_dir_fd": set(),
    }
    sys.modules["os"] = _without(os, GONE, **windows)
    sys.modules["signal"] = _without(signal, GONE_SIGNALS)


def _without(module: types.ModuleType, gone: str, **changed: Any) -> types.ModuleType:
    copy = types.ModuleType(module.__name__)
    copy.__dict__.update({name: value for name, value in vars(module).items() if name not in gone.split()})
    copy.__dict__.update(changed)
    return copy


def main() -> None:
    pretend()
    from emt_cli.commands import main as emt
    from emt_cli.measure.portable import windows
    from emt_cli.sensors import emi_devices
    from emt_cli.sensors.base import Machine

    windows.Job = Job  # type: ignore[misc,assignment]
    emi_devices.find = list
    emt(machine=Machine(platform="win32"))


if __name__ == "__main__":
    main()
