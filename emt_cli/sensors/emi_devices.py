"""The calls to Windows with which `emi` finds energy meters and asks them: device lists and device requests.

Apart from `emi` because only Windows can run it. The numbers are those of winnt.h and fileapi.h.
"""

from __future__ import annotations

from typing import Any

_NOT_ALLOWED = 5
"""ERROR_ACCESS_DENIED."""


def find() -> list[str]:
    """The paths of all meters that are present (CM_Get_Device_Interface_ListW)."""
    import ctypes
    import uuid

    library: Any = ctypes.WinDLL("cfgmgr32")  # type: ignore[attr-defined,unused-ignore]
    guid = uuid.UUID("45bd8344-7ed6-49cf-a440-c276c933b053").bytes_le
    size = ctypes.c_ulong(0)
    if library.CM_Get_Device_Interface_List_SizeW(ctypes.byref(size), guid, None, 0):
        return []
    buffer = ctypes.create_unicode_buffer(size.value)
    if library.CM_Get_Device_Interface_ListW(guid, None, buffer, size, 0):
        return []
    text: str = ctypes.wstring_at(buffer, size.value)
    return [path for path in text.split("\0") if path]


class WindowsDevice:
    """A meter behind a handle. Raises OSError; PermissionError where it may not be opened."""

    def __init__(self, path: str) -> None:
        import ctypes

        self._ctypes: Any = ctypes
        self._kernel: Any = self._ctypes.WinDLL("kernel32", use_last_error=True)
        self._kernel.CreateFileW.restype = ctypes.c_void_p
        read, share, existing = 0x80000000, 3, 3
        handle = self._kernel.CreateFileW(path, read, share, None, existing, 0, None)
        if handle in (None, ctypes.c_void_p(-1).value):
            raise self._failure()
        self._handle = ctypes.c_void_p(handle)

    def control(self, code: int, size: int) -> bytes:
        buffer = self._ctypes.create_string_buffer(size)
        returned = self._ctypes.c_ulong(0)
        is_done = self._kernel.DeviceIoControl(
            self._handle, code, None, 0, buffer, size, self._ctypes.byref(returned), None
        )
        if not is_done:
            raise self._failure()
        return bytes(buffer.raw[: returned.value])

    def close(self) -> None:
        if self._handle:
            self._kernel.CloseHandle(self._handle)
            self._handle = self._ctypes.c_void_p(None)

    def _failure(self) -> OSError:
        number = self._ctypes.get_last_error()
        kind = PermissionError if number == _NOT_ALLOWED else OSError
        return kind(number, self._ctypes.FormatError(number))
