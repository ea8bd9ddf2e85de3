"""Student's t is exact: closed forms, published tables, and what holds for any degrees of freedom."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from emt_cli.analysis.student import critical, two_sided_p

DEGREES = st.floats(min_value=0.5, max_value=1e6)
LEVELS = st.floats(min_value=1e-9, max_value=0.999)


@pytest.mark.parametrize(
    ("level", "df", "t"),
    [  # to seven digits and more, as R's qt gives them; rounded they stand in every printed table
        (0.05, 1, 12.7062047362),
        (0.05, 2, 4.3026527297),
        (0.05, 3, 3.1824463053),
        (0.05, 4, 2.7764451052),
        (0.05, 5, 2.5705818356),
        (0.05, 9, 2.2621571628),
        (0.05, 10, 2.2281388520),
        (0.05, 18, 2.1009220402),
        (0.05, 30, 2.0422724563),
        (0.05, 120, 1.9799304051),
        (0.05, 1000, 1.9623390808),
        (0.01, 9, 3.2498355416),
        (0.10, 9, 1.8331129327),
        (0.001, 5, 6.8688266259),
        (0.02, 1, 31.8205159538),
    ],
)
def test_the_printed_tables_come_out(level: float, df: int, t: float) -> None:
    assert critical(level, df) == pytest.approx(t, abs=1e-9)
    assert two_sided_p(t, df) == pytest.approx(level, rel=1e-9)


@given(st.floats(min_value=1e-3, max_value=1e3))
def test_with_few_degrees_of_freedom_it_is_the_closed_form(t: float) -> None:
    """Abramowitz & Stegun 26.7.3 and 26.7.4."""
    angle = {df: math.atan(t / math.sqrt(df)) for df in (1, 3, 4)}
    inside = {
        1: 2 / math.pi * angle[1],
        2: t / math.sqrt(2 + t * t),
        3: 2 / math.pi * (angle[3] + math.sin(angle[3]) * math.cos(angle[3])),
        4: math.sin(angle[4]) * (1 + math.cos(angle[4]) ** 2 / 2),
    }
    for df, expected in inside.items():
        assert 1 - two_sided_p(t, df) == pytest.approx(expected, abs=1e-12)


def test_with_many_degrees_of_freedom_it_is_the_normal_distribution() -> None:
    for t in (0.5, 1.0, 1.959964, 4.0):
        assert two_sided_p(t, 1e8) == pytest.approx(math.erfc(t / math.sqrt(2)), rel=1e-6)


@given(LEVELS, DEGREES)
def test_the_critical_value_leaves_exactly_its_level_outside(level: float, df: float) -> None:
    assert two_sided_p(critical(level, df), df) == pytest.approx(level, rel=1e-9)


@given(DEGREES, st.floats(min_value=0, max_value=1e6), st.floats(min_value=1e-3, max_value=10))
def test_the_tail_shrinks_with_t_and_with_the_degrees_of_freedom(df: float, t: float, more: float) -> None:
    assert 0 <= two_sided_p(t + more, df) <= two_sided_p(t, df) <= 1
    assert two_sided_p(t, df) == two_sided_p(-t, df)
    assert two_sided_p(t, df * (1 + more)) <= two_sided_p(t, df) * (1 + 1e-7)


@given(LEVELS, LEVELS, DEGREES)
def test_less_outside_lies_further_out(one: float, other: float, df: float) -> None:
    assume(one < other * 0.999)
    assert critical(one, df) > critical(other, df)


def test_the_ends_of_the_line() -> None:
    assert two_sided_p(0.0, 5) == 1.0
    assert two_sided_p(math.inf, 5) == 0.0
    assert two_sided_p(1e200, 5) == 0.0


@pytest.mark.parametrize("t_df", [(1.0, 0.0), (1.0, -1.0), (1.0, math.nan), (math.nan, 3.0), (1.0, math.inf)])
def test_where_there_is_no_distribution_it_says_so(t_df: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="no t distribution"):
        two_sided_p(*t_df)


@pytest.mark.parametrize("level", [0.0, 1.0, -0.1, math.nan])
def test_a_level_lies_between_0_and_1(level: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        critical(level, 5)
