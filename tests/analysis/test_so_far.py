"""What a run has used so far: near what the whole run's figures are in the end."""

from __future__ import annotations

from dataclasses import replace

import pytest

from emt_cli.analysis import complete
from emt_cli.analysis.figures import METRICS, figure
from emt_cli.analysis.so_far import SoFar
from emt_cli.model import DeviceUse, Grid, Run, Scope, Settings
from tests.analysis.examples import channel, gpu_run, run_of, steady

GRID = Grid(
    intensity_g_per_kwh=360.0,
    location="FR",
    location_name="France",
    location_source="flag",
    intensity_source="table",
    dataset="test",
)


def so_far(run: Run) -> SoFar:
    found = SoFar(replace(run, samples=(), devices=()))
    for sample in run.samples:
        found.add([sample])
    return found


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("scope", ["tree", "machine"])
def test_at_the_end_of_a_steady_run_it_is_what_the_record_says(metric: str, scope: Scope) -> None:
    run = complete(run_of(grid=GRID, settings=Settings(scope=scope)))
    for each in METRICS:
        if each == metric:
            final = figure(run, each, scope)
            assert final is not None
            assert so_far(run).value(each, run.duration_s, tuple) == pytest.approx(final.mean)


def test_halfway_it_is_half_of_it() -> None:
    run = run_of()
    found = SoFar(run)
    found.add([sample for sample in run.samples if sample.t_s <= 5.0])
    assert found.value("energy", 5.0, tuple) == pytest.approx(25.0)
    assert found.value("power", 5.0, tuple) == pytest.approx(5.0)


def test_before_the_first_sample_only_the_time_is_known() -> None:
    found = SoFar(run_of(grid=GRID))
    assert found.value("time", 3.0, tuple) == 3.0
    assert [found.value(each, 3.0, tuple) for each in METRICS if each != "time"] == [None, None, None]


def test_without_cpu_time_the_trees_share_is_not_known() -> None:
    assert so_far(run_of(tree=None)).value("energy", 10.0, tuple) is None
    machine = run_of(tree=None, settings=Settings(scope="machine"))
    assert so_far(machine).value("energy", 10.0, tuple) == pytest.approx(100.0)


def test_a_device_counts_for_who_has_used_it() -> None:
    ours = DeviceUse(device="gpu0", tree_busy_s=5.0, total_busy_s=5.0, tree_pids=(1,))
    idle = DeviceUse(device="gpu0", tree_busy_s=0.0, total_busy_s=0.0)
    run = gpu_run(None)
    assert so_far(run).value("energy", 10.0, lambda: (ours,)) == pytest.approx(50.0 + 100.0)
    assert so_far(run).value("energy", 10.0, lambda: (idle,)) == pytest.approx(50.0)


def test_what_lies_inside_another_channel_counts_once() -> None:
    channels = [channel(), channel("cpu0/core", within="cpu0/package")]
    run = run_of({"cpu0/package": steady(10.0), "cpu0/core": steady(8.0)}, channels=channels)
    assert so_far(run).value("energy", 10.0, tuple) == pytest.approx(50.0)


def test_a_sensor_that_was_not_read_at_a_tick_keeps_its_last_value() -> None:
    run = run_of()
    *most, last = run.samples
    found = SoFar(run)
    found.add([*most, last._replace(energy_j=(None,))])
    assert found.value("energy", 10.0, tuple) == pytest.approx(50.0, rel=0.02)
