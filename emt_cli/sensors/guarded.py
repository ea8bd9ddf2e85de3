"""A sensor of another package held to the contract, whatever its code does."""

from __future__ import annotations

from collections.abc import Sequence

from emt_cli.model import Channel, Gap, GpuUse, Reading
from emt_cli.sensors.base import Sensor, SharesDevices, StartsProcesses

_OPTIONAL = ("unreadable", "remedy", "usage_period_s", "sees_others")
"""What a sensor may have beyond the protocols, and the rest of emt asks for by `getattr`."""


class Guarded:
    """A sensor of another package, held to the contract: what it raises becomes gaps, and so does a wrong
    number of readings; a usage that fails tells of no process. Raises TypeError for channels that are none.
    """

    def __init__(self, sensor: Sensor) -> None:
        self._sensor = sensor
        self.name = sensor.name
        self.channels: Sequence[Channel] = tuple(sensor.channels)
        self.min_period_s = float(sensor.min_period_s)
        if not all(isinstance(channel, Channel) for channel in self.channels):
            raise TypeError(f"the channels of {sensor.name} are no emt_cli.model.Channel")
        self.process_ids = tuple(sensor.process_ids) if isinstance(sensor, StartsProcesses) else ()
        for name in _OPTIONAL:
            if hasattr(sensor, name):
                setattr(self, name, getattr(sensor, name))
        if isinstance(sensor, SharesDevices):
            self._usage = sensor.usage
            self.usage = self._guarded_usage

    def read(self) -> Sequence[Reading | Gap]:
        try:
            readings = self._sensor.read()
            if len(readings) == len(self.channels):
                return readings
            reason = f"{len(readings)} readings for {len(self.channels)} channels"
        except Exception as error:  # noqa: BLE001 - foreign code; becomes the gaps' reason
            reason = f"{type(error).__name__}: {error}"
        from time import monotonic

        return [Gap(monotonic(), reason)] * len(self.channels)

    def close(self) -> None:
        self._sensor.close()

    def _guarded_usage(self) -> Sequence[GpuUse]:
        try:
            return self._usage()
        except Exception:  # noqa: BLE001 - foreign code; the device is then shared out without it
            return ()
