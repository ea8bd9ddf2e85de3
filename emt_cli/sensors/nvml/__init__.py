"""NVIDIA GPUs through NVML (libnvidia-ml.so.1, by way of `pynvml`): finding, opening and refusing.

What comes after that is in `opening` and `gpu`, imported only where there is a driver: most machines have
none, and every run asks.

Data sheet
- Energy counter (Volta and newer): millijoules since the driver was loaded, 64 bits, no wrap. It moves in
  steps of 20 to 100 ms, so either edge of a run carries up to one step of power, unless it is read just after
  a step. Accuracy as stated by the maker: +-5 %.
- Beside it a power reading is kept (`gpu0/power`), which counts for nothing and is compared with it.
- Without that counter (Pascal and older, most vGPUs) power is integrated: the instantaneous field (186),
  else the average over 1 s (185), else `nvmlDeviceGetPowerUsage`, which tells the moment up to GA100 and the
  mean of a second from GA10x on. Drivers before 530 have no such fields. The sensor behind it is awake for a
  part of the time only (25 of every 100 ms on A100 and H100), so bursts are missed.
- Without any of these (old GeForce, some vGPUs, WSL2) a model by TDP and utilisation: `data.gpu_power`.
- GH200: counter and limit are the whole module's, Grace CPU and its memory included (domain `module`); power
  fields tell the GPU (scope 0) or the module (scope 1). On GB200 all are the GPU's, and the CPU is seen by
  the ACPI power meter.
- MIG: energy and power belong to the board; instances have none of their own, nor a utilisation. Shares go
  by their compute slices (`mig`).
- Processes: SM share by PID, averaged since the last question; not on MIG, WSL2 and old drivers. Whose PIDs
  they are inside a PID namespace is told in `users`.
- A GPU that is lost (fallen off the bus, reset) is asked for again by its UUID every second.
- Rights: read and write on /dev/nvidiactl and /dev/nvidiaN, as for CUDA itself.
- Sources: nvml.h and the NVML API reference of R580; "Part-time power measurements", SC24; zeus #172.

CUDA_VISIBLE_DEVICES is honoured with CUDA's rules (see `visible.cuda_visible`). Its indices are taken in
NVML's order, which is the PCI bus order, among the GPUs that this process may open; CUDA itself counts
that way only with CUDA_DEVICE_ORDER=PCI_BUS_ID (or equal GPUs), and the channel's note says so where it
can matter.
"""

from __future__ import annotations

from contextlib import ExitStack, suppress
from types import ModuleType
from typing import TYPE_CHECKING, Any

from emt_cli.errors import SensorError
from emt_cli.sensors.base import Absent, Denied, Machine

if TYPE_CHECKING:
    from emt_cli.sensors.nvml.gpu import NvmlSensor

LIBRARIES = (
    "libnvidia-ml.so.1",
    "/usr/lib/wsl/lib/libnvidia-ml.so.1",
    "/run/opengl-driver/lib/libnvidia-ml.so.1",
)
"""Where the loader finds it as a rule, then WSL2 and NixOS. Once loaded, its soname answers pynvml's call."""

NO_PERMISSION, _MISMATCH = 4, 18
_NOTHING_HERE = (6, 9, 12, 28)
"""nvmlReturn_t: NOT_FOUND, DRIVER_NOT_LOADED, LIBRARY_NOT_FOUND, GPU_NOT_FOUND."""

HINT_PERMISSION = (
    "check `ls -l /dev/nvidia*`; usually `sudo usermod -aG video $USER` and a new login, "
    "in a container `--gpus all`, in a batch job ask for the GPU"
)
HINT_MISMATCH = (
    "reboot, or reload the driver with no GPU program running: "
    "`sudo rmmod nvidia_uvm nvidia_drm nvidia_modeset nvidia && sudo modprobe nvidia`; "
    "in a container, start it anew"
)
HINT_BROKEN = "`nvidia-smi` should meet the same fault; `sudo dmesg | grep -iE 'nvrm|xid'` tells the cause"


def open_nvml(machine: Machine) -> NvmlSensor:
    """The visible NVIDIA GPUs: a channel that counts for each, and one that checks it where there are two.

    pynvml is imported only once the library has been loaded. In a simulated machine the library counts
    only where it lies under the root (/usr/lib).

    Raises Absent where there is no library, driver or visible GPU; Denied where they are there but locked
    or broken.
    """
    setting = machine.environ.get("CUDA_VISIBLE_DEVICES")
    if setting is not None and setting.split(",")[0].strip() in ("", "-1", "NoDevFiles"):
        raise Absent(f"CUDA_VISIBLE_DEVICES={setting} hides every GPU")
    _load_library(machine)
    nvml = _binding()
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        raise _refusal(error) from None
    with ExitStack() as undo:
        undo.callback(shut_down, nvml)
        from emt_cli.sensors.nvml.opening import open_gpus

        try:
            sensor = open_gpus(nvml, machine)
        except nvml.NVMLError as error:
            raise _refusal(error) from None
        undo.pop_all()
    return sensor


def _load_library(machine: Machine) -> None:
    import ctypes

    places = (machine.path("/usr/lib/libnvidia-ml.so.1"),) if machine.is_simulated else LIBRARIES
    reasons: list[str] = []
    for place in places:
        try:
            ctypes.CDLL(place)
        except OSError as error:
            reasons.append(str(error))
        else:
            return
    raise Absent(f"NVML cannot be loaded: {reasons[0]}")


def _binding() -> ModuleType:
    try:
        import pynvml
    except ImportError as error:
        raise Denied(
            f"libnvidia-ml is here but its Python binding is not: {error}", hint="pip install nvidia-ml-py"
        ) from None
    module: ModuleType = pynvml
    return module


def _refusal(error: Any) -> SensorError:
    """What an NVMLError means while opening."""
    if error.value in _NOTHING_HERE:
        return Absent(f"no NVIDIA driver or GPU: {error}")
    if error.value == NO_PERMISSION:
        return Denied("the NVIDIA driver is here but this user may not open it", hint=HINT_PERMISSION)
    if error.value == _MISMATCH:
        return Denied(
            "the NVIDIA driver in the kernel and libnvidia-ml are of different versions, "
            "as after an update without a reboot",
            hint=HINT_MISMATCH,
        )
    return Denied(f"NVML does not start: {error}", hint=HINT_BROKEN)


def shut_down(nvml: ModuleType) -> None:
    """Undo one nvmlInit."""
    with suppress(nvml.NVMLError):  # nothing is left to be done about it
        nvml.nvmlShutdown()
