"""Every machine of the catalogue through the whole command: its joules are right, and none counts twice."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from emt_cli.analysis.cover import counted
from emt_cli.model import Channel
from tests.simulation import SimulatedMachine

from .catalogue import BROKEN, HEALTHY, LOCKED, Described
from .conftest import Measured

Measure = Callable[..., Measured]
Here = Callable[[Described], tuple[SimulatedMachine, dict[str, str]]]

OURS = frozenset({"location_unknown", "late_ticks", "short_run", "stolen_time", "estimated"})
"""What a run here may be warned of whatever the machine: this box is a loaded guest somewhere."""


def by_name(described: Described) -> str:
    return described.name


@pytest.fixture
def here(tmp_path: Path) -> Here:
    """`machine, environ = here(described)`."""

    def build(described: Described) -> tuple[SimulatedMachine, dict[str, str]]:
        folder = tmp_path / "machine"
        folder.mkdir()
        return described.build(folder)

    return build


def listed(machine: SimulatedMachine, environ: Mapping[str, str]) -> list[dict[str, Any]]:
    """The channels that `emt sensors` lists on a machine."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulated_emt", machine.root, "sensors", "--format", "json"],
        env=dict(environ),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout)["channels"])


@pytest.mark.parametrize("described", HEALTHY, ids=by_name)
def test_the_joules_of_a_machine_are_those_of_its_power_functions(
    described: Described, here: Here, measure: Measure
) -> None:
    machine, environ = here(described)
    measured = measure(machine, command=["sleep", str(described.seconds)], env=environ)
    seconds = measured.duration_s
    rows = {row["id"]: row for row in measured.energy["channels"]}
    assert {id for id, row in rows.items() if row["counted"]} == set(described.counted)
    for channel, watts in described.counted.items():
        assert rows[channel]["machine_j"] == pytest.approx(watts * seconds, rel=0.005), channel
    assert measured.machine_j == pytest.approx(described.total_w * seconds, rel=0.005)
    assert measured.energy["provenance"] == described.provenance
    assert set(measured.codes) - OURS == set(described.warns)


@pytest.mark.parametrize("described", [each for each in HEALTHY if each.platform_w], ids=by_name)
def test_the_whole_node_stands_beside_its_components_and_is_never_added(
    described: Described, here: Here, measure: Measure
) -> None:
    assert described.platform_w is not None
    machine, environ = here(described)
    measured = measure(machine, command=["sleep", str(described.seconds)], env=environ)
    expected_j = described.platform_w * measured.duration_s
    assert measured.energy["platform_j"] == pytest.approx(expected_j, rel=0.005)
    assert measured.machine_j == pytest.approx(described.total_w * measured.duration_s, rel=0.005)


@pytest.mark.parametrize("described", HEALTHY, ids=by_name)
def test_what_is_listed_is_what_counts_and_says_why_the_rest_does_not(
    described: Described, here: Here, environment: dict[str, str]
) -> None:
    machine, environ = here(described)
    channels = listed(machine, {**environment, **environ})
    assert {channel["id"] for channel in channels if channel["counted"]} == set(described.counted)
    reasons = {channel["id"]: channel["dropped"] for channel in channels if channel["dropped"]}
    assert set(described.dropped) <= set(reasons)
    assert all(reasons.values())


@pytest.mark.parametrize("described", HEALTHY, ids=by_name)
def test_no_two_channels_that_count_see_the_same(
    described: Described, here: Here, environment: dict[str, str]
) -> None:
    """Whatever the totals' own rule says: up the chain of containers nobody else counts."""
    machine, environ = here(described)
    channels = {channel["id"]: channel for channel in listed(machine, {**environment, **environ})}
    for channel in channels.values():
        outer = channel["within"] if channel["counted"] else None
        while outer is not None:
            assert not channels[outer]["counted"], (channel["id"], outer)
            outer = channels[outer]["within"]


def test_a_locked_machine_is_estimated_with_bounds_and_says_what_to_type(
    here: Here, measure: Measure
) -> None:
    machine, environ = here(LOCKED)
    measured = measure(machine, command=["sleep", "0.8"], env=environ)
    assert measured.energy["provenance"] == "estimated"
    assert set(LOCKED.warns) <= set(measured.codes)
    assert "energy_uj" in measured.warning("sensor_denied")["text"]
    assert "tmpfiles" in measured.warning("sensor_denied")["hint"]
    assert 0 < measured.energy["machine_low_j"] <= measured.machine_j < measured.energy["machine_high_j"]


@pytest.mark.parametrize("described", BROKEN, ids=by_name)
def test_a_counter_that_breaks_leaves_a_gap_and_the_others_untouched(
    described: Described, here: Here, measure: Measure
) -> None:
    machine, environ = here(described)
    measured = measure(machine, command=["sh", "-c", "sleep 1.5; exit 7"], env=environ)
    seconds = measured.duration_s
    assert measured.status == 7
    for channel, watts in described.counted.items():
        row = measured.channel(channel)
        if channel in described.gaps:
            assert row["machine_j"] == pytest.approx(watts * (seconds - row["gap_s"]), rel=0.02)
            assert row["machine_low_j"] <= watts * seconds <= row["machine_high_j"] + 1e-5
        else:
            assert row["gap_s"] < 0.01  # a thread that was held up may come upon the start a moment late
            assert row["machine_j"] == pytest.approx(watts * seconds, rel=0.005)
    if "block" not in described.name:  # a read that is only slow loses nothing: the counter went on
        assert measured.channel("cpu1/package")["gap_s"] > 0
        assert "sensor_gap" in measured.codes or "counter_reset" in measured.codes


def test_the_totals_rule_finds_no_overlap_in_any_order_of_the_channels() -> None:
    """`counted` must not depend on which sensor came first."""
    channels = [
        Channel(
            id=id,
            sensor="x",
            device=id.partition("/")[0],
            domain=id.rpartition("/")[2],
            kind="counter",
            provenance="measured",
            source="x",
            within=within,
        )
        for id, within in (
            ("node/psys", None),
            ("cpu0/package", "node/psys"),
            ("cpu0/core", "cpu0/package"),
            ("cpu0/dram", "node/psys"),
        )
    ]
    assert counted(channels) == counted(channels[::-1]) == {"cpu0/package", "cpu0/dram"}
