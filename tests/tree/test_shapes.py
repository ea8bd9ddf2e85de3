"""The CPU time of real trees against their processes' own clocks, with and without perf."""

from __future__ import annotations

import csv
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.simulation import SimulatedMachine, Zone
from tests.tree.shapes import ALL_WITNESSES, NEEDS_PERF, TICK_S, Measured

Measure = Callable[..., Measured]

SEEN_BY_ALL = {
    "spin": "b250",
    "tiny children, one after the other": "150<[b1]w>",
    "jobs in parallel": "4(b80)w",
    "a double-forked daemon": "{b200}u2",
    "children that nobody waits for": "3(b80)u3",
    "deep": "(b40(b40(b40(b40)w)w)w)w",
    "many threads": "t100(b3)",
    "threads that fork": "t10((b20))w",
    "exec in place of itself": "b120e b120",
}


@ALL_WITNESSES
@pytest.mark.parametrize("script", SEEN_BY_ALL.values(), ids=SEEN_BY_ALL.keys())
def test_the_tree_is_counted_whole_and_nothing_else(
    measure: Measure, script: str, options: tuple[str, ...]
) -> None:
    run = measure(script, *options)
    run.assert_within(0.95 if options else 0.99)
    assert run.cpu["coverage"] == 1.0
    assert "coverage" not in run.warnings
    assert ("perf" in run.cpu["refusals"]) == bool(options)


@NEEDS_PERF
def test_children_of_a_parent_that_ignores_sigchld_are_seen_by_perf(measure: Measure) -> None:
    run = measure("i4(b150)w")
    run.assert_within(0.99)
    assert run.cpu["winner"] == "perf"
    assert run.cpu["coverage"] == 1.0


def test_without_perf_they_are_seen_by_nobody_and_no_figure_is_claimed(
    measure: Measure, tmp_path: Path
) -> None:
    SimulatedMachine(tmp_path / "machine", zones=[Zone()])
    emt = (*_simulated_emt(), str(tmp_path / "machine"))
    run = measure("i4(b150)w b200", "--no-perf", emt=emt)
    assert run.cpu["coverage"] is None
    assert "ignores SIGCHLD" in run.cpu["blind_spot"]
    assert "coverage" in run.warnings
    assert run.cpu["tree_s"] <= run.most_s
    energy = run.record["energy"]
    assert energy["high_j"] == pytest.approx(energy["machine_high_j"])


def test_children_that_vanish_by_nocldwait_are_missed(measure: Measure) -> None:
    run = measure("c(b900)w b600", "--no-perf")
    assert run.cpu["coverage"] is None
    assert "vanished without being waited for" in run.cpu["blind_spot"]
    assert run.cpu["tree_s"] <= run.most_s
    assert run.coverage > 0.55  # what was seen of them before they vanished


@ALL_WITNESSES
def test_what_is_left_running_counts_until_the_root_ends(measure: Measure, options: tuple[str, ...]) -> None:
    run = measure("{b300h}u2b100", *options)
    run.assert_within(0.95)
    left = [row for row in _processes(run) if row["left_running"] == "yes"]
    assert len(left) == 1
    assert "left_running" in run.warnings


@ALL_WITNESSES
def test_wait_tree_follows_it_to_its_end(measure: Measure, options: tuple[str, ...]) -> None:
    run = measure("{b300}b50", "--wait-tree", *options)
    run.assert_within(0.95 if options else 0.99)
    assert run.truth.count == 3
    assert "left_running" not in run.warnings
    assert all(row["ended_s"] for row in _processes(run))


@ALL_WITNESSES
def test_a_busy_stranger_and_its_orphans_are_not_counted(
    measure: Measure, options: tuple[str, ...], tmp_path: Path
) -> None:
    stranger = tmp_path / "stranger"
    helper = f"./shape 8 9 '30<{{b20}}b20>' 8<>{stranger} 9</dev/null >/dev/null 2>&1"
    before = ("sh", "-c", f'{helper} & exec "$@"', "sh")
    run = measure("(b100)w b300", *options, before=before)
    run.assert_within(0.95 if options else 0.99)
    assert len(_processes(run)) <= 2


def test_an_orphan_beside_a_stranger_is_not_claimed_without_perf(measure: Measure) -> None:
    before = ("sh", "-c", 'sleep 2 >/dev/null 2>&1 & exec "$@"', "sh")
    run = measure("{b200}u2b300", "--no-perf", before=before)
    assert run.cpu["tree_s"] <= run.most_s
    assert run.cpu["coverage"] is None or run.coverage >= 0.95


def test_late_cpu_time_is_spread_over_the_orphans_life_and_the_series_never_falls(measure: Measure) -> None:
    run = measure("2<{b250}>u4 b50", "--no-perf", "-F", "100")
    run.assert_within(0.95)
    series = [float(row["cpu_tree_s"]) for row in _samples(run) if row["cpu_tree_s"]]
    assert all(before <= after for before, after in itertools.pairwise(series))
    duration_s = run.record["duration_s"]
    for late in run.cpu["late"]:
        assert 0 <= late["start_s"] < late["end_s"] <= duration_s + 1.0
        assert late["cpu_s"] <= run.truth.total_s


def test_a_stopped_emt_says_so_and_counts_right(measure: Measure) -> None:
    def stop(emt: subprocess.Popen[str]) -> None:
        _wait_for_child(emt.pid)
        os.kill(emt.pid, signal.SIGSTOP)
        time.sleep(2.0)  # the pause is the matter of the test
        os.kill(emt.pid, signal.SIGCONT)

    run = measure("4(b80)w", "--no-perf", during=stop)
    run.assert_within(0.95)
    assert run.record["paused_s"] > 1.0
    assert "paused" in run.warnings


# --- many processes -----------------------------------------------------------------------------------


def test_two_thousand_living_processes_are_all_seen(measure: Measure) -> None:
    run = measure("2000(h)u2000 b600", "--no-perf")
    assert run.cpu["processes_seen"] == 2001
    run.assert_within(0.95)


def test_with_few_descriptors_all_are_seen_and_the_record_is_written(measure: Measure) -> None:
    import resource

    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))

    run = measure("300(b1h)u300 b600", "--no-perf", limits=few)
    assert run.cpu["processes_seen"] == 301
    assert len(_processes(run)) == 301


def test_the_command_keeps_its_own_descriptor_limit(
    emt: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    import resource

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]

    def soft() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (321, hard))

    assert emt("run", "-q", "--", "sh", "-c", "ulimit -n", preexec_fn=soft).stdout.strip() == "321"


# --- any shape ----------------------------------------------------------------------------------------

burns = st.integers(1, 12).map("b{}".format)


def _groups(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    waiting = st.sampled_from(["", "w"])
    bracket = st.sampled_from(["()", "[]", "{}", "<>"])
    return st.builds(
        lambda count, pair, script, wait: f"{count}{pair[0]}{script}{pair[1]}{wait}",
        st.integers(1, 3),
        bracket,
        st.lists(inner, min_size=1, max_size=3).map("".join),
        waiting,
    )


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    script=st.lists(st.recursive(burns, _groups, max_leaves=8), min_size=1, max_size=4).map("".join),
    has_perf=st.booleans(),
)
def test_any_tree_is_counted_once(measure: Measure, script: str, has_perf: bool) -> None:
    run = measure(f"b60{script}", "--wait-tree", *(() if has_perf else ("--no-perf",)))
    # Who was forked and is waited for is known to the microsecond; only rounding and the ends remain.
    assert run.cpu["tree_s"] >= run.truth.total_s * 0.97 - TICK_S
    assert run.cpu["tree_s"] <= run.most_s
    assert run.cpu["coverage"] == 1.0


# --- what the tests above ask -------------------------------------------------------------------------


def _simulated_emt() -> tuple[str, ...]:
    return (sys.executable, "-m", "tests.simulated_emt")


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _processes(run: Measured) -> list[dict[str, str]]:
    return _rows(run.folder / "processes.csv")


def _samples(run: Measured) -> list[dict[str, str]]:
    return _rows(run.folder / "samples.csv")


def _wait_for_child(pid: int) -> None:
    """Return when emt has let its command go: then the shape is what the child runs."""
    for _ in range(2000):
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        names = [Path(f"/proc/{child}/comm").read_text().strip() for child in children]
        if "shape" in names:
            return
        time.sleep(0.01)
    raise AssertionError("the command was never started")
