"""The visible AMD GPUs, opened: their channels, readings and users. The data sheet is in `amd`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import NamedTuple

from emt_cli.model import Channel, Gap, GpuUse, Reading
from emt_cli.sensors.amd import NAME
from emt_cli.sensors.amd.binding import (
    HINT_BROKEN,
    HINT_PERMISSION,
    NO_PERMISSION,
    NOT_SUPPORTED,
    AmdError,
    AmdSmi,
    start,
)
from emt_cli.sensors.amd.cards import DRIVER, Card, Feed, cards, leaders
from emt_cli.sensors.base import Absent, Denied, Machine
from emt_cli.sensors.fdinfo import LOOK_PERIOD_S, DrmUse, sees_others, unseen
from emt_cli.sensors.gpus import gpu_number
from emt_cli.sensors.kfd import visible_cards

_COUNTER_PERIOD_S, _POWER_PERIOD_S = 0.01, 0.1
"""The firmware's table of metrics is new every millisecond or so, the averages in it every 0.1 s."""
_DEFAULT_MAX_W = 2000.0


class _Device(NamedTuple):
    """An opened GPU."""

    channel: Channel
    feed: Feed


class AmdSensor:
    """The opened GPUs: a `Sensor` that also `SharesDevices`.

    `unreadable` names the visible GPUs that had to be left out, and why; `remedy` what to do about them.
    """

    name = NAME
    min_period_s = 0.02
    usage_period_s = LOOK_PERIOD_S
    remedy = HINT_BROKEN

    def __init__(
        self, library: AmdSmi, devices: Sequence[_Device], use: DrmUse, unreadable: tuple[str, ...] = ()
    ) -> None:
        self.channels: Sequence[Channel] = tuple(device.channel for device in devices)
        self.unreadable = unreadable
        self._library = library
        self._feeds = tuple(device.feed for device in devices)
        self._use = use
        self._is_closed = False
        self.sees_others = sees_others()

    def read(self) -> list[Reading | Gap]:
        """Counter steps or watts of each GPU; a lost GPU or any other error of the library is a Gap."""
        readings = [self._read(feed) for feed in self._feeds]
        if not self._is_closed:
            self._use.look()
        return readings

    def usage(self) -> list[GpuUse]:
        """Who used the GPUs since the last call: see `DrmUse.usage`."""
        return [] if self._is_closed else self._use.usage()

    def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._use.close()
            self._library.close()

    def _read(self, feed: Feed) -> Reading | Gap:
        if self._is_closed:
            return Gap(time.monotonic(), "the sensor is closed")
        try:
            value = feed.read()
        except AmdError as error:
            return Gap(time.monotonic(), str(error))
        return Reading(time.monotonic(), value)


def open_gpus(machine: Machine, path: str) -> AmdSensor:
    """The library at `path`. Raises Absent where no GPU is visible, Denied where none can be read."""
    library = start(path)
    with ExitStack() as undo:
        undo.callback(library.close)
        found = cards(machine, library)
        if not found:
            raise Absent("AMD SMI knows no graphics card (an APU's is within the processor)")
        leader = {**{card.pci: card.pci for card in found}, **leaders(found)}
        leading = {leader[pci] for pci in visible_cards(machine, [card.pci for card in found])}
        if not leading:
            raise Absent("ROCR_, HIP_ or CUDA_VISIBLE_DEVICES hides every AMD GPU")
        devices = {pci: f"gpu{number}" for pci, number in _numbers(machine, found).items() if pci in leading}
        visible = [card for card in found if card.pci in leading]
        opened = _devices(library, visible, devices, leader)
        if not opened:
            raise _none_left(visible, devices)
        use = DrmUse(machine, {pci: devices[lead] for pci, lead in leader.items() if lead in devices})
        undo.pop_all()
    left_out = [card for card in visible if card.feed is None]
    return AmdSensor(library, opened, use, _told(left_out, devices))


def _numbers(machine: Machine, found: Sequence[Card]) -> dict[str, int]:
    """emt's number of each card; those that the driver does not list come after the listed ones."""
    listed = machine.names(DRIVER)
    after = gpu_number(machine, "amdgpu", "")
    unlisted = [card.pci for card in found if card.pci not in listed]
    return {
        card.pci: after + unlisted.index(card.pci)
        if card.pci in unlisted
        else gpu_number(machine, "amdgpu", card.pci)
        for card in found
    }


def _devices(
    library: AmdSmi, visible: Sequence[Card], devices: Mapping[str, str], leader: Mapping[str, str]
) -> list[_Device]:
    opened = []
    for card in visible:
        if card.feed is not None:
            has_followers = list(leader.values()).count(card.pci) > 1
            limit_w = library.power_limit_w(card.number)
            channel = _channel(card, card.feed, devices[card.pci], limit_w, has_followers=has_followers)
            opened.append(_Device(channel, card.feed))
    return opened


def _channel(card: Card, feed: Feed, device: str, limit_w: float | None, *, has_followers: bool) -> Channel:
    is_counter = feed.kind == "counter"
    is_module = "MI300A" in card.name
    notes = [
        "" if is_counter else "no energy counter that moves: power is integrated",
        "the figure is of both dies of the module" if has_followers else "",
        "the figure is of the whole module: GPU, CPU and memory" if is_module else "",
        unseen(),
    ]
    return Channel(
        id=device,
        sensor=NAME,
        device=device,
        domain="module" if is_module else "gpu",
        kind=feed.kind,
        provenance="measured" if is_counter else "integrated",
        source=f"{feed.call}, {card.name}, {card.pci}",
        unit=feed.unit,
        resolution_j=feed.unit if is_counter else None,
        update_period_s=_COUNTER_PERIOD_S if is_counter else _POWER_PERIOD_S,
        max_power_w=2 * limit_w if limit_w else _DEFAULT_MAX_W,
        note="; ".join(filter(None, notes)),
    )


def _none_left(visible: Sequence[Card], devices: Mapping[str, str]) -> Absent | Denied:
    told = ", ".join(_told(visible, devices))
    faults = [card.fault.status for card in visible if card.fault is not None]
    if NO_PERMISSION in faults:
        return Denied(f"no AMD GPU may be read ({told})", hint=HINT_PERMISSION)
    if all(fault == NOT_SUPPORTED for fault in faults):
        return Absent(f"AMD SMI tells no GPU's energy or power ({told})")
    return Denied(f"no AMD GPU tells its energy or power ({told})", hint=HINT_BROKEN)


def _told(left_out: Sequence[Card], devices: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(f"{devices[card.pci]} ({card.fault})" for card in left_out)
