"""What several sensors see counts once: the channels of all sensors side by side, and which of them to drop.

Every sensor tells what contains what among its own channels; only here is one sensor compared with another.
The earlier sensor keeps what both see, so the registry's order is the order of preference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from emt_cli.model import Channel
from emt_cli.sensors.base import Sensor

_INSIDE_A_MODULE = frozenset({"package", "core", "uncore", "cpu", "socket", "dram", "accelerator"})
_KINDS = {
    "package": "cpu",
    "cpu": "cpu",
    "socket": "cpu",
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

    The same id from two sensors is the same thing seen twice: two counters of it check each other. A channel
    of all sockets together repeats the sockets of an earlier sensor, and the other way round; so does one
    that tells dies apart which the other one does not. A module counts the CPU, memory and GPU of its socket
    itself.
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
    """The channel, dropped where an earlier sensor sees the same.

    Its own parts stay within it, and it lies within the channel that counts in its place.
    """
    if channel.dropped:
        return channel
    for other in earlier:
        if other.dropped or not _is_same(channel, other):
            continue
        reason = f"{other.sensor} reads the same"
        if other.id == channel.id:
            are_counters = channel.kind == other.kind == "counter"
            return replace(channel, dropped=reason, checks=other.id if are_counters else "")
        contains = other.device == channel.device or not _number(other.device)
        return replace(channel, dropped=reason, within=other.id if contains else channel.within)
    return channel


def _is_same(channel: Channel, other: Channel) -> bool:
    """Whether both see the same: by their id; or as channels of one kind, where both are of one device, one
    is the sum over all devices (`cpu` beside `cpu0`), or they are numbered in another way (`accel0`,
    `gpu0`)."""
    kind = _KINDS.get(channel.domain)
    if other.id == channel.id:
        return True
    if kind is None or kind != _KINDS.get(other.domain):
        return False
    if kind == "module":
        return _number(channel.device) == _number(other.device)
    if channel.device == other.device:
        return not (_die(channel) and _die(other))  # else the other die is another thing
    numbers = _number(channel.device), _number(other.device)
    return _name(channel.device) != _name(other.device) or not all(numbers)


def _name(device: str) -> str:
    """`cpu` of `cpu0`."""
    return device.rstrip("0123456789")


def _number(device: str) -> str:
    """`0` of `cpu0`; empty for a device that is all of its kind."""
    return device[len(_name(device)) :]


def _die(channel: Channel) -> str:
    """`0` of `cpu0/package-die0`; empty where the channel is of the whole package."""
    return channel.id.partition("-die")[2]


def _in_module(channel: Channel, modules: Mapping[str, Channel]) -> Channel:
    """The channel, dropped where the only module, or the one of its socket's number, counts it."""
    if channel.dropped or channel.within in modules:
        return channel
    number = _number(channel.device)
    for module in modules.values():
        is_inside = channel.domain in _INSIDE_A_MODULE
        if channel.domain == "gpu":  # a module that goes by a GPU's name is that GPU, and holds no other
            is_inside = _name(module.device) != _name(channel.device)
        if is_inside and (len(modules) == 1 or not number or number == _number(module.device)):
            return replace(channel, dropped=f"inside {module.device} module", within=module.id)
    return channel


def _free_id(wanted: str, taken: set[str]) -> str:
    number = 2
    while f"{wanted}.{number}" in taken:
        number += 1
    return f"{wanted}.{number}"
