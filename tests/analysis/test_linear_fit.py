"""A line through windows: its numbers are right, and a bad one is not believed."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emt_cli.analysis.linear_fit import Fit, fit, is_sound_fit, why_unsound

IDLE_W, BUSY_W = 20.0, 60.0


def straight(load: float) -> float:
    return IDLE_W + BUSY_W * load


def windows(
    power: Callable[[float], float] = straight,
    *,
    count: int = 40,
    low: float = 0.0,
    high: float = 1.0,
    noise_w: float = 1.0,
    memory: float = 0.0,
    seed: int = 1,
) -> Fit:
    """A line through windows of random load, with noise of which each keeps a part of the one before."""
    chance = random.Random(seed)
    x, y, error = [], [], 0.0
    for _ in range(count):
        x.append(chance.uniform(low, high))
        error = memory * error + chance.gauss(0.0, noise_w * math.sqrt(1 - memory**2))
        y.append(power(x[-1]) + error)
    return fit(x, y)


def test_the_line_of_anscombe() -> None:
    """The first of Anscombe's four samples (1973): 3.0001 + 0.5001 x, r² 0.6665, standard error 1.1247."""
    x = [10, 8, 13, 9, 11, 14, 6, 4, 12, 7, 5]
    y = [8.04, 6.95, 7.58, 8.81, 8.33, 9.96, 7.24, 4.26, 10.84, 4.82, 5.68]
    line = fit(x, y)
    assert line.intercept == pytest.approx(3.0001, abs=1e-4)
    assert line.slope == pytest.approx(0.5001, abs=1e-4)
    assert line.r2 == pytest.approx(0.6665, abs=1e-4)
    assert (line.n, line.x_min, line.x_max) == (11, 4, 14)
    half = 2.262157 * 1.1247  # t with nine degrees; these residuals turn their sign, so nothing is widened
    assert line.intercept_low == pytest.approx(3.0001 - half, abs=1e-3)
    assert line.intercept_high == pytest.approx(3.0001 + half, abs=1e-3)


def test_a_perfect_line_comes_out_exactly() -> None:
    x = [each / 20 for each in range(21)]
    line = fit(x, [straight(each) for each in x])
    assert line.intercept == pytest.approx(IDLE_W)
    assert line.slope == pytest.approx(BUSY_W)
    assert line.r2 == pytest.approx(1.0)
    assert line.intercept_bent == pytest.approx(IDLE_W)
    assert line.intercept_high - line.intercept_low < 1e-6
    assert is_sound_fit(line)


def test_a_parabola_meets_no_load_where_it_does() -> None:
    x = [0.1 + each / 30 for each in range(25)]
    line = fit(x, [7.0 + 50.0 * each - 20.0 * each * each for each in x])
    assert line.intercept_bent == pytest.approx(7.0)
    assert line.intercept > 8.0


@given(
    st.lists(st.floats(min_value=0, max_value=1), min_size=3, max_size=30),
    st.floats(min_value=-100, max_value=100),
    st.floats(min_value=-100, max_value=100),
)
def test_any_line_is_found_again(x: list[float], intercept: float, slope: float) -> None:
    if max(x) - min(x) < 0.01:
        return
    line = fit(x, [intercept + slope * each for each in x])
    assert line.intercept == pytest.approx(intercept, abs=1e-6)
    assert line.slope == pytest.approx(slope, abs=1e-6)
    assert line.intercept_low <= line.intercept <= line.intercept_high
    assert line.r2 <= 1


@pytest.mark.parametrize("memory", [0.0, 0.6])
def test_the_interval_holds_the_idle_power_also_where_windows_resemble_their_neighbours(
    memory: float,
) -> None:
    held = 0
    for seed in range(400):
        line = windows(memory=memory, seed=seed)
        held += line.intercept_low <= IDLE_W <= line.intercept_high
    assert held >= 0.93 * 400


# -- the judgement


def test_windows_from_idle_to_busy_are_believed() -> None:
    believed = [windows(seed=seed) for seed in range(200)]
    sound = [line for line in believed if is_sound_fit(line)]
    assert len(sound) >= 190
    assert max(abs(line.intercept / IDLE_W - 1) for line in sound) < 0.1


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (windows(count=19), "19 windows are too few"),
        (windows(low=0.1, high=0.35), "the load varied by 2"),
        (windows(low=0.5, high=1.0), "never fell below 5"),
        (windows(lambda load: 80.0 - 20.0 * load), "does not rise"),
        (windows(lambda load: -5.0 + 60.0 * load), "does not rise"),
        (windows(lambda load: 50.0, noise_w=0.0), "does not rise"),
        (windows(noise_w=8.0), "of the power's variance only"),
        (windows(lambda load: 5.0 + 60.0 * load, noise_w=4.0), "is known to"),
        (windows(lambda load: 20.0 + 60.0 * load**0.7, noise_w=0.5), "is bent"),
        (windows(lambda load: 20.0 + 60.0 * load**1.3, noise_w=0.5), "is bent"),
    ],
    ids=[
        "few",
        "narrow",
        "far from idle",
        "falling",
        "below 0",
        "flat",
        "noise",
        "wide",
        "flattens",
        "steepens",
    ],
)
def test_an_unsound_line_is_told_with_its_reason(line: Fit, why: str) -> None:
    reason = why_unsound(line)
    assert reason is not None and why in reason
    assert not is_sound_fit(line)


@pytest.mark.parametrize("exponent", [0.5, 0.6, 0.7, 0.8])
def test_power_that_flattens_towards_full_load_is_seldom_taken_for_a_line(exponent: float) -> None:
    lines = [windows(lambda load: 20.0 + 60.0 * load**exponent, low=0.1, seed=seed) for seed in range(200)]
    assert sum(is_sound_fit(line) for line in lines) <= 0.03 * 200


def test_where_only_two_loads_were_seen_a_bend_could_not_be() -> None:
    x = [0.0, 1.0] * 15
    line = fit(x, [straight(each) for each in x])
    assert line.intercept_bent is None
    assert "a bend would not show" in (why_unsound(line) or "")


# -- bad input


@pytest.mark.parametrize(
    ("x", "y", "why"),
    [
        ([], [], "no values"),
        ([0.1, 0.2], [1.0, 2.0], "three windows"),
        ([0.5] * 30, [1.0] * 30, "different x"),
        ([0.1, 0.2, 0.3], [1.0, 2.0], "as many x as y"),
        ([0.1, 0.2, math.nan], [1.0, 2.0, 3.0], "not a number that can be measured"),
        ([0.1, 0.2, 0.3], [1.0, math.inf, 3.0], "not a number that can be measured"),
    ],
)
def test_what_has_no_line_is_refused(x: Sequence[float], y: Sequence[float], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        fit(x, y)
