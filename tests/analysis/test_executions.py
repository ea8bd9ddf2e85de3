"""A repeated run's results: each execution by itself, sums over all, and what one is like."""

from __future__ import annotations

from dataclasses import replace

import pytest

from emt_cli.analysis import complete
from emt_cli.analysis.executions import of_interest, parts, repeat
from emt_cli.analysis.merging import merged
from emt_cli.model import Execution, Exit, Run
from tests.analysis.test_merging import DRAM, PACKAGE, execution


def many(*joules: float | None, failed: tuple[int, ...] = ()) -> list[Execution]:
    return [
        Execution(
            start_s=0.0,
            duration_s=2.0,
            exit=Exit(code=1 if index in failed else 0),
            attributed_j=each,
            machine_j=each,
        )
        for index, each in enumerate(joules)
    ]


def repeated(*watts: float) -> Run:
    runs = [execution(PACKAGE, watts=each) for each in watts]
    return complete(merged(runs[0], runs))


def test_a_part_is_the_run_that_it_was() -> None:
    runs = [execution(PACKAGE, DRAM), execution(PACKAGE, DRAM, watts=30.0, duration_s=3.0)]
    for part, run in zip(parts(merged(runs[0], runs)), runs, strict=True):
        alone, again = complete(run).energy, complete(part).energy
        assert alone is not None and again is not None
        assert again.attributed_j == pytest.approx(alone.attributed_j)
        assert again.machine_j == alone.machine_j
        assert again.low_j == pytest.approx(alone.low_j)


def test_the_whole_is_the_sum_of_its_executions() -> None:
    run = repeated(10.0, 20.0, 30.0)
    assert run.energy is not None
    assert run.energy.machine_j == sum(each.machine_j or 0.0 for each in run.executions) == 120.0
    assert run.energy.attributed_j == pytest.approx(sum(each.attributed_j or 0.0 for each in run.executions))
    assert run.energy.low_j == pytest.approx(sum(each.low_j or 0.0 for each in run.executions))


def test_a_difference_between_executions_is_not_smeared_over_them() -> None:
    assert [each.machine_j for each in repeated(10.0, 90.0, 10.0).executions] == [20.0, 180.0, 20.0]


def test_emts_own_cost_is_counted_once() -> None:
    """0.1 CPU seconds in each of the executions, of 4 busy ones there."""
    one, three = repeated(10.0), repeated(10.0, 10.0, 10.0)
    assert one.energy is not None and three.energy is not None
    assert one.energy.own_j is not None and three.energy.own_j is not None
    assert three.energy.own_j == pytest.approx(3 * one.energy.own_j)


def test_computing_again_changes_nothing() -> None:
    run = repeated(10.0, 20.0)
    assert complete(run) == run


def test_one_execution_is_told_by_mean_interval_and_range() -> None:
    found = repeat(many(9.0, 10.0, 11.0))
    assert found is not None and found.attributed_j is not None and found.attributed_w is not None
    assert (found.attributed_j.mean, found.attributed_j.min, found.attributed_j.max) == (10.0, 9.0, 11.0)
    assert found.attributed_j.low == pytest.approx(10.0 - 4.3027 / 3**0.5, abs=1e-3)
    assert found.attributed_w.mean == 5.0


def test_failed_executions_are_another_amount_of_work() -> None:
    executions = many(10.0, 11.0, 1.0, 10.5, failed=(2,))
    assert of_interest(executions) == (0, 1, 3)
    found = repeat(executions)
    assert found is not None and found.attributed_j is not None
    assert (found.executions, found.attributed_j.min) == (3, 10.0)


def test_where_all_fail_all_count() -> None:
    assert of_interest(many(10.0, 11.0, failed=(0, 1))) == (0, 1)


def test_outliers_are_numbered_among_all_executions() -> None:
    found = repeat(many(1.0, 10.0, 10.1, 10.2, 9.9, 99.0, 10.0, failed=(0,)))
    assert found is not None and found.attributed_j is not None
    assert found.attributed_j.outliers == (5,)


def test_of_few_executions_none_is_an_outlier() -> None:
    found = repeat(many(10.0, 10.01, 12.0))
    assert found is not None and found.attributed_j is not None
    assert found.attributed_j.outliers == ()


def test_an_energy_that_one_execution_does_not_know_has_no_mean() -> None:
    found = repeat(many(10.0, None, 10.0))
    assert found is not None
    assert found.attributed_j is None
    assert found.duration_s.mean == 2.0


def test_a_short_execution_is_a_short_run_however_many_there_are() -> None:
    runs = [execution(PACKAGE, duration_s=0.2) for _ in range(10)]
    assert "short_run" in [each.code for each in complete(merged(runs[0], runs)).notices]


def test_numbers_that_are_none_are_no_statistics() -> None:
    damaged = many(10.0, 11.0)
    assert repeat([*damaged, replace(damaged[0], duration_s=float("nan"))]) is None
