"""Whether two samples differ: intervals that hold the truth, and few verdicts that are false."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emt_cli.analysis.difference import LEVEL, Difference, difference, holm

ENERGIES = st.floats(min_value=1e-6, max_value=1e9)

SLEEP_1 = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
SLEEP_2 = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
"""Student's own example (1908): hours of sleep gained with two drugs by the same ten people; R's `sleep`."""


def with_logs(values: list[float]) -> list[float]:
    """Energies whose logarithms are these, so that published examples can be compared."""
    return [math.exp(each) for each in values]


def interval(found: Difference) -> tuple[float, float]:
    assert found.low is not None and found.high is not None
    return found.low, found.high


def test_pairs_are_students_paired_t() -> None:
    """R's paired t.test of `sleep`: p 0.002833, interval 0.7001142 to 2.4598858 around 1.58."""
    found = difference(with_logs(SLEEP_1), with_logs(SLEEP_2), pairs=True, level=0.05)
    assert found.method == "paired t"
    assert found.p == pytest.approx(0.002833, abs=5e-7)
    assert found.relative == pytest.approx(math.expm1(1.58))
    low, high = interval(found)
    assert math.log1p(low) == pytest.approx(0.7001142, abs=1e-7)
    assert math.log1p(high) == pytest.approx(2.4598858, abs=1e-7)


def test_without_pairs_it_is_welchs_t() -> None:
    """R's t.test of `sleep`: p 0.07939, 17.776 degrees of freedom, interval -0.2054832 to 3.3654832."""
    found = difference(with_logs(SLEEP_1), with_logs(SLEEP_2), pairs=False, level=0.05)
    assert (found.method, found.is_significant) == ("Welch t", False)
    assert found.p == pytest.approx(0.07939, abs=5e-6)
    low, high = interval(found)
    assert math.log1p(low) == pytest.approx(-0.2054832, abs=1e-7)
    assert math.log1p(high) == pytest.approx(3.3654832, abs=1e-7)


def test_a_far_outlier_makes_it_yuens_t() -> None:
    """SciPy's ttest_ind(a, b, trim=0.2, equal_var=False), on the example of its documentation."""
    a = [56, 128.6, 12, 123.8, 64.34, 78, 763.3]
    b = [1.1, 2.9, 4.2]
    found = difference(
        with_logs([each / 100 for each in a]), with_logs([each / 100 for each in b]), pairs=False
    )
    assert found.method == "Yuen t"
    assert found.p == pytest.approx(0.009989092520784214, rel=1e-9)


def test_a_far_outlier_among_pairs_is_trimmed() -> None:
    """By hand: of ten log ratios the six in the middle, with the Winsorized deviations of all ten."""
    ratios = [0.01, 0.03, -0.01, 0.02, 0.04, 0.00, 0.02, 0.03, 0.01, 1.50]
    middle = [0.01, 0.01, 0.02, 0.02, 0.03, 0.03]
    winsorized = [0.01, 0.01, *middle, 0.03, 0.03]
    mean = sum(middle) / 6
    center = sum(winsorized) / 10
    error = math.sqrt(sum((each - center) ** 2 for each in winsorized) / (6 * 5))
    found = difference([1.0] * 10, with_logs(ratios), pairs=True, level=0.05)
    assert found.method == "paired trimmed t"
    assert found.relative == pytest.approx(math.expm1(mean))
    assert interval(found)[1] == pytest.approx(math.expm1(mean + 2.570581836 * error))  # t with 5 degrees


def test_one_value_against_ten_borrows_their_scatter() -> None:
    ten = [9.8, 10.1, 10.0, 9.9, 10.2, 10.0, 10.1, 9.9, 10.0, 10.0]
    alike = difference([10.1], ten, pairs=False)
    assert (alike.method, alike.is_significant) == ("pooled t", False)
    logs = [math.log(each) for each in ten]
    mean = sum(logs) / 10
    sd = math.sqrt(sum((each - mean) ** 2 for each in logs) / 9)
    half = 2.262157163 * sd * math.sqrt(1 + 1 / 10)
    low, high = interval(difference([10.1], ten, pairs=False, level=0.05))
    assert low == pytest.approx(math.expm1(mean - math.log(10.1) - half))
    assert high == pytest.approx(math.expm1(mean - math.log(10.1) + half))


@pytest.mark.parametrize("few", [[12.0], [12.0, 12.1]])
def test_one_or_two_values_get_no_verdict_since_they_may_be_outliers_themselves(few: list[float]) -> None:
    ten = [9.8, 10.1, 10.0, 9.9, 10.2, 10.0, 10.1, 9.9, 10.0, 10.0]
    for found in (difference(few, ten, pairs=False), difference(ten, few, pairs=False)):
        assert found.p is not None and found.p < 0.001
        assert (found.method, found.is_significant) == ("pooled t", False)
    assert difference([*few, 11.9], ten, pairs=False).is_significant == (len(few) == 2)


@pytest.mark.parametrize("pairs", [True, False])
def test_one_value_against_one_has_no_interval_and_no_verdict(pairs: bool) -> None:
    found = difference([10.0], [12.0], pairs=pairs)
    assert found == Difference(
        relative=found.relative, low=None, high=None, is_significant=False, p=None, method="none"
    )
    assert found.relative == pytest.approx(0.2)


@pytest.mark.parametrize("pairs", [True, False])
def test_equal_samples_do_not_differ(pairs: bool) -> None:
    found = difference([5.0] * 8, [5.0] * 8, pairs=pairs)
    assert (found.relative, found.low, found.high, found.is_significant, found.p) == (0, 0, 0, False, 1)


@pytest.mark.parametrize("pairs", [True, False])
def test_what_differs_by_rounding_alone_does_not_differ(pairs: bool) -> None:
    assert not difference([0.1 + 0.2] * 5, [0.3] * 5, pairs=pairs).is_significant
    assert not difference([0.3] * 5, [0.1 + 0.2] * 5, pairs=pairs).is_significant


@pytest.mark.parametrize("pairs", [True, False])
def test_samples_without_scatter_differ_if_they_differ(pairs: bool) -> None:
    found = difference([5.0] * 4, [6.0] * 4, pairs=pairs)
    assert (found.is_significant, found.p) == (True, 0.0)
    assert interval(found) == (found.relative, found.relative)
    assert found.relative == pytest.approx(0.2)


@pytest.mark.parametrize("pairs", [True, False])
def test_one_odd_value_among_equal_ones_does_not_make_the_rest_certain(pairs: bool) -> None:
    """Trimmed, nothing would scatter: nine equal ratios of a coarse counter are no proof."""
    found = difference([1.0] * 10, [1.01] * 9 + [0.5], pairs=pairs)
    low, high = interval(found)
    assert low < 0 < high
    assert not found.is_significant


@pytest.mark.parametrize("pairs", [True, False])
@pytest.mark.parametrize("wrong", [0.0, -3.0])
def test_a_ratio_needs_energies_above_zero(pairs: bool, wrong: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        difference([1.0, 2.0], [wrong, 2.0], pairs=pairs)
    with pytest.raises(ValueError, match="above 0"):
        difference([wrong, 2.0], [1.0, 2.0], pairs=pairs)


@pytest.mark.parametrize("values", [[], [math.nan, 1.0], [math.inf, 1.0], [1e200, 1.0]])
def test_what_cannot_be_measured_cannot_be_compared(values: list[float]) -> None:
    with pytest.raises(ValueError):
        difference([1.0, 2.0], values, pairs=False)
    with pytest.raises(ValueError):
        difference(values, [1.0, 2.0], pairs=True)


def test_two_pairs_may_differ_if_they_agree_well() -> None:
    assert difference([10.0, 10.01], [20.0, 20.03], pairs=True).is_significant
    assert not difference([10.0, 10.01], [20.0, 23.0], pairs=True).is_significant


def test_an_interval_that_knows_nothing_still_ends_in_numbers() -> None:
    low, high = interval(difference([1e-90, 1e90], [1e90, 1e-90], pairs=True))
    assert low == -1.0
    assert 1e300 < high < math.inf


def test_pairs_have_one_length_and_others_need_not() -> None:
    with pytest.raises(ValueError, match="one length, not 3 and 2"):
        difference([1.0, 2.0, 3.0], [1.0, 2.0], pairs=True)
    assert difference([1.0, 1.1, 0.9], [2.0, 2.2], pairs=False).relative == pytest.approx(1.12, abs=0.03)


@given(st.lists(st.tuples(ENERGIES, ENERGIES), min_size=1, max_size=15), st.booleans())
def test_any_two_samples_give_a_verdict_that_fits_its_interval(
    both: list[tuple[float, float]], pairs: bool
) -> None:
    found = difference([a for a, _ in both], [b for _, b in both], pairs=pairs)
    assert math.isfinite(found.relative) and found.relative > -1
    if found.low is None or found.high is None or found.p is None:
        assert len(both) == 1
        return
    assert -1 <= found.low <= found.relative <= found.high < math.inf
    assert 0 <= found.p <= 1
    may_judge = pairs or len(both) >= 3
    if abs(found.p - LEVEL) > 1e-9 and may_judge:  # nearer, either answer is right
        assert found.is_significant == (not found.low <= 0 <= found.high)


@given(*[st.lists(st.floats(min_value=1.0, max_value=1e3), min_size=2, max_size=12)] * 2)
def test_swapped_samples_give_the_swapped_answer(a: list[float], b: list[float]) -> None:
    there, back = difference(a, b, pairs=False), difference(b, a, pairs=False)
    assert (there.is_significant, there.method) == (back.is_significant, back.method)
    assert (1 + there.relative) * (1 + back.relative) == pytest.approx(1)


@given(st.lists(st.tuples(ENERGIES, ENERGIES), min_size=2, max_size=12), st.booleans())
def test_the_unit_does_not_touch_the_verdict(both: list[tuple[float, float]], pairs: bool) -> None:
    a, b = [a for a, _ in both], [b for _, b in both]
    joules, others = (
        difference(a, b, pairs=pairs),
        difference([8 * x for x in a], [8 * x for x in b], pairs=pairs),
    )
    assert joules.relative == pytest.approx(others.relative, rel=1e-9, abs=1e-9)


# -- the promise: at most 5 % false verdicts

Series = Callable[[random.Random, int], list[float]]
NOISE = 0.02


def steady(chance: random.Random, length: int) -> list[float]:
    return [chance.gauss(0.0, NOISE) for _ in range(length)]


def warming_up(chance: random.Random, length: int) -> list[float]:
    """Linear drift by up to 20 % over the experiment, either way."""
    drift = chance.uniform(-0.2, 0.2)
    return [drift * place / length + each for place, each in enumerate(steady(chance, length))]


def wandering(chance: random.Random, length: int) -> list[float]:
    """A random walk with steps as large as the noise."""
    level, values = 0.0, []
    for each in steady(chance, length):
        level += chance.gauss(0.0, NOISE)
        values.append(level + each)
    return values


def heavy_tailed(chance: random.Random, length: int) -> list[float]:
    """Student's t with two degrees of freedom: its variance is infinite."""
    return [NOISE * chance.gauss(0.0, 1.0) / math.sqrt(chance.expovariate(1.0)) for _ in range(length)]


def disturbed(chance: random.Random, length: int) -> list[float]:
    """One execution in ten costs a fifth more, up to three times as much."""
    return [
        each + (chance.uniform(0.2, 1.1) if chance.random() < 0.1 else 0.0) for each in steady(chance, length)
    ]


def throttled(chance: random.Random, length: int) -> list[float]:
    """From some moment on everything costs a fifth more."""
    moment = chance.randrange(length)
    return [each + 0.2 * (place >= moment) for place, each in enumerate(steady(chance, length))]


def everything(chance: random.Random, length: int) -> list[float]:
    made = [each(chance, length) for each in (warming_up, wandering, heavy_tailed, disturbed)]
    return [sum(parts) for parts in zip(*made, strict=True)]


def interleaved(series: list[float], change: float) -> tuple[list[float], list[float]]:
    """A B B A A B B A ...: pairs of neighbours, of which either command is first in every other one."""
    a, b = [], []
    for index in range(0, len(series), 2):
        first, second = series[index], series[index + 1]
        before, after = (first, second) if index % 4 == 0 else (second, first)
        a.append(40.0 * math.exp(before))
        b.append(40.0 * math.exp(after) * (1 + change))
    return a, b


def experiments(series: Series, repeats: int, *, change: float = 0.0, count: int = 1000) -> list[Difference]:
    chance = random.Random(f"{series.__name__} {repeats} {change}")
    return [difference(*interleaved(series(chance, 2 * repeats), change), pairs=True) for _ in range(count)]


@pytest.mark.parametrize("repeats", [3, 6, 10, 15])
@pytest.mark.parametrize(
    "series", [steady, warming_up, wandering, heavy_tailed, disturbed, throttled, everything]
)
def test_of_1000_experiments_without_a_difference_at_most_50_find_one(series: Series, repeats: int) -> None:
    assert sum(each.is_significant for each in experiments(series, repeats)) <= 50


@pytest.mark.parametrize("series", [steady, warming_up, wandering])
def test_a_difference_of_5_percent_is_found_and_its_interval_holds_it(series: Series) -> None:
    found = experiments(series, 10, change=0.05)
    assert sum(each.is_significant and each.relative > 0 for each in found) >= 900
    assert sum(interval(each)[0] <= 0.05 <= interval(each)[1] for each in found) >= 950


@pytest.mark.parametrize(
    ("series", "least"), [(disturbed, 600), (throttled, 800), (heavy_tailed, 600), (everything, 150)]
)
def test_a_difference_of_5_percent_is_often_found_among_outliers(series: Series, least: int) -> None:
    found = experiments(series, 10, change=0.05)
    assert sum(each.is_significant and each.relative > 0 for each in found) >= least
    assert sum(interval(each)[0] <= 0.05 <= interval(each)[1] for each in found) >= 950


def test_runs_of_different_days_keep_the_promise_too_while_nothing_drifts() -> None:
    for series in (steady, heavy_tailed, disturbed):
        for len_a, len_b in ((10, 10), (5, 12), (3, 20), (2, 10), (1, 10), (3, 3)):
            chance = random.Random(f"{series.__name__} {len_a} {len_b}")
            false = 0
            for _ in range(1000):
                made = [math.exp(each) for each in series(chance, len_a + len_b)]
                false += difference(made[:len_a], made[len_a:], pairs=False).is_significant
            assert false <= 50, (series.__name__, len_a, len_b, false)


# -- many comparisons


def test_holms_method_gives_the_known_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))


def test_no_comparison_and_one_comparison_stay_as_they_are() -> None:
    assert holm([]) == ()
    assert holm([0.2]) == (0.2,)


@pytest.mark.parametrize("wrong", [-0.1, 1.1, math.nan])
def test_what_is_no_probability_is_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        holm([0.5, wrong])


@given(st.lists(st.floats(min_value=0, max_value=1), max_size=12))
def test_a_raised_p_is_never_lower_and_never_changes_the_order(p_values: list[float]) -> None:
    raised = holm(p_values)
    assert all(before <= after <= 1 for before, after in zip(p_values, raised, strict=True))
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    assert [raised[each] for each in order] == sorted(raised)


def test_four_equal_commands_are_rarely_told_apart() -> None:
    """Over all six pairs together: without Holm, some pair would differ in one bench of eight."""
    chance = random.Random(1979)
    false_plain = false_holm = 0
    for _ in range(500):
        commands = [[math.exp(chance.gauss(0.0, NOISE)) for _ in range(10)] for _ in range(4)]
        p_values = [difference(a, b, pairs=True).p or 0.0 for a, b in combinations(commands, 2)]
        false_plain += min(p_values) <= LEVEL
        false_holm += min(holm(p_values)) <= LEVEL
    assert false_holm <= 25 < false_plain
