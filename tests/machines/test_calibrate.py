"""`emt calibrate` on simulated machines: right watts, refused on a busy one, and used by the runs after."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.machines.conftest import Measured
from tests.simulation import SimulatedMachine, Stat, Zone, constant, following_load

IDLE = Stat(cpus=4)
BUSY = Stat(cpus=4, neighbour_cpus=0.2)
ID = {"/etc/machine-id": "0123456789abcdef0123456789abcdef\n"}
ZONES = (
    Zone(power=constant(12.5)),
    Zone(folder="intel-rapl:0:0", name="dram", power=constant(2.5)),
)

Simulate = Callable[..., SimulatedMachine]
Emt = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def emt_on(environment: dict[str, str], tmp_path: Path) -> Emt:
    def run(
        machine: SimulatedMachine, *arguments: str, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", "tests.simulated_emt", machine.root, *arguments]
        variables = {**environment, **(env or {})}
        return subprocess.run(
            words, env=variables, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
        )

    return run


def shown(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_idle_watts_are_right_within_a_percent(simulate: Simulate, emt_on: Emt) -> None:
    machine = simulate(*ZONES, stat=IDLE, files=ID)
    found = shown(emt_on(machine, "calibrate", "--duration", "1", "--format", "json"))
    watts = {each["id"]: each["idle_w"] for each in found["channels"]}
    assert watts == {
        "cpu0/package": pytest.approx(12.5, rel=0.01),
        "cpu0/dram": pytest.approx(2.5, rel=0.01),
    }
    assert found["busy_share"] < 0.02  # the steps of /proc/stat
    assert found["stale"] is None and found["forced"] is False
    again = shown(emt_on(machine, "calibrate", "--show", "--format", "json"))
    assert again["channels"] == found["channels"]
    table = emt_on(machine, "calibrate", "--show").stdout
    assert "12.5" in table and "powercap" in table and "90 days" in table


def test_runs_afterwards_split_by_it_until_it_is_forgotten(
    simulate: Simulate, emt_on: Emt, measure: Callable[..., Measured]
) -> None:
    zone = Zone(power=following_load(12.5, 10.0))
    quiet = simulate(zone, stat=IDLE, files=ID)
    assert emt_on(quiet, "calibrate", "--duration", "1").returncode == 0
    loaded = simulate(zone, stat=Stat(cpus=4, neighbour_cpus=2.0), files=ID)
    run = measure(loaded, command=["sleep", "1"])
    assert run.record["settings"]["idle_w"] == {"cpu0/package": pytest.approx(12.5, rel=0.01)}
    assert run.record["attribution"]["idle_source"].startswith("calibrated 20")
    assert run.channel("cpu0/package")["idle_j"] == pytest.approx(12.5 * run.duration_s, rel=0.02)
    assert emt_on(loaded, "calibrate", "--forget").returncode == 0
    assert measure(loaded, command=["sleep", "1"]).record["settings"]["idle_w"] == {}
    nothing = emt_on(loaded, "calibrate", "--show")
    assert nothing.returncode == 1 and "no calibration" in nothing.stderr


def test_a_configured_idle_power_and_one_measured_before_the_run_beat_it(
    simulate: Simulate, emt_on: Emt, measure: Callable[..., Measured]
) -> None:
    machine = simulate(Zone(power=constant(12.5)), stat=IDLE, files=ID)
    assert emt_on(machine, "calibrate", "--duration", "1").returncode == 0
    before = measure(machine, "--idle-before", "1", command=["true"])
    assert before.record["settings"]["idle_w_source"] == "measured before the run"
    stated = measure(machine, command=["true"], idle_w={"cpu0/package": 3.0})
    assert stated.record["settings"]["idle_w"] == {"cpu0/package": 3.0}
    assert stated.record["settings"]["idle_w_source"] == "configured"


def test_another_machine_does_not_use_it(
    simulate: Simulate, emt_on: Emt, measure: Callable[..., Measured]
) -> None:
    assert emt_on(simulate(*ZONES, stat=IDLE, files=ID), "calibrate", "--duration", "1").returncode == 0
    other = simulate(*ZONES, stat=IDLE, files={"/etc/machine-id": "another\n"})
    assert measure(other, command=["true"]).record["settings"]["idle_w"] == {}


def test_another_cpu_makes_it_stale_and_v_and_the_doctor_say_so(simulate: Simulate, emt_on: Emt) -> None:
    assert emt_on(simulate(*ZONES, stat=IDLE, files=ID), "calibrate", "--duration", "1").returncode == 0
    swapped = simulate(*ZONES, stat=IDLE, files=ID, cpu_model="AMD EPYC 7543")
    said = " ".join(emt_on(swapped, "run", "-v", "--", "true").stderr.split())
    assert "not used: the CPU is another one" in said
    assert "not used" not in emt_on(swapped, "run", "--", "true").stderr
    doctor = " ".join(emt_on(swapped, "doctor").stdout.split())
    assert "not used: the CPU is another one" in doctor and "emt calibrate" in doctor
    kept = emt_on(swapped, "calibrate", "--show")
    assert kept.returncode == 0 and "the CPU is another one" in " ".join(kept.stdout.split())


def test_a_busy_machine_is_refused_and_nothing_is_kept(simulate: Simulate, emt_on: Emt) -> None:
    machine = simulate(*ZONES, stat=BUSY, files=ID)
    done = emt_on(machine, "calibrate", "--duration", "1")
    assert done.returncode == 1
    assert "not idle: 5% of its CPUs were busy" in done.stderr and "--force" in done.stderr
    assert emt_on(machine, "calibrate", "--show").returncode == 1


def test_forced_on_a_busy_machine_it_is_kept_and_flagged(simulate: Simulate, emt_on: Emt) -> None:
    machine = simulate(*ZONES, stat=BUSY, files=ID)
    found = shown(emt_on(machine, "calibrate", "--duration", "1", "--force", "--format", "json"))
    assert found["forced"] is True and found["busy_share"] == pytest.approx(0.05, abs=0.02)
    assert "not idle" in emt_on(machine, "calibrate", "--show").stdout


def test_where_everything_is_estimated_there_is_nothing_to_calibrate(simulate: Simulate, emt_on: Emt) -> None:
    done = emt_on(simulate(stat=IDLE, files=ID), "calibrate", "--duration", "1")
    assert done.returncode == 1
    assert "nothing here measures idle power" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [("--show", "--forget"), ("--show", "--force"), ("--duration", "0"), ("--duration", "nan")],
)
def test_options_that_mean_nothing_are_refused_at_once(
    simulate: Simulate, emt_on: Emt, arguments: tuple[str, ...]
) -> None:
    done = emt_on(simulate(*ZONES, stat=IDLE), "calibrate", *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("emt: ") and "Traceback" not in done.stderr
