"""Totals, provenance, the curve, and `complete` as a whole."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emt_cli.analysis import complete
from emt_cli.analysis.energy import account
from emt_cli.model import (
    CpuTime,
    CurvePoint,
    DeviceUse,
    Energy,
    Grid,
    Host,
    Observed,
    Run,
    Sampling,
    Settings,
)
from emt_cli.notices import notice
from tests.analysis.examples import (
    channel,
    energy_of,
    gpu_run,
    row_of,
    run_of,
    steady,
    steps,
    with_cpu,
    with_observed,
)
from tests.store.examples import runs

GRID = Grid(
    intensity_g_per_kwh=50.0,
    location="FR",
    location_name="France",
    location_source="flag",
    intensity_source="table",
    dataset="test",
)
NODE = {
    "node/psys": steady(90.0),
    "cpu0/package": steady(30.0),
    "cpu0/core": steady(20.0),
    "cpu0/dram": steady(5.0),
}
CHANNELS = [
    channel("node/psys"),
    channel("cpu0/package"),
    channel("cpu0/core", within="cpu0/package"),
    channel("cpu0/dram"),
]


# --- totals -----------------------------------------------------------------------------------------


def test_the_total_adds_the_components_once_and_the_platform_stands_beside_it() -> None:
    energy = energy_of(run_of(NODE, channels=CHANNELS))
    assert energy.machine_j == pytest.approx(350.0)
    assert energy.attributed_j == pytest.approx(175.0)
    assert energy.platform_j == pytest.approx(900.0)
    assert [row.is_counted for row in energy.channels] == [False, True, False, True]


def test_total_platform_makes_the_whole_node_the_headline() -> None:
    energy = energy_of(run_of(NODE, channels=CHANNELS, settings=Settings(total="platform")))
    assert energy.machine_j == energy.platform_j == pytest.approx(900.0)
    assert energy.attributed_j == pytest.approx(450.0)


def test_a_channel_that_was_never_read_is_unknown_and_not_zero() -> None:
    run = run_of(NODE, channels=CHANNELS)
    observed = [
        replace(each, readings=1, energy_j=0.0) if each.channel == "cpu0/dram" else each
        for each in run.observed
    ]
    energy = energy_of(replace(run, observed=tuple(observed)))
    assert energy.machine_j == energy.machine_low_j == pytest.approx(300.0)
    assert energy.machine_high_j == pytest.approx(300.0 + channel().max_power_w * 10)
    assert (energy.high_j or 0) > channel().max_power_w * 10
    assert "cpu0/dram" not in [row.id for row in energy.channels]


def test_where_no_component_could_be_read_the_platform_is_the_headline() -> None:
    run = run_of(NODE, channels=CHANNELS)
    observed = [
        each if each.channel == "node/psys" else replace(each, readings=0, energy_j=0.0)
        for each in run.observed
    ]
    energy = energy_of(replace(run, observed=tuple(observed)))
    assert energy.machine_j == energy.machine_high_j == pytest.approx(900.0)


def test_a_sum_takes_the_weakest_provenance_and_lists_the_joules_of_each() -> None:
    channels = [
        channel(),
        channel("gpu0", provenance="integrated"),
        channel("ram", provenance="estimated", domain="dram"),
    ]
    joules = {"cpu0/package": steady(10.0), "gpu0": steady(20.0), "ram": steady(1.0)}
    energy = energy_of(run_of(joules, channels=channels, devices=(DeviceUse(device="gpu0", tree_pids=(1,)),)))
    assert energy.provenance == "estimated"
    assert energy.by_provenance == pytest.approx({"measured": 50.0, "integrated": 200.0, "estimated": 5.0})
    assert sum(energy.by_provenance.values()) == pytest.approx(energy.attributed_j)


def test_what_is_in_no_total_does_not_weaken_its_provenance() -> None:
    channels = [channel(), channel("cpu0/core", within="cpu0/package", provenance="estimated")]
    energy = energy_of(run_of({"cpu0/package": steady(9.0), "cpu0/core": steady(5.0)}, channels=channels))
    assert energy.provenance == "measured"


def test_the_split_of_a_total_is_known_only_where_that_of_every_part_is() -> None:
    two = {"cpu0/package": steady(10.0), "cpu0/dram": steady(4.0)}
    one_known = energy_of(run_of(two, settings=Settings(idle_w={"cpu0/package": 2.0})))
    assert one_known.active_j is one_known.idle_share_j is one_known.idle_j is None
    known = energy_of(run_of(two, settings=Settings(idle_w={"cpu0/package": 2.0, "cpu0/dram": 1.0})))
    assert known.idle_j == pytest.approx(30.0)
    assert known.active_j == pytest.approx((100 - 20 + 40 - 10) / 2)
    assert (known.active_j or 0) + (known.idle_share_j or 0) == pytest.approx(known.attributed_j)


def test_where_idle_power_is_from_is_told_of_the_counted_channels() -> None:
    def source(idle_w: dict[str, float]) -> str:
        return account(run_of(NODE, channels=CHANNELS, settings=Settings(idle_w=idle_w)))[1].idle_source

    assert source({}) == "unknown"
    assert source({"cpu0/package": 1.0}) == "configured, unknown"
    assert source({"cpu0/package": 1.0, "cpu0/dram": 1.0}) == "configured"


def test_emts_own_joules_are_its_share_of_all_busy_time() -> None:
    run = run_of(steady(10.0), sampling=Sampling(frequency_hz=10, own_cpu_s=2.5))
    assert energy_of(run).own_j == pytest.approx(100 * 2.5 / 10)  # the machine's CPU time holds it
    assert energy_of(replace(run, sampling=Sampling(frequency_hz=10, own_cpu_s=0.0))).own_j == 0.0


# --- nothing known ----------------------------------------------------------------------------------


def test_of_a_run_of_which_nothing_is_known_every_figure_is_none() -> None:
    bare = Run(id="x", command=("x",), started_at="", host=Host(), sampling=Sampling(frequency_hz=10))
    done = complete(bare)
    assert done.energy == Energy()
    assert done.energy.attributed_j is done.energy.machine_j is done.energy.own_j is None
    assert (done.carbon, done.curve) == (None, ())


def test_channels_without_readings_are_as_good_as_none() -> None:
    run = run_of(samples=(), observed=())
    assert energy_of(run) == Energy()
    run = run_of(samples=(), observed=(Observed(channel="cpu0/package"),))
    assert energy_of(run) == Energy()


def test_joules_without_any_cpu_time_are_the_machines_and_nobody_elses() -> None:
    run = run_of(tree=None, machine=None, cpu_time=CpuTime())
    energy = energy_of(run)
    assert energy.machine_j == pytest.approx(100.0)
    assert energy.attributed_j is energy.low_j is energy.high_j is energy.uncertainty_j is None
    assert energy.by_provenance == {}
    assert row_of(run).rule == "unknown"
    done = complete(replace(run, grid=GRID))
    assert done.carbon is None


def test_a_gpus_share_is_known_without_any_cpu_time_but_the_total_is_not() -> None:
    run = gpu_run(DeviceUse(device="gpu0", tree_pids=(1,)), tree=None, machine=None, cpu_time=CpuTime())
    assert row_of(run, "gpu0").attributed_j == pytest.approx(100.0)
    assert energy_of(run).attributed_j is None


def test_a_run_without_length_leaves_the_share_unknown() -> None:
    energy = energy_of(replace(run_of(), samples=(), duration_s=0.0))
    assert energy.machine_j == pytest.approx(100.0)
    assert energy.attributed_j is None


# --- complete ---------------------------------------------------------------------------------------


def everything() -> Run:
    return run_of(
        {**NODE, "gpu0": steady(50.0)},
        channels=[*CHANNELS, channel("gpu0", accuracy=0.05, update_period_s=0.1)],
        devices=(DeviceUse(device="gpu0", tree_pids=(1,), other_pids=(2,)),),
        grid=GRID,
        notices=(notice("clock_changed", seconds=3.0),),
        settings=Settings(idle_w={"cpu0/package": 8.0}),
    )


def test_completing_twice_changes_nothing() -> None:
    once = complete(everything())
    assert complete(once) == once


def test_results_of_before_have_no_influence() -> None:
    fresh = complete(everything())
    other = complete(run_of(steady(999.0), grid=replace(GRID, location="PL"), duration_s=0.2))
    stale = replace(
        everything(),
        energy=other.energy,
        attribution=other.attribution,
        carbon=other.carbon,
        curve=other.curve,
        notices=(*everything().notices, *other.notices),
    )
    assert complete(stale) == fresh


def test_without_a_grid_a_carbon_figure_of_before_goes() -> None:
    done = complete(everything())
    assert done.carbon is not None
    assert complete(replace(done, grid=None)).carbon is None


def test_another_policy_can_be_asked_of_an_old_run() -> None:
    old = complete(everything())
    new = complete(replace(old, settings=Settings(idle_w={"cpu0/package": 8.0}, idle_policy="none")))
    assert new.attribution is not None and new.attribution.idle_policy == "none"
    assert new.energy is not None and old.energy is not None
    assert (new.energy.attributed_j or 0) < (old.energy.attributed_j or 0)
    assert complete(replace(new, settings=old.settings)) == old


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(runs(), st.data())
def test_any_record_however_odd_can_be_completed(run: Run, data: st.DataObject) -> None:
    from emt_cli.model import Sample

    width = len(run.channels)
    number = st.none() | st.floats(-1e9, 1e9)
    rows = data.draw(
        st.lists(
            st.builds(
                Sample,
                st.floats(-1e6, 1e6),
                st.tuples(*[number] * width),
                st.tuples(*[number] * width),
                number,
                number,
            ),
            max_size=6,
        )
    )
    done = complete(replace(run, samples=rows))
    assert done.energy is not None
    for row in done.energy.channels:
        if row.attributed_j is not None and row.low_j is not None and row.high_j is not None:
            assert 0 <= row.low_j <= row.attributed_j * (1 + 1e-9) + 1e-9
            assert row.attributed_j <= row.high_j * (1 + 1e-9) + 1e-9
            assert row.attributed_j <= row.machine_j * (1 + 1e-9) + 1e-9


# --- the curve --------------------------------------------------------------------------------------


def areas(points: tuple[CurvePoint, ...]) -> tuple[float, float]:
    """Joules under the machine's curve and under the tree's."""
    moments = [0.0, *(point.t_s for point in points)]
    lengths = [end - start for start, end in pairwise(moments)]
    return (
        sum(point.machine_w * length for point, length in zip(points, lengths, strict=True)),
        sum(point.attributed_w * length for point, length in zip(points, lengths, strict=True)),
    )


@pytest.mark.parametrize("frequency_hz", [0.5, 1.0, 10.0, 333.0])
@pytest.mark.parametrize("duration_s", [0.3, 12.0, 500.0])
def test_the_areas_under_the_curve_are_the_machines_and_the_trees_joules(
    frequency_hz: float, duration_s: float
) -> None:
    power, tree = steps((4, 20.0), (100, 80.0), (999, 30.0)), steps((6, 0.2), (300, 1.5), (999, 0.1))
    machine = steps((6, 0.9), (300, 1.7), (999, 0.4))
    run = run_of(
        power,
        tree=tree,
        machine=machine,
        duration_s=duration_s,
        frequency_hz=frequency_hz,
        cpu_every=max(1, int(frequency_hz / 10)),
    )
    energy, _, points = account(run)
    machine_j, ours_j = areas(points)
    assert machine_j == pytest.approx(energy.machine_j)
    assert ours_j == pytest.approx(energy.attributed_j, rel=0.02)
    assert len(points) <= 240
    assert all(0 <= point.attributed_w <= point.machine_w + 1e-9 for point in points)


def test_a_gpus_curve_goes_by_its_own_share() -> None:
    run = gpu_run(DeviceUse(device="gpu0", tree_pids=(1,)), joules=1000.0)
    points = account(run)[2]
    assert all(point.machine_w == pytest.approx(110.0) for point in points)
    assert all(point.attributed_w == pytest.approx(105.0) for point in points)


def test_between_two_readings_of_cpu_time_the_curve_has_no_teeth() -> None:
    run = run_of(duration_s=2.0, frequency_hz=100.0, cpu_every=10)
    watts = [point.attributed_w for point in account(run)[2]]
    assert min(watts[10:]) > 4.0


def test_the_curve_of_a_run_longer_than_its_record_says_stays_small() -> None:
    run = replace(run_of(duration_s=100.0), duration_s=0.01)
    points = account(run)[2]
    assert len(points) <= 240
    assert areas(points)[0] == pytest.approx(1000.0)


def test_a_tree_that_only_rusage_saw_has_an_even_share_of_the_curve() -> None:
    run = with_cpu(run_of(tree=steady(0.0)), tree_s=4.0, series_s=0.0)
    assert areas(account(run)[2])[1] == pytest.approx(40.0)


def test_a_gap_that_the_meter_saw_widens_the_total_too() -> None:
    plain, gapped = energy_of(run_of()), energy_of(with_observed(run_of(), gap_s=1.0))
    assert (gapped.machine_high_j or 0) == pytest.approx((plain.machine_high_j or 0) + 10.0)
    assert gapped.machine_low_j == plain.machine_low_j
