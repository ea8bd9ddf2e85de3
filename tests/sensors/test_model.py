"""The model sensor: joules that follow the busy CPU time, along a line or a curve, at any frequency."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emt_cli.model import Channel, Gap, Reading
from emt_cli.sensors.base import Absent, Machine, Rewinds
from emt_cli.sensors.load import share_at
from emt_cli.sensors.meters import meter
from emt_cli.sensors.model import CpuModel, RamModel, open_cpu, open_ram
from tests import cpuinfo
from tests.cpuinfo import AMD
from tests.loads import TICKS_PER_S, FakeMachine
from tests.sensors.contract import SensorContract

NAME, SIGNATURE = "AMD EPYC 7763 64-Core Processor", (AMD, 25, 1, 1)
MILAN = cpuinfo.x86(NAME, SIGNATURE, guest=True)
BARE = cpuinfo.x86(NAME, SIGNATURE, siblings=4, cores=2)
IDLE_W, DYNAMIC_W = 4 * 0.424, 4 * 1.492
"""Of four threads of that family."""
CURVE = (0.218, 0.292, 0.359, 0.427, 0.498, 0.566, 0.633, 0.705, 0.836)


def opened(fake: FakeMachine) -> CpuModel:
    return open_cpu(fake.machine, clock=fake.clock)


def channel_of(fake: FakeMachine) -> Channel:
    [channel] = opened(fake).channels
    return channel


def value(sensor: CpuModel | RamModel) -> float:
    [reading] = sensor.read()
    assert isinstance(reading, Reading)
    return reading.value


class TestCpuModel(SensorContract):
    cannot_be_locked = "/proc/stat is readable by everybody; where it is not, it counts as absent"

    def open(self, folder: Path) -> CpuModel:
        return open_cpu(FakeMachine().machine)

    def open_absent(self, folder: Path) -> CpuModel:
        return open_cpu(Machine(str(folder)))

    def open_vanishing(self, folder: Path) -> tuple[CpuModel, Callable[[], None]]:
        fake = FakeMachine()

        def vanish() -> None:
            fake.fault = OSError(errno.EIO, os.strerror(errno.EIO))

        return open_cpu(fake.machine), vanish


class TestRamModel(SensorContract):
    cannot_be_locked = "/proc/meminfo is readable by everybody; where it is not, it counts as absent"
    cannot_vanish = "the size of the memory is read once"

    def open(self, folder: Path) -> RamModel:
        return open_ram(FakeMachine().machine)

    def open_absent(self, folder: Path) -> RamModel:
        return open_ram(Machine(str(folder)))


# --- the channel ------------------------------------------------------------------------------------


def test_a_guest_is_given_its_threads_share_of_the_server() -> None:
    sensor = opened(FakeMachine(cpus=4, cpuinfo=MILAN))
    [channel] = sensor.channels
    assert channel.idle_w == channel.low_w == pytest.approx(4 * 0.424)
    assert channel.high_w == pytest.approx(4 * 1.916)
    assert channel.provenance == "estimated"
    assert sensor.includes_memory
    assert channel.note.startswith(NAME)
    assert "whole-server" in channel.note
    assert "2021 to 2022" in channel.source


def test_an_unreadable_cpuinfo_is_an_unknown_processor() -> None:
    channel = channel_of(FakeMachine(cpuinfo=None))
    assert channel.source.startswith("generic core")
    assert channel.note.startswith("unnamed processor")


def test_a_hidden_guest_is_known_by_its_dmi_table() -> None:
    fake = FakeMachine(cpuinfo=cpuinfo.x86("Virtual CPU", guest=True))
    fake.show("/sys/class/dmi/id/sys_vendor", "Amazon EC2\n")
    fake.show("/sys/class/dmi/id/product_name", "m7a.xlarge\n")
    channel = channel_of(fake)
    assert channel.source.startswith("AMD Zen 4 (EPYC 9004 Genoa)")
    assert "m7a.xlarge" in channel.note


def test_a_board_is_known_by_its_device_tree() -> None:
    fake = FakeMachine(cpuinfo=cpuinfo.arm("0x41", "0xd03"))
    fake.show("/proc/device-tree/model", "Raspberry Pi Zero 2 W Rev 1.0\0")
    channel = channel_of(fake)
    assert channel.source.startswith("TDP of broadcom bcm2710 raspberry pi zero 2")
    assert channel.note.startswith("Raspberry Pi Zero 2 W Rev 1.0: ")


def test_cpus_are_counted_where_proc_stat_is_longer_than_one_read() -> None:
    assert channel_of(FakeMachine(cpus=384, cpuinfo=MILAN)).high_w == pytest.approx(384 * 1.916)


def test_cpus_switched_off_do_not_count() -> None:
    fake = FakeMachine(cpus=384, cpuinfo=MILAN)
    fake.show("/sys/devices/system/cpu/online", "0-1,8,16-31")
    assert channel_of(fake).high_w == pytest.approx(19 * 1.916)


# --- along a curve ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("load", "share"), [(0, 0), (0.05, 0.109), (0.1, 0.218), (0.45, 0.4625), (0.9, 0.836), (1, 1)]
)
def test_a_bare_server_follows_its_curve(load: float, share: float) -> None:
    fake = FakeMachine(cpuinfo=BARE)
    sensor = opened(fake)
    sensor.rewind()
    sensor.read()
    for _ in range(30):
        fake.spend(1.0, load)
        joules = value(sensor)
    assert joules == pytest.approx(30 * (IDLE_W + DYNAMIC_W * share), rel=0.003)


@pytest.mark.parametrize("period_ms", [1, 7, 100, 1000])
@pytest.mark.parametrize("load", [0.05, 0.3, 0.95])
def test_a_steady_load_has_the_same_joules_however_often_it_is_read(period_ms: int, load: float) -> None:
    fake = FakeMachine(cpuinfo=BARE)
    sensor = opened(fake)
    sensor.rewind()
    sensor.read()
    for _ in range(12_345 // period_ms):
        fake.spend(period_ms / 1000, load)
        value(sensor)
    fake.spend((12_345 % period_ms) / 1000, load)
    truth_j = 12.345 * (IDLE_W + DYNAMIC_W * share_at(load, CURVE))
    assert value(sensor) == pytest.approx(truth_j, rel=0.005)


@pytest.mark.parametrize("period_ms", [10, 100, 500, 1000])
def test_so_has_a_load_that_changes_from_second_to_second(period_ms: int) -> None:
    fake = FakeMachine(cpuinfo=BARE)
    sensor = opened(fake)
    sensor.rewind()
    sensor.read()
    loads = [0.0, 1.0, 0.1, 0.5, 0.5, 0.0, 0.9, 0.2]
    for load in loads:
        for _ in range(1000 // period_ms):
            fake.spend(period_ms / 1000, load)
            value(sensor)
    truth_j = sum(IDLE_W + DYNAMIC_W * share_at(load, CURVE) for load in loads)
    assert value(sensor) == pytest.approx(truth_j, rel=0.005)


def test_a_stretch_that_was_not_read_has_its_mean_load() -> None:
    fake = FakeMachine(cpuinfo=BARE)
    sensor = opened(fake)
    sensor.rewind()
    sensor.read()
    fake.spend(100_000.5, 0.4)
    truth_j = 100_000.5 * (IDLE_W + DYNAMIC_W * CURVE[3])
    assert value(sensor) == pytest.approx(truth_j, rel=0.001)


def test_an_idle_machine_is_not_taken_for_a_little_busy_by_the_rounding_of_its_ticks() -> None:
    fake = FakeMachine(cpuinfo=BARE)
    sensor = opened(fake)
    sensor.rewind()
    sensor.read()
    for count in range(600):
        fake.spend(0.0997 + 0.0005 * (count % 3))
        value(sensor)
    assert value(sensor) == pytest.approx((fake.clock.now_s - 1000) * IDLE_W, rel=0.005)


@given(st.lists(st.tuples(st.integers(1, 3000), st.floats(0, 1)), min_size=1, max_size=30))
def test_along_a_curve_joules_stay_between_idle_and_full_and_never_run_back(
    steps: list[tuple[int, float]],
) -> None:
    fake = FakeMachine(cpuinfo=BARE)
    sensor = opened(fake)
    sensor.rewind()
    readings = [value(sensor)]
    for pause_ms, load in steps:
        fake.spend(pause_ms / 1000, load)
        readings.append(value(sensor))
    elapsed_s = fake.clock.now_s - 1000
    assert readings == sorted(readings)
    assert elapsed_s * IDLE_W - 1e-9 <= readings[-1] <= elapsed_s * (IDLE_W + DYNAMIC_W) + 1e-9


def test_a_meter_takes_a_burst_after_an_idle_half_second() -> None:
    fake = FakeMachine(cpuinfo=BARE)
    sensor = opened(fake)
    sensor.rewind()
    counter = meter(sensor.channels[0], fake.clock.now_s, 0.01)
    counter.update(sensor.read()[0])
    for step in range(1000):
        fake.spend(0.01, 1.0 if step // 50 % 2 else 0.0)
        counter.update(sensor.read()[0])
    assert counter.resets == 0
    assert counter.gaps == []


def test_the_seconds_are_counted_from_the_start_of_the_run() -> None:
    fake = FakeMachine(cpuinfo=BARE)
    sensor = opened(fake)
    assert isinstance(sensor, Rewinds)
    fake.spend(0.7, 1.0)
    sensor.rewind()
    assert value(sensor) == 0
    fake.spend(1.0, 0.5)
    assert value(sensor) == pytest.approx(IDLE_W + DYNAMIC_W * CURVE[4], rel=0.005)


# --- along a straight line --------------------------------------------------------------------------


def test_an_idle_machine_uses_its_idle_power() -> None:
    fake = FakeMachine(cpuinfo=MILAN)
    sensor = opened(fake)
    fake.clock.now_s += 10
    assert value(sensor) == pytest.approx(10 * 4 * 0.424)


def test_a_busy_machine_uses_its_full_power() -> None:
    fake = FakeMachine(cpuinfo=MILAN)
    sensor = opened(fake)
    fake.clock.now_s += 10
    fake.busy_s += 40
    assert value(sensor) == pytest.approx(10 * 4 * 1.916)


@given(st.integers(min_value=0, max_value=4000), st.integers(min_value=1, max_value=100))
def test_energy_is_linear_in_the_busy_cpu_time(busy_ticks: int, tenths: int) -> None:
    fake = FakeMachine(cpuinfo=MILAN)
    sensor = opened(fake)
    elapsed_s = 10.0 + tenths / 10
    busy_s = busy_ticks / 100
    fake.clock.now_s += elapsed_s
    fake.busy_s += busy_s
    assert value(sensor) == pytest.approx(4 * 0.424 * elapsed_s + (1.916 - 0.424) * busy_s, abs=0.03)


@given(st.lists(st.integers(min_value=1, max_value=2000), min_size=1, max_size=30))
def test_the_joules_are_the_same_however_often_it_is_read(pauses_ms: list[int]) -> None:
    often, once = FakeMachine(cpuinfo=MILAN), FakeMachine(cpuinfo=MILAN)
    read_often, read_once = opened(often), opened(once)
    for pause_ms in pauses_ms:
        for fake in (often, once):
            fake.clock.now_s += pause_ms / 1000
            fake.busy_s += 2.5 * pause_ms / 1000
        value(read_often)
    # A reading that came right after a coarse tick may stand a few ticks ahead, never a share of the run.
    assert value(read_often) == pytest.approx(value(read_once), abs=4 * 1.492 / TICKS_PER_S)


@given(st.lists(st.integers(min_value=0, max_value=50), min_size=2, max_size=50))
def test_the_joules_never_run_backwards(pauses_ms: list[int]) -> None:
    fake = FakeMachine(cpuinfo=MILAN)
    sensor = opened(fake)
    readings = []
    for count, pause_ms in enumerate(pauses_ms):
        fake.clock.now_s += pause_ms / 1000
        fake.busy_s += pause_ms / 1000 * (count % 5)
        readings.append(value(sensor))
    assert readings == sorted(readings)


def test_waiting_for_disks_and_stolen_time_are_not_work() -> None:
    fake = FakeMachine(cpuinfo=MILAN)
    sensor = opened(fake)
    fake.clock.now_s += 10
    fake.iowait_s += 15
    fake.steal_s += 10
    assert value(sensor) == pytest.approx(10 * 4 * 0.424)


def test_work_that_the_sampled_busy_columns_missed_is_seen_in_the_idle_column() -> None:
    fake = FakeMachine(cpuinfo=MILAN)
    sensor = opened(fake)
    now_s = fake.clock.now_s
    fake.show("/proc/stat", f"cpu  0 0 0 {round((4 * (now_s - 900) + 380) * TICKS_PER_S)} 0 0 0 0\n")
    fake.clock.now_s += 100
    assert value(sensor) == pytest.approx(100 * 4 * 0.424 + 20 * 1.492)


def test_columns_that_do_not_add_up_leave_the_busy_ones_to_be_believed() -> None:
    fake = FakeMachine(cpuinfo=MILAN)
    sensor = opened(fake)
    frozen_s = fake.clock.now_s
    busy = fake.files["/proc/stat"]

    def with_a_clock_that_stands() -> str:
        now_s, fake.clock.now_s = fake.clock.now_s, frozen_s + 5
        try:
            return busy()
        finally:
            fake.clock.now_s = now_s

    fake.files["/proc/stat"] = with_a_clock_that_stands
    fake.clock.now_s += 10
    fake.busy_s += 8
    assert value(sensor) == pytest.approx(10 * 4 * 0.424 + 8 * 1.492)


def test_a_failed_read_is_a_gap_and_the_next_one_loses_nothing() -> None:
    fake = FakeMachine(cpuinfo=MILAN)
    sensor = opened(fake)
    counter = meter(sensor.channels[0], fake.clock.now_s, 0.1)
    counter.update(sensor.read()[0])
    fake.clock.now_s += 5
    fake.busy_s += 10
    fake.fault = OSError(errno.EIO, os.strerror(errno.EIO))
    [gap] = sensor.read()
    assert isinstance(gap, Gap)
    assert "Input/output error" in gap.reason
    counter.update(gap)
    fake.fault = None
    fake.clock.now_s += 5
    counter.update(sensor.read()[0])
    assert counter.energy_j == pytest.approx(10 * 4 * 0.424 + 10 * 1.492)
    assert counter.gaps == []


@pytest.mark.parametrize("content", ["", "nonsense\n", "cpu a b c d e\n", "cpu 1 2\n"])
def test_a_garbled_stat_is_a_gap_or_absent(content: str) -> None:
    fake = FakeMachine(cpuinfo=MILAN)
    sensor = opened(fake)
    fake.show("/proc/stat", content)
    assert isinstance(sensor.read()[0], Gap)
    with pytest.raises(Absent):
        opened(fake)


def test_a_stat_of_zeros_is_no_idle_machine_but_an_absent_one() -> None:
    fake = FakeMachine()
    fake.show("/proc/stat", "cpu  0 0 0 0 0 0 0 0 0 0\ncpu0 0 0 0 0 0 0 0 0 0 0\nintr 0\n")
    with pytest.raises(Absent, match="zeros"):
        opened(fake)


def test_a_meter_takes_every_step_between_idle_and_full_power() -> None:
    fake = FakeMachine(cpuinfo=MILAN)
    sensor = opened(fake)
    counter = meter(sensor.channels[0], fake.clock.now_s, 0.1)
    for step in range(200):
        fake.clock.now_s += 0.01
        fake.busy_s += 0.04 if step % 2 else 0.0
        counter.update(sensor.read()[0])
    assert counter.resets == 0
    assert counter.gaps == []


def test_memory_draws_constant_power_by_its_size_with_the_spread_as_bounds() -> None:
    fake = FakeMachine(memory_kb=16 * 2**20)
    sensor = open_ram(fake.machine, clock=fake.clock)
    [channel] = sensor.channels
    assert channel.domain == "dram"
    assert channel.idle_w == pytest.approx(16 * 0.3725)
    assert (channel.low_w, channel.high_w) == pytest.approx((16 * 0.284, 16 * 0.392))
    fake.clock.now_s += 10
    assert value(sensor) == pytest.approx(10 * 16 * 0.3725)


@pytest.mark.parametrize("content", ["", "MemFree: 12 kB\n", "MemTotal: many kB\n", "MemTotal:\n"])
def test_memory_of_unknown_size_is_absent(content: str) -> None:
    fake = FakeMachine()
    fake.show("/proc/meminfo", content)
    with pytest.raises(Absent):
        open_ram(fake.machine)


def test_the_file_is_closed_and_then_reads_are_gaps() -> None:
    sensor = open_cpu(Machine())
    sensor.close()
    sensor.close()
    assert isinstance(sensor.read()[0], Gap)
