"""The parts of the portable path by themselves: the choice of a system, stand-ins for /proc, the tree."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from emt_cli.measure.here import this_system
from emt_cli.measure.on_linux import LinuxSystem
from emt_cli.measure.portable import PortableSystem
from emt_cli.measure.portable.signals import Console, Forwarding
from emt_cli.measure.portable.tree import PolledTree
from emt_cli.proc_stat import counted_cpus, cpu_times
from emt_cli.sensors import BUILT_IN, open_available
from emt_cli.sensors.base import Machine
from emt_cli.sensors.rendered import stat_text

SPIN = "import time\nwhile time.process_time() < {}: pass\nprint(flush=True)\ntime.sleep(60)"


@pytest.mark.parametrize(
    ("platform", "kind"),
    [
        ("linux", LinuxSystem),
        ("darwin", PortableSystem),
        ("win32", PortableSystem),
        ("freebsd14", PortableSystem),
        ("cygwin", PortableSystem),
    ],
)
def test_linux_alone_holds_its_child(platform: str, kind: type) -> None:
    assert type(this_system(platform)) is kind


def test_the_platform_is_this_one_unless_said_otherwise() -> None:
    assert Machine().platform == sys.platform
    assert isinstance(this_system(), LinuxSystem if sys.platform == "linux" else PortableSystem)


def test_sensors_of_another_platform_are_not_even_imported() -> None:
    opened = open_available(Machine(), find_outside=lambda _: ())
    elsewhere = {source.name for source in BUILT_IN if source.platform not in ("", sys.platform)}
    assert elsewhere >= {"emi"}
    assert not elsewhere & {name for name, _ in opened.absent}
    for sensor in opened.sensors:
        sensor.close()


# --- what stands in for /proc -------------------------------------------------------------------------


def test_macs_cpu_times_become_a_stat_file() -> None:
    times = SimpleNamespace(user=100.5, nice=1.0, system=50.25, idle=1000.0)
    text = stat_text(times, 8)
    assert cpu_times(text) == [10050, 100, 5025, 100000, 0, 0, 0, 0]
    assert counted_cpus(text, Machine(platform="darwin").text) == 8


def test_windows_interrupt_time_is_inside_its_system_time() -> None:
    times = SimpleNamespace(user=10.0, system=5.0, idle=85.0, interrupt=1.0, dpc=2.0)
    assert sum(cpu_times(stat_text(times, 4))) == 10_000


def test_every_other_file_of_linux_is_missing() -> None:
    machine = Machine(platform="darwin")
    assert machine.number("/proc/sys/kernel/perf_event_paranoid") is None
    with pytest.raises(FileNotFoundError):
        machine.keep("/proc/self/cgroup")


# --- the tree -----------------------------------------------------------------------------------------


@pytest.fixture
def spinner() -> Iterator[subprocess.Popen[bytes]]:
    """Uses half a CPU second, says so, and waits."""
    command = [sys.executable, "-S", "-c", SPIN.format(0.5)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        yield process
        process.kill()


def test_cpu_time_never_decreases_and_the_dead_keep_theirs(spinner: subprocess.Popen[bytes]) -> None:
    tree = PolledTree()
    tree.plant(spinner.pid)
    assert spinner.stdout is not None
    spinner.stdout.readline()
    alive_s = tree.pass_over(time.monotonic())
    assert 0.45 < alive_s < 1.0
    assert tree.has(spinner.pid)
    spinner.kill()
    spinner.wait()
    assert tree.pass_over(time.monotonic()) == alive_s
    assert not tree.has(spinner.pid)
    (row,) = tree.processes(0.0, "the command")
    assert (row.pid, row.command, row.is_left_running) == (spinner.pid, "the command", False)
    assert row.ended_s is not None


def test_a_root_that_is_gone_before_the_first_look_is_an_empty_tree() -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    tree = PolledTree()
    tree.plant(process.pid)
    assert tree.pass_over(time.monotonic()) == 0.0
    assert tree.processes(0.0, "true") == ()
    assert tree.orphans() == []


# --- signals --------------------------------------------------------------------------------------------


@pytest.fixture
def dispositions() -> Iterator[None]:
    numbers = [number for number in signal.valid_signals() if number not in (signal.SIGKILL, signal.SIGSTOP)]
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        if handler is not None:
            signal.signal(number, handler)


def received(forwarding: Forwarding, number: int) -> list[int]:
    """What reaches the command when this process is sent that signal."""
    script = "import signal, sys\nprint(flush=True)\nprint(signal.sigwait(range(1, 31)))"
    script = "import signal\nsignal.pthread_sigmask(0, range(1, 31))\n" + script
    with subprocess.Popen([sys.executable, "-S", "-c", script], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        child.stdout.readline()
        forwarding.targets = lambda: [child.pid]
        os.kill(os.getpid(), number)
        forwarding.begin()
        os.kill(child.pid, signal.SIGWINCH)  # one that always comes, but later in the order of numbers
        return [int(line.rpartition(".")[2]) for line in child.stdout.read().split()]


@pytest.mark.usefixtures("dispositions")
@pytest.mark.parametrize(("is_in_foreground", "arrives"), [(True, signal.SIGWINCH), (False, signal.SIGINT)])
def test_an_interrupt_is_passed_on_unless_the_terminal_has_told_the_command(
    is_in_foreground: bool, arrives: int
) -> None:
    forwarding = Forwarding(is_in_foreground=lambda: is_in_foreground)
    forwarding.take()
    assert received(forwarding, signal.SIGINT) == [arrives]


@pytest.mark.usefixtures("dispositions")
def test_a_termination_is_passed_on_wherever_it_comes_from() -> None:
    forwarding = Forwarding(is_in_foreground=lambda: True)
    forwarding.take()
    assert received(forwarding, signal.SIGTERM) == [signal.SIGTERM]


@pytest.mark.usefixtures("dispositions")
def test_the_console_of_windows_leaves_ctrl_c_to_the_command() -> None:
    Console().take()
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0)  # no KeyboardInterrupt
