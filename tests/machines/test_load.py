"""Machines whose power follows the real load of this box: what the tree is given of it, and what it is not.

The truth comes from the processes' own clocks, k joules for each CPU second, never from wall time: how much
of the box they get is not ours to say. Both the simulated counters and emt know the machine's load from
/proc/stat, in steps of 10 ms a CPU, and both have two edges, so a share of B busy CPU seconds may be off by
4 steps x CPUs / B (`tick_error`). The work is long enough for that to stay below 3 % on two CPUs.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

import pytest

from tests.simulation import SimulatedMachine, Stat, Zone, constant, following_load

from .conftest import Measured, Running, neighbours, spinning, tick_error, used_s

Simulate = Callable[..., SimulatedMachine]
Measure = Callable[..., Measured]
Begin = Callable[..., Running]

IDLE_W, PER_CPU_W, DRAM_W = 20.0, 30.0, 5.0
KNOWN = {"cpu0/package": IDLE_W, "cpu0/dram": DRAM_W}
THREADS = """
import hashlib, sys, threading, time
def work():
    while time.process_time() < float(sys.argv[1]):
        hashlib.pbkdf2_hmac("sha256", b"emt", b"salt", 2000)  # without the interpreter's lock
threads = [threading.Thread(target=work) for _ in range(int(sys.argv[2]))]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(time.process_time())
"""


def following(idle_w: float = IDLE_W, exponent: float = 1.0) -> tuple[Zone, Zone]:
    package = Zone(power=following_load(idle_w, PER_CPU_W, exponent))
    return package, Zone(folder="intel-rapl:0:0", name="dram", power=constant(DRAM_W))


def allowed(measured: Measured, at_least: float = 0.03) -> float:
    return max(at_least, tick_error(measured.record["cpu_time"]["machine_s"]))


def check(measured: Measured) -> None:
    """The tree has the joules of its own CPU seconds, and its busy share of the idle ones."""
    assert used_s(measured) > 0, measured.errors
    energy, cpu = measured.energy, measured.record["cpu_time"]
    truth_j = PER_CPU_W * used_s(measured)
    assert energy["active_j"] == pytest.approx(truth_j, rel=allowed(measured))
    idle_j = (IDLE_W + DRAM_W) * measured.duration_s * used_s(measured) / cpu["machine_s"]
    assert energy["attributed_j"] == pytest.approx(truth_j + idle_j, rel=allowed(measured))
    # A process ends after it has told its clock: up to 10 ms of each one's truth are not in the number.
    untold = 1 + 0.01 * measured.record["processes"]["count"] / used_s(measured)
    assert energy["low_j"] <= (truth_j + idle_j) * untold
    assert truth_j + idle_j <= energy["high_j"]
    assert energy["low_j"] <= energy["attributed_j"] <= energy["high_j"] <= energy["machine_high_j"] + 1e-6
    assert energy["attributed_j"] <= energy["machine_j"]


@pytest.mark.parametrize("hertz", ["0.1", "1", "10", "100", "1000"])
@pytest.mark.parametrize("strangers", [0, 1])
def test_the_same_work_is_given_the_same_joules_at_any_frequency_and_beside_a_neighbour(
    simulate: Simulate, measure: Measure, hertz: str, strangers: int
) -> None:
    machine = simulate(*following())
    with neighbours(strangers):
        measured = measure(machine, "-F", hertz, command=spinning(1.4, processes=2), idle_w=KNOWN)
    check(measured)


def test_a_tree_of_many_processes_is_given_the_joules_of_them_all(
    simulate: Simulate, measure: Measure
) -> None:
    measured = measure(simulate(*following()), command=spinning(0.25, processes=12), idle_w=KNOWN)
    assert measured.record["processes"]["count"] >= 13
    check(measured)


def test_a_process_of_many_threads_is_given_the_joules_of_them_all(
    simulate: Simulate, measure: Measure
) -> None:
    command = [sys.executable, "-S", "-c", THREADS, "3", "8"]
    check(measure(simulate(*following()), command=command, idle_w=KNOWN))


def test_without_the_perf_counter_the_joules_are_the_same(simulate: Simulate, measure: Measure) -> None:
    machine = simulate(*following())
    measured = measure(machine, "--no-perf", command=spinning(1.4, processes=2), idle_w=KNOWN)
    assert "perf" not in measured.record["cpu_time"]["witnesses"]
    check(measured)


def test_an_unknown_idle_power_changes_the_bounds_but_not_the_headline(
    simulate: Simulate, measure: Measure
) -> None:
    measured = measure(simulate(*following()), command=spinning(1.4, processes=2))
    energy, cpu = measured.energy, measured.record["cpu_time"]
    assert energy["active_j"] is None
    assert energy["idle_share_j"] is None
    whole_j = energy["machine_j"] * used_s(measured) / cpu["machine_s"]
    assert energy["attributed_j"] == pytest.approx(whole_j, rel=allowed(measured))
    # All of it may have been idle power, of which the tree would bear its part of all CPU time there was.
    capacity_s = (os.cpu_count() or 1) * measured.duration_s
    assert energy["low_j"] <= energy["machine_j"] * used_s(measured) / capacity_s
    assert energy["low_j"] <= energy["attributed_j"] <= energy["high_j"]


def test_strangers_on_scripted_cores_keep_their_joules(simulate: Simulate, measure: Measure) -> None:
    # Six more CPUs than this box has, four of them busy with strangers: 120 W that are not the tree's.
    stat = Stat(cpus=(os.cpu_count() or 1) + 6, neighbour_cpus=4, follows_real=True)
    measured = measure(simulate(*following(), stat=stat), command=spinning(1.4, processes=2), idle_w=KNOWN)
    assert measured.machine_j > (IDLE_W + DRAM_W + 4 * PER_CPU_W) * measured.duration_s
    check(measured)


def test_power_that_flattens_with_every_busy_core_still_adds_up(simulate: Simulate, measure: Measure) -> None:
    stat = Stat(cpus=(os.cpu_count() or 1) + 2, neighbour_cpus=1, follows_real=True)
    machine = simulate(*following(exponent=0.6), stat=stat)
    measured = measure(machine, command=spinning(1.4, processes=2), idle_w=KNOWN)
    energy, cpu = measured.energy, measured.record["cpu_time"]
    rest_j = energy["machine_j"] - energy["idle_j"]
    share = used_s(measured) / cpu["machine_s"]
    assert energy["active_j"] == pytest.approx(rest_j * share, rel=allowed(measured))
    assert energy["attributed_j"] <= energy["machine_j"]


def test_two_runs_side_by_side_never_claim_more_than_there_was(simulate: Simulate, begin: Begin) -> None:
    machine = simulate(*following())
    before_j = machine.energy_j("cpu0/package") + machine.energy_j("cpu0/dram")
    both = [begin(machine, command=spinning(1.4), idle_w=KNOWN) for _ in range(2)]
    measured = [running.finish() for running in both]
    used_j = machine.energy_j("cpu0/package") + machine.energy_j("cpu0/dram") - before_j
    claimed_j = sum(each.energy["attributed_j"] + each.energy["own_j"] for each in measured)
    assert claimed_j <= used_j * (1 + tick_error(min(e.record["cpu_time"]["machine_s"] for e in measured)))
    for each in measured:
        assert each.energy["active_j"] == pytest.approx(PER_CPU_W * used_s(each), rel=allowed(each))
        assert each.energy["attributed_j"] + each.energy["own_j"] <= each.machine_j


def test_what_ran_before_and_after_the_command_is_not_its_own(simulate: Simulate, measure: Measure) -> None:
    machine = simulate(*following())
    with neighbours(2):
        until_s = time.monotonic() + 0.5
        while time.monotonic() < until_s:  # these joules are on the counters when the run begins
            time.sleep(0.05)
    measured = measure(machine, command=["sleep", "1"], idle_w=KNOWN)
    energy = measured.energy
    most_j = PER_CPU_W * (measured.record["cpu_time"]["tree_s"] + 0.1)
    assert energy["active_j"] <= most_j
    cpu_j = PER_CPU_W * measured.record["cpu_time"]["machine_s"]
    idle_j = (IDLE_W + DRAM_W) * measured.duration_s
    assert measured.machine_j == pytest.approx(idle_j + cpu_j, abs=PER_CPU_W * 4 * 0.01 * 2)
