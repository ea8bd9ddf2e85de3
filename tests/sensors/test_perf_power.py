"""The perf `power` PMU on simulated machines: client, sockets, dies, odd descriptions, refusals."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from emt_cli.model import Channel, Gap, Reading
from emt_cli.sensors.base import Absent, Denied, Machine
from emt_cli.sensors.meters import meter
from emt_cli.sensors.perf_power import FOLDER, PerfPower, open_perf_power
from tests.sensors.contract import SensorContract
from tests.simulation import POWER_EVENTS, PowerEvent, SimulatedMachine, constant, power_pmu, ramp

CLIENT = ("energy-pkg", "energy-cores", "energy-gpu", "energy-ram", "energy-psys")
EPYC = "AMD EPYC 9654 96-Core Processor"


class Clock:
    """Stands where it was put."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def machine(
    folder: Path,
    packages: dict[int, int] | None = None,
    *,
    events: tuple[str, ...] = ("energy-pkg",),
    dies: dict[int, int] | None = None,
    fault: str = "",
    watts: dict[tuple[str, int], float] | None = None,
    files: dict[str, str] | None = None,
    **options: object,
) -> SimulatedMachine:
    """A machine whose events all draw 10 W, but for those in `watts`."""
    packages = packages or {0: 0}
    counters = [
        PowerEvent(
            config=POWER_EVENTS[name],
            cpu=cpu,
            power=constant((watts or {}).get((name, cpu), 10)),
            fault=fault,
        )
        for name in events
        for cpu in packages
    ]
    described = power_pmu(packages, events=events, dies=dies) | (files or {})
    return SimulatedMachine(folder, events=counters, files=described, **options)  # type: ignore[arg-type]


def by_id(simulated: SimulatedMachine) -> dict[str, Channel]:
    return {channel.id: channel for channel in open_perf_power(simulated.machine).channels}


class TestPerfPower(SensorContract):
    def open(self, folder: Path) -> PerfPower:
        return open_perf_power(machine(folder, {0: 0, 18: 1}, events=CLIENT).machine)

    def open_absent(self, folder: Path) -> PerfPower:
        return open_perf_power(Machine(str(folder)))

    def open_locked(self, folder: Path) -> PerfPower:
        return open_perf_power(machine(folder, fault="EACCES").machine)

    def open_vanishing(self, folder: Path) -> tuple[PerfPower, Callable[[], None]]:
        simulated = machine(folder, events=CLIENT).machine
        gone = []

        class Event:
            def __init__(self, kind: int, config: int, cpu: int) -> None:
                self._event = simulated.open_event(kind, config, cpu)

            def count(self) -> int:
                if gone:  # an event in error state reads as end of file
                    raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))
                return self._event.count()

            def close(self) -> None:
                self._event.close()

        sensor = open_perf_power(Machine(simulated.root, open_event=Event))
        return sensor, lambda: gone.append(True)


# --- what the channels are --------------------------------------------------------------------------


def test_a_client_has_all_five_events_nested(tmp_path: Path) -> None:
    channels = by_id(machine(tmp_path, events=CLIENT))
    assert {id: (c.device, c.domain, c.within, c.dropped) for id, c in channels.items()} == {
        "cpu0/package": ("cpu0", "package", "node/psys", ""),
        "cpu0/core": ("cpu0", "core", "cpu0/package", ""),
        "cpu0/uncore": ("cpu0", "uncore", "cpu0/package", ""),
        "cpu0/dram": ("cpu0", "dram", "node/psys", ""),
        "node/psys": ("node", "psys", None, ""),
    }


def test_without_psys_package_and_dram_stand_beside_each_other(tmp_path: Path) -> None:
    channels = by_id(machine(tmp_path, events=("energy-pkg", "energy-ram")))
    assert {id: c.within for id, c in channels.items()} == {"cpu0/package": None, "cpu0/dram": None}


def test_every_socket_of_the_mask_is_found_and_psys_once(tmp_path: Path) -> None:
    channels = by_id(machine(tmp_path, {0: 0, 18: 1}, events=("energy-pkg", "energy-ram", "energy-psys")))
    assert set(channels) == {"cpu0/package", "cpu1/package", "cpu0/dram", "cpu1/dram", "node/psys"}
    assert channels["cpu1/package"].source == "power/energy-pkg/ on CPU 18"


def test_a_mask_may_have_ranges(tmp_path: Path) -> None:
    files = {f"{FOLDER}/cpumask": "0-1,8\n"}
    assert list(by_id(machine(tmp_path, {0: 0, 1: 1, 8: 2}, files=files))) == [
        "cpu0/package",
        "cpu1/package",
        "cpu2/package",
    ]


def test_the_package_number_is_the_kernels_not_the_place_in_the_mask(tmp_path: Path) -> None:
    assert list(by_id(machine(tmp_path, {0: 1, 18: 0}))) == ["cpu1/package", "cpu0/package"]


@pytest.mark.parametrize("told", ["", "-1", "x"])
def test_without_a_package_number_the_place_in_the_mask_has_to_do(tmp_path: Path, told: str) -> None:
    files = {f"/sys/devices/system/cpu/cpu{cpu}/topology/physical_package_id": told for cpu in (0, 18)}
    channels = by_id(machine(tmp_path, {0: 0, 18: 1}, files=files))
    assert list(channels) == ["cpu0/package", "cpu1/package"]


def test_the_dies_of_an_intel_package_count_apart(tmp_path: Path) -> None:
    simulated = machine(
        tmp_path, {0: 0, 24: 0}, dies={0: 0, 24: 1}, events=("energy-pkg", "energy-cores", "energy-ram")
    )
    channels = by_id(simulated)
    assert {id: (c.within, c.dropped) for id, c in channels.items()} == {
        "cpu0/package-die0": (None, ""),
        "cpu0/package-die1": (None, ""),
        "cpu0/core-die0": ("cpu0/package-die0", ""),
        "cpu0/core-die1": ("cpu0/package-die1", ""),
        "cpu0/dram-die0": (None, ""),
        "cpu0/dram-die1": (None, ""),
    }


@pytest.mark.parametrize(
    "cpuinfo",
    ["", "vendor_id\t: AuthenticAMD\n", "processor : 0\nvendor_id : HygonGenuine\n"],
    ids=["by model", "AMD", "Hygon"],
)
def test_the_dies_of_an_amd_package_show_one_register(tmp_path: Path, cpuinfo: str) -> None:
    files = {"/proc/cpuinfo": cpuinfo} if cpuinfo else {}
    packages = {0: 0, 8: 0, 16: 0, 96: 1, 104: 1}
    dies = {0: 0, 8: 1, 16: 2, 96: 0, 104: 1}
    channels = by_id(machine(tmp_path, packages, dies=dies, files=files, cpu_model=EPYC))
    assert {id: c.dropped for id, c in channels.items()} == {
        "cpu0/package": "",
        "cpu0/package-die1": "mirror of cpu0/package",
        "cpu0/package-die2": "mirror of cpu0/package",
        "cpu1/package": "",
        "cpu1/package-die1": "mirror of cpu1/package",
    }


def test_of_amds_five_events_only_the_package_is_real(tmp_path: Path) -> None:
    assert list(by_id(machine(tmp_path, events=CLIENT, cpu_model=EPYC))) == ["cpu0/package"]


def test_where_the_first_die_of_an_amd_package_is_missing_the_next_one_counts(tmp_path: Path) -> None:
    simulated = machine(tmp_path, {0: 0, 8: 0, 16: 0}, dies={0: 0, 8: 1, 16: 2}, cpu_model=EPYC).machine

    def open_event(kind: int, config: int, cpu: int):
        if cpu == 0:
            raise OSError(errno.ENODEV, "No such device")
        return simulated.open_event(kind, config, cpu)

    sensor = open_perf_power(Machine(simulated.root, open_event=open_event))
    assert {c.id: c.dropped for c in sensor.channels} == {
        "cpu0/package": "",
        "cpu0/package-die2": "mirror of cpu0/package",
    }


def test_dies_without_numbers_go_by_their_cpu(tmp_path: Path) -> None:
    assert list(by_id(machine(tmp_path, {0: 0, 24: 0}))) == ["cpu0/package-cpu0", "cpu0/package-cpu24"]


def test_a_part_without_its_package_is_not_taken_for_the_package(tmp_path: Path) -> None:
    (core,) = by_id(machine(tmp_path, events=("energy-cores",))).values()
    assert "cannot be read" in core.dropped
    assert core.within is None


def test_the_plain_facts_of_a_channel(tmp_path: Path) -> None:
    channel = by_id(machine(tmp_path))["cpu0/package"]
    assert (channel.kind, channel.provenance, channel.unit) == ("counter", "measured", 2**-32)
    assert (channel.range_raw, channel.update_period_s) == (None, 1e-3)


# --- what the PMU says of itself --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("energy-ram.unit", "mJoules\n"),
        ("energy-ram.unit", ""),
        ("energy-ram.scale", "much"),
        ("energy-ram.scale", "0"),
        ("energy-ram.scale", "-1e-10"),
        ("energy-ram.scale", "inf"),
        ("energy-ram.scale", "nan"),
        ("energy-ram", "event=three"),
        ("energy-ram", "event=0x1ff"),
        ("energy-ram", "umask=0x03"),
    ],
)
def test_an_event_in_another_unit_or_with_an_unreadable_description_is_left_out(
    tmp_path: Path, file: str, text: str
) -> None:
    files = {f"{FOLDER}/events/{file}": text, f"{FOLDER}/format/umask": "config1:0-7\n"}
    simulated = machine(tmp_path, events=("energy-pkg", "energy-ram"), files=files)
    assert list(by_id(simulated)) == ["cpu0/package"]


@pytest.mark.parametrize(
    ("text", "formats", "config"),
    [
        ("event=0x02", {}, 2),
        ("event=2", {"event": "config:0-7"}, 2),
        ("event=0x02,umask=0x1", {"event": "config:0-7", "umask": "config:8-15"}, 0x102),
        ("event=0x0302", {"event": "config:0-7,32-35"}, 0x300000002),
        ("event=0x02,edge", {"event": "config:0-7", "edge": "config:18"}, 0x40002),
    ],
)
def test_the_number_of_an_event_is_put_where_its_format_says(
    tmp_path: Path, text: str, formats: dict[str, str], config: int
) -> None:
    files = power_pmu({0: 0}) | {f"{FOLDER}/events/energy-pkg": text}
    del files[f"{FOLDER}/format/event"]
    files |= {f"{FOLDER}/format/{name}": form for name, form in formats.items()}
    simulated = SimulatedMachine(tmp_path, events=[PowerEvent(config=config)], files=files)
    assert list(by_id(simulated)) == ["cpu0/package"]


def test_the_scale_is_read_not_assumed(tmp_path: Path) -> None:
    simulated = machine(tmp_path, files={f"{FOLDER}/events/energy-pkg.scale": "1.5e-5\n"})
    assert by_id(simulated)["cpu0/package"].unit == 1.5e-5


@pytest.mark.parametrize("mask", ["", "none", "0,", "3-1", "0-99999999999", "-1"])
def test_a_mask_that_is_no_list_of_cpus_is_denied_rather_than_guessed(tmp_path: Path, mask: str) -> None:
    with pytest.raises(Denied, match="cpumask") as caught:
        open_perf_power(machine(tmp_path, files={f"{FOLDER}/cpumask": mask}).machine)
    assert caught.value.hint


def test_a_pmu_without_energy_events_is_absent(tmp_path: Path) -> None:
    with pytest.raises(Absent, match="no energy event"):
        open_perf_power(SimulatedMachine(tmp_path, files=power_pmu({0: 0}, events=())).machine)


# --- refusals ---------------------------------------------------------------------------------------


def test_without_rights_the_remedy_is_a_group_before_everybody_and_root(tmp_path: Path) -> None:
    with pytest.raises(Denied, match="perf_event_paranoid") as caught:
        open_perf_power(machine(tmp_path, fault="EACCES").machine)
    hint = caught.value.hint
    assert hint.index("modprobe intel_rapl_msr") < hint.index("perf_event_paranoid=0") < hint.index("as root")


def test_in_a_container_the_remedy_is_a_capability(tmp_path: Path) -> None:
    with pytest.raises(Denied) as caught:
        open_perf_power(machine(tmp_path, fault="EPERM").machine)
    assert "--cap-add PERFMON" in caught.value.hint


def test_any_other_failure_is_named_and_nothing_stays_open(tmp_path: Path) -> None:
    simulated = machine(tmp_path, {0: 0, 18: 1}).machine
    closed = []

    class Event:
        def count(self) -> int:
            return 0

        def close(self) -> None:
            closed.append(True)

    def open_event(kind: int, config: int, cpu: int) -> Event:
        if cpu == 18:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return Event()

    with pytest.raises(Denied, match="Too many open files"):
        open_perf_power(Machine(simulated.root, open_event=open_event))
    assert closed == [True]


@pytest.mark.parametrize("fault", ["ENOENT", "ENODEV", "EINVAL", "EOPNOTSUPP"])
def test_an_event_that_the_kernel_does_not_know_is_left_out(tmp_path: Path, fault: str) -> None:
    events = [PowerEvent(config=2), PowerEvent(config=3, fault=fault)]
    files = power_pmu({0: 0}, events=("energy-pkg", "energy-ram"))
    sensor = open_perf_power(SimulatedMachine(tmp_path, events=events, files=files).machine)
    assert [channel.id for channel in sensor.channels] == ["cpu0/package"]
    assert sensor.unreadable == ()


def test_where_the_kernel_knows_no_event_at_all_perf_is_absent(tmp_path: Path) -> None:
    with pytest.raises(Absent):
        open_perf_power(machine(tmp_path, fault="ENODEV").machine)


def test_a_socket_that_is_lost_is_named(tmp_path: Path) -> None:
    files = power_pmu({0: 0, 18: 1})
    sensor = open_perf_power(SimulatedMachine(tmp_path, events=[PowerEvent()], files=files).machine)
    assert [channel.id for channel in sensor.channels] == ["cpu0/package"]
    assert sensor.unreadable == ("energy-pkg on CPU 18",)
    assert sensor.remedy


# --- readings ---------------------------------------------------------------------------------------


def test_a_count_begins_at_zero_and_each_socket_has_its_own(tmp_path: Path) -> None:
    clock = Clock()
    watts = {("energy-pkg", 0): 40.0, ("energy-pkg", 18): 25.0}
    simulated = machine(tmp_path, {0: 0, 18: 1}, watts=watts, clock=clock)
    clock.now_s += 100
    sensor = open_perf_power(simulated.machine)
    assert [reading.value for reading in sensor.read()] == [0, 0]
    clock.now_s += 2
    joules = [reading.value * c.unit for reading, c in zip(sensor.read(), sensor.channels, strict=True)]
    assert joules == pytest.approx([80, 50], abs=1e-6)


def test_a_failed_read_is_a_gap_of_its_own_channel_only(tmp_path: Path) -> None:
    simulated = machine(tmp_path, {0: 0, 18: 1}).machine

    class Failing:
        def count(self) -> int:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        def close(self) -> None:
            """Nothing is open."""

    def open_event(kind: int, config: int, cpu: int):
        return Failing() if cpu == 0 else simulated.open_event(kind, config, cpu)

    first, second = open_perf_power(Machine(simulated.root, open_event=open_event)).read()
    assert isinstance(first, Gap)
    assert first.reason == "Input/output error"
    assert isinstance(second, Reading)


def test_joules_are_exact_far_beyond_the_registers_range(tmp_path: Path) -> None:
    clock = Clock()
    files = power_pmu({0: 0})
    event = PowerEvent(power=ramp(500, 1, ends_s=1000))
    simulated = SimulatedMachine(tmp_path, events=[event], files=files, clock=clock)
    sensor = open_perf_power(simulated.machine)
    books = meter(sensor.channels[0], clock.now_s, 100)
    for _ in range(11):
        (reading,) = sensor.read()
        books.update(reading._replace(t_s=clock.now_s))
        clock.now_s += 100
    assert books.gaps == []
    assert books.energy_j == pytest.approx(500 * 1000 + 1000**2 / 2, rel=1e-9)
