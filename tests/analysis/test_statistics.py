"""One sample in a few numbers: an interval that holds the truth, and outliers that do not hide."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emt_cli.analysis.statistics import outliers, summary

ENERGIES = st.floats(min_value=1e-6, max_value=1e9)

SLEEP = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
"""Student's own example (1908): hours of sleep gained with a drug by ten patients; R's `sleep`."""


def test_the_mean_comes_with_students_interval() -> None:
    """R's t.test(sleep$extra[1:10]): mean 0.75, interval -0.5297804 to 2.0297804."""
    found = summary(SLEEP)
    assert (found.n, found.min, found.max) == (10, -1.6, 3.7)
    assert found.mean == pytest.approx(0.75)
    assert found.median == pytest.approx(0.35)
    assert found.sd == pytest.approx(1.789010, abs=1e-6)
    assert found.sem == pytest.approx(1.789010 / math.sqrt(10), abs=1e-6)
    assert (found.low, found.high) == (
        pytest.approx(-0.5297804, abs=1e-7),
        pytest.approx(2.0297804, abs=1e-7),
    )


def test_one_value_has_no_scatter_and_no_interval() -> None:
    found = summary([41.5])
    assert (found.n, found.mean, found.median, found.min, found.max) == (1, 41.5, 41.5, 41.5, 41.5)
    assert (found.sd, found.sem, found.low, found.high, found.outliers) == (None, None, None, None, ())


def test_equal_values_have_an_interval_of_no_width() -> None:
    found = summary([0.1] * 7)
    assert (found.mean, found.sd, found.low, found.high) == (0.1, 0.0, 0.1, 0.1)


@given(st.lists(ENERGIES, min_size=1, max_size=30))
def test_the_numbers_of_a_summary_are_in_order(values: list[float]) -> None:
    found = summary(values)
    assert found.min <= found.median <= found.max
    assert found.min <= found.mean <= found.max
    if found.low is not None and found.high is not None:
        assert found.low <= found.mean <= found.high
    assert all(0 <= each < found.n for each in found.outliers)
    assert len(found.outliers) <= found.n / 2


@given(st.lists(ENERGIES, min_size=2, max_size=20), st.floats(min_value=1e-3, max_value=1e3))
def test_another_unit_changes_nothing_but_the_unit(values: list[float], factor: float) -> None:
    one, other = summary(values), summary([each * factor for each in values])
    tolerance = 1e-6 * one.max * factor
    for name in ("mean", "sd", "low", "high", "median"):
        assert getattr(other, name) == pytest.approx(getattr(one, name) * factor, rel=1e-6, abs=tolerance)


def test_the_interval_of_a_mean_holds_the_truth_95_times_in_100() -> None:
    chance = random.Random(1908)
    held = 0
    for _ in range(1000):
        found = summary([chance.gauss(50.0, 2.0) for _ in range(8)])
        assert found.low is not None and found.high is not None
        held += found.low <= 50.0 <= found.high
    assert 930 <= held <= 970


@pytest.mark.parametrize(
    "values",
    [[], [1.0, math.nan], [math.inf], [-math.inf, 1.0], [1e200]],
    ids=["none", "nan", "inf", "-inf", "huge"],
)
def test_what_cannot_be_measured_is_refused(values: list[float]) -> None:
    with pytest.raises(ValueError):
        summary(values)


def test_two_outliers_do_not_hide_each_other() -> None:
    """The plain z-score of 8.3 is 2.0 here: the two stretch the standard deviation themselves."""
    assert outliers([2.1, 2.6, 2.4, 2.5, 2.3, 2.1, 2.3, 2.6, 8.2, 8.3]) == (8, 9)


def test_an_outlier_is_found_on_either_side_and_named_by_its_place() -> None:
    assert outliers([10.0, 3.0, 10.1, 9.9, 10.2, 9.8, 17.0, 10.0]) == (1, 6)


def test_the_threshold_is_a_modified_z_score_of_three_and_a_half() -> None:
    clean = [-2.0, -1.0, -1.0, 0.0, 0.0, 0.0, 1.0, 1.0]  # the MAD stays 1, the median 0
    assert outliers([*clean, 3.5 / 0.6745 - 1e-9]) == ()
    assert outliers([*clean, 3.5 / 0.6745 + 1e-9]) == (8,)


def test_where_most_values_are_equal_the_mean_deviation_judges() -> None:
    assert outliers([10.0] * 7 + [100.0]) == (7,)
    assert outliers([10.0] * 3 + [10.1, 10.2]) == ()


@pytest.mark.parametrize("values", [[1.0], [1.0, 100.0], [5.0] * 9, [1.0, 2.0, 3.0]])
def test_where_nothing_stands_out_there_is_no_outlier(values: list[float]) -> None:
    assert outliers(values) == ()
