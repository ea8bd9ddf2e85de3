"""A real job: training a classifier on scikit-learn's digits, measured by `emt run` and reported."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.simulation import SimulatedMachine, Zone, constant

from .conftest import Measured

pytest.importorskip("sklearn", reason="the test extra brings the workload")

Simulate = Callable[..., SimulatedMachine]
Measure = Callable[..., Measured]
Emt = Callable[..., subprocess.CompletedProcess[str]]

TRAINING = [sys.executable, str(Path(REPOSITORY, "tests", "workloads", "train_digits.py"))]
SOCKETS_W, DRAM_W = (65.0, 45.0), 7.0


def test_training_on_a_machine_without_sensors_is_estimated_and_says_how_to_measure_it(
    simulate: Simulate, measure: Measure, emt: Emt
) -> None:
    measured = measure(simulate(), command=TRAINING)
    assert measured.status == 0
    assert "accuracy on 450 others: 0.9" in measured.output
    energy = measured.energy
    assert energy["provenance"] == "estimated"
    assert 0 < energy["low_j"] <= energy["attributed_j"] <= energy["high_j"]
    assert energy["attributed_j"] <= energy["machine_j"]
    assert energy["machine_low_j"] <= energy["machine_j"] <= energy["machine_high_j"]
    assert energy["machine_low_j"] < energy["machine_high_j"] / 2, "an estimate is never a point alone"
    assert "RAPL" in measured.warning("estimated")["hint"]
    shown = emt("report")
    assert "estimated" in shown.stdout
    assert "RAPL" in shown.stdout


def test_training_on_two_sockets_is_measured_and_reported(
    simulate: Simulate, measure: Measure, emt: Emt
) -> None:
    machine = simulate(
        Zone(folder="intel-rapl:0", name="package-0", power=constant(SOCKETS_W[0])),
        Zone(folder="intel-rapl:0:0", name="dram", power=constant(DRAM_W)),
        Zone(folder="intel-rapl:1", name="package-1", power=constant(SOCKETS_W[1]), start_uj=10**9),
    )
    measured = measure(machine, "-n", "digits", command=TRAINING)
    assert measured.status == 0
    truth_j = (sum(SOCKETS_W) + DRAM_W) * measured.duration_s
    assert measured.machine_j == pytest.approx(truth_j, rel=0.005)
    assert measured.energy["provenance"] == "measured"
    cpu = measured.record["cpu_time"]
    share_j = truth_j * cpu["tree_s"] / cpu["machine_s"]
    assert measured.energy["attributed_j"] == pytest.approx(min(share_j, truth_j), rel=0.05)
    reports_agree(measured, emt)


def reports_agree(measured: Measured, emt: Emt) -> None:
    """Every format of `emt report` tells the joules of the record."""
    energy = measured.energy
    table = emt("report", "digits")
    assert table.returncode == 0
    for channel in ("cpu0/package", "cpu1/package", "cpu0/dram"):
        assert channel in table.stdout
    assert json.loads(emt("report", "--format", "json").stdout)["energy"] == energy
    (row,) = csv.DictReader(io.StringIO(emt("report", "--format", "csv").stdout))
    assert float(row["attributed_j"]) == pytest.approx(energy["attributed_j"], rel=1e-9)
    assert float(row["machine_j"]) == pytest.approx(energy["machine_j"], rel=1e-9)
    markdown = emt("report", "--format", "markdown").stdout
    assert "cpu1/package" in markdown
    assert "|" in markdown
    assert float(emt("report", "--get", "energy.attributed_j").stdout) == energy["attributed_j"]
    assert emt("report", "--get", "exit.code").stdout == "0\n"
