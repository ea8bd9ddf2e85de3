"""The visible NVIDIA GPUs, opened: their channels, readings and users. The data sheet is in `nvml`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

from emt_cli.model import Channel, Gap, GpuUse, Kind, Reading
from emt_cli.sensors.base import Absent, Denied
from emt_cli.sensors.nvml import HINT_BROKEN, HINT_PERMISSION, NO_PERMISSION, shut_down
from emt_cli.sensors.nvml.sm_time import Shares, running
from emt_cli.sensors.visible import cuda_visible, is_index
from emt_cli.units import JOULES_PER_MILLIJOULE, WATTS_PER_MILLIWATT

ACCURACY = 0.05
REFRESH_S = 0.1
"""The longest step of energy counter and instantaneous power ("Part-time power measurements", SC24)."""

FIELD_POWER_AVERAGE, FIELD_POWER_INSTANT = 185, 186
"""nvml.h, NVML_FI_DEV_POWER_*: milliwatts of the GPU (scope 0)."""


def open_gpus(nvml: ModuleType, setting: str | None, order: str) -> NvmlSensor:
    """Raises Absent where no GPU is visible, Denied where none can be read; NVMLError."""
    boards, failures = _boards(nvml)
    if not boards and not failures:
        raise Absent("the NVIDIA driver knows no GPU")
    instances = [_instances(nvml, board.handle) if "MIG-" in (setting or "") else [] for board in boards]
    chosen = [boards[at] for at in cuda_visible(setting, [board.uuid for board in boards], instances)]
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
    left_out = {number: error for number, error in failures.items() if error.value != NO_PERMISSION}
    return NvmlSensor(nvml, devices, unreadable=_told(left_out))


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
            present = running(self._nvml, device.handle)
            busy = device.shares.busy_s_by_pid()
            told = dict.fromkeys(present, None if busy is None else 0.0) | (busy or {})
            uses += [
                GpuUse(device=device.channel.device, pid=pid, busy_s=busy_s)
                for pid, busy_s in told.items()
                if busy_s is not None or pid in present
            ]
        return uses

    def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            shut_down(self._nvml)

    def _read(self, device: _Device) -> Reading | Gap:
        if self._is_closed:
            return Gap(time.monotonic(), "the sensor is closed")
        try:
            value = device.feed.read()
        except self._nvml.NVMLError as error:
            return Gap(time.monotonic(), f"{device.feed.call}: {error}")
        return Reading(time.monotonic(), value)


class _Feed(NamedTuple):
    """The call that a channel is read by: `read` gives mJ (counter) or mW (gauge), or raises NVMLError."""

    call: str
    kind: Kind
    update_period_s: float
    read: Callable[[], int]


class _Device(NamedTuple):
    """An opened GPU."""

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
    if order == "PCI_BUS_ID" or not any(is_index(entry.strip()) for entry in (setting or "").split(",")):
        return ""
    return (
        f"CUDA_VISIBLE_DEVICES={setting} read in PCI bus order, CUDA's own with CUDA_DEVICE_ORDER=PCI_BUS_ID"
    )


def _none_left(failures: dict[int, Any]) -> Denied:
    told = ", ".join(_told(failures))
    if any(error.value == NO_PERMISSION for error in failures.values()):
        return Denied(f"no NVIDIA GPU may be read ({told})", hint=HINT_PERMISSION)
    return Denied(
        f"no NVIDIA GPU tells its energy or power ({told})",
        hint=f"{HINT_BROKEN}; a virtual GPU is measured on its host",
    )


def _told(failures: dict[int, Any]) -> tuple[str, ...]:
    return tuple(f"gpu{number} ({error})" for number, error in sorted(failures.items()))
