"""Windows' job object: every process that the command starts is in it, and it adds up their CPU time.

Complete, those that have ended included (JOBOBJECT_BASIC_ACCOUNTING_INFORMATION), but for processes that
break away from jobs, which stays allowed: nothing may change for the command. The command is started
suspended, put into the job, and only then let run, so that no child escapes. Closing the job ends nobody.

The numbers are those of winnt.h. Not confirmed on hardware yet.
"""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Sequence
from typing import Any

_BASIC_ACCOUNTING = 1
_EXTENDED_LIMITS = 9
_BREAKAWAY_OK = 0x0800
_CREATE_SUSPENDED = 0x0004
_ACCOUNTING = struct.Struct("<qqqqIIII")
"""Total user and kernel time, both of this period, in 100 ns; page faults; processes: total, active, ended
by force."""
_SECONDS_PER_STEP = 1e-7
_LIMIT_FLAGS_AT = 16
"""Of JOBOBJECT_EXTENDED_LIMIT_INFORMATION, after two LARGE_INTEGERs."""


def cpu_seconds(accounting: bytes) -> float:
    """User and kernel time in a JOBOBJECT_BASIC_ACCOUNTING_INFORMATION. Raises ValueError if it is short."""
    if len(accounting) < _ACCOUNTING.size:
        raise ValueError(f"{len(accounting)} bytes of accounting instead of {_ACCOUNTING.size}")
    user, kernel = _ACCOUNTING.unpack_from(accounting)[:2]
    return float((user + kernel) * _SECONDS_PER_STEP)


def breakaway_limits(pointer_bytes: int) -> bytes:
    """JOBOBJECT_EXTENDED_LIMIT_INFORMATION that sets no limit but lets processes leave the job.

    Two LARGE_INTEGERs, flags, two sizes, a count, an affinity, two classes; six I/O counters; four sizes.
    """
    basic = 64 if pointer_bytes == 8 else 48
    limits = bytearray(basic + 6 * 8 + 4 * pointer_bytes)
    struct.pack_into("<I", limits, _LIMIT_FLAGS_AT, _BREAKAWAY_OK)
    return bytes(limits)


class Job:
    """A job for the command and its descendants. Where none can be made, `refusal` says why and `seconds` is
    None; the command runs all the same."""

    def __init__(self) -> None:
        import ctypes

        self.refusal = ""
        self._ctypes: Any = ctypes
        self._kernel: Any = self._ctypes.WinDLL("kernel32", use_last_error=True)
        for name in ("CreateJobObjectW", "OpenProcess"):
            getattr(self._kernel, name).restype = ctypes.c_void_p
        self._handle: int | None = self._kernel.CreateJobObjectW(None, None)
        if not self._handle:
            self._refuse("no job object")
            return
        limits = breakaway_limits(ctypes.sizeof(ctypes.c_void_p))
        self._kernel.SetInformationJobObject(self._job, _EXTENDED_LIMITS, limits, len(limits))

    @property
    def _job(self) -> Any:
        return self._ctypes.c_void_p(self._handle)

    def start(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        """Start the command inside the job. Raises OSError as Popen does."""
        import psutil

        process = subprocess.Popen(command, close_fds=False, creationflags=_CREATE_SUSPENDED)
        try:
            if self._handle:
                handle = self._ctypes.c_void_p(int(process._handle))  # type: ignore[attr-defined]
                if not self._kernel.AssignProcessToJobObject(self._job, handle):
                    self._refuse("the command could not be put into a job object")
        finally:
            psutil.Process(process.pid).resume()
        return process

    def seconds(self) -> float | None:
        """CPU seconds of everyone who was ever in the job."""
        if not self._handle:
            return None
        buffer = self._ctypes.create_string_buffer(_ACCOUNTING.size)
        is_told = self._kernel.QueryInformationJobObject(
            self._job, _BASIC_ACCOUNTING, buffer, _ACCOUNTING.size, None
        )
        return cpu_seconds(buffer.raw) if is_told else None

    def close(self) -> None:
        """Those in it live on. May be called twice."""
        if self._handle:
            self._kernel.CloseHandle(self._job)
            self._handle = None

    def _refuse(self, what: str) -> None:
        number = self._ctypes.get_last_error()
        self.refusal = f"{what}: {self._ctypes.FormatError(number)}"
        self.close()
