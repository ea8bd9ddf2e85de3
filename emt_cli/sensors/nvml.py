"""NVIDIA GPUs through NVML (libnvidia-ml.so.1, by way of `pynvml`): the only file that knows either.

Data sheet
- Energy counter (Volta and newer): millijoules since the driver was loaded, 64 bits, no wrap. It moves in
  steps of 20 to 100 ms, so either edge of a run carries up to one step of power. Accuracy as stated by the
  maker: +-5 %.
- Without that counter (Pascal and older, most vGPUs) power is integrated: the instantaneous field (186),
  else the average over 1 s (185), else `nvmlDeviceGetPowerUsage`. The sensor behind it is awake for a part
  of the time only (25 of every 100 ms on A100 and H100), so bursts are missed.
- GH200: counter and limit are the whole module's, Grace CPU and its memory included (domain `module`).
  On GB200 they are the GPU's, and the CPU is seen by the ACPI power meter.
- MIG: energy and power belong to the board; instances have none of their own.
- Processes: SM share by PID, averaged since the last question; not on MIG, WSL2 and old drivers. The PIDs
  are the host's: inside a container with its own PID namespace they do not match.
- Rights: read and write on /dev/nvidiactl and /dev/nvidiaN, as for CUDA itself.

CUDA_VISIBLE_DEVICES is honoured with CUDA's rules (see `visible`). Its indices are taken in NVML's order,
which is the PCI bus order, among the GPUs that this process may open; CUDA itself counts that way only with
CUDA_DEVICE_ORDER=PCI_BUS_ID (or equal GPUs), and the channel's note says so where it can matter.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

from emt_cli.errors import SensorError
from emt_cli.model import Channel, Gap, GpuUse, Kind, Reading
from emt_cli.sensors.base import Absent, Denied, Machine
from emt_cli.units import JOULES_PER_MILLIJOULE, WATTS_PER_MILLIWATT

LIBRARIES = (
    "libnvidia-ml.so.1",
    "/usr/lib/wsl/lib/libnvidia-ml.so.1",
    "/run/opengl-driver/lib/libnvidia-ml.so.1",
)
"""Where the loader finds it as a rule, then WSL2 and NixOS. Once loaded, its soname answers pynvml's call."""

ACCURACY = 0.05
REFRESH_S = 0.1
"""The longest step of energy counter and instantaneous power ("Part-time power measurements", SC24)."""

FIELD_POWER_AVERAGE, FIELD_POWER_INSTANT = 185, 186
"""nvml.h, NVML_FI_DEV_POWER_*: milliwatts of the GPU (scope 0)."""

_NO_PERMISSION, _INSUFFICIENT_SIZE, _MISMATCH = 4, 7, 18
_NO_SAMPLES = (0, 6)  # pynvml raises the success of an empty list; the driver says NOT_FOUND
_NOTHING_HERE = (6, 9, 12, 28)
"""nvmlReturn_t: NOT_FOUND, DRIVER_NOT_LOADED, LIBRARY_NOT_FOUND, GPU_NOT_FOUND."""

_HINT_PERMISSION = (
    "check `ls -l /dev/nvidia*`; usually `sudo usermod -aG video $USER` and a new login, "
    "in a container `--gpus all`, in a batch job ask for the GPU"
)
_HINT_MISMATCH = (
    "reboot, or reload the driver with no GPU program running: "
    "`sudo rmmod nvidia_uvm nvidia_drm nvidia_modeset nvidia && sudo modprobe nvidia`; "
    "in a container, start it anew"
)
_HINT_BROKEN = "`nvidia-smi` should meet the same fault; `sudo dmesg | grep -iE 'nvrm|xid'` tells the cause"


def open_nvml(machine: Machine) -> NvmlSensor:
    """The visible NVIDIA GPUs, one channel each.

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
        undo.callback(_shut_down, nvml)
        try:
            sensor = _open_sensor(nvml, setting, machine.environ.get("CUDA_DEVICE_ORDER", ""))
        except nvml.NVMLError as error:
            raise _refusal(error) from None
        undo.pop_all()
    return sensor


class NvmlSensor:
    """The opened GPUs: a `Sensor` that also `SharesDevices`.

    `unreadable` names the visible GPUs that had to be left out, and why.
    """

    name = "nvml"

    def __init__(
        self, nvml: ModuleType, devices: Sequence[_Device], *, unreadable: tuple[str, ...] = ()
    ) -> None:
        self._nvml = nvml
        self._devices = devices
        self._is_closed = False
        self.channels: Sequence[Channel] = tuple(device.channel for device in devices)
        self.min_period_s = 0.05 if all(channel.kind == "counter" for channel in self.channels) else 0.02
        self.unreadable = unreadable

    def read(self) -> list[Reading | Gap]:
        """Millijoules or milliwatts of each GPU; a lost GPU or any other error of NVML is a Gap."""
        return [self._read(device) for device in self._devices]

    def usage(self) -> list[GpuUse]:
        """Who used the GPUs since the last call (the first one: since they were opened).

        PIDs are the host's. A process that holds a context and did nothing has 0.0; where the driver does
        not tell, `busy_s` is None.
        """
        if self._is_closed:
            return []
        uses: list[GpuUse] = []
        for device in self._devices:
            running = _running(self._nvml, device.handle)
            busy = device.shares.busy_s_by_pid()
            told = dict.fromkeys(running, None if busy is None else 0.0) | (busy or {})
            uses += [
                GpuUse(device=device.channel.device, pid=pid, busy_s=busy_s)
                for pid, busy_s in told.items()
                if busy_s is not None or pid in running
            ]
        return uses

    def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            _shut_down(self._nvml)

    def _read(self, device: _Device) -> Reading | Gap:
        if self._is_closed:
            return Gap(time.monotonic(), "the sensor is closed")
        try:
            value = device.feed.read()
        except self._nvml.NVMLError as error:
            return Gap(time.monotonic(), f"{device.feed.call}: {error}")
        return Reading(time.monotonic(), value)


# --- which GPUs ------------------------------------------------------------------------------------------


def visible(setting: str | None, uuids: Sequence[str], instances: Sequence[Sequence[str]] = ()) -> list[int]:
    """The positions in `uuids` of the GPUs that CUDA_VISIBLE_DEVICES lets a program use, ascending.

    `instances` are the UUIDs of each GPU's MIG instances. Unset: all. An entry is an index, `GPU-<uuid>`,
    `MIG-<uuid>` (both also as a prefix that fits only one) or the older `MIG-GPU-<uuid>/<gi>/<ci>`; an
    instance stands for its GPU. As in CUDA the list ends at the first entry that names nothing ("CUDA C++
    Programming Guide", environment variables).
    """
    if setting is None:
        return list(range(len(uuids)))
    chosen: set[int] = set()
    for entry in setting.split(","):
        position = _position(entry.strip(), uuids, instances)
        if position is None:
            break
        chosen.add(position)
    return sorted(chosen)


def _position(entry: str, uuids: Sequence[str], instances: Sequence[Sequence[str]]) -> int | None:
    if _is_index(entry):
        return int(entry) if int(entry) < len(uuids) else None
    if entry.startswith("MIG-GPU-"):
        entry = entry.removeprefix("MIG-").split("/")[0]
    wanted = entry.lower()
    if entry.startswith("GPU-"):
        found = [at for at, uuid in enumerate(uuids) if uuid.lower().startswith(wanted)]
    elif entry.startswith("MIG-"):
        found = [
            at for at, names in enumerate(instances) for name in names if name.lower().startswith(wanted)
        ]
    else:
        return None
    return found[0] if len(found) == 1 else None


def _is_index(entry: str) -> bool:
    return entry.isascii() and entry.isdigit() and len(entry) <= 9


# --- who used them ---------------------------------------------------------------------------------------


class UtilizationSample(NamedTuple):
    """SM use of one process, an average over the time since it was last asked for; wall clock in us."""

    pid: int
    t_us: int
    sm_percent: int


def busy_seconds(
    samples: Iterable[UtilizationSample], since_us: int, now_us: int
) -> tuple[dict[int, float | None], int]:
    """Compute-unit seconds by PID since `since_us`, and the time up to which they are known.

    The driver gives one sample per PID: its average over everything newer than `since_us`, stamped with
    the moment at which that PID was last seen busy. So it holds up to the newest stamp of all; where there
    are several of one PID, each holds from the one before. Stamps outside the span and PID 0 are leftovers
    in the driver's buffer; a share above 100 % is garbage (nvtop #110, DCGM #83) and becomes None.
    """
    fresh = sorted(sample for sample in samples if since_us < sample.t_us <= now_us and sample.pid > 0)
    newest_us = max((sample.t_us for sample in fresh), default=since_us)
    by_pid: dict[int, list[UtilizationSample]] = {}
    for sample in fresh:
        by_pid.setdefault(sample.pid, []).append(sample)
    return {pid: _busy_s(own, since_us, newest_us) for pid, own in by_pid.items()}, newest_us


def _busy_s(own: Sequence[UtilizationSample], since_us: int, newest_us: int) -> float | None:
    if any(sample.sm_percent > 100 for sample in own):
        return None
    if len(own) == 1:
        return own[0].sm_percent / 100 * (newest_us - since_us) * 1e-6
    starts = [since_us, *(sample.t_us for sample in own)]
    spans = zip(starts, own, strict=False)
    return sum(sample.sm_percent / 100 * (sample.t_us - start_us) * 1e-6 for start_us, sample in spans)


class Shares:
    """Asks one GPU for its processes' shares, each time from where the last answer ended."""

    # The driver hands samples over up to 1 s late: a span without any may still get some, until then.
    PATIENCE_US = 2_000_000

    def __init__(self, nvml: ModuleType, handle: Any) -> None:
        self._nvml = nvml
        self._handle = handle
        self._since_us = _wall_us()

    def busy_s_by_pid(self) -> dict[int, float | None] | None:
        """Since the last answer; None where the driver does not tell."""
        try:
            raw = self._samples()
        except self._nvml.NVMLError as error:
            if error.value not in _NO_SAMPLES:
                return None
            raw = []
        now_us = _wall_us()
        samples = (UtilizationSample(one.pid, one.timeStamp, one.smUtil) for one in raw)
        busy, newest_us = busy_seconds(samples, self._since_us, now_us)
        if busy:
            self._since_us = newest_us
        elif not 0 <= now_us - self._since_us <= self.PATIENCE_US:
            self._since_us = now_us - self.PATIENCE_US // 2
        return busy

    def _samples(self) -> Sequence[Any]:
        """Asked again where another process turned up between pynvml's two calls (how many, and which)."""
        for _ in range(3):
            try:
                found: Sequence[Any] = self._nvml.nvmlDeviceGetProcessUtilization(
                    self._handle, self._since_us
                )
            except self._nvml.NVMLError as error:
                if error.value != _INSUFFICIENT_SIZE:
                    raise
            else:
                return found
        raise self._nvml.NVMLError(_INSUFFICIENT_SIZE)


def _running(nvml: ModuleType, handle: Any) -> list[int]:
    """PIDs that hold a compute or graphics context, as far as the driver tells."""
    pids: dict[int, None] = {}
    for kind in ("Compute", "Graphics"):
        for version in ("v3", "v2"):  # v2: drivers before 510
            with suppress(nvml.NVMLError):
                found = getattr(nvml, f"nvmlDeviceGet{kind}RunningProcesses_{version}")(handle)
                pids.update((process.pid, None) for process in found)
                break
    return list(pids)


def _wall_us() -> int:
    return time.time_ns() // 1000


# --- opening ---------------------------------------------------------------------------------------------


class _Feed(NamedTuple):
    """The call that a channel is read by: `read` gives mJ (counter) or mW (gauge), or raises NVMLError."""

    call: str
    kind: Kind
    update_period_s: float
    read: Callable[[], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Device:
    handle: Any
    channel: Channel
    feed: _Feed
    shares: Shares


class _Board(NamedTuple):
    """A GPU that may be opened; `number` is its NVML index."""

    number: int
    handle: Any
    uuid: str
    name: str


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
    if error.value == _NO_PERMISSION:
        return Denied("the NVIDIA driver is here but this user may not open it", hint=_HINT_PERMISSION)
    if error.value == _MISMATCH:
        return Denied(
            "the NVIDIA driver in the kernel and libnvidia-ml are of different versions, "
            "as after an update without a reboot",
            hint=_HINT_MISMATCH,
        )
    return Denied(f"NVML does not start: {error}", hint=_HINT_BROKEN)


def _shut_down(nvml: ModuleType) -> None:
    with suppress(nvml.NVMLError):  # nothing is left to be done about it
        nvml.nvmlShutdown()


def _open_sensor(nvml: ModuleType, setting: str | None, order: str) -> NvmlSensor:
    """Raises Absent where no GPU is visible, Denied where none can be read; NVMLError."""
    boards, failures = _boards(nvml)
    if not boards and not failures:
        raise Absent("the NVIDIA driver knows no GPU")
    instances = [_instances(nvml, board.handle) if "MIG-" in (setting or "") else [] for board in boards]
    chosen = [boards[at] for at in visible(setting, [board.uuid for board in boards], instances)]
    if boards and not chosen:
        raise Absent(f"CUDA_VISIBLE_DEVICES={setting} names no GPU of this machine")
    order_note = _order_note(setting, order) if len(boards) > 1 else ""
    driver = nvml.nvmlSystemGetDriverVersion()
    devices = []
    for board in chosen:
        try:
            devices.append(_open_device(nvml, board, driver, order_note))
        except nvml.NVMLError as error:
            failures[board.number] = error
    if not devices:
        raise _none_left(failures)
    # What this process may not open belongs to other jobs: CUDA does not see it either.
    left_out = {number: error for number, error in failures.items() if error.value != _NO_PERMISSION}
    return NvmlSensor(nvml, devices, unreadable=_told(left_out))


def _boards(nvml: ModuleType) -> tuple[list[_Board], dict[int, Any]]:
    """The GPUs that may be opened, and the errors of the others (not ours in a job, fallen off the bus)."""
    boards: list[_Board] = []
    failures: dict[int, Any] = {}
    for index in range(nvml.nvmlDeviceGetCount()):
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            uuid, name = nvml.nvmlDeviceGetUUID(handle), nvml.nvmlDeviceGetName(handle)
        except nvml.NVMLError as error:
            failures[index] = error
        else:
            boards.append(_Board(index, handle, uuid, name))
    return boards, failures


def _instances(nvml: ModuleType, handle: Any) -> list[str]:
    """The UUIDs of a GPU's MIG instances; none where it has no MIG."""
    found: list[str] = []
    try:
        for index in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
            with suppress(nvml.NVMLError_NotFound):  # slots may be empty
                found.append(nvml.nvmlDeviceGetUUID(nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)))
    except nvml.NVMLError:
        return found
    return found


def _open_device(nvml: ModuleType, board: _Board, driver: str, order_note: str) -> _Device:
    """Raises NVMLError where the GPU has neither an energy counter nor a power reading."""
    feed, counter_fault = _feed(nvml, board.handle)
    is_counter = feed.kind == "counter"
    is_module = is_counter and "GH200" in board.name
    notes = [
        order_note,
        f"no energy counter ({counter_fault}): power is integrated" if counter_fault else "",
        "the counter covers the whole module: GPU, Grace CPU and memory" if is_module else "",
        "MIG is on: the energy is the whole board's" if _is_mig(nvml, board.handle) else "",
    ]
    channel = Channel(
        id=f"gpu{board.number}",
        sensor=NvmlSensor.name,
        device=f"gpu{board.number}",
        domain="module" if is_module else "gpu",
        kind=feed.kind,
        provenance="measured" if is_counter else "integrated",
        source=f"{feed.call}, {board.name}, {board.uuid}, driver {driver}",
        unit=JOULES_PER_MILLIJOULE if is_counter else WATTS_PER_MILLIWATT,
        resolution_j=JOULES_PER_MILLIJOULE if is_counter else None,
        update_period_s=feed.update_period_s,
        accuracy=ACCURACY,
        max_power_w=_max_power_w(nvml, board.handle),
        note="; ".join(filter(None, notes)),
    )
    return _Device(handle=board.handle, channel=channel, feed=feed, shares=Shares(nvml, board.handle))


def _feed(nvml: ModuleType, handle: Any) -> tuple[_Feed, str]:
    """The best call that works here, and why it is not the energy counter. Raises NVMLError if none does."""
    counter_fault = ""
    for feed in _feeds(nvml, handle):
        try:
            feed.read()
        except nvml.NVMLError as error:
            code, counter_fault = error.value, counter_fault or str(error)
        else:
            return feed, counter_fault
    raise nvml.NVMLError(code)


def _feeds(nvml: ModuleType, handle: Any) -> tuple[_Feed, ...]:
    """From the best to the last resort."""
    energy = partial(nvml.nvmlDeviceGetTotalEnergyConsumption, handle)
    instant = partial(_field_mw, nvml, handle, FIELD_POWER_INSTANT)
    average = partial(_field_mw, nvml, handle, FIELD_POWER_AVERAGE)
    usage = partial(nvml.nvmlDeviceGetPowerUsage, handle)
    return (
        _Feed("nvmlDeviceGetTotalEnergyConsumption", "counter", REFRESH_S, energy),
        _Feed("NVML_FI_DEV_POWER_INSTANT", "gauge", REFRESH_S, instant),
        _Feed("NVML_FI_DEV_POWER_AVERAGE (over 1 s)", "gauge", 1.0, average),
        _Feed("nvmlDeviceGetPowerUsage", "gauge", REFRESH_S, usage),
    )


def _field_mw(nvml: ModuleType, handle: Any, field: int) -> int:
    """A field brings its own return code; power fields are unsigned int. Raises NVMLError."""
    value = nvml.nvmlDeviceGetFieldValues(handle, [field])[0]
    if value.nvmlReturn != nvml.NVML_SUCCESS:
        raise nvml.NVMLError(value.nvmlReturn)
    return int(value.value.uiVal)


def _max_power_w(nvml: ModuleType, handle: Any) -> float:
    """Twice the highest power limit, for the peaks above it; 2000 W where no limit is known."""
    limits_mw = [0]
    with suppress(nvml.NVMLError):
        limits_mw.append(nvml.nvmlDeviceGetEnforcedPowerLimit(handle))
    with suppress(nvml.NVMLError):
        limits_mw.append(nvml.nvmlDeviceGetPowerManagementLimitConstraints(handle)[1])
    return 2 * max(limits_mw) * WATTS_PER_MILLIWATT or 2000.0


def _is_mig(nvml: ModuleType, handle: Any) -> bool:
    try:
        return bool(nvml.nvmlDeviceGetMigMode(handle)[0])
    except nvml.NVMLError:
        return False


def _order_note(setting: str | None, order: str) -> str:
    if order == "PCI_BUS_ID" or not any(_is_index(entry.strip()) for entry in (setting or "").split(",")):
        return ""
    return (
        f"CUDA_VISIBLE_DEVICES={setting} read in PCI bus order, CUDA's own with CUDA_DEVICE_ORDER=PCI_BUS_ID"
    )


def _none_left(failures: dict[int, Any]) -> Denied:
    told = ", ".join(_told(failures))
    if any(error.value == _NO_PERMISSION for error in failures.values()):
        return Denied(f"no NVIDIA GPU may be read ({told})", hint=_HINT_PERMISSION)
    return Denied(
        f"no NVIDIA GPU tells its energy or power ({told})",
        hint=f"{_HINT_BROKEN}; a virtual GPU is measured on its host",
    )


def _told(failures: dict[int, Any]) -> tuple[str, ...]:
    return tuple(f"gpu{number} ({error})" for number, error in sorted(failures.items()))
