"""Commands measured in rounds: who is best, who really differs, and how seldom nobody is told to."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from emt_cli.analysis.ranking import rank
from emt_cli.model import Execution, Exit, Host, Run, Sampling, Work
from tests.analysis.examples import channel


def run_of(
    joules: Sequence[float | None],
    *,
    failed: Sequence[int] = (),
    seconds: float = 2.0,
    work: Work | None = None,
) -> Run:
    return Run(
        id="one",
        command=("x",),
        started_at="2025-01-01T00:00:00Z",
        host=Host(),
        sampling=Sampling(frequency_hz=10.0),
        channels=(channel(unit=1e-6),),
        work=work,
        executions=tuple(
            Execution(
                start_s=0.0,
                duration_s=seconds,
                exit=Exit(code=int(at in failed)),
                attributed_j=each,
                machine_j=None if each is None else 2 * each,
            )
            for at, each in enumerate(joules)
        ),
    )


def test_the_least_energy_comes_first_with_how_much_more_the_others_use() -> None:
    runs = [run_of([20.0, 20.2, 19.9, 20.1]), run_of([10.0, 10.1, 9.9, 10.0])]
    best, other = rank(runs, "tree")
    assert (best.index, best.verdict, other.verdict) == (1, "best", "more")
    assert other.relative == pytest.approx(1.0, abs=0.03)
    assert other.low is not None and other.high is not None and 0 < other.low < other.relative < other.high
    assert other.method == "paired t"


def test_drift_that_hits_both_alike_hides_no_difference() -> None:
    drift = [1.0, 1.5, 2.0, 2.6, 3.3, 4.1]
    jitter = [1.001, 0.999, 1.002, 0.998, 1.0, 1.001]
    runs = [
        run_of([10 * d for d in drift]),
        run_of([10.3 * d * j for d, j in zip(drift, jitter, strict=True)]),
    ]
    assert [each.verdict for each in rank(runs, "tree")] == ["best", "more"]


def test_scope_and_product_and_units_of_work() -> None:
    only = rank([run_of([10.0, 12.0], work=Work(amount=100.0, unit="images"))], "machine")[0]
    assert only.energy_j is not None and only.edp_js is not None and only.power_w is not None
    assert (only.energy_j.mean, only.edp_js.mean, only.power_w.mean) == (22.0, 44.0, 11.0)
    assert (only.per_unit_j, only.unit, only.verdict) == (22.0 / 50, "images", "best")


def test_rounds_in_which_one_failed_make_no_pair() -> None:
    runs = [run_of([10.0, 10.1, 9.9, 500.0], failed=[3]), run_of([20.0, 20.2, 19.9, 20.1])]
    best, other = rank(runs, "tree")
    assert best.energy_j is not None
    assert (best.energy_j.n, best.energy_j.max) == (3, 10.1)
    assert other.relative == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize(
    ("a", "b", "verdict"),
    [
        ([10.0], [20.0], "few"),
        ([0.0, 0.0, 0.0], [1.0, 1.1, 1.0], "zero"),
        ([10.0, 10.0, 10.0], [10.0 + 5e-7] * 3, "unresolved"),
        ([10.0, 10.0, 10.0], [10.0, 10.0, 10.0], "unresolved"),
        ([10.0, 11.0, 9.0], [10.1, 9.2, 10.8], "same"),
        ([10.0, 10.0], [None, 10.0], "unknown"),
    ],
)
def test_what_cannot_be_told_is_named(a: list[float], b: list[float], verdict: str) -> None:
    assert rank([run_of(a), run_of(b)], "tree")[1].verdict == verdict


def test_without_any_energy_time_decides_the_order() -> None:
    runs = [run_of([None, None], seconds=3.0), run_of([None, None], seconds=1.0)]
    assert [(each.index, each.verdict) for each in rank(runs, "tree")] == [(1, "unknown"), (0, "unknown")]


def test_the_interval_excludes_nothing_exactly_where_there_is_no_verdict() -> None:
    generator = random.Random(4)
    for _ in range(200):
        shift = generator.choice([1.0, 1.01, 1.03])
        runs = [
            run_of([10 * factor * generator.gauss(1, 0.02) for _ in range(8)])
            for factor in (1.0, 1.0, shift, shift)
        ]
        for each in rank(runs, "tree")[1:]:
            assert each.low is not None
            assert (each.low > 0) == (each.verdict == "more"), each


def test_equal_commands_are_seldom_told_apart() -> None:
    """Four of them, 1,000 times, with drift and outliers: the promise is 5 % of benchmarks at most."""
    generator = random.Random(2026)
    wrong = sum(
        any(each.verdict == "more" for each in rank(_equal_commands(generator), "tree")) for _ in range(1000)
    )
    assert wrong <= 50


def _equal_commands(generator: random.Random, count: int = 4, rounds: int = 10) -> list[Run]:
    """In turns, the order turning; the machine drifts, and one execution in thirty is disturbed."""
    joules: list[list[float]] = [[] for _ in range(count)]
    slope, place = generator.uniform(-0.003, 0.003), 0
    for number in range(rounds):
        for command in range(count) if number % 2 == 0 else reversed(range(count)):
            disturbed = 1.5 if generator.random() < 1 / 30 else 1.0
            joules[command].append(10 * (1 + slope * place) * generator.gauss(1, 0.02) * disturbed)
            place += 1
    return [run_of(each) for each in joules]
