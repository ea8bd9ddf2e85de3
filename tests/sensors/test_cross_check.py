"""Two ways to the same registers, compared before the run; and what is said where one of them is refused."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from emt_cli.analysis.cover import counted
from emt_cli.model import Channel, Gap, Reading
from emt_cli.sensors import BUILT_IN, Opened, open_available
from emt_cli.sensors.cross_check import Disagreement, cross_check
from emt_cli.sensors.wishes import Wishes
from tests.simulation import Fault, PowerEvent, SimulatedMachine, Zone, constant, power_pmu

LOCKED = (Fault(kind="EACCES"),)


class Clock:
    """Goes on only where somebody sleeps, or as a sensor is read."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


class Counter:
    """A sensor whose channels draw so many watts by the clock."""

    def __init__(
        self, name: str, clock: Clock, watts: dict[str, float], *, takes_s: float = 0.0, **facts: Any
    ) -> None:
        self.name = name
        self.min_period_s = 0.001
        known: dict[str, Any] = {
            "sensor": name,
            "kind": "counter",
            "provenance": "measured",
            "source": "test",
            "unit": 1e-6,
            "update_period_s": 1e-3,
        }
        self.channels: Sequence[Channel] = tuple(
            Channel(id=id, device=id.partition("/")[0], domain=id.partition("/")[2], **{**known, **facts})
            for id in watts
        )
        self._watts = tuple(watts.values())
        self._clock = clock
        self._takes_s = takes_s
        self.reads = 0

    def read(self) -> Sequence[Reading | Gap]:
        self.reads += 1
        readings = [Reading(self._clock.now_s, self._count(watts)) for watts in self._watts]
        self._clock.now_s += self._takes_s
        return readings

    def _count(self, watts: float) -> int:
        return round(self._clock.now_s * watts * 1e6)

    def close(self) -> None:
        """Nothing is open."""


def check(sensors: list[Any], clock: Clock) -> list[Disagreement]:
    return cross_check(sensors, limit_s=60.0, sleep=clock.sleep)


def names(sensors: Sequence[Any]) -> list[str]:
    return [sensor.name for sensor in sensors]


@pytest.fixture
def clock() -> Clock:
    return Clock()


# --- comparing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("watts", [50.0, 60.0, 40.0])
def test_sensors_that_agree_are_left_as_they_are(clock: Clock, watts: float) -> None:
    sensors = [
        Counter("perf", clock, {"cpu0/package": watts}),
        Counter("powercap", clock, {"cpu0/package": 50.0}),
    ]
    assert check(sensors, clock) == []
    assert names(sensors) == ["perf", "powercap"]
    assert [each.channels[0].dropped for each in sensors] == ["", ""]


@pytest.mark.parametrize(("watts", "share"), [(0.0, 1.0), (30.0, 0.4), (80.0, 0.375)])
def test_a_sensor_that_stands_still_or_differs_is_put_last_and_counts_nothing(
    clock: Clock, watts: float, share: float
) -> None:
    perf = Counter("perf", clock, {"cpu0/package": watts, "cpu0/dram": 5.0})
    sensors = [perf, Counter("powercap", clock, {"cpu0/package": 50.0, "cpu0/dram": 5.0})]
    (found,) = check(sensors, clock)
    assert (found.sensor.name, found.believed.name, found.channel.id) == ("perf", "powercap", "cpu0/package")
    assert found.share == pytest.approx(share, rel=1e-3)
    assert names(sensors) == ["powercap", "perf"]
    assert {each.dropped for each in perf.channels} == {"does not agree with powercap"}


def test_a_sensor_that_stands_still_proves_nothing_against_another(clock: Clock) -> None:
    sensors = [
        Counter("perf", clock, {"cpu0/package": 50.0}),
        Counter("powercap", clock, {"cpu0/package": 0.0}),
    ]
    assert check(sensors, clock) == []


def test_a_slow_read_between_the_two_is_no_disagreement(clock: Clock) -> None:
    sensors = [
        Counter("perf", clock, {"cpu0/package": 50.0}, takes_s=0.03),
        Counter("powercap", clock, {"cpu0/package": 50.0}, takes_s=0.05),
    ]
    assert check(sensors, clock) == []


def test_a_difference_that_is_there_only_once_is_a_slip(clock: Clock) -> None:
    class Slipping(Counter):
        def _count(self, watts: float) -> int:
            return super()._count(watts) if self.reads > 4 else 0

    sensors = [
        Slipping("perf", clock, {"cpu0/package": 50.0}),
        Counter("powercap", clock, {"cpu0/package": 50.0}),
    ]
    assert check(sensors, clock) == []
    assert clock.now_s > 1000 + 2 * 0.02


def test_a_sensor_that_cannot_be_read_is_not_preferred(clock: Clock) -> None:
    class Failing(Counter):
        def read(self) -> Sequence[Reading | Gap]:
            return [Gap(1.0, "EIO") for _ in self.channels]

    sensors = [
        Failing("perf", clock, {"cpu0/package": 50.0}),
        Counter("powercap", clock, {"cpu0/package": 50.0}),
    ]
    assert [each.share for each in check(sensors, clock)] == [1.0]


def test_a_counter_that_wraps_meanwhile_still_agrees(clock: Clock) -> None:
    class Wrapping(Counter):
        def _count(self, watts: float) -> int:
            return super()._count(watts) % 250_000

    sensors = [
        Wrapping("perf", clock, {"cpu0/package": 10.0}, range_raw=250_000),
        Counter("powercap", clock, {"cpu0/package": 10.0}),
    ]
    clock.now_s = 1000.02  # at 0.2 J in a ring of 0.25 J, of which a stretch uses 0.22 J: it wraps each time
    assert check(sensors, clock) == []


@pytest.mark.parametrize(
    ("id", "facts"),
    [
        ("node/psys", {}),
        ("cpu0/package", {"kind": "gauge", "provenance": "integrated"}),
        ("cpu0/package", {"update_period_s": 0.1}),
        ("cpu0/package", {"update_period_s": None}),
        ("cpu0/package", {"dropped": "a mirror"}),
    ],
    ids=["platform", "gauge", "slow", "unknown refresh", "dropped"],
)
def test_what_tells_nothing_within_a_moment_is_not_compared(
    clock: Clock, id: str, facts: dict[str, Any]
) -> None:
    sensors = [Counter("perf", clock, {id: 0.0}, **facts), Counter("powercap", clock, {id: 50.0}, **facts)]
    assert check(sensors, clock) == []
    assert (clock.now_s, sensors[0].reads) == (1000.0, 0)


def test_sensors_of_different_things_take_no_time(clock: Clock) -> None:
    sensors = [Counter("perf", clock, {"cpu0/package": 50.0}), Counter("nvml", clock, {"gpu0/gpu": 50.0})]
    assert check(sensors, clock) == []
    assert clock.now_s == 1000.0


def test_a_read_that_hangs_does_not_hold_up_the_start(clock: Clock) -> None:
    leave = threading.Event()

    class Hanging(Counter):
        def read(self) -> Sequence[Reading | Gap]:
            leave.wait()
            return super().read()

    sensors = [
        Hanging("perf", clock, {"cpu0/package": 0.0}),
        Counter("powercap", clock, {"cpu0/package": 50.0}),
    ]
    before_s = time.monotonic()
    try:
        assert cross_check(sensors, limit_s=0.05, sleep=clock.sleep) == []
    finally:
        leave.set()
    assert time.monotonic() - before_s < 30
    assert names(sensors) == ["perf", "powercap"]


# --- in the registry --------------------------------------------------------------------------------

RAPL = BUILT_IN[:2]
Build = Callable[..., Opened]


@pytest.fixture
def opened(tmp_path: Path) -> Build:
    """What emt finds on a machine with perf's PMU and powercap, of which each may draw something else."""

    def build(
        *,
        perf_w: float = 50.0,
        fault: str = "",
        zones: Sequence[Zone] = (Zone(power=constant(50)),),
        packages: dict[int, int] | None = None,
        wishes: Wishes | None = None,
    ) -> Opened:
        files = power_pmu(packages or {0: 0})
        events = [PowerEvent(power=constant(perf_w), fault=fault)]
        machine = SimulatedMachine(tmp_path, zones=zones, events=events, files=files, environ={}).machine
        return open_available(machine, built_in=RAPL, find_outside=lambda environ: (), wishes=wishes)

    return build


def codes(result: Opened) -> list[str]:
    return [notice.code for notice in result.notices]


def counting(result: Opened) -> dict[str, str]:
    """The sensor behind every channel that counts."""
    channels = [channel for sensor in result.sensors for channel in sensor.channels]
    ids = counted(channels)
    return {channel.id: channel.sensor for channel in channels if channel.id in ids}


def test_perf_is_the_first_choice_and_powercap_the_second() -> None:
    assert [source.name for source in RAPL] == ["perf", "powercap"]


def test_perf_counts_and_powercap_checks_it(opened: Build) -> None:
    result = opened()
    assert counting(result) == {"cpu0/package": "perf", "ram": "model"}
    assert [sensor.min_period_s for sensor in result.sensors[:2]] == [0.001, 1.0]
    assert codes(result) == []


def test_a_perf_that_stands_still_gives_way_to_powercap_with_a_warning(opened: Build) -> None:
    result = opened(perf_w=0.0)
    assert counting(result)["cpu0/package"] == "powercap"
    (notice,) = result.notices
    assert notice.code == "cross_check"
    assert "cpu0/package of perf" in notice.text and "100%" in notice.text
    assert "--exclude perf" in notice.hint


def test_that_perf_is_refused_is_not_told_where_powercap_reads(opened: Build) -> None:
    result = opened(fault="EACCES")
    assert counting(result)["cpu0/package"] == "powercap"
    assert codes(result) == []
    assert [name for name, _ in result.absent] == ["perf"]


def test_that_powercap_is_refused_is_not_told_where_perf_reads(opened: Build) -> None:
    result = opened(zones=[Zone(faults=LOCKED)])
    assert counting(result)["cpu0/package"] == "perf"
    assert codes(result) == []
    assert [name for name, _ in result.absent] == ["powercap"]


def test_a_part_of_powercap_that_is_refused_is_not_told_where_perf_has_all(opened: Build) -> None:
    result = opened(zones=[Zone(faults=LOCKED), Zone(folder="intel-rapl:0:0", name="dram")])
    assert counting(result) == {"cpu0/package": "perf", "cpu0/dram": "powercap"}
    assert codes(result) == []


def test_where_both_are_refused_there_is_one_warning_with_the_groups_rule(opened: Build) -> None:
    result = opened(fault="EACCES", zones=[Zone(faults=LOCKED)])
    assert codes(result) == ["sensor_denied", "estimated"]
    assert all("systemd-tmpfiles" in notice.hint for notice in result.notices)
    assert result.notices[0].text.startswith("powercap")


def test_where_there_is_only_a_refused_perf_its_remedy_is_told(opened: Build) -> None:
    result = opened(fault="EACCES", zones=())
    assert codes(result) == ["sensor_denied", "estimated"]
    assert all("perf_event_paranoid=0" in notice.hint for notice in result.notices)


def test_a_refused_perf_beside_a_half_locked_powercap_is_one_warning(opened: Build) -> None:
    dram = Zone(folder="intel-rapl:0:0", name="dram")
    result = opened(fault="EACCES", zones=[Zone(faults=LOCKED), dram])
    assert codes(result) == ["sensor_denied", "estimated"]
    assert "intel-rapl:0/energy_uj" in result.notices[0].text


def test_a_socket_that_perf_lost_is_told_unless_powercap_has_it(opened: Build, tmp_path: Path) -> None:
    result = opened(zones=(), packages={0: 0, 18: 1})
    assert codes(result) == ["sensor_denied"]
    assert "energy-pkg on CPU 18" in result.notices[0].text


def test_powercap_fills_in_for_a_socket_that_perf_lost(opened: Build) -> None:
    zones = [Zone(folder=f"intel-rapl:{n}", name=f"package-{n}", power=constant(50)) for n in (0, 1)]
    result = opened(zones=zones, packages={0: 0, 18: 1})
    assert counting(result) == {"cpu0/package": "perf", "cpu1/package": "powercap", "ram": "model"}
    assert codes(result) == []


def test_powercap_asked_for_by_name_is_not_dropped_beside_perf(opened: Build) -> None:
    result = opened(wishes=Wishes(only=("powercap",)))
    assert counting(result) == {"cpu0/package": "powercap"}


@pytest.mark.parametrize(("without", "other"), [("perf", "powercap"), ("powercap", "perf")])
def test_either_can_be_left_out_by_name(opened: Build, without: str, other: str) -> None:
    result = opened(wishes=Wishes(exclude=(without,)))
    assert counting(result)["cpu0/package"] == other
    assert codes(result) == []


def test_ids_of_real_dies_agree_between_the_two(tmp_path: Path) -> None:
    zones = [
        Zone(folder=f"intel-rapl:{n}", name=f"package-0-die-{n}", power=constant(50), start_uj=n * 10**10)
        for n in (0, 1)
    ]
    events = [PowerEvent(cpu=cpu, power=constant(50)) for cpu in (0, 24)]
    files = power_pmu({0: 0, 24: 0}, dies={0: 0, 24: 1})
    machine = SimulatedMachine(tmp_path, zones=zones, events=events, files=files, environ={}).machine
    result = open_available(machine, built_in=RAPL, find_outside=lambda environ: ())
    assert counting(result) == {"cpu0/package-die0": "perf", "cpu0/package-die1": "perf", "ram": "model"}
    assert [c.checks for c in result.sensors[1].channels] == ["cpu0/package-die0", "cpu0/package-die1"]


def test_dies_of_amd_that_both_show_as_mirrors_count_once(tmp_path: Path) -> None:
    zones = [
        Zone(folder="intel-rapl:0", name="package-0-die-0", power=constant(50), start_uj=10**10),
        Zone(folder="intel-rapl:1", name="package-0-die-1", mirror_of="intel-rapl:0"),
    ]
    events = [PowerEvent(cpu=cpu, power=constant(50)) for cpu in (0, 8)]
    files = power_pmu({0: 0, 8: 0}, dies={0: 0, 8: 1})
    machine = SimulatedMachine(
        tmp_path, zones=zones, events=events, files=files, cpu_model="AMD EPYC 9654", environ={}
    ).machine
    result = open_available(machine, built_in=RAPL, find_outside=lambda environ: ())
    assert counting(result) == {"cpu0/package": "perf", "ram": "model"}
