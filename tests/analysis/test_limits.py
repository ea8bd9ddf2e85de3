"""Limits: what passes, what does not, and that nothing passes unseen."""

from __future__ import annotations

from dataclasses import replace

import pytest

from emt_cli.analysis.limits import Limits, check, check_baseline
from emt_cli.model import Run, Work
from tests.analysis.examples import channel
from tests.analysis.recorded import plain, repeated


def outcomes(run: Run, **limits: float) -> dict[str, str]:
    return {each.name: each.outcome for each in check(run, Limits(**limits), scope="tree")}


def test_only_the_limits_that_were_set_are_checked() -> None:
    assert outcomes(plain(100.0)) == {}
    assert outcomes(plain(100.0), max_energy_j=100.0) == {"energy": "passed"}


def test_each_limit_is_held_to_its_own_quantity() -> None:
    run = plain(100.0, seconds=10.0, intensity=36_000.0)  # 10 W, 1 g
    at_most = {"max_energy_j": 100.0, "max_co2e_g": 1.0, "max_power_w": 10.0, "max_time_s": 10.0}
    assert set(outcomes(run, **at_most).values()) == {"passed"}
    for name, limit in at_most.items():
        found = outcomes(run, **{**at_most, name: 0.99 * limit})
        assert sorted(found.values()) == ["exceeded", "passed", "passed", "passed"]


def test_the_scope_says_whose_energy() -> None:
    limits = Limits(max_energy_j=150.0)
    assert check(plain(100.0), limits, scope="tree")[0].is_passed
    assert not check(plain(100.0), limits, scope="machine")[0].is_passed


def test_the_mean_of_the_executions_decides_not_their_sum() -> None:
    run = repeated([90.0, 100.0, 110.0])
    (found,) = check(run, Limits(max_energy_j=100.0), scope="tree")
    assert found.is_passed and found.found is not None and found.found.mean == pytest.approx(100.0)
    assert not check(run, Limits(max_time_s=9.0), scope="tree")[0].is_passed
    assert check(run, Limits(max_time_s=10.0), scope="tree")[0].is_passed


@pytest.mark.parametrize("run", [plain(None), replace(plain(1.0), energy=None)])
def test_what_is_unknown_never_passes(run: Run) -> None:
    assert outcomes(run, max_energy_j=1e9, max_power_w=1e9) == {"energy": "unknown", "power": "unknown"}


def test_grams_are_unknown_without_a_grid_and_power_without_time() -> None:
    assert outcomes(replace(plain(1.0), carbon=None), max_co2e_g=1e9) == {"co2e": "unknown"}
    assert outcomes(plain(1.0, seconds=0.0), max_power_w=1e9) == {"power": "unknown"}


def test_zero_joules_keep_a_limit() -> None:
    assert outcomes(plain(0.0), max_energy_j=1.0) == {"energy": "passed"}


@pytest.mark.parametrize("state", ["running", "recovered"])
def test_a_record_that_breaks_off_can_miss_a_limit_but_not_keep_one(state: str) -> None:
    run = replace(plain(100.0), state=state)
    assert outcomes(run, max_energy_j=50.0) == {"energy": "exceeded"}
    assert outcomes(run, max_energy_j=200.0) == {"energy": "not ended"}


# --- baselines --------------------------------------------------------------------------------------


def against(run: Run, baseline: Run, tolerance: float = 0.05) -> str:
    return check_baseline(run, baseline, tolerance, scope="tree").outcome


TEN = [99.0, 100.0, 101.0, 99.5, 100.5, 99.0, 100.0, 101.0, 99.5, 100.5]


def scaled(factor: float) -> Run:
    return repeated([factor * each for each in TEN])


def test_within_the_tolerance_it_passes_however_sure_the_difference() -> None:
    assert against(scaled(1.04), repeated(TEN)) == "passed"
    assert against(scaled(0.5), repeated(TEN)) == "passed"
    assert against(scaled(1.04), repeated(TEN), tolerance=0.0) == "exceeded"


def test_significantly_above_the_tolerance_it_fails() -> None:
    assert against(scaled(1.06), repeated(TEN)) == "exceeded"


def test_above_the_tolerance_by_chance_alone_it_passes_with_a_doubt() -> None:
    noisy = repeated([60.0, 160.0, 80.0, 150.0, 90.0, 140.0])
    found = check_baseline(noisy, repeated(TEN), 0.05, scope="tree")
    assert found.outcome == "within uncertainty" and found.is_passed


def test_one_run_against_ten_is_held_to_their_scatter() -> None:
    assert against(plain(120.0), repeated(TEN)) == "exceeded"
    noisy = repeated([60.0, 140.0, 80.0, 120.0, 90.0, 110.0])
    assert against(plain(120.0), noisy) == "within uncertainty"


def test_one_run_against_one_is_held_to_their_uncertainties() -> None:
    assert against(plain(108.0), plain(100.0)) == "within uncertainty"
    assert against(plain(120.0), plain(100.0)) == "exceeded"


def test_a_baseline_of_zero_has_no_tolerance() -> None:
    assert against(plain(0.0), plain(0.0)) == "passed"
    assert against(plain(10.0), plain(0.0)) == "exceeded"
    assert against(plain(10.0, low_j=0.0), plain(0.0)) == "within uncertainty"


def test_an_unknown_side_never_passes() -> None:
    assert against(plain(None), plain(100.0)) == "unknown"
    assert against(plain(100.0), plain(None)) == "unknown"


def test_a_coarse_counter_cannot_miss_a_baseline_by_less_than_its_step() -> None:
    coarse = channel(resolution_j=50.0)
    run, baseline = repeated([110.0] * 5, channels=[coarse]), repeated([100.0] * 5, channels=[coarse])
    assert against(run, baseline) == "within uncertainty"


def test_a_baseline_is_held_per_unit_of_work() -> None:
    baseline = repeated(TEN, work=Work(amount=100.0, unit="image"))
    twice = repeated([2 * each for each in TEN], work=Work(amount=200.0, unit="image"))
    assert against(twice, baseline) == "passed"
    assert against(replace(twice, work=None), baseline) == "exceeded"
