"""Watts by hand: joules from what the user states, for a CPU, the memory and any other device."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from emt_cli.config import load
from emt_cli.config.keys import CPU_WATTS, DEVICES, RAM_W_PER_GB, Key
from emt_cli.errors import ConfigError, UsageError
from emt_cli.model import Gap, Reading
from emt_cli.sensors import open_available
from emt_cli.sensors.base import Absent, Machine
from emt_cli.sensors.configured import Configured, open_cpu, open_devices, open_ram
from emt_cli.sensors.wishes import ConfiguredDevice, PowerRange, Wishes
from tests.loads import FakeMachine
from tests.sensors.contract import SensorContract
from tests.simulation import SimulatedMachine, Zone, constant

POWER = PowerRange(idle_w=15, full_w=65)
FPGA = ConfiguredDevice(name="fpga0", power=PowerRange(idle_w=20, full_w=45))
FAN = ConfiguredDevice(name="fan", power=PowerRange(idle_w=6, full_w=6))


def values(sensor: Configured) -> list[float]:
    readings = sensor.read()
    assert all(isinstance(reading, Reading) for reading in readings)
    return [reading.value for reading in readings if isinstance(reading, Reading)]


class TestConfiguredCpu(SensorContract):
    cannot_be_locked = "/proc/stat is readable by everybody; where it is not, it counts as absent"

    def open(self, folder: Path) -> Configured:
        return open_cpu(FakeMachine().machine, power=POWER)

    def open_absent(self, folder: Path) -> Configured:
        return open_cpu(Machine(str(folder)), power=POWER)

    def open_vanishing(self, folder: Path) -> tuple[Configured, Callable[[], None]]:
        fake = FakeMachine()

        def vanish() -> None:
            fake.fault = OSError(errno.EIO, os.strerror(errno.EIO))

        return open_cpu(fake.machine, power=POWER), vanish


class TestConfiguredRam(SensorContract):
    cannot_be_locked = "/proc/meminfo is readable by everybody"
    cannot_vanish = "the size of the memory is read once"

    def open(self, folder: Path) -> Configured:
        return open_ram(FakeMachine().machine, w_per_gb=0.3)

    def open_absent(self, folder: Path) -> Configured:
        return open_ram(Machine(str(folder)), w_per_gb=0.3)


class TestConfiguredDevices(SensorContract):
    cannot_be_locked = "/proc/stat is readable by everybody"

    def open(self, folder: Path) -> Configured:
        return open_devices(FakeMachine().machine, devices=[FPGA, FAN])

    def open_absent(self, folder: Path) -> Configured:
        return open_devices(Machine(str(folder)), devices=[FPGA, FAN])

    def open_vanishing(self, folder: Path) -> tuple[Configured, Callable[[], None]]:
        fake = FakeMachine()

        def vanish() -> None:
            fake.fault = OSError(errno.EIO, os.strerror(errno.EIO))

        return open_devices(fake.machine, devices=[FPGA, FAN]), vanish


@pytest.mark.parametrize(("busy", "watts"), [(0.0, 15), (0.5, 40), (1.0, 65)])
def test_a_cpu_draws_between_its_two_numbers_by_its_load(busy: float, watts: float) -> None:
    fake = FakeMachine()
    sensor = open_cpu(fake.machine, power=POWER, clock=fake.clock)
    fake.spend(10, busy)
    assert values(sensor) == pytest.approx([10 * watts])


def test_a_cpus_channel_says_whose_numbers_these_are_and_encloses_them() -> None:
    [channel] = open_cpu(FakeMachine().machine, power=POWER).channels
    assert (channel.id, channel.domain, channel.kind) == ("cpu", "package", "model")
    assert channel.provenance == "configured"
    assert (channel.idle_w, channel.low_w, channel.high_w) == (15, 15, 65)
    assert "15 W idle to 65 W, stated by the user" in channel.source


def test_memory_is_watts_for_each_gigabyte_and_nothing_else() -> None:
    fake = FakeMachine(memory_kb=32 * 2**20)
    sensor = open_ram(fake.machine, w_per_gb=0.25, clock=fake.clock)
    [channel] = sensor.channels
    assert (channel.id, channel.domain, channel.provenance) == ("ram", "dram", "configured")
    assert channel.low_w == channel.high_w == channel.idle_w == 8
    fake.spend(5, 1.0)
    assert values(sensor) == [40]


def test_devices_follow_the_load_or_stand_still() -> None:
    fake = FakeMachine()
    sensor = open_devices(fake.machine, devices=[FPGA, FAN], clock=fake.clock)
    assert [channel.id for channel in sensor.channels] == ["fpga0", "fan"]
    assert {channel.domain for channel in sensor.channels} == {"device"}
    fake.spend(10, 0.2)
    assert values(sensor) == pytest.approx([250, 60])


def test_devices_that_do_not_depend_on_load_need_no_proc_stat() -> None:
    fake = FakeMachine()
    del fake.files["/proc/stat"]
    sensor = open_devices(fake.machine, devices=[FAN], clock=fake.clock)
    fake.spend(10)
    assert values(sensor) == [60]
    with pytest.raises(Absent):
        open_devices(fake.machine, devices=[FPGA, FAN])


def test_no_power_at_all_is_a_statement_too() -> None:
    fake = FakeMachine()
    none = ConfiguredDevice(name="fan", power=PowerRange(idle_w=0, full_w=0))
    sensor = open_devices(fake.machine, devices=[none], clock=fake.clock)
    fake.spend(10, 1.0)
    assert values(sensor) == [0]


def test_a_failed_read_is_a_gap_of_every_device_and_loses_nothing() -> None:
    fake = FakeMachine()
    sensor = open_devices(fake.machine, devices=[FPGA, FAN], clock=fake.clock)
    fake.spend(5, 0.2)
    fake.fault = OSError(errno.EIO, os.strerror(errno.EIO))
    gaps = sensor.read()
    assert [isinstance(gap, Gap) for gap in gaps] == [True, True]
    fake.fault = None
    fake.spend(5, 0.2)
    assert values(sensor) == pytest.approx([250, 60])


# --- in the registry --------------------------------------------------------------------------------


def no_others(environ: object) -> Sequence[object]:
    return ()


def opened(tmp_path: Path, wishes: Wishes, *zones: Zone) -> tuple[dict[str, str], dict[str, str]]:
    """Provenance of every channel that counts, and the notices."""
    machine = SimulatedMachine(tmp_path, zones=zones, environ={"CUDA_VISIBLE_DEVICES": ""}).machine
    found = open_available(machine, wishes=wishes, find_outside=no_others)  # type: ignore[arg-type]
    try:
        channels = [channel for sensor in found.sensors for channel in sensor.channels]
        counted = {channel.id: channel.provenance for channel in channels if not channel.dropped}
    finally:
        for sensor in found.sensors:
            sensor.close()
    return counted, {notice.code: f"{notice.text}; {notice.hint}" for notice in found.notices}


def test_stated_watts_stand_in_for_the_model_and_nothing_is_called_estimated(tmp_path: Path) -> None:
    counted, notices = opened(tmp_path, Wishes(cpu_power=POWER, ram_w_per_gb=0.3, devices=(FPGA,)))
    assert counted == {"cpu": "configured", "ram": "configured", "fpga0": "configured"}
    assert "estimated" not in notices
    assert "watts_unused" not in notices


def test_a_counter_wins_and_says_that_the_watts_were_not_needed(tmp_path: Path) -> None:
    zones = (
        Zone(power=constant(50)),
        Zone(folder="intel-rapl:0:0", name="dram", power=constant(5)),
    )
    counted, notices = opened(tmp_path, Wishes(cpu_power=POWER), *zones)
    assert counted == {"cpu0/package": "measured", "cpu0/dram": "measured"}
    assert "--cpu-watts was not used: powercap reads it" in notices["watts_unused"]
    assert "--exclude powercap" in notices["watts_unused"]
    _, notices = opened(tmp_path, Wishes(ram_w_per_gb=0.3), *zones)
    assert "--ram-watts-per-gb was not used" in notices["watts_unused"]


def test_excluding_the_counter_takes_the_stated_watts(tmp_path: Path) -> None:
    wishes = Wishes(exclude=("powercap",), cpu_power=POWER)
    counted, notices = opened(tmp_path, wishes, Zone(power=constant(50)))
    assert counted["cpu"] == "configured"
    assert "watts_unused" not in notices


def test_memory_that_the_cpus_estimate_holds_already_is_not_counted_twice(tmp_path: Path) -> None:
    counted, notices = opened(tmp_path, Wishes(ram_w_per_gb=0.3))
    assert counted == {"cpu": "estimated"}
    assert "the CPU's estimate holds it already" in notices["watts_unused"]


# --- in the settings --------------------------------------------------------------------------------


def setting(key: Key[object], flag: object = None, text: str = "", *, folder: Path) -> object:
    """What a flag, or a line of the user's file, sets the key to."""
    (folder / ".config/emt").mkdir(parents=True, exist_ok=True)
    (folder / ".config/emt/config.toml").write_text(text)
    flags = {} if flag is None else {key.name: flag}
    return load(flags, environ={}, cwd="", home=str(folder), system="/nonexistent", uid=os.getuid())[key]


@pytest.mark.parametrize(
    ("flag", "expected"),
    [("15:65", (15, 65)), ("65", (65, 65)), (" 15 : 65.5 ", (15, 65.5)), ("0:9", (0, 9))],
)
def test_the_flag_takes_one_number_or_two(flag: str, expected: object, tmp_path: Path) -> None:
    assert setting(CPU_WATTS, flag, folder=tmp_path) == expected


@pytest.mark.parametrize(
    "flag", ["", ":", "15:", "-5:65", "65:15", "nan", "1:inf", "15-65", "15:40:65", "fast", "1e9"]
)
def test_a_flag_that_is_no_watts_says_how_they_are_written(flag: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="15:65") as caught:
        setting(CPU_WATTS, flag, folder=tmp_path)
    assert "--cpu-watts" in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('cpu_watts = "15:65"', (15, 65)),
        ("cpu_watts = 65", (65, 65)),
        ("cpu_watts = [15, 65.5]", (15, 65.5)),
    ],
)
def test_the_file_takes_a_text_a_number_or_a_list(line: str, expected: object, tmp_path: Path) -> None:
    assert setting(CPU_WATTS, text=f"[sensors]\n{line}\n", folder=tmp_path) == expected


def test_memory_is_one_number(tmp_path: Path) -> None:
    assert setting(RAM_W_PER_GB, text="[sensors]\nram_w_per_gb = 0.3\n", folder=tmp_path) == 0.3
    with pytest.raises(ConfigError, match="ram_w_per_gb"):
        setting(RAM_W_PER_GB, text="[sensors]\nram_w_per_gb = -1\n", folder=tmp_path)


def test_devices_are_a_table(tmp_path: Path) -> None:
    text = """[sensors.devices]
fpga0 = "20:45"
fan = 6
accel1 = { idle_w = 10, full_w = 75, domain = "accelerator" }
pump = { full_w = 4.5 }
"""
    assert setting(DEVICES, text=text, folder=tmp_path) == {
        "fpga0": (20, 45, "device"),
        "fan": (6, 6, "device"),
        "accel1": (10, 75, "accelerator"),
        "pump": (4.5, 4.5, "device"),
    }


@pytest.mark.parametrize(
    "line",
    [
        'Fpga = "20:45"',
        '"fpga/0" = 3',
        'fpga0 = "45:20"',
        "fpga0 = true",
        "fpga0 = { idle_w = 20 }",
        "fpga0 = { idle_w = 20, full_w = 10 }",
        "fpga0 = { full_w = 10, watts = 3 }",
        "fpga0 = { full_w = 10, domain = 3 }",
        'fpga0 = { full_w = 10, domain = "two words" }',
        "fpga0 = [1, 2, 3]",
    ],
)
def test_a_device_that_is_none_is_told_with_its_line(line: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config\.toml") as caught:
        setting(DEVICES, text=f"[sensors.devices]\n{line}\n", folder=tmp_path)
    assert "fpga0 =" in f"{caught.value} {caught.value.hint}"
