"""Apple Silicon through the package `zeus-apple-silicon`: the chip's energy model, read without root.

- Interface: `zeus_apple_silicon.AppleEnergyMonitor().get_cumulative_energy()`, over Apple's private IOReport
  framework ("Energy Model" group), the same that `powermetrics` prints.
- Unit 1 mJ, counted from a point that is fixed for the life of the monitor; int64, never wraps. Fields that
  a chip does not have are None (no DRAM on some, no GPU SRAM on M5).
- Rights: none. Cost: one dictionary of about a hundred counters per read.
- Containment: CPU clusters, DRAM, GPU and Neural Engine stand side by side on one chip. Whether the GPU's
  figure holds its SRAM is not known, so the SRAM is listed and not counted.
- Known lies: these are estimates of a model inside the chip, from load, clock and voltage, and Apple says
  that they are for optimizing on one machine, not for comparing machines (powermetrics(1)). Display,
  storage, radio and the supply's losses are in none of them. Below about 10 ms the step of 1 mJ dominates.

Sources: README of ml-energy/zeus-apple-silicon (1.0.4); powermetrics(1).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from time import monotonic
from typing import Any

from emt_cli.model import Channel, Gap, Reading
from emt_cli.sensors.base import Absent, Denied, Machine
from emt_cli.units import JOULES_PER_MILLIJOULE

NAME = "apple"
MODULE = "zeus_apple_silicon"
_PERIOD_S = 0.01
_NOTE = "the chip's own energy model: to compare runs on one machine, not machines"

_FIELDS = (
    ("cpu_total_mj", "cpu0/package", "package", 300.0, ""),
    ("dram_mj", "cpu0/dram", "dram", 100.0, ""),
    ("gpu_mj", "gpu0", "gpu", 400.0, ""),
    ("gpu_sram_mj", "gpu0/sram", "sram", 100.0, "whether gpu0 holds it is not known"),
    ("ane_mj", "accel0", "accelerator", 100.0, ""),
)
"""Field, channel, domain, watts that no such part draws, and why it is not counted."""


def open_apple(machine: Machine) -> Apple:
    """Raises Absent off macOS and without the package, Denied where the framework does not answer."""
    if machine.platform != "darwin":
        raise Absent("no macOS")
    if importlib.util.find_spec(MODULE) is None:
        raise Absent("the package zeus-apple-silicon is not installed")
    module: Any = importlib.import_module(MODULE)
    try:
        return Apple(module.AppleEnergyMonitor())
    except (RuntimeError, OSError) as error:
        raise Denied(
            f"zeus-apple-silicon does not work: {error}",
            hint="pip install --upgrade zeus-apple-silicon; sudo emt run ... reads powermetrics without it",
        ) from error


class Apple:
    """One counter for each part of the chip that is told. Raises RuntimeError as the monitor does."""

    name = NAME
    min_period_s = _PERIOD_S

    def __init__(self, monitor: Any) -> None:
        self._monitor = monitor
        first = monitor.get_cumulative_energy()
        told = [field for field in _FIELDS if getattr(first, field[0], None) is not None]
        if not told:
            raise RuntimeError("it tells no energy on this chip")
        self._fields = tuple(field[0] for field in told)
        self.channels: Sequence[Channel] = tuple(_channel(*field) for field in told)

    def read(self) -> Sequence[Reading | Gap]:
        try:
            metrics = self._monitor.get_cumulative_energy()
        except RuntimeError as error:
            now = monotonic()
            return [Gap(now, str(error)) for _ in self._fields]
        now = monotonic()
        values = [getattr(metrics, field, None) for field in self._fields]
        return [Gap(now, "not told") if value is None else Reading(now, value) for value in values]

    def close(self) -> None:
        """The monitor lets go of the framework by itself."""


def _channel(field: str, channel: str, domain: str, max_w: float, dropped: str) -> Channel:
    return Channel(
        id=channel,
        sensor=NAME,
        device=channel.partition("/")[0],
        domain=domain,
        kind="counter",
        provenance="measured",
        source=f"IOReport through {MODULE}, {field}",
        unit=JOULES_PER_MILLIJOULE,
        resolution_j=JOULES_PER_MILLIJOULE,
        update_period_s=_PERIOD_S,
        max_power_w=max_w,
        note=_NOTE,
        dropped=dropped,
    )
