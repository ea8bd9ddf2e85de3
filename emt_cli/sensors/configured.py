"""Sensors whose watts the user states: for a CPU, a memory or any other device that no sensor reads."""

from __future__ import annotations

from collections.abc import Sequence

from emt_cli.sensors.base import Absent, Machine, Sensor
from emt_cli.sensors.wishes import ConfiguredDevice, PowerRange


def open_cpu(machine: Machine, *, power: PowerRange) -> Sensor:
    raise Absent("not yet")


def open_ram(machine: Machine, *, w_per_gb: float) -> Sensor:
    raise Absent("not yet")


def open_devices(machine: Machine, *, devices: Sequence[ConfiguredDevice]) -> Sensor:
    raise Absent("not yet")
