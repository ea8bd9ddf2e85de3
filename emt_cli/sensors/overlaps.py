"""What several sensors see counts once: the channels of all sensors side by side, and which of them to drop.

Every sensor tells what contains what among its own channels; only here is one sensor compared with another.
The earlier sensor keeps what both see, so the registry's order is the order of preference.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from emt_cli.model import Channel
from emt_cli.sensors.base import Sensor

_INSIDE_A_MODULE = frozenset({"package", "core", "uncore", "cpu", "dram"})
_KINDS = {
    "package": "cpu",
    "cpu": "cpu",
    "dram": "memory",
    "gpu": "gpu",
    "accelerator": "gpu",
    "module": "module",
}
"""Domains that tell the same kind of device by another name."""
_IDLE_PERIOD_S = 1.0
"""How often a sensor is read of which nothing counts: it only checks another one."""


def drop_overlaps(sensors: Sequence[Sensor]) -> None:
    """Give sensors changed copies of their channels: `dropped` says what else counts the same.

    The same id from two sensors is the same thing seen twice. A channel of all sockets together repeats
    the sockets of an earlier sensor, and the other way round. A module counts the CPU, memory and GPU of
    its socket itself.
    """
    earlier: list[Channel] = []
    for sensor in sensors:
        taken = {channel.id for channel in earlier}
        channels = []
        for channel in sensor.channels:
            channel = _beside(channel, earlier)  # noqa: PLW2901
            if channel.id in taken:
                channel = replace(channel, id=_free_id(channel.id, taken))  # noqa: PLW2901
            taken.add(channel.id)
            channels.append(channel)
        earlier += channels
        _give(sensor, channels)
    modules = {c.id: c for c in earlier if c.domain == "module" and not c.dropped}
    if modules:
        for sensor in sensors:
            _give(sensor, [_in_module(channel, modules) for channel in sensor.channels])


def _give(sensor: Sensor, channels: Sequence[Channel]) -> None:
    if list(sensor.channels) == list(channels):
        return
    sensor.channels = tuple(channels)
    if all(channel.dropped for channel in channels):
        sensor.min_period_s = max(sensor.min_period_s, _IDLE_PERIOD_S)


def _beside(channel: Channel, earlier: Sequence[Channel]) -> Channel:
    """The channel, dropped where an earlier sensor sees the same."""
    if channel.dropped:
        return channel
    for other in _rivals(channel, earlier):
        checks = other.id if other.id == channel.id else ""
        return replace(channel, dropped=f"{other.sensor} reads the same", checks=checks)
    return channel


def _rivals(channel: Channel, earlier: Sequence[Channel]) -> Iterator[Channel]:
    """The channels that count and see what this one sees: of the same id; or of the same kind, where one
    is the sum over all devices (`cpu` beside `cpu0`) or numbers them in another way (`accel0`, `gpu0`)."""
    kind = _KINDS.get(channel.domain)
    name, number = _split(channel.device)
    for other in earlier:
        other_name, other_number = _split(other.device)
        is_of_kind = kind is not None and kind == _KINDS.get(other.domain)
        if kind == "module":
            is_same = number == other_number
        else:
            is_same = name != other_name or not number or not other_number
        if not other.dropped and (other.id == channel.id or (is_of_kind and is_same)):
            yield other


def _split(device: str) -> tuple[str, str]:
    """`cpu0` as `cpu` and `0`."""
    name = device.rstrip("0123456789")
    return name, device[len(name) :]


def _in_module(channel: Channel, modules: Mapping[str, Channel]) -> Channel:
    """The channel, dropped where the only module, or the one of its socket's number, counts it."""
    if channel.dropped or channel.domain not in _INSIDE_A_MODULE or channel.within in modules:
        return channel
    for module in modules.values():
        if len(modules) == 1 or _split(module.device)[1] == _split(channel.device)[1]:
            return replace(channel, dropped=f"inside {module.device} module")
    return channel


def _free_id(wanted: str, taken: set[str]) -> str:
    number = 2
    while f"{wanted}.{number}" in taken:
        number += 1
    return f"{wanted}.{number}"
