"""Sensors whose watts the user states: for a CPU, a memory or any other device that no sensor reads.

Interface: none; `--cpu-watts 15:65`, `--ram-watts-per-gb` and `[sensors.devices]` in the configuration.
Provenance `configured`, kind `model`. The CPU's and a device's joules are idle W x T + (full - idle) W x
the busy share of all CPUs that /proc/stat counts, along a straight line, so that they do not depend on how
often it is read; with one number for both they are watts x T. Refresh: 10 ms ticks. Rights: none.

Bounds: the user's own idle and full power, since between them the real one may rise along any curve; a
figure that does not depend on load (memory, a device of one number) is taken as it stands, without bounds.

Known lies. Whatever the user's numbers do not know: turbo, vector units, temperature. A device's load is
taken for the CPUs', which holds for a fan or a power supply and not for an accelerator that works alone.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from emt_cli.model import Channel, Gap, Reading
from emt_cli.sensors.base import Machine
from emt_cli.sensors.load import TICK_S, Clock, LoadClock
from emt_cli.sensors.memory import memory_gb
from emt_cli.sensors.wishes import ConfiguredDevice, PowerRange

NAME = "configured"


def open_cpu(machine: Machine, *, power: PowerRange, clock: Clock = time.monotonic) -> Configured:
    """All CPUs together. Raises Absent where /proc/stat cannot be read or counts nothing."""
    channel = _channel("cpu", "package", power, "--cpu-watts")
    return Configured([channel], [power], LoadClock(machine, clock))


def open_ram(machine: Machine, *, w_per_gb: float, clock: Clock = time.monotonic) -> Configured:
    """The memory, by its size. Raises Absent where /proc/meminfo does not tell it."""
    gigabytes = memory_gb(machine)
    power = PowerRange(idle_w=w_per_gb * gigabytes, full_w=w_per_gb * gigabytes)
    channel = _channel("ram", "dram", power, "--ram-watts-per-gb", f"{w_per_gb:g} W/GB x {gigabytes:.1f} GB")
    return Configured([channel], [power], None, clock)


def open_devices(
    machine: Machine, *, devices: Sequence[ConfiguredDevice], clock: Clock = time.monotonic
) -> Configured:
    """Any other devices. Raises Absent where one of them depends on load and /proc/stat cannot be read."""
    channels = [_channel(each.name, each.domain, each.power, "sensors.devices") for each in devices]
    follows = any(each.power.idle_w != each.power.full_w for each in devices)
    load = LoadClock(machine, clock) if follows else None
    return Configured(channels, [each.power for each in devices], load, clock)


def _channel(device: str, domain: str, power: PowerRange, setting: str, note: str = "") -> Channel:
    is_constant = power.idle_w == power.full_w
    watts = f"{power.full_w:g} W" if is_constant else f"{power.idle_w:g} W idle to {power.full_w:g} W"
    return Channel(
        id=device,
        sensor=NAME,
        device=device,
        domain=domain,
        kind="model",
        provenance="configured",
        source=f"{setting}: {watts}, stated by the user",
        resolution_j=None if is_constant else (power.full_w - power.idle_w) * TICK_S,
        update_period_s=None if is_constant else TICK_S,
        max_power_w=2 * power.full_w or 1.0,
        idle_w=power.idle_w,
        low_w=power.idle_w,
        high_w=power.full_w,
        note=note or ("" if is_constant else "follows the load of all CPUs"),
    )


class Configured:
    """Joules from stated watts; `load` is None where none of them depends on the load."""

    name = NAME
    min_period_s = 0.1

    def __init__(
        self,
        channels: Sequence[Channel],
        powers: Sequence[PowerRange],
        load: LoadClock | None,
        clock: Clock = time.monotonic,
    ) -> None:
        self.channels: Sequence[Channel] = tuple(channels)
        self._powers = tuple(powers)
        self._load, self._clock = load, clock
        self._start_s = clock()
        if load is not None:
            load.read()

    def read(self) -> Sequence[Reading | Gap]:
        if self._load is None:
            now = self._clock()
            return [self._reading(now, power, now - self._start_s, 0.0) for power in self._powers]
        try:
            loaded = self._load.read()
        except (OSError, ValueError) as error:
            gap = Gap(self._load.now(), f"/proc/stat: {error}")
            return [gap] * len(self._powers)
        return [self._reading(loaded.t_s, each, loaded.elapsed_s, loaded.loaded_s) for each in self._powers]

    @staticmethod
    def _reading(t_s: float, power: PowerRange, elapsed_s: float, loaded_s: float) -> Reading:
        return Reading(t_s, power.idle_w * elapsed_s + (power.full_w - power.idle_w) * loaded_s)

    def close(self) -> None:
        if self._load is not None:
            self._load.close()
