"""When a witness is refused or hidden, the next one counts, and the record says which and why."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tree.shapes import ALL_WITNESSES, NEEDS_PERF, NOBODY, Measured, Stage

Measure = Callable[..., Measured]


@pytest.fixture
def in_namespace(root: None) -> Callable[[str], tuple[str, ...]]:
    """`in_namespace("umount /proc")`: a command before emt that runs it in mounts arranged that way."""

    def before(arrangement: str, *flags: str) -> tuple[str, ...]:
        unshare = ("unshare", "-m", *flags, "sh", "-c", f'{arrangement} && exec "$@"', "sh")
        if subprocess.run([*unshare, "true"], check=False, capture_output=True).returncode:
            pytest.skip("namespaces are refused here")
        return unshare

    return before


# --- perf ---------------------------------------------------------------------------------------------


def test_where_perf_is_refused_the_others_count_and_the_record_says_so(
    measure: Measure, refuse_perf: str
) -> None:
    run = measure("b200 2(b100)w", before=[refuse_perf])
    run.assert_within(0.95)
    assert run.cpu["refusals"]["perf"] == "Operation not permitted"
    assert "perf" not in run.cpu["witnesses"]
    assert run.cpu["winner"] == "rusage"
    assert run.cpu["coverage"] == 1.0


def test_an_ordinary_user_is_counted_as_well(measure: Measure, as_nobody: tuple[str, ...]) -> None:
    run = measure("b200 {b100}u2", before=as_nobody)
    run.assert_within(0.95)


# --- /proc --------------------------------------------------------------------------------------------


@ALL_WITNESSES
def test_hidepid_leaves_an_ordinary_user_its_own_processes(
    measure: Measure,
    as_nobody: tuple[str, ...],
    in_namespace: Callable[..., tuple[str, ...]],
    options: tuple[str, ...],
) -> None:
    hidden = in_namespace("mount -t proc -o hidepid=2 proc /proc")
    run = measure("b200 2(b100)w {b100}u4", *options, before=[*hidden, *as_nobody])
    run.assert_within(0.95)
    assert "proc" in run.cpu["witnesses"]
    assert run.cpu["coverage"] == 1.0


@pytest.mark.parametrize(
    ("arrangement", "flags"),
    [
        ("umount -l /proc", ()),
        ("mount -t tmpfs none /proc", ()),
        ("true", ("-p", "-f")),  # /proc is there, and shows the processes of another namespace
    ],
    ids=["not mounted", "empty", "another namespace's"],
)
def test_without_proc_what_is_waited_for_counts(
    measure: Measure, in_namespace: Callable[..., tuple[str, ...]], arrangement: str, flags: tuple[str, ...]
) -> None:
    before = in_namespace(arrangement, *flags)
    run = measure("b200 2(b100)w {b100}u4", "--no-perf", before=before)
    run.assert_within(0.95)
    assert run.cpu["winner"] == "rusage"
    assert "hidden" in run.cpu["refusals"]["proc"]
    assert run.cpu["coverage"] is None
    assert "coverage" in run.warnings


@NEEDS_PERF
def test_without_proc_perf_still_sees_all(
    measure: Measure, in_namespace: Callable[..., tuple[str, ...]]
) -> None:
    run = measure("i 3(b100)w", before=in_namespace("umount -l /proc"))
    run.assert_within(0.99)
    assert run.cpu["winner"] == "perf"
    assert run.cpu["coverage"] == 1.0


# --- files that perf does not follow ------------------------------------------------------------------


@pytest.fixture(params=["set-uid", "unreadable"])
def special(request: pytest.FixtureRequest, stage: Stage, root: None) -> Path:
    """A copy of the shape that an ordinary user may execute, and perf may not follow."""
    copy = stage.folder / request.param
    shutil.copy(stage.shape, copy)
    if request.param == "set-uid":
        os.chown(copy, NOBODY - 1, NOBODY - 1)
        copy.chmod(0o4755)
        if os.statvfs(copy).f_flag & os.ST_NOSUID:
            pytest.skip("this file system knows no set-uid")
    else:
        copy.chmod(0o111)
    return copy


@ALL_WITNESSES
@pytest.mark.parametrize(
    "script", ["b20[@{} b150 (b150)w]w", "b20 {{[@{} b300]w}}u3"], ids=["child", "daemon"]
)
def test_what_perf_loses_at_an_exec_the_others_cover(
    measure: Measure, as_nobody: tuple[str, ...], special: Path, script: str, options: tuple[str, ...]
) -> None:
    run = measure(script.format(special), *options, before=as_nobody)
    run.assert_within(0.95)
    assert run.cpu["coverage"] == 1.0
    if not options:
        assert run.cpu["witnesses"]["perf"] < 0.5 * run.truth.total_s, (
            "perf followed: there is nothing to see"
        )
        assert run.cpu["winner"] != "perf"
