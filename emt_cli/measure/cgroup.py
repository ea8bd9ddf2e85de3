"""A control group (cgroup v2) of the run's own: what it says of CPU time is complete, whoever waits for whom.

It is the most complete witness and the only one that the command can notice (its /proc/self/cgroup names
another group), so it stands apart and is asked for or used with care: see `check_harmless`. Nothing but
the membership changes, no controller is touched; cpu.stat is there in every group (cgroup-v2.rst).
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress

from emt_cli.measure import linux
from emt_cli.sensors.base import KeptFile
from emt_cli.units import SECONDS_PER_MICROSECOND

_PREFIX = "emt-"
_LIMITS = ("cpu.max", "cpuset.cpus", "memory.high", "memory.max", "pids.max")
"""A runtime that sizes itself by these looks for them in its own group, where they would be missing."""
_ROUNDS = 10
"""Processes may fork while they are moved away; those that then remain keep the group."""


class RunGroup:
    """A child of this process' group with the held child in it, and with all that this will start.

    Raises OSError where there is no cgroup v2, or no group may be made below ours.
    """

    def __init__(self, pid: int) -> None:
        self._parent = own_group()
        _remove_left_behind(self._parent)
        self.path = f"{self._parent}/{_PREFIX}{os.getpid()}"
        os.mkdir(self.path)
        try:
            _move(pid, self.path)
            self._before_s = linux.cpu_clock_s(pid)
            self._file = KeptFile(f"{self.path}/cpu.stat")
        except OSError:
            self.disband()
            raise

    def seconds(self) -> float:
        """CPU seconds of the held child, before it came here too, and of all who were ever in the group.

        Raises OSError or ValueError where the group is gone or tells something else.
        """
        word, usage_us = self._file.read().split(maxsplit=2)[:2]
        if word != b"usage_usec":
            raise ValueError("cpu.stat does not begin with usage_usec")
        return self._before_s + int(usage_us) * SECONDS_PER_MICROSECOND

    def disband(self) -> None:
        """Send who is left back to where it would be without us, and remove the group.

        It stays if somebody made groups of their own in it. May be called twice.
        """
        for _ in range(_ROUNDS):
            try:
                os.rmdir(self.path)
            except FileNotFoundError:
                return
            except OSError:
                _empty(self.path, self._parent)
            else:
                return


def own_group() -> str:
    """The folder of the cgroup v2 that this process is in. Raises OSError where there is none to be seen."""
    with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        lines = file.read().splitlines()
    name = next((line[3:] for line in lines if line.startswith("0::/")), "")
    for root, point in _mounts():
        within = name if root == "/" else name.removeprefix(root) if _is_below(name, root) else None
        folder = None if within is None else (point + within).rstrip("/")
        if name and folder and ".." not in name.split("/") and os.path.exists(f"{folder}/cgroup.procs"):
            return folder
    raise OSError(errno.ENOENT, "no cgroup v2 is mounted" if name else "this system has no cgroup v2")


def check_harmless(folder: str) -> None:
    """Raise OSError where a group below ours could disturb somebody who did not ask for one.

    A group is ours to divide if it was delegated to us (systemd says so by an attribute) or belongs to us,
    a user other than root; and if it sets no limits that the command may look up in its own group.
    """
    status = os.stat(folder)
    is_mine = os.geteuid() != 0 and status.st_uid == os.geteuid()
    if not is_mine and not _is_delegated(folder):
        raise OSError(errno.EPERM, "this group is not delegated to us")
    for name in _LIMITS:
        limit = _content(f"{folder}/{name}")
        if limit and not limit.startswith("max"):
            raise OSError(errno.EPERM, f"this group sets limits ({name})")


def _content(path: str) -> str:
    """Empty where there is no such file: the controller is not switched on for this group."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


def _is_delegated(folder: str) -> bool:
    try:
        return os.getxattr(folder, "user.delegate") == b"1"
    except OSError:
        return False


def _mounts() -> list[tuple[str, str]]:
    """Root and mount point of every cgroup2 file system (proc_pid_mountinfo(5))."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        lines = [line.split() for line in file]
    return [
        (_plain(line[3]), _plain(line[4]))
        for line in lines
        if "-" in line and line[line.index("-") + 1] == "cgroup2"
    ]


def _plain(field: str) -> str:
    for escaped, plain in ((r"\040", " "), (r"\011", "\t"), (r"\012", "\n"), (r"\134", "\\")):
        field = field.replace(escaped, plain)
    return field


def _is_below(name: str, root: str) -> bool:
    return name == root or name.startswith(root + "/")


def _remove_left_behind(parent: str) -> None:
    """Remove the empty groups of runs that were killed; one that is in use cannot be removed."""
    for name in os.listdir(parent):
        owner = name.removeprefix(_PREFIX)
        if name != owner and owner.isascii() and owner.isdigit() and not _is_alive(int(owner)):
            with suppress(OSError):
                os.rmdir(f"{parent}/{name}")


def _is_alive(pid: int) -> bool:
    if pid == os.getpid():  # our name, and not our group yet: it is of somebody before us
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _empty(folder: str, parent: str) -> None:
    with suppress(OSError), open(f"{folder}/cgroup.procs", encoding="ascii") as file:
        pids = [int(line) for line in file if line.strip() != "0"]
        for pid in pids:
            with suppress(OSError):
                _move(pid, parent)


def _move(pid: int, folder: str) -> None:
    fd = os.open(f"{folder}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, str(pid).encode())
    finally:
        os.close(fd)
