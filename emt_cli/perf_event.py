"""perf_event_open(2), the one system call behind two things: the CPU time of a tree and the energy PMU.

A ground-floor module, since `measure` and `sensors` both stand on it and may not import each other.
"""

from __future__ import annotations

import errno
import os
import struct

_SYSTEM_CALL = {"x86_64": 298, "aarch64": 241, "riscv64": 241, "ppc64le": 319, "s390x": 331, "i686": 336}
_ATTRIBUTE_SIZE = 64
"""PERF_ATTR_SIZE_VER0: the first version of perf_event_attr, which every kernel takes."""
_FLAG_CLOEXEC = 8
_COUNT = struct.Struct("=Q")

DISABLED, INHERIT, EXCLUDE_KERNEL, EXCLUDE_HV, ENABLE_ON_EXEC = (1 << bit for bit in (0, 1, 5, 6, 12))
"""Bits of perf_event_attr (include/uapi/linux/perf_event.h)."""


class PerfEvent:
    """An opened counter. Raises OSError where the kernel does."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def count(self) -> int:
        content = os.read(self._fd, _COUNT.size)
        if len(content) != _COUNT.size:  # an event in error state reads as end of file
            raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))
        return int(_COUNT.unpack(content)[0])

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def of_process(pid: int, kind: int, config: int, flags: int) -> PerfEvent:
    """A counter of one process on every CPU; see `_open` for what is raised."""
    return _open(kind, config, flags, pid, -1)


def of_cpu(kind: int, config: int, cpu: int) -> PerfEvent:
    """A counter of one CPU for all processes; see `_open` for what is raised."""
    return _open(kind, config, 0, -1, cpu)


def _open(kind: int, config: int, flags: int, pid: int, cpu: int) -> PerfEvent:
    """Raises OSError where perf is refused (EACCES, EPERM), missing (ENOSYS, ENOENT, ENODEV) or the
    process is gone (ESRCH)."""
    import ctypes

    number = _SYSTEM_CALL.get(os.uname().machine)
    if number is None:
        raise OSError(errno.ENOSYS, "perf_event_open is unknown on this architecture")
    attributes = struct.pack("=IIQQQQQIIQ", kind, _ATTRIBUTE_SIZE, config, 0, 0, 0, flags, 0, 0, 0)
    libc = ctypes.CDLL(None, use_errno=True)
    arguments = [ctypes.c_long(each) for each in (pid, cpu, -1)]
    fd = libc.syscall(ctypes.c_long(number), attributes, *arguments, ctypes.c_ulong(_FLAG_CLOEXEC))
    if fd < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return PerfEvent(int(fd))
