"""The whole command where there is no /proc and no held child: `tests.portable_emt` pretends to be macOS."""

from __future__ import annotations

import csv
import json
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from emt_cli.measure.portable.tree import BLIND_SPOT
from tests.launch import Counter, finished, need_root, only_record, program, started, until
from tests.launch.test_terminal import on_terminal
from tests.machines.conftest import SPIN, VALIDATOR

EMT = (sys.executable, "-m", "tests.portable_emt", "darwin")
RUN = (*EMT, "run", "-q", "--location", "FR")


def record_of(environment: dict[str, str]) -> dict[str, Any]:
    record = only_record(environment)
    VALIDATOR.validate(record)
    return record


# --- status and output ------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [0, 3, 255])
def test_the_status_and_the_output_are_the_commands_own(environment: dict[str, str], code: int) -> None:
    done = finished([*RUN, "--", "sh", "-c", f"echo mine; echo theirs >&2; exit {code}"], environment)
    assert (done.returncode, done.stdout, done.stderr) == (code, b"mine\n", b"theirs\n")
    assert record_of(environment)["exit"] == {"code": code, "signal": None}


@pytest.mark.parametrize("name", ["INT", "TERM", "KILL", "SEGV", "PIPE"])
def test_a_signal_that_kills_the_command_kills_emt(environment: dict[str, str], name: str) -> None:
    done = finished([*RUN, "--", *program("die", name)], environment)
    number = getattr(signal, f"SIG{name}")
    assert (done.returncode, done.stdout, done.stderr) == (-number, b"", b"")
    assert record_of(environment)["exit"] == {"code": None, "signal": number}


@pytest.mark.parametrize(
    ("command", "status", "says"),
    [
        (["no-such-command-anywhere"], 127, b"command not found"),
        (["./nothing-here"], 127, b"command not found"),
        ([""], 127, b"the command is empty"),
        (["./no-interpreter"], 127, b"the interpreter named in its first line does not exist"),
        (["./not-executable"], 126, b"permission denied"),
        (["./folder"], 126, b"is a directory"),
    ],
)
def test_what_cannot_be_started_says_why_and_leaves_no_record(
    environment: dict[str, str], tmp_path: pathlib.Path, command: list[str], status: int, says: bytes
) -> None:
    (tmp_path / "no-interpreter").write_text("#!/nowhere/interpreter\n")
    (tmp_path / "no-interpreter").chmod(0o755)
    (tmp_path / "not-executable").write_text("#!/bin/sh\n")
    (tmp_path / "folder").mkdir()
    done = finished([*RUN, "--", *command], environment, cwd=tmp_path)
    assert done.returncode == status
    assert says in done.stderr
    assert b"Traceback" not in done.stderr
    assert list(pathlib.Path(environment["EMT_STORE"]).glob("*")) == []


def test_a_script_without_a_first_line_goes_to_the_shell(
    environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    script = tmp_path / "no-shebang"
    script.write_text("echo by $0 with $1; exit 9\n")
    script.chmod(0o755)
    done = finished([*RUN, "--", "./no-shebang", "one"], environment, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (9, b"by ./no-shebang with one\n")


def test_descriptors_and_standard_input_reach_the_command(environment: dict[str, str]) -> None:
    read, write = os.pipe()
    script = f"cat; echo through {write} >/dev/fd/{write}"
    done = finished([*RUN, "--", "sh", "-c", script], environment, input=b"typed\n", pass_fds=[write])
    os.close(write)
    assert done.stdout == b"typed\n"
    with open(read, "rb") as pipe:
        assert pipe.read() == f"through {write}\n".encode()


def test_root_runs_a_command_as_somebody_else(environment: dict[str, str]) -> None:
    need_root()
    done = finished([*RUN, "--user", "nobody", "--", "sh", "-c", "id -un; echo $USER"], environment)
    assert (done.returncode, done.stdout) == (0, b"nobody\nnobody\n")


# --- what is measured -------------------------------------------------------------------------------


def test_the_cpu_time_of_a_spinning_command_is_seen_within_five_percent(environment: dict[str, str]) -> None:
    done = finished([*RUN, "--", sys.executable, "-S", "-c", SPIN, "2"], environment)
    cpu = record_of(environment)["cpu_time"]
    assert cpu["tree_s"] == pytest.approx(float(done.stdout), rel=0.05)
    assert set(cpu["witnesses"]) == {"psutil", "rusage"}
    assert cpu["series_s"] > 0.5 * cpu["tree_s"]  # it was seen while it ran, not at the end alone
    assert cpu["machine_s"] > 0.9 * cpu["tree_s"]


def test_children_count_and_stand_in_the_table(environment: dict[str, str]) -> None:
    one = f'"{sys.executable}" -S -c "$0" 1.5'
    done = finished([*RUN, "--", "sh", "-c", f"{one} & {one}; wait", SPIN], environment)
    record = record_of(environment)
    used_s = sum(map(float, done.stdout.split()))
    assert record["cpu_time"]["tree_s"] == pytest.approx(used_s, rel=0.05)
    path = pathlib.Path(environment["EMT_STORE"]) / record["id"] / "processes.csv"
    with path.open(newline="") as file:
        table = list(csv.DictReader(file))
    spinners = [row for row in table if row["command"].startswith(sys.executable)]
    assert len(spinners) == 2
    assert all(float(row["cpu_s"]) > 0.5 for row in spinners)
    root = next(row for row in table if row["command"].startswith("sh -c"))
    assert {row["ppid"] for row in spinners} == {root["pid"]}
    assert record["cpu_time"]["processes_seen"] == 3


def test_an_orphan_that_was_met_keeps_its_place_and_counts(environment: dict[str, str]) -> None:
    """Its parent is gone when it does most of its work; nobody in the tree waits for it."""
    spin = f'"{sys.executable}" -S -c "$0" 3'
    script = f"sh -c '{spin} & sleep 0.8' \"$0\" & sleep 2.5"
    finished([*RUN, "--", "sh", "-c", script, SPIN], environment)
    record = record_of(environment)
    assert record["cpu_time"]["tree_s"] > 0.5
    left = next(each for each in record["warnings"] if each["code"] == "left_running")
    assert "python" in left["text"]


def test_wait_tree_follows_those_that_live_on(environment: dict[str, str], tmp_path: pathlib.Path) -> None:
    script = f"(sleep 2; touch {tmp_path}/done) & sleep 0.8"
    with_it = finished([*RUN, "--wait-tree", "--", "sh", "-c", script], environment)
    assert with_it.returncode == 0
    assert (tmp_path / "done").exists()
    assert record_of(environment)["duration_s"] > 1.9


def test_those_left_running_are_named(environment: dict[str, str]) -> None:
    done = finished([*RUN, "--", "sh", "-c", "sleep 3 >/dev/null 2>&1 & sleep 0.8"], environment)
    assert done.returncode == 0
    assert "left_running" in [each["code"] for each in record_of(environment)["warnings"]]


def test_what_is_out_of_sight_is_said_and_no_remedy_of_linux_is_given(environment: dict[str, str]) -> None:
    done = finished([*EMT, "run", "--", "true"], environment)
    cpu = record_of(environment)["cpu_time"]
    assert (cpu["coverage"], cpu["blind_spot"]) == (None, BLIND_SPOT)
    words = b" ".join(done.stderr.split())
    assert b"a part of the tree's CPU time could not be seen" in words
    assert b"perf_event_paranoid" not in words


def test_the_model_stands_in_where_no_sensor_is_and_nothing_of_linux_is_read(
    environment: dict[str, str],
) -> None:
    finished([*RUN, "--", sys.executable, "-S", "-c", SPIN, "0.5"], environment)
    record = record_of(environment)
    assert {channel["provenance"] for channel in record["channels"]} == {"estimated"}
    assert record["energy"]["attributed_j"] > 0
    assert record["host"]["memory_bytes"] > 1 << 20
    assert record["host"]["boot_id"] == ""


@pytest.mark.parametrize("frequency", ["1", "100"])
def test_the_frequency_does_not_change_what_is_counted(environment: dict[str, str], frequency: str) -> None:
    done = finished([*RUN, "-F", frequency, "--", sys.executable, "-S", "-c", SPIN, "1"], environment)
    assert record_of(environment)["cpu_time"]["tree_s"] == pytest.approx(float(done.stdout), rel=0.1)


def test_emt_report_reads_the_record(environment: dict[str, str]) -> None:
    finished([*RUN, "--", "true"], environment)
    done = finished([*EMT, "report", "--format", "json"], environment)
    assert done.returncode == 0
    assert json.loads(done.stdout)


def test_emt_sensors_lists_what_there_is(environment: dict[str, str]) -> None:
    done = finished([*EMT, "sensors"], environment)
    assert b"Traceback" not in done.stderr
    assert b"cpu" in done.stdout


def test_linux_pays_nothing_for_it(environment: dict[str, str]) -> None:
    done = finished([sys.executable, "-v", "-m", "emt_cli", "run", "-q", "--", "true"], environment)
    assert b"emt_cli.measure.on_linux" in done.stderr
    for name in (b"import 'psutil", b"emt_cli.measure.portable", b"emt_cli.sensors.rendered"):
        assert name not in done.stderr


# --- signals ----------------------------------------------------------------------------------------


@contextmanager
def counting(
    environment: dict[str, str], folder: pathlib.Path
) -> Iterator[tuple[subprocess.Popen[bytes], Counter]]:
    counter = Counter(folder)
    with started([*RUN, "--", *counter.command()], env=environment) as emt:
        counter.wait_until_ready()
        try:
            yield emt, counter
        finally:
            counter.end()


def after_a_fence(send: Callable[[], None], counter: Counter, emt: int) -> dict[int, int]:
    """What has arrived when a last signal, sent through emt, is there."""
    send()
    os.kill(emt, signal.SIGUSR2)
    counter.wait_for(signal.SIGUSR2)
    counts = counter.counts()
    del counts[signal.SIGUSR2]
    return dict(counts)


@pytest.mark.parametrize("name", ["TERM", "HUP", "USR1", "INT", "QUIT"])
def test_a_signal_to_emt_reaches_the_command_exactly_once(
    environment: dict[str, str], tmp_path: pathlib.Path, name: str
) -> None:
    number = getattr(signal, f"SIG{name}")
    with counting(environment, tmp_path) as (emt, counter):
        counts = after_a_fence(
            lambda: (os.kill(emt.pid, number), counter.wait_for(number))[0], counter, emt.pid
        )
        assert counts == {number: 1}
        counter.end()
        assert emt.wait(60) == 0


def test_a_signal_before_the_start_reaches_the_command(
    environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    fault = tmp_path / "early"
    fault.mkdir()
    lines = ["import os, signal", "import emt_cli.measure.session as m", "real = m._Session.prime"]
    lines += ["def prime(self):", "    os.kill(os.getpid(), signal.SIGTERM)", "    real(self)"]
    (fault / "sitecustomize.py").write_text("\n".join([*lines, "m._Session.prime = prime"]))
    path = f"{fault}:{environment['PYTHONPATH']}"
    done = finished([*RUN, "--", "sleep", "30"], {**environment, "PYTHONPATH": path})
    assert done.returncode == -signal.SIGTERM


def test_ctrl_c_on_a_terminal_reaches_the_command_exactly_once(
    environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    counter = Counter(tmp_path)
    with on_terminal([*RUN, "--", *counter.command()], environment, tmp_path) as terminal:
        counter.wait_until_ready()
        terminal.type("\x03")
        counter.wait_for(signal.SIGINT)
        assert after_a_fence(lambda: None, counter, terminal.leader.pid) == {signal.SIGINT: 1}
        counter.end()
        assert terminal.wait() == 0


def test_ctrl_c_ends_emt_as_it_ends_the_command(environment: dict[str, str], tmp_path: pathlib.Path) -> None:
    command = [*RUN, "--", "sh", "-c", "echo ready; exec sleep 60"]
    with on_terminal(command, environment, tmp_path) as terminal:
        terminal.wait_for("ready")
        terminal.type("\x03")
        assert terminal.wait() == -signal.SIGINT
    assert record_of(environment)["exit"]["signal"] == signal.SIGINT


def test_what_emt_was_started_to_ignore_the_command_ignores(environment: dict[str, str]) -> None:
    script = "trap '' INT HUP; exec \"$@\""
    ask = ["grep", "SigIgn", "/proc/self/status"]
    bare = finished(["sh", "-c", script, "sh", *ask], environment)
    assert finished(["sh", "-c", script, "sh", *RUN, "--", *ask], environment).stdout == bare.stdout


# --- faults of emt's own ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        "import emt_cli.measure.portable.cputime as m; m.PolledCpu.read = fault",
        "import emt_cli.measure.portable.cputime as m; m.PolledCpu.finish = fault",
        "import emt_cli.measure.portable.tree as m; m.PolledTree.pass_over = fault",
    ],
)
@pytest.mark.parametrize("end", ["exit 7", "kill -TERM $$"])
def test_a_fault_of_emt_changes_neither_the_commands_end_nor_its_output(
    environment: dict[str, str], tmp_path: pathlib.Path, fault: str, end: str
) -> None:
    folder = tmp_path / "fault"
    folder.mkdir()
    text = f"def fault(*_, **__):\n    raise RuntimeError('a fault of emt')\n{fault}\n"
    (folder / "sitecustomize.py").write_text(text)
    path = f"{folder}:{environment['PYTHONPATH']}"
    done = finished([*RUN, "--", "sh", "-c", f"echo mine; {end}"], {**environment, "PYTHONPATH": path})
    assert done.returncode == {"exit 7": 7, "kill -TERM $$": -signal.SIGTERM}[end]
    assert done.stdout == b"mine\n"
    assert b"a fault of emt" in done.stderr


# --- sensors of macOS in a whole run ------------------------------------------------------------------

ZEUS = """
import time
from types import SimpleNamespace
class AppleEnergyMonitor:
    def get_cumulative_energy(self):
        mj = int(time.monotonic() * 8000)
        return SimpleNamespace(cpu_total_mj=mj, dram_mj=mj // 8, gpu_mj=None, gpu_sram_mj=5, ane_mj=0)
"""
"""8 W of CPU and 1 W of DRAM."""

POWERMETRICS = """
import plistlib, sys, time
last = time.monotonic_ns()
def write(*_):
    global last
    now = time.monotonic_ns()
    powers = {"cpu_power": 5000.0, "gpu_power": 2000.0, "ane_power": 0.0}
    sys.stdout.buffer.write(plistlib.dumps({"elapsed_ns": now - last, "processor": powers}) + b"\\0")
    sys.stdout.buffer.flush()
    last = now
while True:
    time.sleep(0.1)
    write()
"""
"""5 W of CPU and 2 W of GPU, told ten times a second, until nobody reads it any more (SIGPIPE)."""


def test_zeus_apple_silicon_measures_the_run(environment: dict[str, str], tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "packages"
    folder.mkdir()
    (folder / "zeus_apple_silicon.py").write_text(ZEUS)
    path = f"{folder}:{environment['PYTHONPATH']}"
    finished([*RUN, "--", "sleep", "1"], {**environment, "PYTHONPATH": path})
    record = record_of(environment)
    joules = {row["id"]: row["machine_j"] for row in record["energy"]["channels"] if row["counted"]}
    assert joules["cpu0/package"] == pytest.approx(8 * record["duration_s"], rel=0.02)
    assert joules["cpu0/dram"] == pytest.approx(1 * record["duration_s"], rel=0.02)
    assert record["energy"]["provenance"] == "measured"
    assert "gpu0/sram" not in joules


def test_powermetrics_measures_the_run_and_is_gone_afterwards(
    environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    program = tmp_path / "powermetrics"
    program.write_text(f"#!{sys.executable}\n{POWERMETRICS}")
    program.chmod(0o755)
    folder = tmp_path / "packages"
    folder.mkdir()
    lines = ["import emt_cli.sensors.powermetrics as m"]
    lines += [f"m.open_powermetrics.__kwdefaults__.update(program={str(program)!r}, is_root=lambda: True)"]
    (folder / "sitecustomize.py").write_text("\n".join(lines))
    path = f"{folder}:{environment['PYTHONPATH']}"
    done = finished([*RUN, "--", "sleep", "2"], {**environment, "PYTHONPATH": path})
    assert done.stderr == b""
    record = record_of(environment)
    joules = {row["id"]: row["machine_j"] for row in record["energy"]["channels"] if row["counted"]}
    assert joules["cpu0/package"] == pytest.approx(5 * record["duration_s"], rel=0.15)
    assert joules["gpu0"] == pytest.approx(2 * record["duration_s"], rel=0.15)
    until(lambda: not running(program), "its end: nobody reads what it writes")


def running(program: pathlib.Path) -> list[pathlib.Path]:
    entries = pathlib.Path("/proc").glob("[0-9]*/cmdline")
    return [entry for entry in entries if str(program) in text_of(entry)]


def text_of(file: pathlib.Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""
