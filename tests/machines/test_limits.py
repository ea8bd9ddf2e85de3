"""`emt run --max-...` on simulated machines: warned, stopped, killed, or just in time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.machines.conftest import Measured, Running, spinning
from tests.simulation import SimulatedMachine, Stat, Zone, constant

HUNDRED_WATTS = Zone(power=constant(100.0))
SPIN = [sys.executable, "-S", "-c", "while True: pass"]
IGNORES_TERM = (
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True)\nwhile True: pass"
)
CHECKPOINTS = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (print("saved", flush=True), sys.exit(0)))
time.sleep(100)
"""
MACHINE = ("--scope", "machine")
STOP = ("--on-exceed", "stop")

Simulate = Callable[..., SimulatedMachine]
Measure = Callable[..., Measured]
Begin = Callable[..., Running]


def only(measured: Measured) -> str:
    """The text of the one warning that a limit was exceeded."""
    return str(measured.warning("limit_exceeded")["text"])


def test_over_an_energy_limit_it_warns_once_and_lets_the_command_go_on(
    simulate: Simulate, measure: Measure
) -> None:
    run = measure(simulate(HUNDRED_WATTS), "--max-energy", "50J", *MACHINE, command=["sleep", "2"])
    assert run.status == 0 and run.duration_s >= 2
    assert run.errors.count("--max-energy 50.0 J is exceeded") == 1
    assert "being stopped" not in run.errors
    assert "--max-energy 50.0 J was exceeded" in only(run)
    assert "limit_stopped" not in run.codes


def test_over_an_energy_limit_it_stops_with_124_and_the_record_says_how_it_ended(
    simulate: Simulate, measure: Measure
) -> None:
    run = measure(simulate(HUNDRED_WATTS), "--max-energy", "50J", *STOP, *MACHINE, command=["sleep", "60"])
    assert run.status == 124
    assert run.record["exit"] == {"code": None, "signal": signal.SIGTERM}
    assert 0.5 <= run.duration_s < 10
    assert "is exceeded" in run.errors and "being stopped" in run.errors
    assert run.warning("limit_stopped")["text"].startswith("the command was stopped after ")
    assert "limit_exceeded" in run.codes


def test_the_trees_own_share_is_held_to_the_limit(simulate: Simulate, measure: Measure) -> None:
    busy = simulate(HUNDRED_WATTS, stat=Stat(cpus=64, neighbour_cpus=50.0, follows_real=True))
    run = measure(busy, "--max-energy", "90J", *STOP, command=["sleep", "2"])
    assert run.status == 0 and run.codes.count("limit_exceeded") == 0
    assert run.machine_j > 150


def test_grams_follow_from_the_intensity(simulate: Simulate, measure: Measure) -> None:
    words = ("--max-co2e", "10mg", "--intensity", "1000", *STOP, *MACHINE)
    run = measure(simulate(HUNDRED_WATTS), *words, command=["sleep", "60"])
    assert run.status == 124
    assert "--max-co2e" in only(run)
    assert run.record["carbon"]["co2e_g"] > 0.01


def test_a_time_limit_is_exact(simulate: Simulate, measure: Measure) -> None:
    run = measure(simulate(HUNDRED_WATTS), "--max-time", "0.7s", *STOP, command=["sleep", "60"])
    assert run.status == 124
    stopped = float(run.warning("limit_stopped")["text"].split("after ")[1].split(" s")[0])
    assert stopped == pytest.approx(0.7, abs=0.05), "the moment of the signal, whatever came after"


def test_a_mean_power_is_judged_after_a_while(simulate: Simulate, measure: Measure) -> None:
    run = measure(simulate(HUNDRED_WATTS), "--max-power", "60W", *STOP, *MACHINE, command=["sleep", "60"])
    assert run.status == 124 and run.duration_s >= 5
    assert "--max-power 60.0 W was exceeded" in only(run)


def test_a_short_run_over_the_power_limit_is_found_at_the_end(simulate: Simulate, measure: Measure) -> None:
    run = measure(simulate(HUNDRED_WATTS), "--max-power", "60W", *STOP, *MACHINE, command=["sleep", "1"])
    assert run.status == 0
    assert "--max-power 60.0 W was exceeded" in only(run)


def test_a_run_within_its_limits_says_nothing(simulate: Simulate, measure: Measure) -> None:
    words = ("--max-energy", "1kJ", "--max-time", "1min", "--max-power", "1kW", "--max-co2e", "1kg")
    run = measure(simulate(HUNDRED_WATTS), *words, *STOP, *MACHINE, command=["sh", "-c", "exit 3"])
    assert run.status == 3
    assert run.errors == ""
    assert not {"limit_exceeded", "limit_stopped", "watch_failed"} & set(run.codes)


def test_who_ignores_term_is_killed_when_the_grace_time_is_over(simulate: Simulate, measure: Measure) -> None:
    words = ("--max-time", "1s", *STOP, "--grace", "0.5s")
    command = [sys.executable, "-S", "-c", IGNORES_TERM]
    run = measure(simulate(HUNDRED_WATTS), *words, command=command)
    assert run.status == 124
    assert run.record["exit"]["signal"] == signal.SIGKILL
    assert run.duration_s >= 1.5


def test_who_ends_well_when_asked_to_is_still_over_the_limit(simulate: Simulate, measure: Measure) -> None:
    command = [sys.executable, "-S", "-c", CHECKPOINTS]
    run = measure(simulate(HUNDRED_WATTS), "--max-time", "2s", *STOP, command=command)
    assert run.output == "saved\n"
    assert run.record["exit"] == {"code": 0, "signal": None}
    assert run.status == 124


def test_what_a_shell_has_started_ends_with_it(simulate: Simulate, measure: Measure, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = (
        f"exec >/dev/null 2>&1; sleep 98 & echo $! > {pids}; setsid sleep 97 & echo $! >> {pids}; sleep 99; "
    )
    script += f"echo went on >> {pids}"
    run = measure(simulate(HUNDRED_WATTS), "--max-time", "1s", *STOP, command=["sh", "-c", script])
    assert run.status == 124
    left = pids.read_text().split()
    assert len(left) == 2, "the shell did not go on to its next command"
    deadline_s = time.monotonic() + 30
    for pid in left:
        while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline_s:
            time.sleep(0.01)
        assert not Path(f"/proc/{pid}").exists()


def test_a_stopped_command_is_ended_too(simulate: Simulate, measure: Measure) -> None:
    command = ["sh", "-c", "kill -STOP $$; sleep 60"]
    run = measure(simulate(HUNDRED_WATTS), "--max-time", "1s", *STOP, command=command)
    assert run.status == 124
    assert run.record["exit"]["signal"] == signal.SIGTERM, "it went on to take its leave"


def test_signals_still_reach_the_command(simulate: Simulate, begin: Begin, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    script = f"trap 'exit 9' USR1; touch {ready}; while :; do sleep 0.05; done"
    running = begin(simulate(HUNDRED_WATTS), "--max-time", "1min", *STOP, command=["sh", "-c", script])
    deadline_s = time.monotonic() + 60
    while not ready.exists() and time.monotonic() < deadline_s:
        time.sleep(0.01)
    os.kill(running.process.pid, signal.SIGUSR1)
    assert running.finish().status == 9


def test_limits_hold_for_every_execution_and_the_first_that_is_stopped_is_the_last(
    simulate: Simulate, measure: Measure, tmp_path: Path
) -> None:
    script = f"echo x >> {tmp_path}/n; [ $(wc -l < {tmp_path}/n) -lt 2 ] || sleep 60"
    run = measure(simulate(HUNDRED_WATTS), "-r", "4", "--max-time", "1s", *STOP, command=["sh", "-c", script])
    assert run.status == 124
    assert len(run.record["executions"]) == 2
    assert "by 1 of 2 executions" in only(run)


def test_who_ends_well_when_asked_to_is_not_repeated_either(simulate: Simulate, measure: Measure) -> None:
    command = [sys.executable, "-S", "-c", CHECKPOINTS]
    run = measure(simulate(HUNDRED_WATTS), "-r", "3", "--max-time", "2s", *STOP, command=command)
    assert run.status == 124 and run.output == "saved\n"


def test_a_warned_execution_is_followed_by_the_next(simulate: Simulate, measure: Measure) -> None:
    run = measure(simulate(HUNDRED_WATTS), "-r", "2", "--max-time", "0.1s", command=["sleep", "0.3"])
    assert run.status == 0
    assert "by 2 of 2 executions: up to" in only(run)


def test_idle_power_that_is_measured_before_is_no_part_of_the_limit(
    simulate: Simulate, measure: Measure
) -> None:
    words = ("--idle-before", "1", "--max-time", "0.5s", *STOP)
    run = measure(simulate(HUNDRED_WATTS, stat=Stat(cpus=4)), *words, command=["true"])
    assert run.status == 0
    assert run.record["settings"]["idle_w_source"] == "measured before the run"


def test_the_tree_that_is_waited_for_is_ended_too(simulate: Simulate, measure: Measure) -> None:
    words = ("--wait-tree", "--max-time", "1s", *STOP)
    run = measure(simulate(HUNDRED_WATTS), *words, command=["sh", "-c", "sleep 60 & exit 0"])
    assert run.status == 124 and run.duration_s < 30
    assert run.record["exit"] == {"code": 0, "signal": None}


def test_a_reader_that_takes_no_message_keeps_nothing_from_ending(
    simulate: Simulate, environment: dict[str, str]
) -> None:
    words = [sys.executable, "-m", "tests.simulated_emt", simulate(HUNDRED_WATTS).root, "run", "-q"]
    words += ["--max-time", "1s", *STOP, "--", "sleep", "60"]
    with subprocess.Popen(words, env=environment, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        process.stderr.close()
        assert process.wait(60) == 124


@pytest.mark.parametrize(
    "options",
    [
        ("--max-energy", "500"),
        ("--max-energy", "500 W"),
        ("--max-power", "1,5 kW"),
        ("--max-time", "-1s"),
        ("--max-co2e", "nan g"),
        ("--on-exceed", "stop"),
        ("--on-exceed", "explode", "--max-time", "1s"),
        ("--grace", "3s"),
        ("--max-time", "1s", "--grace", "3s"),
        ("--max-time", "1s", *STOP, "--grace", "3"),
    ],
)
def test_what_cannot_be_leaves_with_125_before_the_start(
    environment: dict[str, str], tmp_path: Path, options: tuple[str, ...]
) -> None:
    words = [sys.executable, "-m", "emt_cli", "run", *options, "--", "touch", "started"]
    done = subprocess.run(words, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 125
    assert done.stderr.startswith("emt: ") and "Traceback" not in done.stderr
    assert not (tmp_path / "started").exists()


def test_a_spinning_command_is_stopped_by_its_own_energy(simulate: Simulate, measure: Measure) -> None:
    cpus = os.cpu_count() or 1
    machine = simulate(HUNDRED_WATTS, stat=Stat(cpus=2 * cpus, follows_real=True))
    run = measure(machine, "--max-energy", "30J", *STOP, command=spinning(120.0))
    assert run.status == 124
    assert run.energy["attributed_j"] > 20
