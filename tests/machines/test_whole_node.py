"""Sensors that see the whole node, beside those that see its parts: Cray counters, a battery, a BMC."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.simulation import Fault, Signal, SimulatedMachine, Zone, constant

from .conftest import CLOCKED, Measured, Running

Simulate = Callable[..., SimulatedMachine]
Measure = Callable[..., Measured]
Begin = Callable[..., Running]

CRAY = "/sys/cray/pm_counters"
BATTERY = "/sys/class/power_supply/BAT0"
LIMIT_S = 30.0


def clocked(seconds: float) -> list[str]:
    return [sys.executable, "-S", "-c", CLOCKED, str(seconds)]


def counted(measured: Measured) -> set[str]:
    return {row["id"] for row in measured.energy["channels"] if row["counted"]}


def encloses(energy: dict[str, Any], joules: float) -> bool:
    return bool(energy["machine_low_j"] <= joules <= energy["machine_high_j"])


# --- Cray -----------------------------------------------------------------------------------------------


def cray(simulate: Simulate, update_period_s: float = 0.0, *, is_locked: bool = True) -> SimulatedMachine:
    """3.2 kW, of which 2.9 in the counted parts; the sockets' own counters tell 395 W of the 400."""
    watts = {"": 3200.0, "cpu_": 400.0, "memory_": 100.0, "accel0_": 1100.0, "accel1_": 1300.0}
    options: dict[str, Any] = {"form": "{j} J {us} us", "start_j": 5e8, "update_period_s": update_period_s}
    signals = [
        Signal(path=f"{CRAY}/{part}energy", power=constant(each), **options) for part, each in watts.items()
    ]
    signals.append(Signal(path=f"{CRAY}/freshness", power=constant(10), form="{j}"))
    faults = (Fault(kind="EACCES"),) if is_locked else ()
    return simulate(
        Zone(power=constant(395), faults=faults),
        signals=signals,
        files={f"{CRAY}/generation": "16\n", f"{CRAY}/raw_scan_hz": "10\n", f"{CRAY}/power_cap": "0 W\n"},
    )


def test_a_cray_node_counts_its_parts_once_and_shows_the_whole_node(
    simulate: Simulate, measure: Measure
) -> None:
    measured = measure(cray(simulate), command=clocked(2))
    assert counted(measured) == {"cpu", "ram", "accel0", "accel1"}
    # Whole joules: two steps of each of four counters in 5.8 kJ are 0.14 %.
    assert measured.machine_j == pytest.approx(2900 * measured.duration_s, rel=0.005)
    assert measured.energy["platform_j"] == pytest.approx(3200 * measured.duration_s, rel=0.005)
    assert measured.energy["provenance"] == "measured"
    assert encloses(measured.energy, 2900 * measured.duration_s)
    assert measured.record["gaps"] == []


def test_counters_that_are_scanned_ten_times_a_second_enclose_the_truth(
    simulate: Simulate, begin: Begin
) -> None:
    machine = cray(simulate, update_period_s=0.1)
    for running in [begin(machine, "-F", hertz, command=clocked(1.5)) for hertz in ("1", "10", "100")]:
        measured = running.finish()
        assert encloses(measured.energy, 2900 * measured.duration_s)


def test_where_rapl_may_be_read_the_sockets_are_not_counted_again(
    simulate: Simulate, measure: Measure
) -> None:
    measured = measure(cray(simulate, is_locked=False), command=clocked(2))
    assert counted(measured) == {"cpu0/package", "ram", "accel0", "accel1"}
    assert measured.machine_j == pytest.approx(2895 * measured.duration_s, rel=0.005)


# --- battery --------------------------------------------------------------------------------------------


def laptop(
    simulate: Simulate, *zones: Zone, status: str = "Discharging", watts: float = 18.0
) -> SimulatedMachine:
    facts = {"type": "Battery", "status": status, "energy_full": "50000000", "energy_now": "40000000"}
    return simulate(
        *zones,
        signals=[Signal(path=f"{BATTERY}/power_now", power=constant(watts), form="{uw}")],
        files={f"{BATTERY}/{file}": f"{text}\n" for file, text in facts.items()},
    )


RAPL = (
    Zone(power=constant(9)),
    Zone(folder="intel-rapl:0:0", name="core", power=constant(6)),
    Zone(folder="intel-rapl:1", name="psys", power=constant(14)),
)


def test_on_battery_the_package_counts_and_the_battery_stands_beside_it(
    simulate: Simulate, measure: Measure
) -> None:
    measured = measure(laptop(simulate, *RAPL), command=clocked(2))
    assert {"cpu0/package"} <= counted(measured) <= {"cpu0/package", "ram"}
    assert measured.channel("cpu0/package")["machine_j"] == pytest.approx(9 * measured.duration_s, rel=0.005)
    assert measured.channel("node/battery")["machine_j"] == pytest.approx(18 * measured.duration_s, rel=0.005)
    assert measured.energy["platform_j"] == pytest.approx(14 * measured.duration_s, rel=0.005)


def test_the_record_tells_what_the_battery_holds(simulate: Simulate, measure: Measure) -> None:
    measured = measure(laptop(simulate, *RAPL), command=["true"])
    channel = next(c for c in measured.record["channels"] if c["id"] == "node/battery")
    assert (channel["full_j"], channel["left_j"]) == (pytest.approx(180e3), pytest.approx(144e3))


def test_the_summary_says_what_the_run_took_of_the_battery(
    simulate: Simulate, environment: dict[str, str]
) -> None:
    machine = laptop(simulate, *RAPL)
    arguments = [sys.executable, "-m", "tests.simulated_emt", machine.root, "run", "--", *clocked(1)]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=True)
    said = " ".join(done.stderr.split())
    assert "% of a full charge (50.0 Wh); 2 h 13 min left at this power" in said


@pytest.mark.parametrize("total", ["components", "platform"])
def test_without_rapl_the_estimate_is_the_headline_unless_the_platform_is_asked_for(
    simulate: Simulate, measure: Measure, total: str
) -> None:
    measured = measure(laptop(simulate), "--total", total, command=clocked(2))
    truth_j = 18 * measured.duration_s
    assert measured.energy["platform_j"] == pytest.approx(truth_j, rel=0.005)
    if total == "platform":
        assert counted(measured) == {"node/battery"}
        assert measured.machine_j == pytest.approx(truth_j, rel=0.005)
        assert measured.energy["provenance"] == "integrated"
    else:
        assert "node/battery" not in counted(measured)
        assert measured.energy["provenance"] == "estimated"


@pytest.mark.parametrize("status", ["Charging", "Not charging", "Full", "Unknown"])
def test_on_mains_power_there_is_no_battery_and_no_warning_about_it(
    simulate: Simulate, measure: Measure, status: str
) -> None:
    measured = measure(laptop(simulate, *RAPL, status=status), command=["true"])
    assert "node/battery" not in [channel["id"] for channel in measured.record["channels"]]
    assert not {"sensor_gap", "sensor_denied"} & set(measured.codes)


def test_plugged_in_on_the_way_the_rest_is_a_gap_with_the_reason(
    simulate: Simulate, measure: Measure
) -> None:
    machine = laptop(simulate, *RAPL)
    plug = f"sleep 1.8; echo Charging >'{machine.root}{BATTERY}/status'; sleep 1"
    measured = measure(machine, command=["sh", "-c", plug])
    (gap,) = measured.gaps("node/battery")
    assert gap["reason"] == "on mains power: BAT0 is charging"
    assert gap["end_s"] == pytest.approx(measured.duration_s)
    assert gap["start_s"] > 0.5
    seen_s = measured.duration_s - measured.channel("node/battery")["gap_s"]
    assert measured.channel("node/battery")["machine_j"] == pytest.approx(18 * seen_s, rel=0.005)
    assert "node/battery" in measured.warning("sensor_gap")["text"]
    assert measured.gaps("cpu0/package") == []


# --- a BMC ----------------------------------------------------------------------------------------------

IPMITOOL = """#!/bin/sh
echo $PPID >'{folder}/shell.new' && mv '{folder}/shell.new' '{folder}/shell'
i=0; while [ $i -lt 30000 ]; do i=$((i + 1)); done
echo '    Instantaneous power reading:                   412 Watts'
echo '    Power reading state is:                   activated'
"""


def server(simulate: Simulate) -> SimulatedMachine:
    """A server whose ipmitool uses CPU time, and tells whose child it is."""
    machine = simulate(Zone(power=constant(120)), files={"/dev/ipmi0": "", "/usr/bin/ipmitool": ""})
    program = Path(machine.root, "usr/bin/ipmitool")
    program.write_text(IPMITOOL.format(folder=machine.root))
    program.chmod(0o755)
    return machine


def shell_of(machine: SimulatedMachine) -> int:
    return int(Path(machine.root, "shell").read_text())


def has_ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_until(is_so: Callable[[], bool]) -> None:
    give_up_s = time.monotonic() + LIMIT_S
    while not is_so():
        assert time.monotonic() < give_up_s
        time.sleep(0.01)


@pytest.mark.parametrize("options", [[], ["--no-perf"], ["--wait-tree"]])
def test_the_bmc_is_read_on_request_and_its_tool_is_not_of_the_tree(
    simulate: Simulate, measure: Measure, options: list[str]
) -> None:
    machine = server(simulate)
    measured = measure(machine, "--with", "ipmi", *options, command=["sleep", "2.5"])
    assert measured.energy["platform_j"] == pytest.approx(412 * measured.duration_s, rel=0.005)
    assert "node/ipmi" not in counted(measured)
    cpu_time = measured.record["cpu_time"]
    assert cpu_time["tree_s"] < 0.04
    assert cpu_time["coverage"] == 1.0
    assert [each["name"] for each in measured.record["processes"]["listed"]] == ["sleep"]
    assert not {"coverage", "left_running", "sensor_gap", "sensor_denied"} & set(measured.codes)
    wait_until(lambda: has_ended(shell_of(machine)))


def test_nobody_asks_the_bmc_unless_it_is_wanted(simulate: Simulate, measure: Measure) -> None:
    machine = server(simulate)
    measured = measure(machine, command=["true"])
    assert "node/ipmi" not in [channel["id"] for channel in measured.record["channels"]]
    assert not Path(machine.root, "shell").exists()


def test_an_orphan_of_the_tree_counts_beside_the_bmcs_tool(simulate: Simulate, measure: Measure) -> None:
    """The tool's shell is a child of emt that must not be taken for one, nor hide one."""
    burn = f"'{sys.executable}' -S -c 'import time\nwhile time.process_time() < 0.5: pass'"
    script = f"(({burn}) &) ; sleep 1.5"
    measured = measure(server(simulate), "--with", "ipmi", "--no-perf", command=["sh", "-c", script])
    assert measured.record["cpu_time"]["tree_s"] > 0.45
    assert measured.record["cpu_time"]["coverage"] == 1.0


def test_when_emt_is_killed_nobody_goes_on_asking_the_bmc(simulate: Simulate, begin: Begin) -> None:
    machine = server(simulate)
    running = begin(machine, "--with", "ipmi", command=["sleep", "1.5"])
    wait_until(Path(machine.root, "shell").exists)
    os.kill(running.process.pid, 9)
    running.process.communicate()
    wait_until(lambda: has_ended(shell_of(machine)))
