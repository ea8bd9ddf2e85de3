"""`pytest --emt` as a user runs it: a pytest of its own in a folder of its own, on a simulated machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from emt_cli.integrations import pytest_energy
from tests.conftest import REPOSITORY
from tests.fakes.nvml import FakeGpu, FakeProcess, fake_nvml
from tests.simulation import SimulatedMachine, Stat, Zone, constant, following_load

LIMIT_S = 120.0
PLUGIN = ("-p", "emt_cli.integrations.pytest_plugin")
XDIST = ("-p", "xdist.plugin", "-n", "2")

SPIN = """
import os, pytest, subprocess, sys, time

def spin(seconds):
    begun = time.process_time()
    while time.process_time() - begun < seconds:
        pass
"""
ONE_TO_THREE = (
    SPIN
    + """
def test_one(): spin(0.2)
def test_three(): spin(0.6)
def test_nothing(): pass
"""
)

Pytest = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the tests under test are."""
    made = tmp_path / "project"
    made.mkdir()
    return made


@pytest.fixture
def run_pytest(environment: dict[str, str], folder: Path) -> Pytest:
    """`run_pytest(source, "--emt")`: the finished pytest, warnings being errors, its cache kept out."""

    def run(
        source: str, *arguments: str, status: int = 0, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        (folder / "test_it.py").write_text(source)
        words = [sys.executable, "-W", "error", "-m", "pytest", "-p", "no:cacheprovider", *arguments]
        done = subprocess.run(
            words,
            cwd=folder,
            env={**environment, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **(env or {})},
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done

    return run


@pytest.fixture
def measured(run_pytest: Pytest, folder: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """`measured(source)`: what --emt-json tells of these tests on a simulated machine, and `output`."""

    def run(source: str, *arguments: str, zone: Zone | None = None, **options: Any) -> dict[str, Any]:
        put_on_machine(folder, tmp_path / "machine", zone or Zone(power=following_load(1.0, 20.0)))
        done = run_pytest(source, *PLUGIN, "--emt", "--emt-json", "energy.json", *arguments, **options)
        told: dict[str, Any] = json.loads((folder / "energy.json").read_text())
        assert told["format"] == 1
        return {**told, "output": done.stdout}

    return run


def put_on_machine(folder: Path, root: Path, zone: Zone) -> None:
    """A conftest that has the meter read a simulated machine, which knows the real one's load."""
    root.mkdir(exist_ok=True)
    stat = Stat(cpus=(os.cpu_count() or 1) + 2, follows_real=True)
    SimulatedMachine(root, zones=[zone], stat=stat)
    (folder / "conftest.py").write_text(
        "from emt_cli.integrations.pytest_energy import MACHINE\n"
        "from tests.simulation import simulated\n"
        f"def pytest_configure(config): config.stash[MACHINE] = simulated({str(root)!r})\n"
    )


def row(told: dict[str, Any], name: str) -> dict[str, Any]:
    return dict(next(each for each in told["tests"] if each["nodeid"] == f"test_it.py::{name}"))


# --- off --------------------------------------------------------------------------------------------


def test_without_the_option_nothing_of_emt_is_loaded_and_no_thread_runs(run_pytest: Pytest) -> None:
    source = """
import sys, threading
def test_off():
    loaded = {name for name in sys.modules if name.split(".")[0] == "emt_cli"}
    assert loaded == {"emt_cli", "emt_cli.integrations", "emt_cli.integrations.pytest_plugin"}
    assert threading.active_count() == 1
"""
    assert "energy" not in run_pytest(source, *PLUGIN).stdout


def test_loading_the_plugin_imports_nothing_but_pytest() -> None:
    script = """
import sys, pytest, argparse
before = set(sys.modules)
import emt_cli.integrations.pytest_plugin
print(sorted(set(sys.modules) - before - {"emt_cli", "emt_cli.integrations"}))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout == "['emt_cli.integrations.pytest_plugin']\n"


def test_whoever_has_emt_installed_has_the_option(run_pytest: Pytest, folder: Path, tmp_path: Path) -> None:
    """By the entry point of pyproject.toml, in metadata as an installer writes them."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    installed = tmp_path / "site" / "emt_cli-0.1.0.dist-info"
    installed.mkdir(parents=True)
    entries = "".join(f"{name} = {where}\n" for name, where in project["entry-points"]["pytest11"].items())
    (installed / "entry_points.txt").write_text(f"[pytest11]\n{entries}")
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: emt-cli\nVersion: 0.1.0\n")
    env = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "", "PYTHONPATH": f"{REPOSITORY}:{tmp_path / 'site'}"}
    done = run_pytest("def test_it(): pass", "--emt", "-p", "no:hypothesispytest", env=env)
    assert "energy (emt)" in done.stdout


# --- one process ------------------------------------------------------------------------------------


def test_joules_go_by_cpu_seconds_and_add_up_to_the_session(
    measured: Callable[..., dict[str, Any]],
) -> None:
    told = measured(ONE_TO_THREE)
    one, three, nothing = (row(told, name) for name in ("test_one", "test_three", "test_nothing"))
    assert three["energy_j"] / one["energy_j"] == pytest.approx(3.0, rel=0.15)
    assert three["cpu_s"] == pytest.approx(0.6, rel=0.15)
    assert nothing["energy_j"] < 0.1 * one["energy_j"]
    session = told["session"]
    inside_j = sum(each["energy_j"] for each in told["tests"])
    assert inside_j + session["outside_j"] == pytest.approx(session["attributed_j"])
    assert session["attributed_j"] <= session["machine_j"]
    assert all(each["low_j"] <= each["energy_j"] <= each["high_j"] for each in told["tests"])
    assert [each["is_coarse"] for each in (one, three, nothing)] == [False, False, True]


def test_the_table_names_the_slowest_in_joules(measured: Callable[..., dict[str, Any]]) -> None:
    output = measured(ONE_TO_THREE, "--emt-top", "2")["output"]
    table = output.partition("energy (emt)")[2]
    assert "slowest 2 of 3, in joules" in table
    assert table.index("::test_three") < table.index("::test_one")
    assert "::test_nothing" not in table
    assert "session" in table and "outside of tests" in table and "the machine used" in table


def test_setup_and_teardown_are_the_tests(measured: Callable[..., dict[str, Any]]) -> None:
    source = (
        SPIN
        + """
@pytest.fixture
def costly():
    spin(0.2)
    yield
    spin(0.3)

def test_it(costly): spin(0.1)
"""
    )
    assert 0.6 <= row(measured(source), "test_it")["cpu_s"] < 0.9


def test_children_that_a_test_waits_for_are_the_tests(measured: Callable[..., dict[str, Any]]) -> None:
    source = (
        SPIN
        + """
LOOP = "import time\\nwhile time.process_time() < 0.4: pass"
def test_child(): subprocess.run([sys.executable, "-S", "-c", LOOP], check=True)
def test_own(): spin(0.4)
"""
    )
    told = measured(source)
    child, own = row(told, "test_child"), row(told, "test_own")
    assert child["cpu_s"] >= 0.4
    assert child["energy_j"] / own["energy_j"] == pytest.approx(child["cpu_s"] / own["cpu_s"], rel=0.15)


def test_a_test_that_sleeps_is_charged_nothing_for_it(measured: Callable[..., dict[str, Any]]) -> None:
    told = measured(SPIN + "def test_sleep(): time.sleep(0.5)\ndef test_spin(): spin(0.5)")
    asleep, awake = row(told, "test_sleep"), row(told, "test_spin")
    assert asleep["wall_s"] >= 0.5
    assert asleep["energy_j"] < 0.1 * awake["energy_j"]


def test_a_test_that_waits_for_a_gpu_gets_the_gpus_joules(
    measured: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    """300 W all the time, used by pytest's own process from the start of the first test on."""
    pid_file = tmp_path / "pid"
    gpu = FakeGpu(power_w=300.0, refresh_s=0.001, processes=[FakeProcess(pid_file=pid_file)])
    env = fake_nvml(tmp_path / "nvml", [gpu])
    (tmp_path / "machine" / "usr").mkdir(parents=True)
    (tmp_path / "machine" / "usr" / "lib").symlink_to(tmp_path / "nvml")
    source = (
        SPIN
        + f"""
with open({str(pid_file)!r}, "w") as file: file.write(str(os.getpid()))
def test_short(): time.sleep(0.3)
def test_long(): time.sleep(0.9)
"""
    )
    told = measured(source, env=env)
    short, long = row(told, "test_short"), row(told, "test_long")
    assert short["energy_j"] == pytest.approx(300.0 * short["wall_s"], rel=0.1)
    assert long["energy_j"] == pytest.approx(300.0 * long["wall_s"], rel=0.1)


def test_every_outcome_is_told(measured: Callable[..., dict[str, Any]]) -> None:
    source = (
        SPIN
        + """
@pytest.fixture
def broken(): raise RuntimeError
@pytest.fixture
def breaks():
    yield
    raise RuntimeError
def test_passed(): pass
def test_failed(): assert 0
def test_error(broken): pass
def test_late_error(breaks): pass
def test_skipped(): pytest.skip("no")
@pytest.mark.xfail
def test_xfailed(): assert 0
@pytest.mark.xfail
def test_xpassed(): pass
"""
    )
    told = measured(source, status=1)
    outcomes = {each["nodeid"].partition("::test_")[2]: each["outcome"] for each in told["tests"]}
    assert outcomes == {name: name for name in outcomes if name != "late_error"} | {"late_error": "error"}
    assert len(outcomes) == 7
    assert all(each["energy_j"] is not None for each in told["tests"])


def test_what_the_process_was_given_is_left_as_it_was(run_pytest: Pytest) -> None:
    source = """
import signal
def test_signals():
    assert signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())
"""
    run_pytest(source, *PLUGIN, "--emt")


def test_a_forked_child_that_runs_on_writes_nothing(
    measured: Callable[..., dict[str, Any]], folder: Path
) -> None:
    """The child of a test comes to the end of the session too, as one that forgot os._exit does."""
    source = (
        SPIN
        + """
import warnings
def test_fork():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12: a fork with threads about
        pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
        assert not os.path.exists("energy.json")

def test_after(): spin(0.1)
"""
    )
    told = measured(source)
    assert {each["outcome"] for each in told["tests"]} == {"passed"}


# --- workers ----------------------------------------------------------------------------------------


def test_workers_are_measured_once_and_share_by_cpu_seconds(
    measured: Callable[..., dict[str, Any]],
) -> None:
    told = measured(ONE_TO_THREE, *XDIST, zone=Zone(power=constant(20.0)))
    one, three = row(told, "test_one"), row(told, "test_three")
    assert one["cpu_s"] == pytest.approx(0.2, rel=0.3)
    assert three["cpu_s"] == pytest.approx(0.6, rel=0.3)
    assert three["energy_j"] > 1.5 * one["energy_j"]
    session = told["session"]
    assert sum(each["energy_j"] for each in told["tests"]) + session["outside_j"] == pytest.approx(
        session["attributed_j"]
    )
    # The package draws 20 W, the memory 6 W more: two workers do not make it 52.
    assert 19.0 * session["duration_s"] < session["machine_j"] < 30.0 * session["duration_s"]


def test_a_worker_runs_no_meter(run_pytest: Pytest) -> None:
    source = """
import threading
def test_in_worker(worker_id):
    assert worker_id.startswith("gw")
    assert not [each.name for each in threading.enumerate() if each.name.startswith("emt-")]
"""
    assert "energy (emt)" in run_pytest(source, *PLUGIN, *XDIST, "--emt").stdout


def test_a_worker_that_crashes_takes_no_other_tests_joules_along(
    measured: Callable[..., dict[str, Any]],
) -> None:
    told = measured(SPIN + "def test_crash(): os._exit(3)\ndef test_spin(): spin(0.3)", *XDIST, status=1)
    assert row(told, "test_crash")["energy_j"] is None
    assert row(told, "test_crash")["outcome"] in ("failed", "error")
    assert row(told, "test_spin")["energy_j"] > 0


@pytest.mark.parametrize(("is_local", "is_measured"), [(True, True), (False, False)])
def test_tests_on_another_machine_have_no_joules(is_local: bool, is_measured: bool) -> None:
    node = SimpleNamespace(gateway=SimpleNamespace(spec=SimpleNamespace(popen=is_local)))
    report: Any = SimpleNamespace(node=node)
    assert pytest_energy._is_here(report) is is_measured


# --- what goes wrong --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--emt-json", "x.json"), "--emt-json needs --emt"),
        (("--emt", "--emt-json", "missing/x.json"), "--emt-json: missing/x.json cannot be written"),
        (("--emt", "--emt-json", "."), "--emt-json: . cannot be written"),
        (("--emt", "--emt-top", "-1"), "--emt-top"),
        (("--emt", "--emt-top", "many"), "--emt-top"),
    ],
)
def test_options_that_cannot_be_are_said_before_anything_runs(
    run_pytest: Pytest, arguments: tuple[str, ...], said: str
) -> None:
    done = run_pytest("def test_it(): pass", *PLUGIN, *arguments, status=4)
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_where_nothing_can_be_measured_tests_run_all_the_same(
    measured: Callable[..., dict[str, Any]],
) -> None:
    told = measured("def test_it(): pass", env={"EMT_ONLY": "nothing-of-that-name"})
    assert "no energy: " in told["output"] and "nothing-of-that-name" in told["output"]
    assert row(told, "test_it")["energy_j"] is None
    assert told["session"]["attributed_j"] is None
    assert "nothing-of-that-name" in told["session"]["reason"]


def test_a_file_that_cannot_be_written_in_the_end_changes_no_status(run_pytest: Pytest) -> None:
    source = "import os\ndef test_it(): os.mkdir('late.json')"
    done = run_pytest(source, *PLUGIN, "--emt", "--emt-json", "late.json")
    assert "late.json could not be written" in done.stdout


def test_no_tests_at_all_are_no_fault(run_pytest: Pytest) -> None:
    done = run_pytest("", *PLUGIN, "--emt", status=5)
    assert "session" in done.stdout
