"""Two sensors of one thing over a whole run: when their difference is told, and when nothing can be told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from emt_cli.analysis import complete
from emt_cli.analysis.cautions import merge
from emt_cli.model import Channel, Notice, Run
from tests.analysis.examples import channel, run_of, steady

COUNTED, CHECKER = "cpu0/package", "cpu0/package.2"


def rapl(one_w: float, two_w: float, *, duration_s: float = 10.0, **facts: Any) -> Run:
    """A run in which perf counted the package and powercap checked it; `facts` are of powercap's channel."""
    checker: dict[str, Any] = {
        "sensor": "powercap",
        "device": "cpu0",
        "domain": "package",
        "dropped": "perf reads the same",
        "checks": COUNTED,
        "update_period_s": 1e-3,
        "resolution_j": 61e-6,
    }
    channels: list[Channel] = [
        channel(COUNTED, sensor="perf", update_period_s=1e-3, resolution_j=61e-6),
        channel(CHECKER, **{**checker, **facts}),
    ]
    joules = {COUNTED: steady(one_w), CHECKER: steady(two_w)}
    return run_of(joules, channels=channels, duration_s=duration_s)


def observed(run: Run, id: str, **facts: Any) -> Run:
    return replace(
        run, observed=tuple(replace(each, **facts) if each.channel == id else each for each in run.observed)
    )


def told(run: Run) -> list[Notice]:
    return [notice for notice in complete(run).notices if notice.code == "cross_check"]


@pytest.mark.parametrize(("one_w", "two_w", "share"), [(50, 40, "20%"), (40, 50, "20%"), (0, 50, "100%")])
def test_a_difference_of_more_than_a_tenth_is_told(one_w: float, two_w: float, share: str) -> None:
    (notice,) = told(rapl(one_w, two_w))
    assert CHECKER in notice.text and COUNTED in notice.text and share in notice.text
    assert notice.hint == f"{COUNTED} is counted; --exclude perf lets powercap count instead"


@pytest.mark.parametrize(("one_w", "two_w"), [(50, 50), (50, 46), (46, 50), (0, 0)])
def test_a_difference_up_to_a_tenth_is_not(one_w: float, two_w: float) -> None:
    assert told(rapl(one_w, two_w)) == []


def test_it_is_the_only_warning_and_is_told_once_however_often_it_is_worked_out() -> None:
    once = complete(rapl(50, 40))
    assert [notice.code for notice in once.notices] == ["cross_check"]
    assert merge(once) == once.notices


def test_a_few_joules_tell_nothing() -> None:
    assert told(rapl(0.5, 0.4, duration_s=9.0)) == []
    assert told(rapl(0.5, 0.4, duration_s=11.0))


def test_a_few_steps_of_the_coarser_counter_tell_nothing() -> None:
    assert told(rapl(1.9, 1.5, resolution_j=1.0)) == []
    assert told(rapl(2.1, 1.5, resolution_j=1.0))


def test_a_few_refreshes_of_the_slower_counter_tell_nothing() -> None:
    assert told(rapl(500, 400, duration_s=1.9, update_period_s=0.1)) == []
    assert told(rapl(500, 400, duration_s=2.1, update_period_s=0.1))


def test_a_gauge_wants_ten_seconds_since_it_may_tell_the_mean_of_the_last_one() -> None:
    assert told(rapl(500, 400, duration_s=9.5, kind="gauge")) == []
    assert told(rapl(500, 400, duration_s=10.5, kind="gauge"))


def test_what_the_sampling_of_a_gauge_may_have_missed_is_no_difference() -> None:
    run = rapl(50, 40, duration_s=20.0, kind="gauge")
    assert told(observed(run, CHECKER, trapezoid_j=50.0))
    assert told(observed(run, CHECKER, trapezoid_j=150.0)) == []


@pytest.mark.parametrize("id", [COUNTED, CHECKER])
@pytest.mark.parametrize("facts", [{"gap_s": 1.0}, {"resets": 1}, {"readings": 1}])
def test_a_sensor_that_did_not_see_the_whole_run_is_no_witness(id: str, facts: dict[str, Any]) -> None:
    assert told(observed(rapl(50, 40), id, **facts)) == []


def test_a_channel_that_checks_what_is_not_there_or_does_not_count_says_nothing() -> None:
    run = rapl(50, 40)
    assert told(replace(run, channels=(run.channels[0], replace(run.channels[1], checks="gpu7")))) == []
    assert told(replace(run, channels=(replace(run.channels[0], dropped="excluded"), run.channels[1]))) == []


def test_two_ways_of_one_sensor_are_not_told_apart_by_leaving_it_out() -> None:
    (notice,) = told(rapl(50, 40, sensor="perf"))
    assert "--exclude" not in notice.hint


def test_gaps_and_resets_of_what_counts_nowhere_are_nobodys_loss() -> None:
    run = observed(rapl(50, 50), CHECKER, gap_s=3.0, resets=2)
    assert complete(run).notices == ()


def test_a_difference_that_was_found_before_the_start_stays_in_the_record() -> None:
    early = Notice(code="cross_check", text="cpu0/package of perf and that of powercap ...")
    run = replace(run_of(), notices=(early,))
    assert complete(run).notices == (early,)
