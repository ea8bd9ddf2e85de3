"""Runs put together as the executions of one: sums, one time line, and sensors that come and go."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from emt_cli.analysis import complete
from emt_cli.analysis.merging import merged
from emt_cli.model import (
    CpuTime,
    DeviceUse,
    Exit,
    GapSpan,
    Host,
    Observed,
    Process,
    Run,
    Sample,
    Sampling,
)
from tests.analysis.examples import channel


def execution(*ids: str, watts: float = 10.0, duration_s: float = 2.0, **facts: Any) -> Run:
    """A run of so many seconds, sampled at both edges and in the middle, alone on one of four CPUs."""
    moments = (0.0, duration_s / 2, duration_s)
    known: dict[str, Any] = {
        "id": "one",
        "command": ("true",),
        "started_at": "2025-01-01T00:00:00Z",
        "host": Host(cpu_count=4),
        "sampling": Sampling(frequency_hz=1.0, ticks=3, own_cpu_s=0.1),
        "channels": tuple(channel(id) for id in ids),
        "state": "complete",
        "duration_s": duration_s,
        "exit": Exit(code=0),
        "observed": tuple(
            Observed(channel=id, energy_j=watts * duration_s, readings=3, max_power_w=watts) for id in ids
        ),
        "cpu_time": CpuTime(
            tree_s=duration_s, machine_s=duration_s * 2, witnesses={"perf": duration_s}, logical_cpus=4
        ),
        "samples": [
            Sample(t_s, tuple(watts * t_s for _ in ids), tuple(None for _ in ids), t_s, 2 * t_s)
            for t_s in moments
        ],
    }
    return Run(**{**known, **facts})


PACKAGE, DRAM = "cpu0/package", "cpu0/dram"


def test_totals_are_sums_and_the_time_line_has_no_pauses() -> None:
    runs = [execution(PACKAGE), execution(PACKAGE, watts=20.0, duration_s=3.0)]
    whole = merged(runs[0], runs)
    assert whole.duration_s == 5.0
    assert [each.start_s for each in whole.executions] == pytest.approx([0.0, 2.0], abs=1e-5)
    assert whole.observed[0].energy_j == 10.0 * 2 + 20.0 * 3
    assert whole.cpu_time.tree_s == 5.0
    last = list(whole.samples)[-1]
    assert last.energy_j == (80.0,)
    assert (last.cpu_tree_s, last.cpu_machine_s) == (5.0, 10.0)


def test_time_never_runs_backwards_where_a_last_sample_came_after_the_end() -> None:
    late = execution(PACKAGE)
    late = replace(late, samples=[*late.samples, Sample(2.01, (20.1,), (None,), 2.0, 4.0)])
    times = [sample.t_s for sample in merged(late, [late, late, late]).samples]
    assert times == sorted(set(times))


def test_the_samples_can_be_read_again_and_again() -> None:
    samples = merged(execution(PACKAGE), [execution(PACKAGE)] * 2).samples
    assert list(samples) == list(samples)


def test_the_first_failing_execution_tells_how_it_ended() -> None:
    codes = [Exit(code=0), Exit(code=3), Exit(signal=9)]
    assert merged(execution(PACKAGE), [execution(PACKAGE, exit=each) for each in codes]).exit == codes[1]


def test_a_sensor_that_comes_and_goes_is_a_gap_where_it_was_not_there() -> None:
    runs = [execution(PACKAGE), execution(PACKAGE, DRAM), execution(DRAM, PACKAGE)]
    whole = merged(runs[0], runs)
    assert [each.id for each in whole.channels] == [PACKAGE, DRAM]
    assert [(gap.channel, gap.end_s - gap.start_s) for gap in whole.gaps] == [(DRAM, 2.0)]
    done = complete(whole)
    assert done.energy is not None
    assert [each.machine_j for each in done.executions] == pytest.approx([20.0, 40.0, 40.0])
    first = done.executions[0]
    assert first.high_j is not None and first.attributed_j is not None
    assert first.high_j - first.attributed_j >= channel(DRAM).max_power_w * 2.0 - 40.0
    assert "sensor_gap" in [each.code for each in done.notices]


def test_a_witness_that_was_not_there_every_time_is_left_out() -> None:
    other = execution(PACKAGE)
    both = {"perf": 2.0, "proc": 1.9}
    other = replace(other, cpu_time=replace(other.cpu_time, witnesses=both, refusals={"cgroup": "no"}))
    whole = merged(other, [execution(PACKAGE), other])
    assert whole.cpu_time.witnesses == {"perf": 4.0}
    assert whole.cpu_time.refusals == {"cgroup": "no"}


def test_gaps_and_processes_move_to_their_place_on_the_time_line() -> None:
    run = execution(
        PACKAGE,
        gaps=(GapSpan(channel=PACKAGE, start_s=0.5, end_s=1.0, reason="EIO"),),
        processes=(Process(pid=7, ppid=1, name="true", started_s=0.1, ended_s=1.9),),
    )
    whole = merged(run, [run, run])
    assert [gap.start_s for gap in whole.gaps] == pytest.approx([0.5, 2.5], abs=1e-5)
    assert [each.ended_s for each in whole.processes] == pytest.approx([1.9, 3.9], abs=1e-5)


def test_users_of_a_device_add_up() -> None:
    def used(pid: int, busy_s: float) -> Run:
        use = DeviceUse(device="gpu0", tree_busy_s=busy_s, total_busy_s=2.0, tree_pids=(pid,))
        return execution(PACKAGE, devices=(use,))

    use = merged(used(1, 0.5), [used(1, 0.5), used(2, 1.0)]).devices[0]
    assert (use.tree_busy_s, use.total_busy_s, use.tree_pids) == (1.5, 4.0, (1, 2))


def test_executions_without_a_sample_are_still_accounted_for() -> None:
    run = execution(PACKAGE, samples=[])
    done = complete(merged(run, [run, run]))
    assert [each.machine_j for each in done.executions] == [20.0, 20.0]
    assert done.energy is not None and done.energy.attributed_j == pytest.approx(20.0)
