"""Sensors that are locked, break, lie or hang: the command never notices, and the record says what happened.

In every case: the command's own status, a complete record, and bounds that hold the true joules.
"""

from __future__ import annotations

import csv
import signal
import sys
from collections.abc import Callable

import pytest

from tests.simulation import Fault, SimulatedMachine, Stat, Zone, constant

from .conftest import CLOCKED, Measured, Running

Simulate = Callable[..., SimulatedMachine]
Measure = Callable[..., Measured]
Begin = Callable[..., Running]

PACKAGE_W, DRAM_W = 50.0, 5.0
FAILS = ["sh", "-c", "sleep 0.8; exit 7"]
FOR_EVER_S = 10_000
PATIENCE_S = 10.0
"""Far above the 2 s that emt allows itself, and far below for ever: the box may be slow."""


def package(*faults: Fault, **facts: object) -> Zone:
    return Zone(power=constant(PACKAGE_W), faults=faults, **facts)  # type: ignore[arg-type]


def dram(*faults: Fault) -> Zone:
    return Zone(folder="intel-rapl:0:0", name="dram", power=constant(DRAM_W), faults=faults)


def check(measured: Measured) -> None:
    """What holds whatever went wrong with the package: nothing is invented, and the bounds hold the truth."""
    seconds = measured.duration_s
    assert measured.status == 7
    assert measured.record["exit"] == {"code": 7, "signal": None}
    assert measured.channel("cpu0/dram")["machine_j"] == pytest.approx(DRAM_W * seconds, rel=0.01)
    assert measured.gaps("cpu0/dram") == []
    row = measured.channel("cpu0/package")
    assert row["machine_j"] == pytest.approx(PACKAGE_W * (seconds - row["gap_s"]), rel=0.02)
    assert row["machine_low_j"] <= PACKAGE_W * seconds <= row["machine_high_j"] + 1e-5
    energy = measured.energy
    assert energy["machine_low_j"] <= (PACKAGE_W + DRAM_W) * seconds <= energy["machine_high_j"] + 1e-5
    for gap in measured.gaps("cpu0/package"):
        assert 0 <= gap["start_s"] < gap["end_s"] <= seconds
    assert ("sensor_gap" in measured.codes) == (row["gap_s"] > 0.01)


# --- locked -----------------------------------------------------------------------------------------


def test_counters_that_may_not_be_read_become_an_estimate_with_the_remedy(
    simulate: Simulate, measure: Measure
) -> None:
    locked = Fault(kind="EACCES")
    measured = measure(simulate(package(locked), dram(locked)), command=FAILS)
    assert measured.status == 7
    energy = measured.energy
    assert energy["provenance"] == "estimated"
    assert 0 < energy["machine_low_j"] <= energy["machine_j"] <= energy["machine_high_j"]
    assert energy["machine_low_j"] < energy["machine_high_j"]
    denied, estimated = measured.warning("sensor_denied"), measured.warning("estimated")
    assert "/sys/class/powercap/intel-rapl:0/energy_uj" in denied["text"]
    assert "sudo systemd-tmpfiles --create" in denied["hint"]
    assert estimated["hint"] == denied["hint"]


def test_one_locked_counter_of_two_is_named_with_its_remedy(simulate: Simulate, measure: Measure) -> None:
    measured = measure(simulate(package(Fault(kind="EACCES")), dram()), command=FAILS)
    assert measured.channel("cpu0/dram")["provenance"] == "measured"
    assert measured.channel("cpu")["provenance"] == "estimated"
    assert measured.energy["provenance"] == "estimated"
    assert "intel-rapl:0/energy_uj" in measured.warning("sensor_denied")["text"]
    assert "sudo systemd-tmpfiles --create" in measured.warning("estimated")["hint"]


# --- broken for a moment ----------------------------------------------------------------------------


def test_a_counter_that_fails_for_a_moment_loses_nothing(simulate: Simulate, begin: Begin) -> None:
    faults = [Fault(kind=kind, first_read=6, last_read=8) for kind in ("EIO", "EINVAL", "text", "empty")]
    for running in [begin(simulate(package(fault), dram()), command=FAILS) for fault in faults]:
        measured = running.finish()
        check(measured)
        assert measured.observed("cpu0/package")["failed"] == 3
        assert measured.gaps("cpu0/package") == []


@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind="garbage", value=1e15, first_read=6, last_read=6),
        Fault(kind="garbage", value=3, first_read=6, last_read=6),
        Fault(kind="garbage", value=-1, first_read=6, last_read=6),
        Fault(kind="backwards", value=100e6, first_read=6, last_read=6),
        Fault(kind="garbage", value=1e15, first_read=6, last_read=8),
    ],
    ids=["huge", "tiny", "negative", "backwards", "again and again"],
)
def test_a_value_that_no_device_could_have_made_is_ignored(
    simulate: Simulate, measure: Measure, fault: Fault
) -> None:
    measured = measure(simulate(package(fault, start_uj=10**9), dram()), command=FAILS)
    check(measured)
    assert measured.machine_j == pytest.approx((PACKAGE_W + DRAM_W) * measured.duration_s, rel=0.01)
    assert measured.observed("cpu0/package")["resets"] == 0


# --- broken for good --------------------------------------------------------------------------------


def test_a_counter_that_stops_is_a_gap_to_the_end_and_its_neighbour_goes_on(
    simulate: Simulate, begin: Begin
) -> None:
    reasons = {
        "EIO": "Input/output error",
        "ENODEV": "No such device",
        "empty": "empty",
        "text": "not a number: b'<unknown>\\n'",
    }
    faults = [Fault(kind=kind, first_read=6) for kind in reasons]
    started = [begin(simulate(package(fault), dram()), command=FAILS) for fault in faults]
    for running, reason in zip(started, reasons.values(), strict=True):
        check_stopped(running.finish(), reason)


def check_stopped(measured: Measured, reason: str) -> None:
    check(measured)
    (gap,) = measured.gaps("cpu0/package")
    assert gap["reason"] == reason
    assert gap["end_s"] == pytest.approx(measured.duration_s, abs=1e-6)
    assert measured.channel("cpu0/package")["gap_s"] == pytest.approx(gap["end_s"] - gap["start_s"], abs=1e-6)
    assert reason in measured.warning("sensor_gap")["text"]


def test_a_counter_that_cannot_be_read_until_the_run_is_under_way_is_a_gap_from_the_start(
    simulate: Simulate, measure: Measure
) -> None:
    measured = measure(simulate(package(Fault(kind="EINVAL", last_read=5)), dram()), command=FAILS)
    check(measured)
    (gap,) = measured.gaps("cpu0/package")
    assert (gap["start_s"], gap["reason"]) == (0, "Invalid argument")


def test_a_counter_that_never_answers_is_unknown_and_not_zero(simulate: Simulate, measure: Measure) -> None:
    measured = measure(simulate(package(Fault(kind="EIO")), dram()), command=FAILS)
    assert measured.status == 7
    assert measured.channel("cpu0/dram")["machine_j"] == pytest.approx(DRAM_W * measured.duration_s, rel=0.01)
    (gap,) = measured.gaps("cpu0/package")
    assert gap["end_s"] - gap["start_s"] == pytest.approx(measured.duration_s, abs=1e-6)
    assert measured.energy["machine_high_j"] >= (PACKAGE_W + DRAM_W) * measured.duration_s
    assert "cpu0/package" in measured.warning("sensor_denied")["text"]


@pytest.mark.parametrize("fallen_uj", [20e6, 1e9], ids=["a little", "to nothing"])
def test_a_counter_that_falls_and_goes_on_from_there_was_reset(
    simulate: Simulate, measure: Measure, fallen_uj: float
) -> None:
    fallen = Fault(kind="backwards", value=fallen_uj, first_read=6)
    measured = measure(simulate(package(fallen, start_uj=10**9), dram()), command=FAILS)
    check(measured)
    (gap,) = measured.gaps("cpu0/package")
    assert gap["reason"] == "counter was reset"
    assert measured.observed("cpu0/package")["resets"] == 1
    assert "counter_reset" in measured.codes


def test_a_broken_sensor_does_not_hide_the_signal_that_killed_the_command(
    simulate: Simulate, measure: Measure
) -> None:
    machine = simulate(package(Fault(kind="EIO", first_read=4)), dram())
    measured = measure(machine, command=["sh", "-c", "sleep 0.6; kill -TERM $$"])
    assert measured.status == -signal.SIGTERM
    assert measured.record["exit"] == {"code": None, "signal": signal.SIGTERM}


# --- hanging ----------------------------------------------------------------------------------------


def clocked(seconds: float) -> list[str]:
    return ["sh", "-c", '"$0" -S -c "$1" "$2"; exit 7', sys.executable, CLOCKED, str(seconds)]


def clock(measured: Measured) -> tuple[float, float]:
    """When the command began and ended, by its own clock."""
    assert measured.status == 7
    began_s, ended_s = map(float, measured.output.split())
    return began_s, ended_s


def test_a_reading_that_hangs_for_a_second_holds_up_its_own_sensor_alone_and_loses_nothing(
    simulate: Simulate, measure: Measure
) -> None:
    slow = Fault(kind="block", value=1.0, first_read=4, last_read=4)
    measured = measure(simulate(package(slow)), command=clocked(2))
    clock(measured)
    row = measured.channel("cpu0/package")
    assert row["machine_j"] == pytest.approx(PACKAGE_W * measured.duration_s, rel=0.005)
    assert measured.record["gaps"] == []
    # the memory is estimated here, by another sensor: it was read all along
    assert measured.observed("ram")["readings"] >= measured.observed("cpu0/package")["readings"] + 8
    with (measured.folder / "samples.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sum(bool(row["ram_j"]) and not row["cpu0/package_j"] for row in rows) >= 8


def test_a_reading_that_is_still_hanging_at_the_end_by_less_than_a_second_is_waited_for(
    simulate: Simulate, measure: Measure
) -> None:
    slow = Fault(kind="block", value=1.0, first_read=8, last_read=8)
    measured = measure(simulate(package(slow)), command=clocked(1.2))
    clock(measured)
    row = measured.channel("cpu0/package")
    # It came after the end, and what lies after the end is cut off again; or too late, and is a gap.
    assert row["machine_j"] == pytest.approx(PACKAGE_W * (measured.duration_s - row["gap_s"]), rel=0.005)
    assert row["machine_low_j"] <= PACKAGE_W * measured.duration_s <= row["machine_high_j"]


@pytest.mark.parametrize("first_read", [0, 1], ids=["at the first reading", "at the start edge"])
def test_a_sensor_that_hangs_at_the_start_does_not_keep_the_command_from_starting(
    simulate: Simulate, measure: Measure, first_read: int
) -> None:
    stuck = Fault(kind="block", value=FOR_EVER_S, first_read=first_read)
    machine = simulate(package(stuck), stat=Stat(cpus=8, neighbour_cpus=4))
    measured = measure(machine, command=clocked(0.6))
    began_s, ended_s = clock(measured)
    assert began_s - measured.began_s < PATIENCE_S
    assert measured.ended_s - ended_s < PATIENCE_S
    (gap,) = measured.gaps("cpu0/package")
    assert (gap["start_s"], gap["end_s"]) == pytest.approx((0, measured.duration_s), abs=1e-6)
    assert measured.energy["machine_high_j"] >= PACKAGE_W * measured.duration_s
    # What others tell is of the run, not of the second that was waited for this sensor: four CPUs were busy.
    steps_s = 2 * 8 * 0.01
    assert measured.record["cpu_time"]["machine_s"] == pytest.approx(4 * measured.duration_s, abs=steps_s)
    memory, facts = measured.channel("ram"), next(c for c in measured.record["channels"] if c["id"] == "ram")
    assert memory["machine_j"] == pytest.approx(facts["idle_w"] * measured.duration_s, rel=0.02)
    assert "clock_changed" not in measured.codes


def test_a_sensor_that_hangs_at_the_end_does_not_keep_the_record_waiting(
    simulate: Simulate, measure: Measure
) -> None:
    stuck = Fault(kind="block", value=FOR_EVER_S, first_read=8)
    measured = measure(simulate(package(stuck), dram()), command=clocked(1.2))
    _, ended_s = clock(measured)
    assert measured.ended_s - ended_s < PATIENCE_S
    (gap,) = measured.gaps("cpu0/package")
    assert gap["reason"] == "the last reading did not come in time"
    row = measured.channel("cpu0/package")
    assert row["machine_j"] == pytest.approx(PACKAGE_W * (measured.duration_s - row["gap_s"]), rel=0.02)
    assert row["machine_low_j"] <= PACKAGE_W * measured.duration_s <= row["machine_high_j"]


# --- /proc/stat -------------------------------------------------------------------------------------


def test_a_machine_whose_load_cannot_be_read_still_has_its_joules(simulate: Simulate, begin: Begin) -> None:
    faults = [
        Fault(kind="EACCES"),
        Fault(kind="EIO", first_read=6),
        Fault(kind="text", first_read=6),
        Fault(kind="EIO", first_read=6, last_read=8),
    ]
    machines = [simulate(package(), dram(), faults={"/proc/stat": (fault,)}) for fault in faults]
    for running in [begin(machine, command=FAILS) for machine in machines]:
        measured = running.finish()
        check(measured)
        energy = measured.energy
        assert 0 <= energy["low_j"] <= energy["attributed_j"] <= energy["high_j"]
        assert energy["high_j"] <= energy["machine_high_j"] + 1e-6
