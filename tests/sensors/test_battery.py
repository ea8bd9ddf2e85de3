"""The battery sensor on simulated power supplies: its units, when it counts, and what it refuses to tell."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from emt_cli.model import Gap, Reading
from emt_cli.sensors.base import Absent, Denied, Machine
from emt_cli.sensors.battery import FOLDER, Battery, open_battery
from tests.sensors.contract import SensorContract
from tests.simulation import Fault, Signal, SimulatedMachine, constant, ramp


class Clock:
    """Stands where it was put."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def supply(name: str, **texts: object) -> dict[str, str]:
    return {f"{FOLDER}/{name}/{file}": f"{text}\n" for file, text in texts.items()}


def battery(name: str = "BAT0", status: str = "Discharging", **texts: object) -> dict[str, str]:
    return supply(name, type="Battery", present=1, status=status, **texts)


def power(name: str = "BAT0", watts: float = 12.5, **options: object) -> Signal:
    facts = {"form": "{uw}", "power": constant(watts), **options}
    return Signal(path=f"{FOLDER}/{name}/power_now", **facts)  # type: ignore[arg-type]


def simulated(folder: Path, *signals: Signal, clock: Clock | None = None, **files: str) -> SimulatedMachine:
    return SimulatedMachine(folder, signals=signals, files=files, clock=clock or Clock())


def opened(folder: Path, *signals: Signal, **files: str) -> Battery:
    return open_battery(simulated(folder, *signals, **files).machine)


def watts_of(sensor: Battery) -> float:
    (reading,) = sensor.read()
    assert isinstance(reading, Reading), reading
    return float(reading.value) * sensor.channels[0].unit


def reason_of(sensor: Battery) -> str:
    (gap,) = sensor.read()
    assert isinstance(gap, Gap), gap
    return gap.reason


def put(machine: SimulatedMachine, path: str, text: str) -> None:
    """What a kernel does when a plug moves: the kept file says something else."""
    Path(machine.root + path).write_text(text + "\n")


class TestBattery(SensorContract):
    def open(self, folder: Path) -> Battery:
        return opened(folder, power(), **battery(energy_full=50_000_000, energy_now=40_000_000))

    def open_absent(self, folder: Path) -> Battery:
        return open_battery(Machine(str(folder)))

    def open_locked(self, folder: Path) -> Battery:
        return opened(folder, power(faults=(Fault(kind="EACCES"),)), **battery())

    def open_vanishing(self, folder: Path) -> tuple[Battery, Callable[[], None]]:
        clock = Clock()
        signal = power(faults=(Fault(kind="ENODEV", from_s=1),))
        sensor = open_battery(simulated(folder, signal, clock=clock, **battery()).machine)

        def vanish() -> None:
            clock.now_s += 1

        return sensor, vanish


# --- what it tells ----------------------------------------------------------------------------------


def test_it_is_one_platform_gauge_that_is_integrated(tmp_path: Path) -> None:
    (channel,) = opened(tmp_path, power(), **battery()).channels
    assert (channel.id, channel.domain, channel.kind) == ("node/battery", "battery", "gauge")
    assert (channel.provenance, channel.is_platform, channel.within) == ("integrated", True, None)


def test_microwatts_come_out_as_watts(tmp_path: Path) -> None:
    clock = Clock()
    signal = power(power=ramp(10.0, 2.0))
    sensor = open_battery(simulated(tmp_path, signal, clock=clock, **battery()).machine)
    assert watts_of(sensor) == pytest.approx(10.0)
    clock.now_s += 3
    assert watts_of(sensor) == pytest.approx(16.0)


def test_without_a_power_file_current_times_voltage_is_taken(tmp_path: Path) -> None:
    sensor = opened(tmp_path, **battery(current_now=1_500_000, voltage_now=11_400_000))
    assert watts_of(sensor) == pytest.approx(17.1)


@pytest.mark.parametrize("file", ["power_now", "current_now"])
def test_a_discharge_told_as_negative_is_the_same_discharge(tmp_path: Path, file: str) -> None:
    sensor = opened(tmp_path, **battery(**{file: -2_000_000, "voltage_now": 10_000_000}))
    assert watts_of(sensor) == pytest.approx(2.0 if file == "power_now" else 20.0)


def test_two_batteries_are_one_supply_and_the_one_that_rests_adds_nothing(tmp_path: Path) -> None:
    files = battery() | battery("BAT1", "Not charging", power_now=3_000_000)
    machine = simulated(tmp_path, power(), **files)
    sensor = open_battery(machine.machine)
    assert len(sensor.channels) == 1
    assert watts_of(sensor) == pytest.approx(12.5)
    put(machine, f"{FOLDER}/BAT1/status", "Discharging")
    assert watts_of(sensor) == pytest.approx(15.5)


def test_mice_and_headsets_are_not_the_machine(tmp_path: Path) -> None:
    mouse = supply("hidpp_battery_0", type="Battery", scope="Device", status="Discharging", power_now=90_000)
    assert watts_of(opened(tmp_path, power(), **(battery() | mouse))) == pytest.approx(12.5)
    with pytest.raises(Absent):
        opened(tmp_path / "desktop", **mouse)


def test_an_empty_bay_and_a_battery_that_tells_no_power_are_absent(tmp_path: Path) -> None:
    with pytest.raises(Absent):
        opened(tmp_path / "bay", **(battery(power_now=1) | supply("BAT0", present=0)))
    with pytest.raises(Absent):
        opened(tmp_path / "mute", **battery(capacity=80))


# --- only while it runs the machine ------------------------------------------------------------------


@pytest.mark.parametrize("status", ["Charging", "Full", "Not charging", "Unknown", ""])
def test_on_mains_power_it_is_absent_and_warns_nobody(tmp_path: Path, status: str) -> None:
    with pytest.raises(Absent, match="on mains power: BAT0 is"):
        opened(tmp_path, power(), **battery(status=status))


def test_beside_an_adapter_that_is_plugged_in_it_sees_a_part_only(tmp_path: Path) -> None:
    with pytest.raises(Absent, match="AC is plugged in"):
        opened(tmp_path, power(), **(battery() | supply("AC", type="Mains", online=1)))


def test_a_usb_port_that_feeds_another_device_is_no_mains_power(tmp_path: Path) -> None:
    port = supply("ucsi-source-psy-USBC000:001", type="USB", online=1)
    adapter = supply("AC", type="Mains", online=0)
    assert watts_of(opened(tmp_path, power(), **(battery() | port | adapter))) == pytest.approx(12.5)


@pytest.mark.parametrize("status", ["Charging", "Full", "Not charging", "Unknown"])
def test_plugged_in_on_the_way_it_is_a_gap_with_the_reason(tmp_path: Path, status: str) -> None:
    machine = simulated(tmp_path, power(), **battery())
    sensor = open_battery(machine.machine)
    put(machine, f"{FOLDER}/BAT0/status", status)
    assert reason_of(sensor) == f"on mains power: BAT0 is {status.lower()}"
    put(machine, f"{FOLDER}/BAT0/status", "Discharging")
    assert watts_of(sensor) == pytest.approx(12.5)


def test_an_adapter_that_comes_on_the_way_is_a_gap_and_one_that_goes_is_no_fault(tmp_path: Path) -> None:
    machine = SimulatedMachine(
        tmp_path,
        signals=[power()],
        files=battery() | supply("AC", type="Mains", online=0),
        faults={f"{FOLDER}/AC/online": (Fault(kind="ENODEV", first_read=4),)},
        clock=Clock(),
    )
    sensor = open_battery(machine.machine)
    put(machine, f"{FOLDER}/AC/online", "1")
    assert reason_of(sensor) == "on mains power: AC is plugged in"
    sensor.read()
    sensor.read()
    assert watts_of(sensor) == pytest.approx(12.5)


def test_zero_watts_while_discharging_is_unknown_and_not_zero(tmp_path: Path) -> None:
    with pytest.raises(Absent, match="0 W"):
        opened(tmp_path / "mute", **battery(power_now=0))
    machine = simulated(tmp_path, **battery(power_now=5_000_000))
    sensor = open_battery(machine.machine)
    put(machine, f"{FOLDER}/BAT0/power_now", "0")
    assert "does not tell its power" in reason_of(sensor)


# --- bad input ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["EIO", "EINVAL", "ENODEV", "text", "empty"])
@pytest.mark.parametrize("file", ["power_now", "status"])
def test_a_bad_read_is_a_gap_and_the_next_one_is_tried(tmp_path: Path, kind: str, file: str) -> None:
    path = f"{FOLDER}/BAT0/{file}"
    machine = SimulatedMachine(
        tmp_path,
        signals=[power()],
        files=battery(),
        faults={path: (Fault(kind=kind, first_read=1, last_read=1),)},
        clock=Clock(),
    )
    sensor = open_battery(machine.machine)
    assert reason_of(sensor)
    assert watts_of(sensor) == pytest.approx(12.5)


def test_a_battery_whose_power_is_text_from_the_start_is_denied(tmp_path: Path) -> None:
    with pytest.raises(Denied) as caught:
        opened(tmp_path, **battery(power_now="a lot"))
    assert FOLDER in caught.value.hint


# --- how much it holds --------------------------------------------------------------------------------


def capacity(sensor: Battery) -> tuple[float | None, float | None]:
    return sensor.channels[0].full_j, sensor.channels[0].left_j


def test_watt_hours_become_joules(tmp_path: Path) -> None:
    files = battery(energy_full=50_000_000, energy_now=20_000_000)
    assert capacity(opened(tmp_path, power(), **files)) == (pytest.approx(180_000), pytest.approx(72_000))


def test_ampere_hours_count_at_the_lowest_design_voltage(tmp_path: Path) -> None:
    files = battery(charge_full=4_000_000, charge_now=1_000_000, voltage_min_design=11_000_000)
    assert capacity(opened(tmp_path, power(), **files)) == (pytest.approx(158_400), pytest.approx(39_600))


def test_two_batteries_hold_what_both_hold_even_if_one_rests(tmp_path: Path) -> None:
    files = battery(energy_full=10_000_000, energy_now=5_000_000)
    files |= battery("BAT1", "Unknown", power_now=0, energy_full=20_000_000, energy_now=20_000_000)
    assert capacity(opened(tmp_path, power(), **files)) == (pytest.approx(108_000), pytest.approx(90_000))


@pytest.mark.parametrize(
    "facts",
    [{}, {"energy_full": 0}, {"energy_full": "?", "energy_now": -5}, {"charge_full": 9, "charge_now": 9}],
)
def test_a_capacity_that_nobody_tells_is_unknown(tmp_path: Path, facts: dict[str, object]) -> None:
    assert capacity(opened(tmp_path, power(), **battery(**facts))) == (None, None)
