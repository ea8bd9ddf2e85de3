"""When emt itself fails: the command runs on to its own end, and its status is what emt leaves with.

The faults are put in by a `sitecustomize` that only the interpreter of emt finds.
"""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import textwrap
import time
from collections.abc import Callable, Iterator

import pytest

from tests.launch import (
    RUN,
    child_of,
    counting,
    finished,
    is_gone,
    only_record,
    records,
    started,
    state,
    until,
)

Break = Callable[[str], dict[str, str]]


@pytest.fixture
def broken(environment: dict[str, str], tmp_path: pathlib.Path) -> Break:
    """`broken(RAISING + FAULTS[where])`: an environment in which emt's interpreter runs `code` first."""
    folder = tmp_path / "fault"
    folder.mkdir()

    def write(code: str) -> dict[str, str]:
        (folder / "sitecustomize.py").write_text(textwrap.dedent(code))
        return {**environment, "PYTHONPATH": f"{folder}:{environment['PYTHONPATH']}"}

    return write


RAISING = """
def fault(*arguments, **options):
    raise RuntimeError("a fault of emt")

def at_first_use(module, name):
    real = getattr(module, name)
    def first(*arguments):
        setattr(module, name, real)
        fault()
    setattr(module, name, first)

"""
FAULTS = {
    "while it waits": "import emt_cli.measure.on_linux as m; at_first_use(m, 'wait_for_exit')",
    "when the command is over": "import emt_cli.measure.cputime as m; m.CpuMeter.finish = fault",
    "at the first thread after the start": "import emt_cli.measure.writer as m; m.Writer.start = fault",
    "in its clock": "import emt_cli.measure.cputime as m; m.CpuMeter.read = fault",
    "in the tree": "import emt_cli.measure.tree as m; m.Tree.pass_over = fault",
    "in the results": "import emt_cli.analysis as m; m.complete = fault",
    "in the record": "import emt_cli.store.folder as m; m.RunFolder.finish = fault",
    "in the summary": "import emt_cli.reports.summary as m; m.lines = fault",
}


@pytest.mark.parametrize("where", FAULTS)
@pytest.mark.parametrize("end", ["exit 7", "kill -TERM $$"])
def test_a_fault_of_emt_changes_neither_the_commands_end_nor_its_output(
    broken: Break, where: str, end: str
) -> None:
    done = finished([*RUN[:-1], "--", "sh", "-c", f"echo mine; {end}"], broken(RAISING + FAULTS[where]))
    assert done.returncode == {"exit 7": 7, "kill -TERM $$": -signal.SIGTERM}[end]
    assert done.stdout == b"mine\n"
    assert b"a fault of emt" in done.stderr


def test_a_fault_of_the_journal_is_noted_in_the_record_and_costs_no_time(broken: Break) -> None:
    environment = broken(RAISING + "import emt_cli.store.folder as m; m.RunFolder.append = fault")
    begun_s = time.monotonic()
    done = finished([*RUN, "--", "sh", "-c", "exit 7"], environment)
    assert (done.returncode, done.stdout) == (7, b"")
    assert time.monotonic() - begun_s < 9  # the ten seconds that a hanging disk is given
    warnings = [each["text"] for each in only_record(environment)["warnings"]]
    assert any("a fault of emt" in text for text in warnings)


def test_a_fault_with_no_stderr_to_tell_it_does_not_write_to_stdout(broken: Break) -> None:
    environment = broken(RAISING + FAULTS["when the command is over"])
    done = finished(["sh", "-c", '"$@" 2>&-', "sh", *RUN, "--", "sh", "-c", "echo mine; exit 7"], environment)
    assert (done.returncode, done.stdout) == (7, b"mine\n")


def test_after_a_fault_signals_still_reach_the_command(broken: Break, tmp_path: pathlib.Path) -> None:
    environment = broken(RAISING + "import emt_cli.measure.tree as m; m.Tree.collect = fault")
    with counting(tmp_path, environment, stderr=subprocess.PIPE) as (emt, counter):
        child = child_of(emt.pid)
        os.kill(child, signal.SIGSTOP)  # whatever changes about a child makes emt collect orphans
        until(lambda: state(child) == "T", "the command to stop")
        os.kill(child, signal.SIGCONT)
        os.kill(emt.pid, signal.SIGTERM)
        counter.wait_for(signal.SIGTERM)
        assert counter.fence(emt.pid)[signal.SIGTERM] == 1
        counter.end()
        assert emt.wait(60) == 0
        assert emt.stderr is not None
        assert b"a fault of emt" in emt.stderr.read()


@pytest.fixture
def sensor(environment: dict[str, str], tmp_path: pathlib.Path) -> Iterator[Break]:
    """`sensor(body)`: an environment with an installed sensor whose `read` has that body."""
    package = tmp_path / "packages"
    info = package / "test_sensor-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: test-sensor\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[emt.sensors]\ntest = test_sensor:open_test\n")

    def write(body: str) -> dict[str, str]:
        (package / "test_sensor.py").write_text(
            textwrap.dedent("""
                import os, threading, time
                from emt_cli.model import Channel, Reading
                class TestSensor:
                    name = "test"
                    min_period_s = 0.01
                    channels = (Channel(id="test", sensor="test", device="test", domain="other", kind="gauge",
                                        provenance="measured", source="test", max_power_w=100.0),)
                    reads = 0
                    def read(self):
                        self.reads += 1
                        BODY
                        return [Reading(time.monotonic(), 5)]
                    def close(self): pass
                def open_test(machine):
                    return TestSensor()
            """).replace("BODY", body)
        )
        return {**environment, "PYTHONPATH": f"{package}:{environment['PYTHONPATH']}"}

    yield write


@pytest.mark.parametrize(
    "body",
    [
        "pass",
        "raise RuntimeError('broken')",
        "if self.reads > 2: raise RuntimeError('broken')",
        "if self.reads > 2: raise SystemExit(3)",
        "if self.reads > 2: threading.Event().wait()",
        "threading.Event().wait()",
        "return []",
        "return None",
    ],
)
def test_a_sensor_that_fails_or_blocks_changes_nothing_for_the_command(sensor: Break, body: str) -> None:
    environment = sensor(body)
    begun_s = time.monotonic()
    done = finished([*RUN, "-F", "100", "--", "sh", "-c", "sleep 0.2; exit 7"], environment)
    assert (done.returncode, done.stdout) == (7, b"")
    assert time.monotonic() - begun_s < 30
    record = only_record(environment)
    assert record["exit"]["code"] == 7
    assert "test" in {channel["id"] for channel in record["channels"]}


def test_a_sensor_that_kills_emt_leaves_the_command_alive(sensor: Break, tmp_path: pathlib.Path) -> None:
    environment = sensor("if self.reads > 2: os.abort()")
    with started(
        [*RUN, "--", "sh", "-c", 'echo $$; read word; echo "$word" > "$0"', str(tmp_path / "heard")],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=tmp_path,
    ) as emt:
        assert emt.stdin is not None
        assert emt.stdout is not None
        child = int(emt.stdout.readline())
        assert emt.wait(60) == -signal.SIGABRT
        emt.stdin.write(b"still here\n")
        emt.stdin.flush()
        until(lambda: is_gone(child), "the command to end")
    assert (tmp_path / "heard").read_text() == "still here\n"


def test_a_disk_that_hangs_does_not_hold_up_the_command_or_the_exit_for_ever(
    broken: Break, tmp_path: pathlib.Path
) -> None:
    environment = broken("""
        import threading
        import emt_cli.commands.run as run
        import emt_cli.measure.session as session
        import emt_cli.store.folder as folder
        session._WRITE_LIMIT_S = run._WRITE_LIMIT_S = 0.2
        folder.RunFolder.append = folder.RunFolder.finish = lambda *_: threading.Event().wait()
    """)
    done = finished([*RUN, "--", "sh", "-c", "exit 7"], environment)
    assert done.returncode == 7
    assert [record["state"] for record in records(environment)] == ["running"]
    assert b"could not be written within" in done.stderr


@pytest.mark.parametrize(
    "variables",
    [{"PYTHONWARNINGS": "error"}, {"PYTHONDEVMODE": "1", "PYTHONWARNINGS": "error"}, {"PYTHONOPTIMIZE": "2"}],
)
def test_settings_for_the_users_own_python_change_nothing(
    environment: dict[str, str], variables: dict[str, str]
) -> None:
    """They are meant for the program that is measured, and emt gets them too."""
    done = finished([*RUN, "--", "sh", "-c", "exit 7"], {**environment, **variables})
    assert (done.returncode, done.stdout, done.stderr) == (7, b"", b"")
    assert only_record(environment)["exit"]["code"] == 7
