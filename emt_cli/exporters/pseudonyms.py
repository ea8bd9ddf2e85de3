"""Other names for what somebody else named: devices of a configuration, channels of a foreign sensor.

Apart from `share` because names must stay consistent through a whole record: a channel is referred to by
others, by readings and by settings. What emt's own sensors call the hardware (`cpu0/package`, `gpu1`) is
everybody's and stays.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from emt_cli.model import DEVICE_DOMAINS, PLATFORM_DOMAINS, Channel, ChannelEnergy

_OWN_SENSORS = frozenset(
    {
        "amd",
        "apple",
        "battery",
        "cray",
        "drm",
        "emi",
        "hwmon",
        "ipmi",
        "model",
        "nvml",
        "perf",
        "powercap",
        "powermetrics",
    }
)
"""Sensors whose channels, texts and devices are named by emt."""
_SENSORS = _OWN_SENSORS | {"configured", "replay"}
_DOMAINS = DEVICE_DOMAINS | PLATFORM_DOMAINS | {"package", "core", "uncore", "dram", "cpu", "socket", "rail"}
_PLAIN = re.compile(
    r"(?:cpu|gpu|ram|memory|node|module|accelerator)\d*(?:/(?:"
    + "|".join(sorted(_DOMAINS))
    + r"|power)(?:-\d+)?)?"
)
"""What anybody would call a device or a channel."""


class Pseudonyms:
    """The names in a bundle, by those in the record: `device1`, `device1/2`."""

    def __init__(self, channels: Iterable[Channel], energies: Iterable[ChannelEnergy]) -> None:
        channels = tuple(channels)
        self._known = {
            name
            for channel in channels
            if channel.sensor in _OWN_SENSORS
            for name in (channel.id, channel.device)
        }
        self._devices: dict[str, str] = {}
        self._channels: dict[str, str] = {}
        named = [(each.id, each.device) for each in channels]
        for id, device in (*named, *((each.id, each.device) for each in energies)):
            self._name_channel(id, device)

    def is_ours(self, channel: Channel) -> bool:
        """Whether a channel's texts were written by emt."""
        return channel.sensor in _OWN_SENSORS or channel.sensor == "configured"

    def is_known(self, name: str) -> bool:
        """Whether a channel or device is one of emt's own sensors'."""
        return name in self._known

    def sensor(self, name: str) -> str:
        return name if name in _SENSORS else "other"

    def domain(self, name: str) -> str:
        return name if name in _DOMAINS else "other"

    def device(self, name: str) -> str:
        if self._stays(name):
            return name
        return self._devices.setdefault(name, f"device{len(self._devices) + 1}")

    def channel(self, id: str) -> str:
        """The name of a channel; of one that the record does not have, a new one."""
        return id if self._stays(id) else self._name_channel(id, id)

    def _name_channel(self, id: str, device: str) -> str:
        if self._stays(id):
            return id
        if id not in self._channels:
            base, number = self.device(device), 1
            name = base
            while name in self._channels.values() or name in self._known:
                number += 1
                name = f"{base}/{number}"
            self._channels[id] = name
        return self._channels[id]

    def _stays(self, name: str) -> bool:
        return name in self._known or _PLAIN.fullmatch(name) is not None
