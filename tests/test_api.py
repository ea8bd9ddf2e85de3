"""`from emt_cli import Meter`: this very process is measured, and nothing about it changes."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from emt_cli import Meter
from emt_cli.analysis import complete
from emt_cli.errors import OutputError, RecordError
from emt_cli.measure.inside import Kept
from emt_cli.model import Sample
from emt_cli.sensors.base import File, Machine
from emt_cli.store import load
from tests.conftest import REPOSITORY
from tests.machines.conftest import VALIDATOR
from tests.simulation import SimulatedMachine, Stat, Zone, constant, following_load

LIMIT_S = 30.0
PYTHON_SPIN = "import sys, time\nwhile time.process_time() < float(sys.argv[1]): pass"


@pytest.fixture(autouse=True)
def nobodys_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("EMT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def simulated(tmp_path: Path) -> SimulatedMachine:
    """A package of constant 20 W on a machine with more CPUs than the real one."""
    return machine_in(tmp_path / "machine", Zone(power=constant(20.0)))


def machine_in(folder: Path, zone: Zone) -> SimulatedMachine:
    folder.mkdir()
    stat = Stat(cpus=(os.cpu_count() or 1) + 2, follows_real=True)
    machine = SimulatedMachine(folder, zones=[zone], stat=stat)
    while machine.now_s() < 0.1:  # a /proc/stat of all zeros is taken for one that counts nothing
        pass
    return machine


@pytest.fixture
def children() -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that are ended when the test is over."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for child in started:
        child.kill()
        child.communicate()


def spin(cpu_s: float) -> None:
    begun_s = time.process_time()
    while time.process_time() - begun_s < cpu_s:
        pass


def tree_s(meter: Meter) -> float:
    assert meter.run is not None and meter.run.cpu_time.tree_s is not None
    return meter.run.cpu_time.tree_s


def test_the_machines_energy_is_what_its_counter_moved_by(simulated: SimulatedMachine) -> None:
    with Meter(machine=simulated.machine) as meter:
        spin(0.5)
    energy, run = meter.energy, meter.run
    assert run is not None and run.energy is not None
    package_j = {row.id: row.machine_j for row in run.energy.channels}["cpu0/package"]
    assert package_j == pytest.approx(20.0 * energy.duration_s, rel=0.01)
    assert energy.machine_j is not None and energy.attributed_j is not None
    assert 0 < energy.attributed_j <= energy.machine_j
    assert energy.low_j is not None and energy.high_j is not None
    assert energy.low_j <= energy.attributed_j <= energy.high_j
    assert energy.provenance == "estimated"  # the memory's part
    assert energy.reason == ""


def test_the_record_is_a_run_of_this_program(simulated: SimulatedMachine) -> None:
    with Meter(machine=simulated.machine, name="mine") as meter:
        spin(0.2)
    run = meter.run
    assert run is not None
    assert (run.command, run.name, run.state) == (tuple(sys.argv), "mine", "complete")
    assert run.attribution is not None and run.attribution.rule == "cpu_share"
    assert "coverage" not in [notice.code for notice in run.notices]


def test_what_was_used_before_the_start_does_not_count(simulated: SimulatedMachine) -> None:
    spin(0.5)
    before_s = time.process_time()
    with Meter(machine=simulated.machine) as meter:
        spin(0.2)
    assert 0.2 <= tree_s(meter) <= time.process_time() - before_s


def test_a_child_that_was_waited_for_counts(simulated: SimulatedMachine) -> None:
    with Meter(machine=simulated.machine) as meter:
        subprocess.run([sys.executable, "-S", "-c", PYTHON_SPIN, "0.4"], check=True)
    assert 0.4 <= tree_s(meter) < 2.0


def test_a_child_that_still_runs_counts(
    simulated: SimulatedMachine, children: list[subprocess.Popen[str]]
) -> None:
    with Meter(machine=simulated.machine) as meter:
        children.append(started("spin(0.4); told(); time.sleep(1000)"))
        hear(children[0])
    assert 0.4 <= tree_s(meter) < 2.0


def test_of_a_child_that_was_there_before_only_what_it_uses_now_counts(
    simulated: SimulatedMachine, children: list[subprocess.Popen[str]]
) -> None:
    children.append(started("spin(0.6); told(); sys.stdin.readline(); spin(0.2)"))
    hear(children[0])
    with Meter(machine=simulated.machine) as meter:
        children[0].communicate("go\n", timeout=LIMIT_S)
    assert 0.2 <= tree_s(meter) < 0.55


def test_a_daemon_is_followed_after_it_lost_its_parent(
    simulated: SimulatedMachine, children: list[subprocess.Popen[str]]
) -> None:
    """It was met while the parent lived; then it works on, and is killed."""
    daemon = "spin(0.3); told(); sys.stdin.readline(); spin(0.4); told(); time.sleep(1000)"
    with Meter(machine=simulated.machine) as meter:
        children.append(started(f"if os.fork(): time.sleep(1000)\n{daemon}"))
        pid = hear(children[0])
        spin(0.3)
        children[0].kill()
        children[0].wait(LIMIT_S)
        say(children[0])
        hear(children[0])
        spin(0.3)
        os.kill(pid, signal.SIGKILL)
        spin(0.3)
    assert 1.6 <= tree_s(meter) < 3.0


def started(script: str) -> subprocess.Popen[str]:
    """A Python program that may `spin` and tell its PID."""
    prelude = (
        "import os, sys, time\n"
        "def spin(s):\n    b = time.process_time()\n    while time.process_time() - b < s: pass\n"
        "def told(): print(os.getpid(), flush=True)\n"
    )
    return subprocess.Popen(
        [sys.executable, "-S", "-c", prelude + script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def hear(child: subprocess.Popen[str]) -> int:
    assert child.stdout is not None
    return int(child.stdout.readline())


def say(child: subprocess.Popen[str]) -> None:
    assert child.stdin is not None
    child.stdin.write("go\n")
    child.stdin.flush()


def test_windows_share_by_their_cpu_seconds(tmp_path: Path) -> None:
    follows = machine_in(tmp_path / "machine", Zone(power=following_load(1.0, 20.0)))
    with Meter(machine=follows.machine) as meter:
        with meter.window("short") as short:
            spin(0.2)
        with meter.window("long") as long:
            spin(0.6)
    one, three, whole = short.energy, long.energy, meter.energy
    assert one.attributed_j and three.attributed_j and whole.attributed_j
    assert three.attributed_j / one.attributed_j == pytest.approx(3.0, rel=0.15)
    assert 0.8 * whole.attributed_j <= one.attributed_j + three.attributed_j <= whole.attributed_j
    assert [window.name for window in meter.windows] == ["short", "long"]


def test_before_it_is_stopped_nothing_is_known_and_it_says_so(simulated: SimulatedMachine) -> None:
    meter = Meter(machine=simulated.machine)
    assert meter.energy.attributed_j is None
    assert "not been started" in meter.energy.reason
    with meter, meter.window() as window:
        assert window.energy.attributed_j is None
        assert "not been stopped" in meter.energy.reason


def test_starting_and_stopping_twice_changes_nothing(simulated: SimulatedMachine) -> None:
    meter = Meter(machine=simulated.machine).start()
    meter.start()
    run = meter.stop()
    assert run is not None
    assert meter.stop() is run
    assert Meter().stop() is None


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [("EMT_FREQUENCY", "often", "EMT_FREQUENCY"), ("EMT_ONLY", "nothing-of-that-name", "nothing-of-that")],
)
def test_settings_that_are_wrong_are_a_reason_and_no_exception(
    simulated: SimulatedMachine, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, reason: str
) -> None:
    monkeypatch.setenv(variable, value)
    with Meter(machine=simulated.machine) as meter, meter.window() as window:
        pass
    assert meter.energy.attributed_j is None
    assert reason in meter.energy.reason
    assert reason in window.energy.reason


def test_a_system_without_threads_is_a_reason_and_no_exception(
    simulated: SimulatedMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []
    real = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if thread.name.startswith("emt-") and not thread.name.startswith("emt-open"):
            started.append(thread.name)
            if len(started) > 1:
                raise RuntimeError("can't start new thread")
        real(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    with Meter(machine=simulated.machine) as meter:
        pass
    assert "can't start new thread" in meter.energy.reason
    assert_no_threads_of_ours()


def assert_no_threads_of_ours() -> None:
    until_s = time.monotonic() + LIMIT_S
    while ours := [each.name for each in threading.enumerate() if each.name.startswith("emt-")]:
        assert time.monotonic() < until_s, ours
        time.sleep(0.01)


def test_nothing_of_the_process_is_changed(simulated: SimulatedMachine) -> None:
    before = state_of_this_process()
    with Meter(machine=simulated.machine) as meter:
        assert state_of_this_process() == before
    assert meter.run is not None
    assert_no_threads_of_ours()
    assert state_of_this_process() == before


def test_its_descriptors_are_closed_again(simulated: SimulatedMachine) -> None:
    with Meter(machine=simulated.machine):
        pass
    before = len(os.listdir("/proc/self/fd"))
    with Meter(machine=simulated.machine):
        pass
    assert len(os.listdir("/proc/self/fd")) == before


def test_its_sensors_are_closed(simulated: SimulatedMachine) -> None:
    opened: list[Watched] = []

    def open_file(path: str) -> File:
        opened.append(Watched(simulated.machine.open_file(path)))
        return opened[-1]

    with Meter(machine=Machine(simulated.root, open_file=open_file)) as meter:
        pass
    assert meter.energy.machine_j is not None
    assert opened
    assert all(file.is_closed for file in opened)


class Watched:
    """A file that knows whether it was closed."""

    def __init__(self, inner: File) -> None:
        self._inner = inner
        self.is_closed = False

    def read(self) -> bytes:
        return self._inner.read()

    def close(self) -> None:
        self.is_closed = True
        self._inner.close()


def state_of_this_process() -> object:
    signals = [signal.getsignal(number) for number in sorted(signal.valid_signals())]
    subreaper = next(line for line in Path("/proc/self/status").read_text().splitlines() if "SigCgt" in line)
    limits = [resource.getrlimit(number) for number in (resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC)]
    return (
        signals,
        subreaper,
        limits,
        signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        os.getcwd(),
        is_subreaper(),
    )


def is_subreaper() -> bool:
    import ctypes

    flag = ctypes.c_int(-1)
    ctypes.CDLL(None).prctl(37, ctypes.byref(flag), 0, 0, 0)  # PR_GET_CHILD_SUBREAPER
    return bool(flag.value)


def test_no_child_is_waited_for_by_the_meter(
    simulated: SimulatedMachine, children: list[subprocess.Popen[str]]
) -> None:
    with Meter(machine=simulated.machine):
        children.append(started("os._exit(7)"))
        os.waitid(os.P_PID, children[0].pid, os.WEXITED | os.WNOWAIT)
        spin(0.3)
    assert children[0].wait(LIMIT_S) == 7


def test_in_a_forked_child_the_meter_is_inert(simulated: SimulatedMachine) -> None:
    """The child stops it, asks it and leaves; the parent goes on measuring."""
    script = """
import json, os, sys, time
from emt_cli import Meter
from emt_cli.analysis import complete
from emt_cli.errors import OutputError, RecordError
from tests.simulation import simulated
meter = Meter(machine=simulated(sys.argv[1])).start()
reader, writer = os.pipe()
if not (pid := os.fork()):
    began = time.monotonic()
    meter.stop()
    told = [meter.energy.attributed_j, meter.energy.reason, time.monotonic() - began]
    os.write(writer, json.dumps(told).encode())
    os._exit(0)
os.waitpid(pid, 0)
meter.stop()
print(json.dumps([json.loads(os.read(reader, 4096)), meter.energy.attributed_j]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, simulated.root],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        check=True,
    )
    (child_j, reason, took_s), parent_j = json.loads(done.stdout)
    assert child_j is None
    assert "forked" in reason
    assert took_s < 1.0
    assert parent_j > 0


def test_importing_the_package_loads_none_of_it() -> None:
    script = "import sys, emt_cli; print([name for name in sys.modules if name.startswith('emt_cli')])"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=REPOSITORY, check=True
    )
    assert done.stdout == "['emt_cli']\n"


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    import emt_cli

    with pytest.raises(AttributeError, match="Metre"):
        emt_cli.Metre  # type: ignore[attr-defined] # noqa: B018


def test_systems_without_proc_measure_through_psutil() -> None:
    with Meter(machine=Machine(platform="darwin", environ={})) as meter:
        spin(0.3)
        subprocess.run([sys.executable, "-S", "-c", PYTHON_SPIN, "0.3"], check=True)
    assert 0.55 <= tree_s(meter) < 2.0
    assert meter.energy.provenance == "estimated"
    assert meter.energy.attributed_j is not None


def test_many_samples_are_thinned_and_the_edges_kept() -> None:
    kept = Kept(most=100)
    rows = [Sample(float(number), (float(number),), (None,)) for number in range(10_001)]
    for start in range(0, len(rows), 7):
        kept.append(rows[start : start + 7])
    found = kept.samples((rows[0], rows[-1]))
    assert found[0] == rows[0] and found[-1] == rows[-1]
    assert 50 <= len(found) <= 102
    steps = {round(b.t_s - a.t_s) for a, b in pairwise(found[:-1])}
    assert len(steps) == 1


# --- the record -------------------------------------------------------------------------------------


def test_a_saved_meter_is_a_record_whose_windows_are_phases(
    simulated: SimulatedMachine, tmp_path: Path
) -> None:
    with Meter(name="program", machine=simulated.machine) as meter:
        for _ in range(2):
            with meter.window("spin"):
                spin(0.05)
        with meter.window():
            spin(0.01)
    path = meter.save(str(tmp_path / "meter.json"))
    record = json.loads(Path(path).read_text())
    VALIDATOR.validate(record)
    (phase,) = record["phases"]
    assert (phase["name"], phase["count"]) == ("spin", 2)
    assert 0 < phase["attributed_j"] <= record["energy"]["attributed_j"] * (1 + 1e-9)
    assert len(record["spans"]) == 2
    with pytest.raises(OutputError):
        meter.save(path)
    assert meter.save(path, force=True) == path
    (run,) = load(path)
    assert [each.name for each in complete(run).phases] == ["spin"]


def test_a_meter_that_measured_nothing_has_nothing_to_save(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="not been started"):
        Meter().save(str(tmp_path / "meter.json"))
