"""The RAPL sensor on simulated sysfs trees: client, server, AMD dies, mirrors, locks and every bad read."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from emt_cli.model import Channel, Gap, Reading
from emt_cli.sensors.base import Absent, Denied, Machine
from emt_cli.sensors.meters import meter
from emt_cli.sensors.powercap import Powercap, open_powercap
from tests.sensors.contract import SensorContract
from tests.simulation import INTEL_RANGE_UJ, Fault, SimulatedMachine, Zone, constant, ramp

LOCKED = (Fault(kind="EACCES"),)


class Clock:
    """Stands where it was put."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def opened(folder: Path, *zones: Zone, clock: Clock | None = None) -> Powercap:
    return open_powercap(SimulatedMachine(folder, zones=zones, clock=clock or Clock()).machine)


def by_id(sensor: Powercap) -> dict[str, Channel]:
    return {channel.id: channel for channel in sensor.channels}


CLIENT = (
    Zone(folder="intel-rapl:0", name="package-0", power=constant(20), max_power_uw=28_000_000),
    Zone(folder="intel-rapl:0:0", name="core", power=constant(12)),
    Zone(folder="intel-rapl:0:1", name="uncore", power=constant(2)),
    Zone(folder="intel-rapl:0:2", name="dram", power=constant(3)),
    Zone(folder="intel-rapl:1", name="psys", power=constant(40)),
    Zone(folder="intel-rapl-mmio:0", name="package-0", power=constant(20), mirror_of="intel-rapl:0"),
)


class TestPowercap(SensorContract):
    def open(self, folder: Path) -> Powercap:
        return open_powercap(SimulatedMachine(folder, zones=CLIENT).machine)

    def open_absent(self, folder: Path) -> Powercap:
        return open_powercap(Machine(str(folder)))

    def open_locked(self, folder: Path) -> Powercap:
        return opened(folder, Zone(faults=LOCKED))

    def open_vanishing(self, folder: Path) -> tuple[Powercap, Callable[[], None]]:
        clock = Clock()
        sensor = opened(folder, Zone(faults=(Fault(kind="ENODEV", from_s=1),)), clock=clock)

        def vanish() -> None:
            clock.now_s += 1

        return sensor, vanish


def test_a_client_has_its_zones_nested_and_its_mmio_twin_dropped(tmp_path: Path) -> None:
    channels = by_id(opened(tmp_path, *CLIENT))
    assert {id: (c.device, c.domain, c.within) for id, c in channels.items()} == {
        "cpu0/package": ("cpu0", "package", "node/psys"),
        "cpu0/core": ("cpu0", "core", "cpu0/package"),
        "cpu0/uncore": ("cpu0", "uncore", "cpu0/package"),
        "cpu0/dram": ("cpu0", "dram", "node/psys"),
        "node/psys": ("node", "psys", None),
        "cpu0/package-mmio": ("cpu0", "package", "node/psys"),
    }
    assert {id: c.dropped for id, c in channels.items() if c.dropped} == {
        "cpu0/package-mmio": "mirror of cpu0/package"
    }


def test_without_psys_package_and_dram_stand_beside_each_other(tmp_path: Path) -> None:
    channels = by_id(opened(tmp_path, CLIENT[0], CLIENT[3]))
    assert channels["cpu0/package"].within is None
    assert channels["cpu0/dram"].within is None


def test_both_sockets_of_a_server_are_found_with_their_own_memory(tmp_path: Path) -> None:
    zones = [
        Zone(folder=f"intel-rapl:{n}{sub}", name=name)
        for n in (0, 1)
        for sub, name in (("", f"package-{n}"), (":0", "dram"))
    ]
    assert list(by_id(opened(tmp_path, *zones))) == ["cpu0/package", "cpu0/dram", "cpu1/package", "cpu1/dram"]


def test_the_package_number_comes_from_the_name_not_from_the_folder(tmp_path: Path) -> None:
    zones = (
        Zone(folder="intel-rapl:0", name="package-1"),
        Zone(folder="intel-rapl:0:0", name="dram"),
        Zone(folder="intel-rapl:1", name="package-0"),
    )
    assert list(by_id(opened(tmp_path, *zones))) == ["cpu1/package", "cpu1/dram", "cpu0/package"]


def test_more_than_ten_packages_are_in_order(tmp_path: Path) -> None:
    zones = [Zone(folder=f"intel-rapl:{n}", name=f"package-{n}") for n in range(12)]
    assert list(by_id(opened(tmp_path, *zones))) == [f"cpu{n}/package" for n in range(12)]


def dies(second: Zone | None = None) -> list[Zone]:
    first = Zone(folder="intel-rapl:0", name="package-0-die-0", start_uj=5_000_000_000)
    mirror = Zone(folder="intel-rapl:1", name="package-0-die-1", mirror_of="intel-rapl:0")
    return [first, second or mirror]


def test_dies_that_repeat_one_counter_are_counted_once(tmp_path: Path) -> None:
    channels = by_id(opened(tmp_path, *dies()))
    assert {id: c.dropped for id, c in channels.items()} == {
        "cpu0/package": "",
        "cpu0/package-die1": "mirror of cpu0/package",
    }


def test_dies_that_repeat_one_counter_are_seen_while_it_runs(tmp_path: Path) -> None:
    machine = SimulatedMachine(tmp_path, zones=dies()).machine
    assert by_id(open_powercap(machine))["cpu0/package-die1"].dropped


def test_dies_with_counters_of_their_own_are_both_counted(tmp_path: Path) -> None:
    other = Zone(folder="intel-rapl:1", name="package-0-die-1", start_uj=5_010_000_000)
    channels = by_id(opened(tmp_path, *dies(other)))
    assert {id: c.dropped for id, c in channels.items()} == {"cpu0/package-die0": "", "cpu0/package-die1": ""}


@pytest.mark.parametrize("behind_uj", [-500_000, 500_000])
def test_dies_whose_refreshes_are_a_little_apart_are_still_one_counter(
    tmp_path: Path, behind_uj: int
) -> None:
    late = Zone(folder="intel-rapl:1", name="package-0-die-1", start_uj=5_000_000_000 - behind_uj)
    assert by_id(opened(tmp_path, *dies(late)))["cpu0/package-die1"].dropped


def test_an_mmio_twin_that_counts_from_another_origin_is_still_a_mirror(tmp_path: Path) -> None:
    twin = Zone(folder="intel-rapl-mmio:0", start_uj=77_000_000_000)
    channels = by_id(opened(tmp_path, Zone(), twin))
    assert channels["cpu0/package-mmio"].dropped == "mirror of cpu0/package"


def test_sub_zones_of_a_mirrored_die_lie_within_the_die_that_is_kept(tmp_path: Path) -> None:
    zones = [
        *dies(),
        Zone(folder="intel-rapl:0:0", name="core", start_uj=10_000_000),
        Zone(folder="intel-rapl:1:0", name="core", start_uj=90_000_000),
    ]
    channels = by_id(opened(tmp_path, *zones))
    assert channels["cpu0/core-die0"].within == "cpu0/package"
    assert channels["cpu0/core-die1"].within == "cpu0/package"
    assert not channels["cpu0/core-die1"].dropped


def test_an_mmio_zone_without_a_twin_counts(tmp_path: Path) -> None:
    channels = by_id(opened(tmp_path, Zone(folder="intel-rapl-mmio:0")))
    assert [(id, c.dropped) for id, c in channels.items()] == [("cpu0/package", "")]


def test_an_mmio_zone_stands_in_for_a_locked_twin(tmp_path: Path) -> None:
    sensor = opened(tmp_path, Zone(faults=LOCKED), Zone(folder="intel-rapl-mmio:0"))
    assert [(c.id, c.dropped) for c in sensor.channels] == [("cpu0/package", "")]
    assert sensor.unreadable == ("/sys/class/powercap/intel-rapl:0/energy_uj",)


def test_psys_of_a_second_socket_is_not_added_to_the_first(tmp_path: Path) -> None:
    zones = (Zone(folder="intel-rapl:0", name="psys"), Zone(folder="intel-rapl:1", name="psys-1"))
    channels = by_id(opened(tmp_path, *zones))
    assert (channels["node/psys1"].within, channels["node/psys1"].domain) == ("node/psys", "psys")


def test_a_part_whose_package_is_locked_is_not_taken_for_the_package(tmp_path: Path) -> None:
    sensor = opened(tmp_path, Zone(faults=LOCKED), Zone(folder="intel-rapl:0:0", name="core"))
    (core,) = sensor.channels
    assert "cannot be read" in core.dropped
    assert core.within is None


def test_the_memory_of_a_locked_package_counts_all_the_same(tmp_path: Path) -> None:
    zones = (
        Zone(faults=LOCKED),
        Zone(folder="intel-rapl:0:0", name="core"),
        Zone(folder="intel-rapl:0:1", name="dram"),
    )
    channels = by_id(opened(tmp_path, *zones))
    assert {id: bool(c.dropped) for id, c in channels.items()} == {"cpu0/core": True, "cpu0/dram": False}


def test_parts_of_a_package_without_a_counter_lie_within_its_mmio_twin(tmp_path: Path) -> None:
    zones = (
        Zone(),
        Zone(folder="intel-rapl:0:0", name="core"),
        Zone(folder="intel-rapl:0:1", name="dram"),
        Zone(folder="intel-rapl-mmio:0"),
    )
    machine = SimulatedMachine(tmp_path, zones=zones, clock=Clock()).machine
    (tmp_path / "sys/class/powercap/intel-rapl:0/energy_uj").unlink()

    def open_file(path: str):
        if path.endswith("/intel-rapl:0/energy_uj"):
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")
        return machine.open_file(path)

    sensor = open_powercap(Machine(machine.root, open_file=open_file))
    channels = by_id(sensor)
    assert {id: (c.within, c.dropped) for id, c in channels.items()} == {
        "cpu0/package": (None, ""),
        "cpu0/core": ("cpu0/package", ""),
        "cpu0/dram": (None, ""),
    }
    assert "mmio" in channels["cpu0/package"].source
    assert sensor.unreadable == ()


def test_mmio_twins_of_sub_zones_are_mirrors_too(tmp_path: Path) -> None:
    zones = (
        Zone(),
        Zone(folder="intel-rapl:0:0", name="dram"),
        Zone(folder="intel-rapl-mmio:0", start_uj=10**9),
        Zone(folder="intel-rapl-mmio:0:0", name="dram", start_uj=10**9),
    )
    channels = by_id(opened(tmp_path, *zones))
    assert [id for id, c in channels.items() if not c.dropped] == ["cpu0/package", "cpu0/dram"]
    assert channels["cpu0/dram-mmio"].dropped == "mirror of cpu0/dram"


def test_two_sockets_with_a_mirror_each_keep_their_own(tmp_path: Path) -> None:
    zones = [
        Zone(folder=f"{control}:{n}", name=f"package-{n}", start_uj=start_uj)
        for control, start_uj in (("intel-rapl", 0), ("intel-rapl-mmio", 10**10))
        for n in (0, 1)
    ]
    channels = by_id(opened(tmp_path, *zones))
    assert {id: c.dropped for id, c in channels.items() if c.dropped} == {
        "cpu0/package-mmio": "mirror of cpu0/package",
        "cpu1/package-mmio": "mirror of cpu1/package",
    }


def test_two_psys_of_dies_are_one_platform(tmp_path: Path) -> None:
    """The kernel numbers psys by the package: the second die of package 0 has a psys-0."""
    zones = (
        Zone(folder="intel-rapl:0", name="psys", start_uj=10**10),
        Zone(folder="intel-rapl:1", name="psys-0", start_uj=2 * 10**10),
        Zone(folder="intel-rapl:2", name="package-0"),
    )
    channels = by_id(opened(tmp_path, *zones))
    platforms = [c for c in channels.values() if c.is_platform]
    assert [c.within for c in platforms] == [None, "node/psys"]
    assert channels["cpu0/package"].within == "node/psys"


def test_amds_core_zone_is_one_core_and_counts_nothing(tmp_path: Path) -> None:
    zones = (Zone(), Zone(folder="intel-rapl:0:0", name="core", power=constant(9000)))
    machine = SimulatedMachine(tmp_path, zones=zones, cpu_model="AMD EPYC 7763 64-Core Processor").machine
    channels = by_id(open_powercap(machine))
    assert "one core" in channels["cpu0/core"].dropped
    assert not channels["cpu0/package"].dropped


@pytest.mark.parametrize(
    ("range_uj", "step_j"),
    [
        (262_143_328_850, 2**-14),
        (65_532_610_987, 2**-16),
        (4_294_967_295_000_000, 1.0),
        (None, 61e-6),
        (200_000_000, 61e-6),
        (2**63 - 1, 61e-6),
    ],
    ids=["Intel", "AMD", "psys of Sapphire Rapids", "unknown", "too small", "too large"],
)
def test_a_step_follows_from_the_range(tmp_path: Path, range_uj: int | None, step_j: float) -> None:
    (channel,) = opened(tmp_path, Zone(range_uj=range_uj)).channels
    assert channel.resolution_j == pytest.approx(step_j, rel=1e-3)


def test_a_zone_of_an_unknown_name_is_shown_but_not_counted(tmp_path: Path) -> None:
    zones = (Zone(), Zone(folder="intel-rapl:7", name="Mystery Rail"))
    channels = by_id(opened(tmp_path, *zones))
    assert channels["node/mystery-rail"].dropped


def test_folders_that_are_no_zones_are_passed_over(tmp_path: Path) -> None:
    machine = SimulatedMachine(tmp_path, zones=[Zone()]).machine
    for name in ("intel-rapl", "dtpm", "dtpm:0", "intel-rapl:x", "intel-rapl:5"):
        (tmp_path / "sys/class/powercap" / name).mkdir()
    assert list(by_id(open_powercap(machine))) == ["cpu0/package"]


def test_zones_without_a_counter_are_as_good_as_none(tmp_path: Path) -> None:
    folder = tmp_path / "sys/class/powercap/intel-rapl:0"
    folder.mkdir(parents=True)
    (folder / "name").write_text("package-0\n")
    with pytest.raises(Absent):
        open_powercap(Machine(str(tmp_path)))


def test_the_plain_facts_of_a_channel(tmp_path: Path) -> None:
    channel = by_id(opened(tmp_path, *CLIENT))["cpu0/core"]
    assert (channel.kind, channel.provenance, channel.unit) == ("counter", "measured", 1e-6)
    assert channel.resolution_j == pytest.approx(2**-14, rel=1e-4)
    assert channel.update_period_s == 1e-3
    assert channel.range_raw == INTEL_RANGE_UJ


@pytest.mark.parametrize(
    ("stated_uw", "expected_w"),
    [(None, 2000), (0, 2000), (28_000_000, 500), (350_000_000, 700), (10**16, 2000), (-1, 2000)],
)
def test_plausible_power_follows_the_stated_maximum(
    tmp_path: Path, stated_uw: int | None, expected_w: float
) -> None:
    (channel,) = opened(tmp_path, Zone(max_power_uw=stated_uw)).channels
    assert channel.max_power_w == expected_w


@pytest.mark.parametrize("range_uj", [None, 0])
def test_a_range_that_is_missing_or_zero_is_unknown_and_said(tmp_path: Path, range_uj: int | None) -> None:
    (channel,) = opened(tmp_path, Zone(range_uj=range_uj)).channels
    assert channel.range_raw is None
    assert "range" in channel.note


def test_zones_that_are_locked_are_named_and_the_others_read(tmp_path: Path) -> None:
    sensor = opened(tmp_path, Zone(), Zone(folder="intel-rapl:0:0", name="dram", faults=LOCKED))
    assert list(by_id(sensor)) == ["cpu0/package"]
    assert sensor.unreadable == ("/sys/class/powercap/intel-rapl:0:0/energy_uj",)


def test_the_remedy_lets_a_group_read_before_it_speaks_of_root(tmp_path: Path) -> None:
    with pytest.raises(Denied, match="permission denied") as caught:
        opened(tmp_path, Zone(faults=LOCKED))
    hint = caught.value.hint
    assert "0440 root emt" in hint
    assert hint.index("0440") < hint.index("as root")
    assert "0444" not in hint


def test_counters_that_cannot_be_opened_for_another_reason_are_denied_with_it(tmp_path: Path) -> None:
    simulated = SimulatedMachine(tmp_path, zones=[Zone()]).machine

    def refuse(path: str):
        if path.endswith("energy_uj"):
            raise OSError(errno.EIO, "Input/output error")
        return simulated.open_file(path)

    with pytest.raises(Denied, match="Input/output error"):
        open_powercap(Machine(simulated.root, open_file=refuse))


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault(kind="EIO"), "Input/output error"),
        (Fault(kind="EINVAL"), "Invalid argument"),
        (Fault(kind="ENODEV"), "No such device"),
        (Fault(kind="text"), "not a number: b'<unknown>\\n'"),
        (Fault(kind="empty"), "empty"),
        (Fault(kind="garbage", value=-5), "negative: -5"),
    ],
)
def test_a_bad_read_is_a_gap_of_its_own_channel_only(tmp_path: Path, fault: Fault, reason: str) -> None:
    dram = Zone(folder="intel-rapl:0:0", name="dram")
    package, memory = opened(tmp_path, Zone(faults=(fault,)), dram).read()
    assert isinstance(package, Gap)
    assert package.reason == reason
    assert isinstance(memory, Reading)


def test_a_read_after_a_bad_one_is_good_again(tmp_path: Path) -> None:
    sensor = opened(tmp_path, Zone(faults=(Fault(kind="EIO", first_read=1, last_read=1),)))
    kinds = [type(sensor.read()[0]) for _ in range(3)]
    assert kinds == [Reading, Gap, Reading]


def test_a_closed_sensor_reads_gaps(tmp_path: Path) -> None:
    sensor = TestPowercap().open(tmp_path)
    sensor.close()
    assert {type(reading) for reading in sensor.read()} == {Gap}


def test_real_files_are_read_anew_each_time(tmp_path: Path) -> None:
    SimulatedMachine(tmp_path, zones=[Zone()])
    sensor = open_powercap(Machine(str(tmp_path)))
    counter = tmp_path / "sys/class/powercap/intel-rapl:0/energy_uj"
    values = []
    for text in ("5\n", "123456\n", "7"):
        counter.write_text(text)
        values.append(sensor.read()[0].value)
    sensor.close()
    assert values == [5, 123456, 7]


def test_joules_are_exact_over_a_ramp_and_three_wraps(tmp_path: Path) -> None:
    clock = Clock()
    zone = Zone(power=ramp(50, 2, ends_s=60), range_uj=3_000_000_000, start_uj=2_999_000_000)
    simulated = SimulatedMachine(tmp_path, zones=[zone], clock=clock)
    sensor = open_powercap(simulated.machine)
    start_s = clock.now_s
    books = meter(sensor.channels[0], start_s, 0.5)
    for _ in range(121):
        (reading,) = sensor.read()
        books.update(reading._replace(t_s=clock.now_s))
        clock.now_s += 0.5
    end_s = clock.now_s - 0.5
    assert books.wraps == 3
    assert books.gaps == []
    assert books.energy_j == pytest.approx(50 * 60 + 2 * 60**2 / 2, abs=1e-6)
    assert books.energy_j == pytest.approx(simulated.true_energy_j("cpu0/package", start_s, end_s), abs=1e-6)
