"""The Cray counters on simulated nodes: parts and containment of each line, and what can go wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from emt_cli.model import Channel, Gap, Reading
from emt_cli.sensors import open_available
from emt_cli.sensors.base import Absent, Denied, Machine, WaitsForSteps
from emt_cli.sensors.cray import FOLDER, PmCounters, open_cray
from emt_cli.sensors.meters import meter
from tests.sensors.contract import SensorContract
from tests.simulation import Fault, Signal, SimulatedMachine, Zone, constant

EX235A = ("", "cpu_", "memory_", "accel0_", "accel1_", "accel2_", "accel3_")
EX255A = ("", "accel0_", "accel1_", "accel2_", "accel3_", "capped_", "overshoot_")


class Clock:
    """Stands where it was put."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def counter(part: str, watts: float = 100.0, **options: object) -> Signal:
    facts = {"form": "{j} J {us} us", "start_j": 5e6, "power": constant(watts), **options}
    return Signal(path=f"{FOLDER}/{part}energy", **facts)  # type: ignore[arg-type]


def scans(**options: object) -> Signal:
    """Counts ten in a second."""
    facts = {"form": "{j}", "power": constant(10.0), "start_j": 70.0, **options}
    return Signal(path=f"{FOLDER}/freshness", **facts)  # type: ignore[arg-type]


def opened(folder: Path, *signals: Signal, clock: Clock | None = None, **files: str) -> PmCounters:
    files = {f"{FOLDER}/{name}": f"{text}\n" for name, text in files.items()}
    machine = SimulatedMachine(folder, signals=signals, files=files, clock=clock or Clock())
    return open_cray(machine.machine)


def node(folder: Path, parts: tuple[str, ...], **files: str) -> dict[str, Channel]:
    return {c.id: c for c in opened(folder, *map(counter, parts), **files).channels}


def places(channels: dict[str, Channel]) -> dict[str, tuple[str, str, str | None]]:
    return {id: (c.device, c.domain, c.within) for id, c in channels.items()}


class TestCray(SensorContract):
    def open(self, folder: Path) -> PmCounters:
        signals = [*map(counter, EX235A), scans()]
        return open_cray(SimulatedMachine(folder, signals=signals).machine)

    def open_absent(self, folder: Path) -> PmCounters:
        return open_cray(Machine(str(folder)))

    def open_locked(self, folder: Path) -> PmCounters:
        return opened(folder, counter("", faults=(Fault(kind="EACCES"),)))

    def open_vanishing(self, folder: Path) -> tuple[PmCounters, Callable[[], None]]:
        clock = Clock()
        faults = (Fault(kind="ENODEV", from_s=1),)
        sensor = opened(
            folder,
            counter("", faults=faults),
            counter("cpu_", faults=faults),
            scans(faults=faults),
            clock=clock,
        )

        def vanish() -> None:
            clock.now_s += 1

        return sensor, vanish


# --- what a node has ---------------------------------------------------------------------------------


def test_a_node_with_accelerators_has_its_parts_inside_it(tmp_path: Path) -> None:
    channels = node(tmp_path, EX235A)
    assert places(channels) == {
        "node/energy": ("node", "node", None),
        "cpu": ("cpu", "package", "node/energy"),
        "ram": ("ram", "dram", "node/energy"),
        **{f"accel{n}": (f"accel{n}", "accelerator", "node/energy") for n in range(4)},
    }
    assert {c.provenance for c in channels.values()} == {"measured"}
    assert {c.resolution_j for c in channels.values()} == {1.0}
    assert not any(c.dropped for c in channels.values())


def test_accelerators_without_a_cpu_counter_are_apus_and_no_cpu_is_estimated_beside_them(
    tmp_path: Path,
) -> None:
    machine = SimulatedMachine(tmp_path, signals=[*map(counter, EX255A)])
    channels = {c.id: c for sensor in open_available(machine.machine).sensors for c in sensor.channels}
    assert places(channels) == {
        "node/energy": ("node", "node", None),
        **{f"accel{n}": (f"accel{n}", "module", "node/energy") for n in range(4)},
    }


def test_sockets_that_count_apart_stand_for_their_sum(tmp_path: Path) -> None:
    channels = node(tmp_path, ("", "cpu_", "cpu0_", "cpu1_", "memory_"))
    assert {id for id, c in channels.items() if not c.dropped} == {
        "node/energy",
        "cpu0/package",
        "cpu1/package",
        "ram",
    }
    assert channels["cpu"].dropped


def test_the_older_line_has_one_accelerator_and_a_zero_means_that_it_has_none(tmp_path: Path) -> None:
    assert set(node(tmp_path / "gpu", ("", "accel_"))) == {"node/energy", "accel"}
    sensor = opened(tmp_path / "cpu", counter(""), accel_energy="0 J 1700000000000000 us")
    assert [c.id for c in sensor.channels] == ["node/energy"]


def test_without_the_node_counter_the_parts_still_count(tmp_path: Path) -> None:
    assert {c.within for c in node(tmp_path, ("cpu_", "memory_")).values()} == {None}


def test_the_period_is_that_of_the_scans(tmp_path: Path) -> None:
    assert opened(tmp_path / "a", counter("")).min_period_s == pytest.approx(0.1)
    faster = opened(tmp_path / "b", counter(""), raw_scan_hz="100")
    assert faster.min_period_s == faster.channels[0].update_period_s == pytest.approx(0.01)
    assert opened(tmp_path / "c", counter(""), raw_scan_hz="0").min_period_s == pytest.approx(0.1)


def test_beside_readable_rapl_the_sockets_count_once(tmp_path: Path) -> None:
    machine = SimulatedMachine(tmp_path, zones=[Zone()], signals=[*map(counter, EX235A)])
    channels = {c.id: c for sensor in open_available(machine.machine).sensors for c in sensor.channels}
    assert channels["cpu"].dropped == "powercap reads the same"
    assert not channels["cpu0/package"].dropped
    assert not channels["ram"].dropped


def test_a_counter_that_may_not_be_read_is_named_and_the_others_count(tmp_path: Path) -> None:
    sensor = opened(tmp_path, counter(""), counter("cpu_", faults=(Fault(kind="EACCES"),)))
    assert [c.id for c in sensor.channels] == ["node/energy"]
    assert len(sensor.unreadable) == 1
    assert "cpu_energy" in sensor.unreadable[0]
    assert FOLDER in sensor.remedy


def test_no_counter_that_may_be_read_is_denied_with_the_file(tmp_path: Path) -> None:
    with pytest.raises(Denied, match="pm_counters/energy"):
        opened(tmp_path, counter("", faults=(Fault(kind="EACCES"),)))
    with pytest.raises(Absent):
        opened(tmp_path / "empty", power_cap="0 W")


# --- what it tells ------------------------------------------------------------------------------------


def test_whole_joules_are_read_from_the_text(tmp_path: Path) -> None:
    clock = Clock()
    sensor = opened(tmp_path, counter("", 250.0), clock=clock)
    books = meter(sensor.channels[0], 0.0, 0.1)
    for _ in range(100):
        clock.now_s += 0.1
        (reading,) = sensor.read()
        assert isinstance(reading, Reading)
        books.update(reading._replace(t_s=clock.now_s))
    assert books.energy_j == pytest.approx(250.0 * 9.9, abs=1)


@pytest.mark.parametrize(
    "text", ["12 W 7 us", "12", "-12 J 7 us", "1.5 J 7 us", "N J", "", "J", "\x00\xff", "0x1f J 1 us"]
)
def test_what_is_not_joules_is_a_gap_and_the_others_are_untouched(tmp_path: Path, text: str) -> None:
    sensor = opened(tmp_path, counter(""), cpu_energy=text)
    node_j, cpu_j = sensor.read()
    assert isinstance(node_j, Reading)
    assert isinstance(cpu_j, Gap)
    assert cpu_j.reason


@pytest.mark.parametrize("kind", ["EIO", "EINVAL", "text", "empty"])
def test_a_bad_read_is_a_gap_and_the_next_one_is_tried(tmp_path: Path, kind: str) -> None:
    faults = (Fault(kind=kind, first_read=2, last_read=2),)
    sensor = opened(tmp_path, counter(""), counter("cpu_", faults=faults))
    seen = [type(sensor.read()[1]) for _ in range(3)]
    assert seen == [Reading, Gap, Reading]


# --- a link that hangs --------------------------------------------------------------------------------


def standing_still(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Moves the sensor's own clock."""
    now = [5000.0]
    monkeypatch.setattr("emt_cli.sensors.cray.monotonic", lambda: now[0])

    def move(seconds: float) -> None:
        now[0] += seconds

    return move


def test_counters_that_stand_still_with_their_scans_are_gaps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    move = standing_still(monkeypatch)
    clock = Clock()
    sensor = opened(tmp_path, counter(""), scans(update_period_s=3.0), clock=clock)
    assert isinstance(sensor.read()[0], Reading)
    move(0.4)
    assert isinstance(sensor.read()[0], Reading)
    move(0.4)
    (gap,) = sensor.read()
    assert isinstance(gap, Gap)
    assert gap.reason == "the counters have stood still for 0.8 s"
    move(0.1)
    clock.now_s += 3.0  # the link is back
    assert isinstance(sensor.read()[0], Reading)


def test_without_scans_nothing_is_taken_for_a_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    move = standing_still(monkeypatch)
    sensor = opened(tmp_path, counter(""))
    sensor.read()
    move(60)
    assert isinstance(sensor.read()[0], Reading)


def test_an_edge_waits_for_the_next_scan_and_no_longer_than_one(tmp_path: Path) -> None:
    clock = Clock()
    sensor = opened(tmp_path, counter(""), scans(), clock=clock)
    assert isinstance(sensor, WaitsForSteps)
    assert isinstance(sensor.read_edge()[0], Reading)  # nothing comes: given up after a period


def test_after_a_new_scan_the_edge_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    sensor = opened(tmp_path, counter("", 1000.0), scans(), clock=clock)
    (before,) = sensor.read()

    def step(_: float) -> None:
        clock.now_s += 0.1

    monkeypatch.setattr("emt_cli.sensors.cray.sleep", step)
    (after,) = sensor.read_edge()
    assert isinstance(before, Reading)
    assert isinstance(after, Reading)
    assert after.value - before.value == pytest.approx(100, abs=1)
