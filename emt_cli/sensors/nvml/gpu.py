"""The opened NVIDIA GPUs: reading them, at the edges of a run and in between. The data sheet is in `nvml`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from emt_cli.model import Channel, Gap, GpuUse, Reading
from emt_cli.sensors.nvml import shut_down
from emt_cli.sensors.nvml.feeds import Feed
from emt_cli.sensors.nvml.users import Untold, Users

EDGE_WAIT_S = 0.12
"""A little more than the longest step of a counter."""
_POLL_S = 0.001
_RETRY_S = 1.0
_GONE = (2, 6, 15, 16, 28)
"""nvmlReturn_t of a handle that leads nowhere (any more): INVALID_ARGUMENT, NOT_FOUND, GPU_IS_LOST,
RESET_REQUIRED, GPU_NOT_FOUND."""
_MIN_PERIOD_S = {"counter": 0.05, "gauge": 0.02, "model": 0.1}


class NvmlSensor:
    """The opened GPUs: a `Sensor` that also `SharesDevices` and `WaitsForSteps`.

    `unreadable` names the visible GPUs that had to be left out, and why; `remedy` says what to do about it.
    """

    name = "nvml"

    def __init__(
        self,
        nvml: ModuleType,
        devices: Sequence[Device],
        *,
        unreadable: tuple[str, ...] = (),
        remedy: str = "",
    ) -> None:
        self._nvml = nvml
        self._devices = devices
        self._is_closed = False
        self._feeds = [(device, feed) for device in devices for feed in device.feeds]
        self.channels: Sequence[Channel] = tuple(each for device in devices for each in device.channels)
        self.min_period_s = min(_MIN_PERIOD_S[device.feeds[0].kind] for device in devices)
        self.unreadable, self.remedy = unreadable, remedy

    def read(self) -> list[Reading | Gap]:
        """Every channel of each GPU in raw steps; a lost GPU or any other error of NVML is a Gap."""
        return [self._read(device, feed) for device, feed in self._feeds]

    def read_edge(self) -> list[Reading | Gap]:
        """As `read`, but counters just after a step, and the time at which it was seen.

        All of them together are waited for EDGE_WAIT_S; one that does not move in that time is as it was at
        the beginning, and so are gauges and models.
        """
        readings = self.read()
        until_s = time.monotonic() + EDGE_WAIT_S
        waiting = {
            at: reading.value
            for at, reading in enumerate(readings)
            if isinstance(reading, Reading) and self._feeds[at][1].kind == "counter"
        }
        while waiting and time.monotonic() < until_s:
            time.sleep(_POLL_S)
            for at, before in list(waiting.items()):
                reading = self._read(*self._feeds[at])
                if isinstance(reading, Gap):
                    del waiting[at]
                elif reading.value != before:
                    del waiting[at]
                    readings[at] = reading
        return readings

    def usage(self) -> list[GpuUse]:
        """Who used the GPUs since the last call (the first one: since they were opened); see `users`."""
        if self._is_closed:
            return []
        return [use for device in self._devices for use in device.users.uses()]

    def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            shut_down(self._nvml)

    def _read(self, device: Device, feed: Feed) -> Reading | Gap:
        if self._is_closed:
            return Gap(time.monotonic(), "the sensor is closed")
        try:
            value = device.ask(feed)
        except self._nvml.NVMLError as error:
            return Gap(time.monotonic(), f"{feed.call}: {error}")
        return Reading(time.monotonic(), value)


class Device:
    """An opened GPU: a feed for each of its channels.

    One that was lost is looked for again by its UUID, at most once a second: after a reset it may come back,
    under the same index or another.
    """

    def __init__(
        self,
        nvml: ModuleType,
        uuid: str,
        handle: Any,
        channels: Sequence[Channel],
        feeds: Sequence[Feed],
        users: Users | Untold,
    ) -> None:
        self.channels, self.feeds, self.users = channels, feeds, users
        self._nvml, self._uuid, self._handle = nvml, uuid, handle
        self._next_try_s = 0.0

    def ask(self, feed: Feed) -> int | float:
        """Raises NVMLError."""
        try:
            return feed.read(self._handle)
        except self._nvml.NVMLError as error:
            if error.value not in _GONE or not self._find_again():
                raise
        return feed.read(self._handle)

    def _find_again(self) -> bool:
        now_s = time.monotonic()
        if now_s < self._next_try_s:
            return False
        self._next_try_s = now_s + _RETRY_S
        try:
            handle = self._nvml.nvmlDeviceGetHandleByUUID(self._uuid)
            self._nvml.nvmlDeviceGetName(handle)  # the driver goes on naming a GPU that is lost
        except self._nvml.NVMLError:
            return False
        self._handle = handle
        self.users.move(handle)
        return True
