"""Whole runs on machines without a sensor: joules by the model's formula and by the user's own watts.

The simulated machines have scripted CPUs of which so many are always busy; the tree, on the real ones,
is not among them. So the truth is idle + dynamic x the load of the script, for as long as
the run took.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from tests.cpuinfo import AMD, INTEL, x86
from tests.simulation import SimulatedMachine, Stat, Zone, constant

from .conftest import CLOCKED, Measured, Running

Simulate = Callable[..., SimulatedMachine]
Measure = Callable[..., Measured]
Begin = Callable[..., Running]

HERTZ = ["0.1", "1", "10", "100", "1000"]
TWO_SECONDS = [sys.executable, "-S", "-c", CLOCKED, "2"]
MILAN = ("AMD EPYC 7763 64-Core Processor", (AMD, 25, 1, 1))
GUEST = {"/proc/cpuinfo": x86(*MILAN, guest=True)}
BARE = {"/proc/cpuinfo": x86(*MILAN, siblings=64, cores=32)}
LAPTOP = {"/proc/cpuinfo": x86("Intel(R) Core(TM) i7-8550U CPU @ 1.80GHz", (INTEL, 6, 142, 10))}
IDLE_W, FULL_W = 0.424, 1.916
"""Of each thread of that family."""


def loaded(cpus: int, busy: float) -> Stat:
    return Stat(cpus=cpus, neighbour_cpus=busy)


def check(measured: Measured, watts: float, rel: float = 0.005) -> None:
    assert measured.machine_j == pytest.approx(watts * measured.duration_s, rel=rel)
    energy = measured.energy
    assert energy["machine_low_j"] <= measured.machine_j <= energy["machine_high_j"]
    assert energy["low_j"] <= energy["attributed_j"] <= energy["high_j"]
    assert measured.record["gaps"] == []


def test_a_guest_has_its_share_of_the_server_at_any_frequency(simulate: Simulate, begin: Begin) -> None:
    machine = simulate(stat=loaded(16, 4), files=GUEST)
    for running in [begin(machine, "-F", hertz, command=TWO_SECONDS) for hertz in HERTZ]:
        measured = running.finish()
        check(measured, 16 * IDLE_W + 4 * (FULL_W - IDLE_W))
        assert measured.energy["provenance"] == "estimated"
        assert measured.energy["machine_low_j"] == pytest.approx(16 * IDLE_W * measured.duration_s)
        assert measured.energy["machine_high_j"] == pytest.approx(16 * FULL_W * measured.duration_s)


def test_a_bare_server_follows_its_curve_at_any_frequency(simulate: Simulate, begin: Begin) -> None:
    machine = simulate(stat=loaded(64, 6.4), files=BARE)
    for running in [begin(machine, "-F", hertz, command=TWO_SECONDS) for hertz in HERTZ]:
        measured = running.finish()
        check(measured, 64 * (IDLE_W + 0.218 * (FULL_W - IDLE_W)))
        [channel] = measured.record["channels"]
        assert "curve of 22 results" in channel["note"]


def test_a_laptop_has_its_tdp_and_its_memory(simulate: Simulate, measure: Measure) -> None:
    machine = simulate(stat=loaded(8, 4), files=LAPTOP, memory_bytes=16 * 2**30)
    measured = measure(machine, command=["sleep", "1"])
    cpu, ram = measured.channel("cpu"), measured.channel("ram")
    [channel] = [each for each in measured.record["channels"] if each["id"] == "cpu"]
    watts = channel["low_w"] + (15 - channel["low_w"]) / 2
    assert channel["source"].startswith("TDP of core i7-8550u")
    assert cpu["machine_j"] == pytest.approx(watts * measured.duration_s, rel=0.005)
    assert ram["machine_j"] == pytest.approx(16 * 0.3725 * measured.duration_s, rel=0.005)


def test_what_is_estimated_is_a_warning_that_says_what_would_make_it_measured(
    simulate: Simulate, measure: Measure
) -> None:
    warning = measure(simulate(stat=loaded(4, 1), files=GUEST), command=["true"]).warning("estimated")
    assert "CPU and memory energy" in warning["text"]
    assert "RAPL" in warning["hint"]


def test_a_hidden_processor_is_known_by_its_instance(simulate: Simulate, measure: Measure) -> None:
    files = {
        "/proc/cpuinfo": x86("Virtual CPU", guest=True),
        "/sys/class/dmi/id/sys_vendor": "Amazon EC2\n",
        "/sys/class/dmi/id/product_name": "m6a.xlarge\n",
    }
    measured = measure(simulate(stat=loaded(4, 2), files=files), command=["sleep", "1"])
    check(measured, 4 * IDLE_W + 2 * (FULL_W - IDLE_W))
    [channel] = measured.record["channels"]
    assert "m6a.xlarge" in channel["note"]


def test_stated_watts_are_used_as_they_stand_at_any_frequency(simulate: Simulate, begin: Begin) -> None:
    machine = simulate(stat=loaded(16, 4), files=GUEST, memory_bytes=32 * 2**30)
    options = ["--cpu-watts", "20:100", "--ram-watts-per-gb", "0.25"]
    for running in [begin(machine, "-F", hertz, *options, command=TWO_SECONDS) for hertz in HERTZ]:
        measured = running.finish()
        check(measured, 20 + 80 * 4 / 16 + 8)
        assert measured.energy["provenance"] == "configured"
        assert "estimated" not in measured.codes
        assert {row["id"] for row in measured.energy["channels"]} == {"cpu", "ram"}
        assert measured.channel("ram")["machine_low_j"] == pytest.approx(8 * measured.duration_s)


def test_stated_watts_yield_to_a_counter(simulate: Simulate, measure: Measure) -> None:
    zones = (Zone(power=constant(50)), Zone(folder="intel-rapl:0:0", name="dram", power=constant(5)))
    measured = measure(simulate(*zones), "--cpu-watts", "1:2", command=["sleep", "0.5"])
    check(measured, 55, rel=0.01)
    assert measured.energy["provenance"] == "measured"
    assert "--cpu-watts" in measured.warning("watts_unused")["text"]


def test_in_a_container_whose_proc_shows_its_own_cpus_the_tree_cannot_own_the_hosts(
    simulate: Simulate, measure: Measure
) -> None:
    # lxcfs: two CPUs in /proc/stat, sixty-four in sysfs
    files = {**GUEST, "/sys/devices/system/cpu/online": "0-63\n"}
    measured = measure(simulate(stat=loaded(2, 1), files=files), command=["sleep", "1"])
    check(measured, 2 * IDLE_W + (FULL_W - IDLE_W))
    assert measured.record["cpu_time"]["logical_cpus"] == 2
    assert measured.record["cpu_time"]["machine_s"] == pytest.approx(measured.duration_s, rel=0.1)
    assert measured.record["host"]["cpu_count"] == 2
