"""The binding to AMD SMI, pyrsmi, put to use in a profiler: what it gets wrong is put right here.

`smi_initialize` of pyrsmi 1.1 is not called. It asks a shell pipeline for the driver (the pipeline would be a
child of emt in the middle of a run), looks for the library in the real root only, prefers another package
where there is one, and logs through the root logger, which puts a handler on it. The pieces it is made of are
called instead. Further, pyrsmi declares no argument types, and ctypes cuts an undeclared 64-bit handle to 32
bits; it takes "not told" (65535, 4294967295) for watts; and its power structure is ROCm 7's alone, where
ROCm 6's library puts a voltage in the place of the power. So power and energy are read by the library's own
calls, on pyrsmi's handles.
"""

from __future__ import annotations

import ctypes
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import ModuleType
from typing import Any

from emt_cli.errors import SensorError
from emt_cli.sensors.base import Absent, Denied

SUCCESS, NOT_SUPPORTED, NO_PERMISSION = 0, 2, 10
_NOTHING_HERE = (31, 34)
"""amdsmi_status_t: NOT_FOUND, DRIVER_NOT_LOADED."""

NOT_TOLD = frozenset({0, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF})
_ROCM_7 = 26
"""The library's major version from which the power structure begins with `socket_power` (64 bits)."""
_FIRST_YEAR = 23
"""Until ROCm 6 the version begins with the year, and major versions are as high: from 23 on."""
_MUTED_AT_MOST_S = 2.0
_LARGEST_MICROWATT_FREE = 10_000
"""Power limits above are microwatts; ROCm 5's are watts."""

HINT_PERMISSION = (
    "check `ls -l /dev/dri /dev/kfd`; usually `sudo usermod -aG render,video $USER` and a new login, "
    "in a container `--device /dev/kfd --device /dev/dri`, in a batch job ask for the GPU"
)
HINT_BROKEN = "`amd-smi monitor` should meet the same fault; `sudo dmesg | grep amdgpu` tells the cause"

_HANDLE, _POINTER, _NUMBER = ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint32
_ARGUMENTS = {
    "amdsmi_init": (ctypes.c_uint64,),
    "amdsmi_get_lib_version": (_POINTER,),
    "amdsmi_get_socket_handles": (_POINTER, _POINTER),
    "amdsmi_get_processor_handles": (_HANDLE, _POINTER, _POINTER),
    "amdsmi_get_gpu_asic_info": (_HANDLE, _POINTER),
    "amdsmi_get_gpu_device_bdf": (_HANDLE, _POINTER),
    "amdsmi_get_power_info": (_HANDLE, _POINTER),
    "amdsmi_get_power_cap_info": (_HANDLE, _NUMBER, _POINTER),
    "amdsmi_get_energy_count": (_HANDLE, _POINTER, _POINTER, _POINTER),
}


class AmdError(Exception):
    """A call of AMD SMI that failed; `status` is its amdsmi_status_t."""

    def __init__(self, call: str, status: int, text: str) -> None:
        super().__init__(f"{call}: {text}")
        self.status = status


class AmdSmi:
    """The opened library. `count` is the number of its GPUs."""

    def __init__(self, rocml: Any) -> None:
        self._rocml = rocml
        self._library = rocml.rocm_lib
        self.count: int = rocml.smi_get_device_count()
        self.is_before_rocm_7 = self._major() < _ROCM_7

    def name(self, number: int) -> str:
        """The market name, "AMD GPU" where it is not told."""
        return str(self._rocml.smi_get_device_name(number)).strip() or "AMD GPU"

    def pci(self, number: int) -> str:
        """`0000:03:00.0`; empty where it is not told."""
        place = self._rocml.smi_get_device_pci_id(number)
        if place < 0:
            return ""
        return f"{place >> 16:04x}:{place >> 8 & 0xFF:02x}:{place >> 3 & 0x1F:02x}.{place & 7}"

    def watts(self, number: int) -> int:
        """Raises AmdError, also where power is not told."""
        words = (ctypes.c_uint32 * 64)()
        self._call("amdsmi_get_power_info", number, words)
        for at in (0, 1) if self.is_before_rocm_7 else (2, 3, 0):
            if words[at] not in NOT_TOLD:
                return words[at]
        raise AmdError("amdsmi_get_power_info", NOT_SUPPORTED, "power is not told")

    def energy(self, number: int) -> tuple[int, float]:
        """The counter, and the microjoules of a step. Raises AmdError, also where it is not told."""
        count, step_uj, stamp = ctypes.c_uint64(), ctypes.c_float(), ctypes.c_uint64()
        self._call(
            "amdsmi_get_energy_count",
            number,
            ctypes.byref(count),
            ctypes.byref(step_uj),
            ctypes.byref(stamp),
        )
        if count.value in NOT_TOLD or not step_uj.value > 0:
            raise AmdError("amdsmi_get_energy_count", NOT_SUPPORTED, "energy is not told")
        return count.value, step_uj.value

    def power_limit_w(self, number: int) -> float | None:
        """The highest of the present, default and largest settable limit."""
        limits = (ctypes.c_uint64 * 32)()
        with suppress(AmdError):
            self._call("amdsmi_get_power_cap_info", number, 0, limits)
        found = [limits[at] for at in (0, 1, 4) if limits[at] not in NOT_TOLD]
        watts = [limit / 1e6 if limit > _LARGEST_MICROWATT_FREE else limit for limit in found]
        return max(watts, default=None)

    def close(self) -> None:
        self._rocml.smi_shutdown()

    def _call(self, call: str, number: int, *arguments: object) -> None:
        try:
            function = getattr(self._library, call)
        except AttributeError:
            raise AmdError(call, NOT_SUPPORTED, "this library has no such call") from None
        status = function(self._rocml._processor_handles[number], *arguments)
        if status != SUCCESS:
            raise AmdError(call, status, _text(self._rocml, status))

    def _major(self) -> int:
        """The library's major version; ROCm 6's where it is not told."""
        numbers = (ctypes.c_uint32 * 16)()
        try:
            status = self._library.amdsmi_get_lib_version(numbers)
        except AttributeError:
            return 0
        if status != SUCCESS:
            return 0
        return max(numbers[0], numbers[1]) if numbers[1] >= _FIRST_YEAR else numbers[0]


def start(path: str) -> AmdSmi:
    """Load the library and start it. Raises Absent, Denied."""
    rocml = _binding()
    try:
        rocml.rocm_lib = ctypes.CDLL(path)
    except OSError as error:
        raise Absent(f"AMD SMI cannot be loaded: {error}") from None
    for call, types in _ARGUMENTS.items():
        with suppress(AttributeError):  # an older library has fewer calls
            getattr(rocml.rocm_lib, call).argtypes = types
    with _muted_stderr():  # libdrm complains there where its table of names is missing
        status = rocml.rocm_lib.amdsmi_init(rocml.amdsmi_init_flags_t.AMDSMI_INIT_AMD_GPUS)
    if status != SUCCESS:
        raise _refusal(status, _text(rocml, status))
    rocml._processor_handles = []
    rocml._init_processor_handles_by_socket()
    rocml._handle_initialized = True
    rocml._rocm_lib_refcount += 1
    return AmdSmi(rocml)


def _binding() -> Any:
    """pyrsmi's module, its log lines kept off the user's terminal. Raises Denied."""
    hint = "pip install 'pyrsmi>=1.1'"
    try:
        from pyrsmi import rocml
    except ImportError as error:
        raise Denied(f"AMD SMI is here but its Python binding is not: {error}", hint=hint) from None
    pieces = ("_init_processor_handles_by_socket", "amdsmi_init_flags_t", "_rocm_lib_refcount")
    if not all(hasattr(rocml, piece) for piece in pieces):
        raise Denied("the installed pyrsmi is of a version that emt does not know", hint=hint)
    logger = logging.getLogger("emt_cli.sensors.amd.pyrsmi")
    logger.propagate = False
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    module: ModuleType = rocml
    module.logging = logger  # type: ignore[attr-defined]
    return module


def _refusal(status: int, text: str) -> SensorError:
    """What a status means while opening."""
    if status in _NOTHING_HERE:
        return Absent(f"no AMD driver or GPU: {text}")
    if status == NO_PERMISSION:
        return Denied("the AMD driver is here but this user may not open it", hint=HINT_PERMISSION)
    return Denied(f"AMD SMI does not start: {text}", hint=HINT_BROKEN)


def _text(rocml: Any, status: int) -> str:
    return str(rocml.amdsmi_status_verbose_err_out.get(status, f"status {status}"))


@contextmanager
def _muted_stderr() -> Iterator[None]:
    """Descriptor 2 leads nowhere meanwhile, but never for long: a driver that hangs must not keep emt from
    telling so."""
    try:
        kept = [os.dup(2)]
    except OSError:  # there is none
        yield
        return
    lock = threading.Lock()

    def restore() -> None:
        with lock:
            while kept:
                descriptor = kept.pop()
                os.dup2(descriptor, 2)
                os.close(descriptor)

    timer = threading.Timer(_MUTED_AT_MOST_S, restore)
    timer.daemon = True
    nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    timer.start()
    try:
        yield
    finally:
        restore()
        timer.cancel()
