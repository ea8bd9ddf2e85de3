"""Comparisons: what a verdict needs, what it says, and which runs may not be held against each other."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from emt_cli.analysis.comparable import differences
from emt_cli.analysis.comparison import Comparison, are_paired, compare
from emt_cli.analysis.difference import LEVEL, difference
from emt_cli.analysis.figures import figure
from emt_cli.analysis.verdicts import Compared
from emt_cli.model import Attribution, Channel, Exit, Host, Run, Work
from tests.analysis.examples import channel, run_of
from tests.analysis.recorded import ATTRIBUTION, HOST, RAPL, plain, repeated


def around(mean: float, *, count: int = 10, noise: float = 0.01, seed: int = 1) -> list[float]:
    source = random.Random(seed)
    return [mean * (1 + source.gauss(0, noise)) for _ in range(count)]


def only(a: Run, b: Run, **options: Any) -> Comparison:
    (found,) = compare(a, b, **{"scope": "tree", **options})
    return found


def metric(found: Comparison, name: str) -> Compared:
    return next(row for row in found.metrics if row.name == name)


# --- repeated runs ----------------------------------------------------------------------------------


def test_a_real_difference_has_a_verdict_and_an_interval_that_holds_it() -> None:
    row = only(repeated(around(100.0, seed=1)), repeated(around(90.0, seed=2))).energy
    assert row.verdict == "less"
    assert row.relative == pytest.approx(-0.1, abs=0.01)
    assert row.low is not None and row.high is not None
    assert row.low < -0.1 < row.high < 0


def test_the_same_thing_twice_is_no_significant_difference() -> None:
    row = only(repeated(around(100.0, seed=1)), repeated(around(100.0, seed=2))).energy
    assert row.verdict == "same"
    assert row.low is not None and row.high is not None and row.low < 0 < row.high
    assert not row.is_beyond


def test_time_power_and_co2e_are_compared_too() -> None:
    a, b = repeated(around(100.0, seed=1)), repeated(around(100.0, seed=2), seconds=20.0)
    found = only(a, b)
    assert [row.name for row in found.metrics] == ["energy", "time", "power", "co2e"]
    assert metric(found, "time").verdict == "more" and metric(found, "time").relative == pytest.approx(1.0)
    assert metric(found, "power").relative == pytest.approx(-0.5, abs=0.01)
    assert metric(found, "co2e").relative == pytest.approx(found.energy.relative)


def test_machine_scope_compares_the_machines_joules() -> None:
    a, b = repeated(around(100.0, seed=1)), repeated(around(90.0, seed=2))
    tree, machine = only(a, b).energy, only(a, b, scope="machine").energy
    assert tree.a is not None and machine.a is not None
    assert machine.a.mean == pytest.approx(2 * tree.a.mean)


def test_two_executions_on_a_side_have_an_interval_but_no_verdict() -> None:
    row = only(repeated(around(100.0)), repeated([50.0, 50.5])).energy
    assert row.verdict == "few" and row.low is not None
    assert row.is_beyond  # what a gate goes by


def test_one_run_against_ten_has_an_interval_but_no_verdict() -> None:
    row = only(plain(100.0), repeated(around(100.0))).energy
    assert row.verdict == "few" and not row.is_beyond
    assert row.low is not None and row.high is not None and row.low < 0 < row.high


def test_a_difference_within_the_counters_step_is_none() -> None:
    coarse = channel(resolution_j=5.0)
    a, b = repeated([100.0] * 10, channels=[coarse]), repeated([104.0] * 10, channels=[coarse])
    assert only(a, b).energy.verdict == "unresolved"
    assert metric(only(a, b), "co2e").verdict == "unresolved"
    assert metric(only(a, b), "power").verdict == "unresolved"
    fine = channel(resolution_j=1e-3)
    a, b = repeated([100.0] * 10, channels=[fine]), repeated([104.0] * 10, channels=[fine])
    assert only(a, b).energy.verdict == "more"


def test_a_mean_that_happens_to_lie_within_a_step_does_not_hide_the_scatter() -> None:
    coarse = channel(resolution_j=5.0)
    a = repeated([60.0, 140.0, 80.0, 120.0], channels=[coarse])
    b = repeated([61.0, 139.0, 82.0, 121.0], channels=[coarse])
    row = only(a, b).energy
    assert row.verdict == "same" and row.high is not None and row.high > 0.3


def test_failed_executions_are_left_out() -> None:
    run = repeated([100.0, 101.0, 5.0])
    failed = (*run.executions[:2], replace(run.executions[2], exit=Exit(code=1)))
    found = figure(replace(run, executions=failed), "energy", "tree")
    assert found is not None and found.values == (100.0, 101.0)


def test_an_execution_whose_energy_is_unknown_makes_the_run_unknown() -> None:
    run = repeated([100.0, 101.0, 102.0])
    unknown = (*run.executions[:2], replace(run.executions[2], attributed_j=None))
    row = only(repeated(around(100.0)), replace(run, executions=unknown)).energy
    assert row.verdict == "unknown" and row.b is None


def test_energy_is_per_unit_of_work_where_both_tell_the_same_unit() -> None:
    a = repeated(around(100.0, seed=1), work=Work(amount=1000.0, unit="image"))
    b = repeated(around(100.0, seed=2), work=Work(amount=2000.0, unit="image"))
    found = only(a, b)
    assert found.per == "image"
    assert found.energy.a is not None and found.energy.a.mean == pytest.approx(1.0, rel=0.02)
    assert found.energy.relative == pytest.approx(-0.5, abs=0.01) and found.energy.verdict == "less"
    assert metric(found, "power").verdict == "same"
    other = replace(b, work=Work(amount=2000.0, unit="token"))
    assert only(a, other).per == "" and only(a, other).energy.verdict == "same"


# --- pairs and several at once ----------------------------------------------------------------------


def drifting(mean: float, seed: int) -> list[float]:
    """Executions of a machine that warms up: 30 % over ten of them."""
    return [value * (1 + 0.03 * at) for at, value in enumerate(around(mean, noise=0.002, seed=seed))]


def test_executions_of_one_bench_are_pairs_so_that_drift_cancels() -> None:
    a, b = repeated(drifting(100.0, 1), tags={"bench": "x"}), repeated(drifting(98.0, 2), tags={"bench": "x"})
    assert are_paired(a, b)
    assert only(a, b).energy.verdict == "less" and only(a, b).energy.method.startswith("paired")
    apart = replace(b, tags={"bench": "y"})
    assert not are_paired(a, apart) and only(a, apart).energy.verdict == "same"


def test_executions_are_no_pairs_once_one_is_missing() -> None:
    a, b = repeated(around(100.0), tags={"bench": "x"}), repeated(around(100.0), tags={"bench": "x"})
    assert not are_paired(a, replace(b, executions=b.executions[:9]))
    failed = (replace(b.executions[0], exit=Exit(code=1)), *b.executions[1:])
    assert not are_paired(a, replace(b, executions=failed))
    assert not are_paired(replace(a, tags={}), replace(b, tags={}))


def test_several_comparisons_are_held_to_one_level_together() -> None:
    """A difference that would pass alone is none among many (Holm), and its interval says so too."""
    first = around(100.0, seed=1)
    near = next(
        values
        for seed in range(2, 500)
        if 0.5 * LEVEL < (difference(first, values := around(100.0, seed=seed), pairs=False).p or 1) < LEVEL
    )
    others = [repeated(around(100.0, seed=1000 + at)) for at in range(5)]
    alone = only(repeated(first), repeated(near)).energy
    together = compare(repeated(first), repeated(near), *others, scope="tree")[0].energy
    assert alone.verdict in ("less", "more") and together.verdict == "same"
    assert together.low is not None and together.high is not None and together.low < 0 < together.high


def test_a_clear_difference_stays_clear_among_many() -> None:
    others = [repeated(around(100.0, seed=at)) for at in range(2, 7)]
    found = compare(repeated(around(100.0)), repeated(around(80.0, seed=9)), *others, scope="tree")
    assert [one.energy.verdict for one in found] == ["less", *["same"] * 5]
    for one in found:
        low, high = one.energy.low, one.energy.high
        assert low is not None and high is not None
        assert (low < 0 < high) == (one.energy.verdict == "same")


def test_equal_things_are_told_apart_in_at_most_five_of_a_hundred() -> None:
    false = 0
    for seed in range(400):
        runs = [repeated(around(100.0, seed=3 * seed + at, count=8)) for at in range(3)]
        a, b, c = runs
        false += any(one.energy.verdict != "same" for one in compare(a, b, c, scope="tree"))
    assert false <= 0.05 * 400


# --- single runs ------------------------------------------------------------------------------------


def test_single_runs_whose_intervals_overlap_cannot_be_told_apart() -> None:
    row = only(plain(100.0), plain(96.0)).energy
    assert row.verdict == "overlap" and not row.is_beyond
    assert row.relative == pytest.approx(-0.04)


def test_single_runs_whose_intervals_are_apart_are_told_so_without_a_claim_to_significance() -> None:
    row = only(plain(100.0), plain(50.0)).energy
    assert row.verdict == "apart" and row.is_beyond and row.p is None
    assert row.low == pytest.approx(47.5 / 105 - 1) and row.high == pytest.approx(52.5 / 95 - 1)


def test_single_runs_without_bounds_cannot_be_told_apart() -> None:
    a, b = plain(100.0), plain(50.0)
    assert b.energy is not None
    unbounded = replace(b, energy=replace(b.energy, low_j=None, high_j=None))
    assert only(a, unbounded).energy.verdict == "overlap"


def test_an_interval_that_begins_at_zero_has_no_upper_end_of_the_ratio() -> None:
    row = only(plain(2.0, low_j=0.0, high_j=20.0), plain(5.0)).energy
    assert row.verdict == "overlap" and row.high is None and row.low is not None


@pytest.mark.parametrize(("a", "b"), [(0.0, 5.0), (5.0, 0.0), (0.0, 0.0)])
def test_zero_energy_has_no_ratio(a: float, b: float) -> None:
    assert only(plain(a), plain(b)).energy.verdict == "zero"
    assert only(repeated([a] * 5), repeated([b] * 5)).energy.verdict == "zero"


def test_unknown_energy_is_unknown_and_not_zero() -> None:
    assert only(plain(None), plain(5.0)).energy.verdict == "unknown"
    assert only(replace(plain(5.0), energy=None), plain(5.0)).energy.verdict == "unknown"


# --- devices ----------------------------------------------------------------------------------------

GPU = channel("gpu0", domain="gpu", sensor="nvml", source="energy, A100, GPU-1, driver 1")


def test_devices_are_told_where_there_is_more_than_one() -> None:
    assert only(plain(10.0), plain(20.0)).devices == ()
    rows = only(plain(10.0, channels=[RAPL, GPU]), plain(20.0, channels=[RAPL, GPU])).devices
    assert [row.name for row in rows] == ["cpu0", "gpu0"]
    assert all(row.verdict == "apart" and row.relative == pytest.approx(1.0) for row in rows)


def test_devices_of_repeated_runs_are_shared_out_execution_by_execution() -> None:
    run = repeated([100.0, 110.0, 120.0], channels=[RAPL, GPU])
    raw = run_of({"cpu0/package": lambda t_s: 5 * t_s, "gpu0": lambda t_s: 2 * t_s})
    executions = tuple(replace(each, observed=raw.observed, cpu_time=raw.cpu_time) for each in run.executions)
    run = replace(run, executions=executions)
    rows = {row.name: row for row in only(run, run, scope="machine").devices}
    assert rows["cpu0"].a is not None and rows["cpu0"].a.values == pytest.approx((50.0, 50.0, 50.0))
    assert rows["gpu0"].a is not None and rows["gpu0"].a.values == pytest.approx((20.0, 20.0, 20.0))
    tree = {row.name: row for row in only(run, run).devices}
    assert tree["cpu0"].a is not None and tree["cpu0"].a.values == pytest.approx((25.0, 25.0, 25.0))


# --- what may be compared ---------------------------------------------------------------------------

Change = Callable[[Run], Run]


def host(**facts: Any) -> Change:
    return lambda run: replace(run, host=replace(run.host, **facts))


def attributed(**facts: Any) -> Change:
    return lambda run: replace(run, attribution=replace(ATTRIBUTION, **facts))


def told(change: Change) -> dict[str, str]:
    return {one.what: one.weight for one in differences(plain(10.0), change(plain(10.0)), "tree")}


@pytest.mark.parametrize(
    ("change", "what", "weight"),
    [
        (host(cpu_model="EPYC 7763"), "CPU", "host"),
        (host(cpu_count=4), "number of CPUs", "host"),
        (host(architecture="aarch64"), "architecture", "host"),
        (host(hypervisor="kvm"), "hypervisor", "host"),
        (host(governor="powersave"), "governor", "host"),
        (host(node="n02"), "node", "note"),
        (host(kernel="6.5"), "kernel", "note"),
        (host(emt_version="9"), "emt", "note"),
        (host(container="docker"), "container", "note"),
        (host(cpu_model=""), "CPU", "note"),
        (attributed(idle_policy="none"), "idle policy", "method"),
        (attributed(rule="another"), "rule of sharing", "note"),
        (lambda run: replace(run, command=("other",)), "command", "note"),
    ],
)
def test_each_difference_is_told_with_its_weight(change: Change, what: str, weight: str) -> None:
    assert told(change) == {what: weight}


def test_runs_of_one_host_and_method_differ_in_nothing() -> None:
    assert differences(plain(10.0), plain(20.0), "tree") == ()


def test_the_idle_policy_is_no_matter_to_the_whole_machine() -> None:
    other = replace(plain(10.0), attribution=Attribution(**{**as_dict(ATTRIBUTION), "idle_policy": "none"}))
    assert differences(plain(10.0), other, "machine") == ()


def as_dict(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__slots__}


def test_another_grid_is_told_since_the_grams_differ_by_it() -> None:
    found = only(repeated(around(10.0, seed=1)), repeated(around(10.0, seed=2), intensity=200.0))
    assert [one.what for one in found.unlike] == ["place and intensity"] and found.refusals == ()
    assert found.energy.verdict == "same" and metric(found, "co2e").verdict == "more"


@pytest.mark.parametrize(
    ("other", "weight"),
    [
        (channel(kind="model", provenance="estimated", sensor="model", source="TDP"), "method"),
        (channel("cpu1/package"), "method"),
        (channel(sensor="perf"), "note"),
    ],
)
def test_other_sensors_are_refused_but_not_another_reader_of_one_counter(other: Channel, weight: str) -> None:
    (found,) = differences(plain(10.0), plain(10.0, channels=[other]), "tree")
    assert found.weight == weight


def test_boards_of_one_model_are_alike_and_other_models_are_not() -> None:
    def gpu(source: str) -> Run:
        return plain(10.0, channels=[channel("gpu0", domain="gpu", sensor="nvml", source=source)])

    a = gpu("energy, A100, GPU-1111-22, driver 535.1")
    assert differences(a, gpu("energy, A100, GPU-aaaa-bb, driver 550.9"), "tree") == ()
    (found,) = differences(a, gpu("energy, H100, GPU-aaaa-bb, driver 550.9"), "tree")
    assert (found.weight, found.what) == ("method", "sensors") and "H100" in found.b


def test_models_with_other_parameters_are_not_alike() -> None:
    def model(source: str) -> Run:
        return plain(10.0, channels=[channel(kind="model", provenance="estimated", source=source)])

    assert differences(model("15:65 W"), model("15:65 W"), "tree") == ()
    (found,) = differences(model("15:65 W"), model("20:90 W"), "tree")
    assert found.weight == "method"


def test_without_channels_the_provenance_must_do() -> None:
    row = plain(10.0, channels=())
    assert [one.weight for one in differences(plain(10.0), row, "tree")] == ["note"]
    assert row.energy is not None
    estimated = replace(row, energy=replace(row.energy, provenance="estimated"))
    assert "method" in [one.weight for one in differences(plain(10.0), estimated, "tree")]


def test_unlike_hosts_are_refused_unless_it_is_them_that_are_compared() -> None:
    a, b = plain(10.0), host(cpu_model="EPYC 7763")(plain(20.0))
    assert [one.what for one in only(a, b).refusals] == ["CPU"]
    assert only(a, b, across_hosts=True).refusals == ()
    other = host(cpu_model="EPYC 7763")(plain(20.0, channels=[channel("cpu1/package")]))
    assert [one.what for one in only(a, other, across_hosts=True).refusals] == ["sensors"]


def test_a_host_of_which_nothing_is_known_is_not_called_alike() -> None:
    unknown = replace(plain(10.0), host=Host(cpu_count=HOST.cpu_count))
    assert {one.what: one.b for one in differences(plain(10.0), unknown, "tree")}["CPU"] == ""
