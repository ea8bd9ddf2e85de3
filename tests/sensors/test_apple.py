"""The sensor over `zeus-apple-silicon`, whose place a small module of the same shape takes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from emt_cli.model import Gap, Reading
from emt_cli.sensors.apple import Apple, open_apple
from emt_cli.sensors.base import Absent, Denied, Machine
from tests.sensors.contract import SensorContract

MAC = Machine(platform="darwin")
M4 = {"cpu_total_mj": 5000, "dram_mj": 700, "gpu_mj": 300, "gpu_sram_mj": 20, "ane_mj": 0}


class Monitor:
    """As AppleEnergyMonitor: millijoules of every part, None for those that the chip does not have."""

    def __init__(self, **told: int | None) -> None:
        self.told: dict[str, Any] = {**dict.fromkeys(M4), **(told or M4)}
        self.failure: RuntimeError | None = None

    def get_cumulative_energy(self) -> SimpleNamespace:
        if self.failure is not None:
            raise self.failure
        return SimpleNamespace(**self.told, efficiency_cores_mj=[1, 2], performance_cores_mj=None)


class TestApple(SensorContract):
    def open(self, folder: Path) -> Apple:
        return Apple(Monitor())

    def open_absent(self, folder: Path) -> Apple:
        return open_apple(MAC)

    def open_locked(self, folder: Path) -> Apple:
        (folder / "zeus_apple_silicon.py").write_text(
            "class AppleEnergyMonitor:\n    def __init__(self): raise RuntimeError('IOReport: no channels')\n"
        )
        sys.path.insert(0, str(folder))
        try:
            return open_apple(MAC)
        finally:
            sys.path.remove(str(folder))
            sys.modules.pop("zeus_apple_silicon", None)

    def open_vanishing(self, folder: Path) -> tuple[Apple, Callable[[], None]]:
        monitor = Monitor()

        def vanish() -> None:
            monitor.failure = RuntimeError("gone")

        return Apple(monitor), vanish


def test_parts_stand_side_by_side_and_the_gpus_sram_is_not_counted() -> None:
    channels = {channel.id: channel for channel in Apple(Monitor()).channels}
    assert list(channels) == ["cpu0/package", "cpu0/dram", "gpu0", "gpu0/sram", "accel0"]
    assert [id for id, channel in channels.items() if channel.dropped] == ["gpu0/sram"]
    assert all(channel.within is None for channel in channels.values())


def test_parts_that_the_chip_does_not_have_are_no_channels() -> None:
    sensor = Apple(Monitor(cpu_total_mj=1, gpu_mj=2))
    assert [channel.id for channel in sensor.channels] == ["cpu0/package", "gpu0"]


def test_a_part_that_is_no_longer_told_is_a_gap_not_zero() -> None:
    monitor = Monitor()
    sensor = Apple(monitor)
    monitor.told["gpu_mj"] = None
    readings = sensor.read()
    assert isinstance(readings[2], Gap)
    assert isinstance(readings[0], Reading)
    assert readings[0].value * sensor.channels[0].unit == pytest.approx(5.0)


def test_elsewhere_it_is_absent() -> None:
    for platform in ("linux", "win32"):
        with pytest.raises(Absent, match="macOS"):
            open_apple(Machine(platform=platform))


def test_a_chip_that_tells_nothing_is_denied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = SimpleNamespace(AppleEnergyMonitor=lambda: Monitor(cpu_total_mj=None))
    module.__spec__ = SimpleNamespace()
    monkeypatch.setitem(sys.modules, "zeus_apple_silicon", module)
    with pytest.raises(Denied, match="no energy"):
        open_apple(MAC)
