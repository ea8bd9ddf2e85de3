"""The samples of a run: what samples.csv holds, that the results follow from it, that it can be played."""

from __future__ import annotations

import csv
import json
import subprocess
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.simulation import SimulatedMachine, Zone, constant, following_load

from .conftest import Measured, spinning

Simulate = Callable[..., SimulatedMachine]
Measure = Callable[..., Measured]
Emt = Callable[..., subprocess.CompletedProcess[str]]


def two_sockets() -> list[Zone]:
    return [
        Zone(folder="intel-rapl:0", name="package-0", power=following_load(20, 30)),
        Zone(folder="intel-rapl:0:0", name="dram", power=constant(4)),
        Zone(folder="intel-rapl:1", name="package-1", power=constant(35), start_uj=10**9),
    ]


def rows(measured: Measured) -> list[dict[str, str]]:
    with (measured.folder / "samples.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("hertz", ["1", "100"])
def test_samples_are_cumulative_joules_and_cpu_seconds_that_never_fall(
    simulate: Simulate, measure: Measure, hertz: str
) -> None:
    measured = measure(simulate(*two_sockets()), "-F", hertz, command=spinning(1.2))
    table = rows(measured)
    channels = ["cpu0/package", "cpu0/dram", "cpu1/package"]
    assert list(table[0]) == ["t_s", *(f"{channel}_j" for channel in channels), "cpu_tree_s", "cpu_machine_s"]
    assert float(table[0]["t_s"]) == 0
    assert measured.duration_s <= float(table[-1]["t_s"]) + 1e-6
    for name in table[0]:
        column = [float(row[name]) for row in table if row[name]]
        assert all(before <= after for before, after in pairwise(column)), name
    for channel in channels:
        observed = measured.observed(channel)
        assert float(table[0][f"{channel}_j"]) == 0
        # A row holds all that the counter showed; the result leaves out what lay outside the run.
        whole_j = observed["energy_j"] + observed["edge_j"]
        assert float(table[-1][f"{channel}_j"]) == pytest.approx(whole_j, rel=1e-9)
        assert observed["energy_j"] == measured.channel(channel)["machine_j"]


def test_recomputed_results_are_the_stored_ones(simulate: Simulate, measure: Measure, emt: Emt) -> None:
    machine = simulate(*two_sockets())
    measured = measure(machine, "-F", "100", command=spinning(1.2), idle_w={"cpu0/package": 20.0})
    stored = json.loads(emt("report", str(measured.folder), "--format", "json").stdout)
    again = json.loads(emt("report", str(measured.folder), "--format", "json", "--recompute").stdout)
    for group in ("energy", "attribution", "carbon", "curve", "warnings"):
        assert different(again[group], stored[group], group) == []
    assert stored["energy"] == measured.energy


def different(one: Any, other: Any, path: str) -> list[str]:
    """Where two values are not equal, numbers to 1e-9."""
    if isinstance(one, dict) and one.keys() == other.keys():
        return [found for key in one for found in different(one[key], other[key], f"{path}.{key}")]
    if isinstance(one, list) and len(one) == len(other):
        pairs = enumerate(zip(one, other, strict=True))
        return [found for at, pair in pairs for found in different(*pair, f"{path}.{at}")]
    same = one == pytest.approx(other, rel=1e-9, abs=1e-9) if isinstance(one, float) else one == other
    return [] if same else [f"{path}: {one} and {other}"]


def test_a_recorded_run_played_again_gives_the_same_joules(simulate: Simulate, measure: Measure) -> None:
    # It ends between two ticks: what lies after the last of them must not be lost.
    recorded = measure(simulate(*two_sockets()), command=["sleep", "1.07"])
    player = simulate()
    samples = str(recorded.folder / "samples.csv")
    # The command outlasts the recording: what comes after its end is not known, and is a gap.
    played = measure(player, "--replay", samples, command=["sleep", "1.5"])
    seen_j = sum(each["energy_j"] + each["edge_j"] for each in recorded.record["observed"])
    assert played.machine_j == pytest.approx(seen_j, rel=0.005)
    for channel in ("cpu0/package", "cpu0/dram", "cpu1/package"):
        (gap,) = played.gaps(channel)
        assert gap["reason"] == "replay ended"
        assert gap["end_s"] == pytest.approx(played.duration_s, abs=1e-6)
    assert played.energy["provenance"] == "measured"
    assert {c["sensor"] for c in played.record["channels"]} == {"replay"}


def test_a_hand_written_file_plays_for_as_long_as_the_command_takes(
    simulate: Simulate, measure: Measure, tmp_path: Path
) -> None:
    demonstration = tmp_path / "demo.json"
    channels = [
        {"id": "cpu0/package", "unit": 1e-6, "range_raw": 60_000_000, "max_power_w": 100},
        {"id": "gpu0", "kind": "gauge", "max_power_w": 700},
    ]
    # 50 W that wrap, and 200 W
    readings = [[0.0, 50_000_000, 200], [0.1, 55_000_000, 200], [0.2, 0, 200], [0.3, 5_000_000, 200]]
    demonstration.write_text(json.dumps({"channels": channels, "readings": readings, "repeat": True}))
    measured = measure(simulate(), "--replay", str(demonstration), command=["sleep", "1"])
    seconds = measured.duration_s
    assert measured.channel("cpu0/package")["machine_j"] == pytest.approx(50 * seconds, rel=0.005)
    assert measured.channel("gpu0")["machine_j"] == pytest.approx(200 * seconds, rel=0.005)
    assert measured.record["gaps"] == []
