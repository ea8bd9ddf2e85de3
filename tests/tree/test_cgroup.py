"""The control group of a run: made where it may be, never left behind, and harmless."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from emt_cli.measure import cgroup, linux
from tests.tree.shapes import NEEDS_PERF, NOBODY, Measured

Measure = Callable[..., Measured]
ON, AUTO = {"EMT_CGROUP": "on"}, {"EMT_CGROUP": "auto"}


@pytest.fixture
def own_group(root: None) -> Path:
    try:
        group = Path(cgroup.own_group())
        (group / "emt-test").mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error.strerror}")
    (group / "emt-test").rmdir()
    return group


@pytest.fixture
def nobodys(own_group: Path) -> Iterator[Path]:
    """A group that belongs to an ordinary user, as a container or a user's session manager makes them."""
    group = own_group / "nobodys"
    group.mkdir()
    for name in ("", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"):
        os.chown(group / name, NOBODY, NOBODY)
    yield group
    group.rmdir()


def _entering(group: Path, as_nobody: tuple[str, ...]) -> tuple[str, ...]:
    return ("sh", "-c", f'echo $$ > {group}/cgroup.procs; exec "$@"', "sh", *as_nobody)


def _left_in(group: Path) -> list[str]:
    return [path.name for path in group.glob("emt-*")]


# --- a witness ----------------------------------------------------------------------------------------


def test_it_sees_children_that_nobody_waits_for_without_perf(measure: Measure, own_group: Path) -> None:
    run = measure("i4(b150)w", "--no-perf", settings=ON)
    run.assert_within(0.99)
    assert run.cpu["winner"] == "cgroup"
    assert run.cpu["coverage"] == 1.0
    assert "coverage" not in run.warnings
    assert not _left_in(own_group)


def test_what_the_held_child_used_before_it_came_counts_as_its_own(own_group: Path) -> None:
    """So that all witnesses can be freed of it in the same way."""
    me = os.getpid()
    child = os.fork()
    if child == 0:
        while time.process_time() < 0.05:
            pass
        os.kill(os.getpid(), signal.SIGSTOP)
        os._exit(0)
    os.waitpid(child, os.WUNTRACED)
    group = cgroup.RunGroup(child)
    try:
        assert f"emt-{me}" in _left_in(own_group)
        assert group.seconds() == pytest.approx(linux.cpu_clock_s(child), abs=0.002)
    finally:
        group.disband()
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert not _left_in(own_group)


def test_who_is_left_running_goes_back_to_the_group_it_would_be_in(measure: Measure, own_group: Path) -> None:
    def look(emt: subprocess.Popen[str]) -> None:
        emt.wait(timeout=60)
        assert not _left_in(own_group)

    run = measure("{b100h}u2", settings=ON, during=look)
    assert "left_running" in run.warnings


def test_it_is_removed_when_the_command_cannot_be_started(
    emt: Callable[..., subprocess.CompletedProcess[str]], own_group: Path
) -> None:
    done = emt("run", "-q", "--", "/nowhere/at/all", env=ON)
    assert done.returncode == 127
    assert not _left_in(own_group)


def test_what_a_killed_emt_leaves_behind_the_next_one_removes(measure: Measure, own_group: Path) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    (own_group / f"emt-{dead.pid}").mkdir()
    alive = own_group / f"emt-{os.getpid()}"
    alive.mkdir()
    try:
        measure("b10", settings=ON)
        assert _left_in(own_group) == [alive.name]
    finally:
        alive.rmdir()


def test_a_group_with_groups_of_others_in_it_stays(measure: Measure, own_group: Path) -> None:
    inner: list[Path] = []

    def divide(emt: subprocess.Popen[str]) -> None:
        while not _left_in(own_group):
            time.sleep(0.01)
        inner.append(own_group / _left_in(own_group)[0] / "inner")
        inner[0].mkdir()
        os.kill(emt.pid, signal.SIGTERM)

    try:
        measure("h", settings=ON, during=divide)
        assert inner[0].exists()
    finally:
        inner[0].rmdir()
        inner[0].parent.rmdir()


# --- where it is used -----------------------------------------------------------------------------------


def test_root_gets_one_only_on_request(measure: Measure, own_group: Path) -> None:
    if _is_delegated(own_group):
        pytest.skip("our own group is delegated")
    run = measure("b10", "--no-perf", settings=AUTO)
    assert run.cpu["refusals"]["cgroup"] == "this group is not delegated to us"


def test_off_means_off(measure: Measure) -> None:
    run = measure("b10", "--no-perf")
    assert run.cpu["refusals"]["cgroup"] == "switched off"


@NEEDS_PERF
def test_beside_perf_it_is_not_needed(measure: Measure) -> None:
    assert measure("b10", settings=AUTO).cpu["refusals"]["cgroup"] == "not needed beside perf"


def test_an_ordinary_user_gets_one_in_a_group_of_its_own(
    measure: Measure, nobodys: Path, as_nobody: tuple[str, ...]
) -> None:
    run = measure("i2(b150)w", "--no-perf", settings=AUTO, before=_entering(nobodys, as_nobody))
    run.assert_within(0.99)
    assert run.cpu["winner"] == "cgroup"
    assert not _left_in(nobodys)


def test_in_a_group_of_somebody_else_there_is_none_and_emt_goes_on(
    measure: Measure, own_group: Path, as_nobody: tuple[str, ...]
) -> None:
    run = measure("b100", "--no-perf", before=as_nobody, settings=ON)
    run.assert_within(0.95)
    assert run.cpu["refusals"]["cgroup"] == "Permission denied"


# --- rules on folders -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "is_harmless"),
    [
        ("memory.max", "max", True),
        ("cpu.max", "max 100000", True),
        ("cpuset.cpus", "", True),
        ("memory.max", "1073741824", False),
        ("cpu.max", "50000 100000", False),
        ("cpuset.cpus", "0-1", False),
    ],
)
def test_a_group_with_limits_is_left_alone(tmp_path: Path, name: str, text: str, is_harmless: bool) -> None:
    (tmp_path / name).write_text(text + "\n")
    try:
        os.setxattr(tmp_path, "user.delegate", b"1")
    except OSError:
        pytest.skip("this file system keeps no attributes")
    if is_harmless:
        cgroup.check_harmless(str(tmp_path))
    else:
        with pytest.raises(OSError, match=name):
            cgroup.check_harmless(str(tmp_path))


def test_a_group_of_root_is_not_divided_unasked(tmp_path: Path, root: None) -> None:
    with pytest.raises(OSError, match="not delegated"):
        cgroup.check_harmless(str(tmp_path))


def _is_delegated(group: Path) -> bool:
    try:
        cgroup.check_harmless(str(group))
    except OSError:
        return False
    return True
