"""Whole runs as steps of a CI job: on a hosted runner, failing, and two of them at once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cpuinfo import AMD, x86
from tests.simulation import SimulatedMachine, Stat, Zone, constant

from .conftest import CLOCKED, Measured, Running, spinning, used_s

Simulate = Callable[..., SimulatedMachine]
Measure = Callable[..., Measured]
Begin = Callable[..., Running]

STEP = {
    "GITHUB_ACTIONS": "true",
    "RUNNER_ENVIRONMENT": "github-hosted",
    "GITHUB_RUN_ID": "1658821493",
    "GITHUB_JOB": "tests",
}
GUEST = {"/proc/cpuinfo": x86("AMD EPYC 7763 64-Core Processor", (AMD, 25, 1, 1), guest=True)}
WATTS = {0: 1.759, 2: 5.164, 4: 8.180}
"""Of the four-vCPU runner with so many of them busy."""


@pytest.mark.parametrize("hertz", ["1", "100"])
@pytest.mark.parametrize("busy", [2, 4])
def test_a_hosted_runner_follows_its_curve_at_any_frequency(
    simulate: Simulate, measure: Measure, busy: int, hertz: str
) -> None:
    machine = simulate(stat=Stat(cpus=4, neighbour_cpus=busy), files=GUEST)
    measured = measure(machine, "-F", hertz, command=[sys.executable, "-S", "-c", CLOCKED, "2"], env=STEP)
    assert measured.machine_j == pytest.approx(WATTS[busy] * measured.duration_s, rel=0.005)
    [channel] = measured.record["channels"]
    assert "GitHub-hosted runner, 4 vCPU: curve by Eco CI" in channel["note"]
    energy = measured.energy
    assert energy["provenance"] == "estimated"
    assert energy["machine_low_j"] == pytest.approx(WATTS[0] * measured.duration_s, rel=0.001)
    assert energy["machine_high_j"] == pytest.approx(WATTS[4] * measured.duration_s, rel=0.001)
    assert measured.record["job"]["scheduler"] == "github"
    assert measured.record["job"]["id"] == "1658821493"


def test_a_hosted_runner_of_another_size_has_its_processors_family(
    simulate: Simulate, measure: Measure
) -> None:
    machine = simulate(stat=Stat(cpus=16, neighbour_cpus=4), files=GUEST)
    measured = measure(machine, command=["sleep", "1"], env=STEP)
    assert measured.machine_j == pytest.approx((16 * 0.424 + 4 * 1.492) * measured.duration_s, rel=0.005)
    assert "GitHub-hosted runner: " in measured.record["channels"][0]["note"]


def test_a_failing_step_is_measured_all_the_same(simulate: Simulate, measure: Measure) -> None:
    machine = simulate(Zone(power=constant(50)))
    measured = measure(machine, command=["sh", "-c", "sleep 0.5; exit 3"], env=STEP)
    assert (measured.status, measured.record["exit"]["code"]) == (3, 3)
    assert measured.channel("cpu0/package")["machine_j"] == pytest.approx(50 * measured.duration_s, rel=0.01)


def test_two_steps_at_once_do_not_count_each_other(simulate: Simulate, begin: Begin) -> None:
    machine = simulate(Zone(power=constant(50)))
    both = [begin(machine, command=spinning(1.5), env=STEP) for _ in range(2)]
    steps = [running.finish() for running in both]
    for step in steps:
        assert step.record["cpu_time"]["tree_s"] == pytest.approx(used_s(step), rel=0.1)
    shares = [step.channel("cpu0/package") for step in steps]
    assert all(share["attributed_j"] < share["machine_j"] for share in shares)
    lasted_s = max(step.ended_s for step in steps) - min(step.began_s for step in steps)
    assert sum(share["attributed_j"] for share in shares) <= 50 * lasted_s


def test_a_steps_record_becomes_its_summary(simulate: Simulate, measure: Measure, tmp_path: Path) -> None:
    measured = measure(simulate(Zone(power=constant(50))), command=["sh", "-c", "exit 3"], env=STEP)
    files = {name: str(tmp_path / name) for name in ("GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT")}
    done = subprocess.run(
        [sys.executable, "-m", "emt_cli", "export", str(measured.folder), "--to", "github"],
        env={**STEP, **files, "HOME": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "github job 1658821493 tests" in (tmp_path / "GITHUB_STEP_SUMMARY").read_text()
    assert "exit 3" in (tmp_path / "GITHUB_STEP_SUMMARY").read_text()
    assert f"machine_j={measured.machine_j!r}" in (tmp_path / "GITHUB_OUTPUT").read_text()
