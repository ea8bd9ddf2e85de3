"""Machines whose joules are known: what `emt run` says of them, at any frequency and length of run."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from tests.simulation import Fault, Power, SimulatedMachine, Stat, Zone, constant, ramp

from .conftest import CLOCKED, Measured, Running

Simulate = Callable[..., SimulatedMachine]
Measure = Callable[..., Measured]
Begin = Callable[..., Running]

HERTZ = ["0.1", "1", "10", "100", "1000"]


def dram(watts: float, **facts: Any) -> Zone:
    return Zone(folder="intel-rapl:0:0", name="dram", power=constant(watts), **facts)


def encloses(energy: dict[str, Any], joules: float) -> bool:
    # The counter's own step: the truth is not rounded to microjoules, the interval's ends are.
    return bool(energy["machine_low_j"] - 1e-5 <= joules <= energy["machine_high_j"] + 1e-5)


def test_constant_power_gives_watts_times_seconds_at_any_frequency(simulate: Simulate, begin: Begin) -> None:
    machine = simulate(Zone(power=constant(50)), dram(5))
    command = [sys.executable, "-S", "-c", CLOCKED, "2"]
    for running in [begin(machine, "-F", hertz, command=command) for hertz in HERTZ]:
        check_constant(running.finish())


def check_constant(measured: Measured) -> None:
    """55 W, by the clocks of emt, of the command and of this process."""
    began_s, ended_s = map(float, measured.output.split())
    assert ended_s - began_s <= measured.duration_s <= measured.ended_s - measured.began_s
    truth_j = 55 * measured.duration_s
    assert measured.machine_j == pytest.approx(truth_j, rel=0.005)
    assert encloses(measured.energy, truth_j)
    assert measured.channel("cpu0/dram")["machine_j"] == pytest.approx(5 * measured.duration_s, rel=0.005)
    assert measured.energy["provenance"] == "measured"
    assert measured.record["gaps"] == []


def test_a_third_of_a_second_is_measured_within_two_percent(simulate: Simulate, begin: Begin) -> None:
    machine = simulate(Zone(power=constant(80)), dram(4))
    for running in [begin(machine, "-F", hertz, command=["sleep", "0.3"]) for hertz in HERTZ]:
        measured = running.finish()
        assert measured.machine_j == pytest.approx(84 * measured.duration_s, rel=0.02)
        assert ("short_run" in measured.codes) == (measured.duration_s < 0.5)


def test_a_command_that_is_over_at_once_has_a_sane_record(simulate: Simulate, measure: Measure) -> None:
    measured = measure(simulate(Zone(power=constant(100)), dram(10)), command=["true"])
    energy = measured.energy
    assert measured.status == 0
    assert 0 < measured.duration_s < measured.ended_s - measured.began_s
    assert measured.machine_j == pytest.approx(110 * measured.duration_s, rel=0.02)
    assert encloses(energy, 110 * measured.duration_s)
    assert 0 <= energy["low_j"] <= energy["attributed_j"] <= energy["high_j"] <= energy["machine_high_j"]
    assert energy["attributed_j"] <= measured.machine_j
    assert measured.record["gaps"] == []
    assert measured.codes.count("short_run") == 1


def test_two_sockets_with_everything_that_overlaps_count_each_joule_once(
    simulate: Simulate, measure: Measure
) -> None:
    machine = simulate(
        Zone(folder="intel-rapl:0", name="package-0", power=constant(80)),
        Zone(folder="intel-rapl:0:0", name="core", power=constant(50)),
        Zone(folder="intel-rapl:0:1", name="uncore", power=constant(10)),
        Zone(folder="intel-rapl:0:2", name="dram", power=constant(8)),
        Zone(folder="intel-rapl:1", name="package-1", power=constant(60), start_uj=10**9),
        Zone(folder="intel-rapl:1:0", name="core", power=constant(40)),
        Zone(folder="intel-rapl:1:1", name="dram", power=constant(6)),
        Zone(folder="intel-rapl:2", name="psys", power=constant(200)),
        Zone(folder="intel-rapl-mmio:0", name="package-0", mirror_of="intel-rapl:0"),
    )
    measured = measure(machine, command=["sleep", "1"])
    seconds = measured.duration_s
    assert measured.machine_j == pytest.approx((80 + 8 + 60 + 6) * seconds, rel=0.005)
    assert measured.energy["platform_j"] == pytest.approx(200 * seconds, rel=0.005)
    for channel, watts in {
        "cpu0/package": 80,
        "cpu0/core": 50,
        "cpu0/uncore": 10,
        "cpu0/dram": 8,
        "cpu1/package": 60,
        "cpu1/core": 40,
        "cpu1/dram": 6,
        "node/psys": 200,
    }.items():
        assert measured.channel(channel)["machine_j"] == pytest.approx(watts * seconds, rel=0.005), channel
    counted = {row["id"] for row in measured.energy["channels"] if row["counted"]}
    assert counted == {"cpu0/package", "cpu0/dram", "cpu1/package", "cpu1/dram"}
    mirror = next(c for c in measured.record["channels"] if "mmio" in c["source"])
    assert mirror["dropped"] == "mirror of cpu0/package"


def test_the_whole_node_is_the_headline_where_it_is_asked_for(simulate: Simulate, measure: Measure) -> None:
    machine = simulate(
        Zone(power=constant(80)),
        Zone(folder="intel-rapl:1", name="psys", power=constant(200)),
    )
    measured = measure(machine, "--total", "platform", command=["sleep", "0.5"])
    assert measured.machine_j == pytest.approx(200 * measured.duration_s, rel=0.01)


def test_dies_that_repeat_one_counter_count_once_and_real_dies_both(
    simulate: Simulate, measure: Measure
) -> None:
    repeated = simulate(
        Zone(folder="intel-rapl:0", name="package-0-die-0", power=constant(90)),
        Zone(folder="intel-rapl:1", name="package-0-die-1", mirror_of="intel-rapl:0"),
        Zone(folder="intel-rapl:2", name="package-1-die-0", power=constant(70), start_uj=5 * 10**9),
        Zone(folder="intel-rapl:3", name="package-1-die-1", mirror_of="intel-rapl:2"),
        dram(5),
    )
    real = simulate(
        Zone(folder="intel-rapl:0", name="package-0-die-0", power=constant(90)),
        Zone(folder="intel-rapl:1", name="package-0-die-1", power=constant(30), start_uj=7 * 10**9),
        dram(5),
    )
    measured = measure(repeated, command=["sleep", "0.5"])
    assert measured.machine_j == pytest.approx((90 + 70 + 5) * measured.duration_s, rel=0.01)
    measured = measure(real, command=["sleep", "0.5"])
    assert measured.machine_j == pytest.approx((90 + 30 + 5) * measured.duration_s, rel=0.01)


def test_a_counter_that_wraps_twice_a_second_is_exact_at_any_frequency(
    simulate: Simulate, begin: Begin
) -> None:
    wrapping = Zone(power=constant(400), range_uj=200 * 10**6, start_uj=199 * 10**6, max_power_uw=250 * 10**6)
    machine = simulate(wrapping, dram(5))
    for running in [begin(machine, "-F", hertz, command=["sleep", "2"]) for hertz in ("0.1", "10")]:
        check_wrapping(running.finish())


def check_wrapping(measured: Measured) -> None:
    # A box so busy that emt was not woken within half the wrap time (0.2 s) loses that stretch, and says so.
    lost_s = measured.channel("cpu0/package")["gap_s"]
    assert lost_s < measured.duration_s / 2
    read_j = measured.channel("cpu0/package")["machine_j"]
    assert read_j == pytest.approx(400 * (measured.duration_s - lost_s), rel=0.005)
    assert lost_s or measured.observed("cpu0/package")["wraps"] >= 4


def test_a_counter_whose_range_is_not_told_is_exact_until_it_falls_and_then_has_a_gap(
    simulate: Simulate, measure: Measure
) -> None:
    steady = simulate(Zone(power=constant(50), range_uj=None), dram(5))
    measured = measure(steady, command=["sleep", "0.5"])
    assert measured.machine_j == pytest.approx(55 * measured.duration_s, rel=0.01)
    assert "range" in measured.channel("cpu0/package")["note"]

    fallen = Fault(kind="backwards", value=20e6, first_read=6)
    falling = simulate(Zone(power=constant(50), range_uj=None, start_uj=10**9, faults=(fallen,)), dram(5))
    measured = measure(falling, command=["sleep", "1"])
    (gap,) = measured.gaps("cpu0/package")
    assert gap["reason"] == "counter was reset"
    lost_s = gap["end_s"] - gap["start_s"]
    read_j = measured.channel("cpu0/package")["machine_j"]
    assert read_j == pytest.approx(50 * (measured.duration_s - lost_s), rel=0.01)
    assert encloses(measured.energy, 55 * measured.duration_s)


def test_rising_and_falling_power_is_added_up_over_the_run_alone(
    simulate: Simulate, measure: Measure
) -> None:
    machine = simulate(
        Zone(folder="intel-rapl:0", name="package-0", power=ramp(20, 30)),
        Zone(folder="intel-rapl:1", name="package-1", power=ramp(400, -20)),
        dram(5),
    )
    measured = measure(machine, "-F", "1", command=[sys.executable, "-S", "-c", CLOCKED, "1"])
    began_s, ended_s = map(float, measured.output.split())
    # The run began before the command could look at the clock and ended after it: not earlier than this.
    earliest_s, latest_s = ended_s - measured.duration_s, began_s
    for channel in ("cpu0/package", "cpu1/package"):
        edges = [
            machine.true_energy_j(channel, start_s, start_s + measured.duration_s)
            for start_s in (earliest_s, latest_s)
        ]
        read_j = measured.channel(channel)["machine_j"]
        assert min(edges) * 0.995 <= read_j <= max(edges) * 1.005, channel


def test_power_that_grows_with_scripted_cores_is_known_exactly(simulate: Simulate, measure: Measure) -> None:
    power = Power(base_w=20, per_cpu_w=30, exponent=0.7)
    machine = simulate(Zone(power=power), dram(5), stat=Stat(cpus=16, neighbour_cpus=9))
    measured = measure(machine, command=["sleep", "1"])
    truth_w = 20 + 30 * 9**0.7 + 5
    assert measured.machine_j == pytest.approx(truth_w * measured.duration_s, rel=0.005)
    # 9 of 16 CPUs were busy with strangers' work, and a sleeping command has next to no part in it.
    assert measured.energy["attributed_j"] < 0.02 * measured.machine_j
