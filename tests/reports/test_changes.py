"""Differences in words: digits that they are worth, intervals that lean, and no word too many."""

from __future__ import annotations

import pytest

from emt_cli.reports.changes import change
from emt_cli.reports.compared import label


@pytest.mark.parametrize(
    ("relative", "low", "high", "said"),
    [
        (-0.031, -0.039, -0.023, "3.1 % less, ± 0.8 %"),
        (0.123, 0.11, 0.136, "12.3 % more, ± 1.3 %"),
        (0.25, -0.1, 0.6, "25 % more, ± 35 %"),
        (0.12, 0.05, 0.31, "12 % more (5.0 to 31 %)"),
        (-0.12, -0.31, -0.05, "12 % less (5.0 to 31 %)"),
        (0.12, -0.02, 0.5, "12 % more (-2.0 to +50 %)"),
        (-0.12, None, None, "12 % less"),
        (-0.5, -0.5, -0.5, "50.0 % less"),
        (1.4, 1.3, 1.5, "2.4 times as much (2.3 to 2.5)"),
        (9.0, None, None, "10 times as much"),
        (9.0, 9.0, 9.0, "10 times as much"),
        (0.3, -1.0, 1e300, "30 % more (anything)"),
        (3.0, -1.0, 1e300, "4.0 times as much (anything)"),
        (0.0, -0.01, 0.01, "0.0 % more, ± 1.0 %"),
    ],
)
def test_a_change_is_said_with_its_interval(
    relative: float, low: float | None, high: float | None, said: str
) -> None:
    assert change(relative, low, high) == said


def test_runs_beyond_the_alphabet_have_two_letters() -> None:
    assert [label(index) for index in (0, 25, 26, 27, 52)] == ["A", "Z", "AA", "AB", "BA"]
