"""Which NVIDIA GPUs are opened, and by which of their calls: from the driver's list to channels.

Apart from reading them because all of this happens once, and most of it is about what may be missing. The
data sheet is in `nvml`.
"""

from __future__ import annotations

from contextlib import suppress
from types import ModuleType
from typing import Any, NamedTuple

from emt_cli.model import Channel
from emt_cli.sensors.base import Absent, Denied, Machine
from emt_cli.sensors.nvml import HINT_BROKEN, HINT_PERMISSION, NO_PERMISSION
from emt_cli.sensors.nvml.feeds import Feed, best_feed, check_feed, model_feed
from emt_cli.sensors.nvml.gpu import Device, NvmlSensor
from emt_cli.sensors.nvml.mig import instances, is_divided
from emt_cli.sensors.nvml.users import Untold, Users, pids_here
from emt_cli.sensors.visible import cuda_visible, is_index
from emt_cli.units import WATTS_PER_MILLIWATT

ACCURACY = 0.05


def open_gpus(nvml: ModuleType, machine: Machine) -> NvmlSensor:
    """Raises Absent where no GPU is visible, Denied where none can be read; NVMLError."""
    setting = machine.environ.get("CUDA_VISIBLE_DEVICES")
    boards, failures = _boards(nvml)
    if not boards and not failures:
        raise Absent("the NVIDIA driver knows no GPU")
    parts = [
        [part.uuid for part in instances(nvml, board.handle)] if "MIG-" in (setting or "") else []
        for board in boards
    ]
    chosen = [boards[at] for at in cuda_visible(setting, [board.uuid for board in boards], parts)]
    if boards and not chosen:
        raise Absent(f"CUDA_VISIBLE_DEVICES={setting} names no GPU of this machine")
    # What this process may not open belongs to other jobs: CUDA does not see it either.
    faults = {number: error for number, error in failures.items() if error.value != NO_PERMISSION}
    opening = _Opening(nvml, machine, _order_note(machine) if len(boards) > 1 else "")
    devices = []
    for board in chosen:
        try:
            devices.append(opening.device(board))
        except nvml.NVMLError as error:
            faults[board.number] = error
    if not devices:
        raise _none_left(failures | faults)
    return NvmlSensor(nvml, devices, unreadable=_told(faults), remedy=_remedy(faults))


class Board(NamedTuple):
    """A GPU that may be opened; `number` is its NVML index."""

    number: int
    handle: Any
    uuid: str
    name: str


class _Opening:
    """Opens boards of one driver, on one machine."""

    def __init__(self, nvml: ModuleType, machine: Machine, order_note: str) -> None:
        self._nvml, self._order_note = nvml, order_note
        self._setting = machine.environ.get("CUDA_VISIBLE_DEVICES")
        self._exists = pids_here(machine)
        self._is_wsl = "dxg" in machine.names("/dev")
        self._driver = nvml.nvmlSystemGetDriverVersion()

    def device(self, board: Board) -> Device:
        """Raises NVMLError where the GPU's energy or power should be readable and is not."""
        nvml, number = self._nvml, f"gpu{board.number}"
        feed, counter_fault = best_feed(nvml, board.handle)
        if feed is None:
            channel, feed = self._estimated(board)
            channels, feeds = [channel], [feed]
        else:
            channels = [self._channel(board, feed, counter_fault)]
            feeds = [feed]
            check = self._check(board, channels[0])
            if check is not None:
                channels.append(check[0])
                feeds.append(check[1])
        users: Users | Untold = Untold(number)
        if not self._is_wsl:
            users = Users(nvml, number, board.handle, self._setting, self._exists)
        return Device(nvml, board.uuid, board.handle, channels, feeds, users)

    def _channel(self, board: Board, feed: Feed, counter_fault: str) -> Channel:
        """The channel that counts: energy, else power."""
        is_counter = feed.kind == "counter"
        is_module = is_counter and "GH200" in board.name
        notes = [
            self._order_note,
            f"no energy counter ({counter_fault}): power is integrated" if counter_fault else "",
            "the counter covers the whole module: GPU, Grace CPU and memory" if is_module else "",
            self._mig_note(board),
        ]
        return Channel(
            id=f"gpu{board.number}",
            sensor=NvmlSensor.name,
            device=f"gpu{board.number}",
            domain="module" if is_module else "gpu",
            kind=feed.kind,
            provenance=feed.provenance,
            source=self._source(board, feed),
            unit=feed.unit,
            resolution_j=feed.unit if is_counter else None,
            update_period_s=feed.update_period_s,
            accuracy=ACCURACY,
            max_power_w=2 * _limit_w(self._nvml, board.handle) or 2000.0,
            note="; ".join(filter(None, notes)),
        )

    def _check(self, board: Board, counted: Channel) -> tuple[Channel, Feed] | None:
        """Power beside an energy counter, to hold the one against the other."""
        if counted.kind != "counter":
            return None
        feed = check_feed(self._nvml, board.handle, is_module=counted.domain == "module")
        if feed is None:
            return None
        channel = Channel(
            id=f"{counted.id}/power",
            sensor=NvmlSensor.name,
            device=counted.device,
            domain=counted.domain,
            kind=feed.kind,
            provenance=feed.provenance,
            source=self._source(board, feed),
            within=counted.id,
            unit=feed.unit,
            update_period_s=feed.update_period_s,
            accuracy=ACCURACY,
            max_power_w=counted.max_power_w,
            dropped=f"checks {counted.id}",
            checks=counted.id,
        )
        return channel, feed

    def _estimated(self, board: Board) -> tuple[Channel, Feed]:
        """By TDP and use, where the driver tells neither energy nor power."""
        from emt_cli.data.gpu_power import gpu_power

        power = gpu_power(board.name, _limit_w(self._nvml, board.handle) or None)
        feed, is_use_known = model_feed(self._nvml, board.handle, power)
        notes = [
            self._order_note,
            "the driver tells neither energy nor power",
            f"idle {power.idle_w:.3g} W to {power.full_w:.3g} W, by use",
            power.note,
            "" if is_use_known else feed.call,
            self._mig_note(board),
        ]
        channel = Channel(
            id=f"gpu{board.number}",
            sensor=NvmlSensor.name,
            device=f"gpu{board.number}",
            domain="gpu",
            kind="model",
            provenance="estimated",
            source=f"{self._source(board, feed)}; {power.source}",
            unit=feed.unit,
            update_period_s=feed.update_period_s,
            max_power_w=2 * power.high_w,
            idle_w=power.idle_w,
            low_w=power.low_w,
            high_w=power.high_w,
            note="; ".join(filter(None, notes)),
        )
        return channel, feed

    def _source(self, board: Board, feed: Feed) -> str:
        return f"{feed.call}, {board.name}, {board.uuid}, driver {self._driver}"

    def _mig_note(self, board: Board) -> str:
        return "MIG is on: the energy is the whole board's" if is_divided(self._nvml, board.handle) else ""


def _boards(nvml: ModuleType) -> tuple[list[Board], dict[int, Any]]:
    """The GPUs that may be opened, and the errors of the others (not ours in a job, fallen off the bus)."""
    boards: list[Board] = []
    failures: dict[int, Any] = {}
    for index in range(nvml.nvmlDeviceGetCount()):
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            uuid, name = nvml.nvmlDeviceGetUUID(handle), nvml.nvmlDeviceGetName(handle)
        except nvml.NVMLError as error:
            failures[index] = error
        else:
            boards.append(Board(index, handle, uuid, name))
    return boards, failures


def _limit_w(nvml: ModuleType, handle: Any) -> float:
    """The highest power limit; 0 where none is known."""
    limits_mw = [0]
    with suppress(nvml.NVMLError):
        limits_mw.append(nvml.nvmlDeviceGetEnforcedPowerLimit(handle))
    with suppress(nvml.NVMLError):
        limits_mw.append(nvml.nvmlDeviceGetPowerManagementLimitConstraints(handle)[1])
    return float(max(limits_mw) * WATTS_PER_MILLIWATT)


def _order_note(machine: Machine) -> str:
    setting = machine.environ.get("CUDA_VISIBLE_DEVICES", "")
    is_by_bus = machine.environ.get("CUDA_DEVICE_ORDER", "") == "PCI_BUS_ID"
    if is_by_bus or not any(is_index(entry.strip()) for entry in setting.split(",")):
        return ""
    return (
        f"CUDA_VISIBLE_DEVICES={setting} read in PCI bus order, CUDA's own with CUDA_DEVICE_ORDER=PCI_BUS_ID"
    )


def _none_left(failures: dict[int, Any]) -> Denied:
    may = "may be read" if _is_locked(failures) else "answers"
    return Denied(f"no NVIDIA GPU {may} ({', '.join(_told(failures))})", hint=_remedy(failures))


def _remedy(failures: dict[int, Any]) -> str:
    return HINT_PERMISSION if _is_locked(failures) else HINT_BROKEN


def _is_locked(failures: dict[int, Any]) -> bool:
    return any(error.value == NO_PERMISSION for error in failures.values())


def _told(failures: dict[int, Any]) -> tuple[str, ...]:
    return tuple(f"gpu{number} ({error})" for number, error in sorted(failures.items()))
