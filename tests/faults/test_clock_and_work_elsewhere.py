"""What a record must not be taken in by: a clock that is set, a machine that sleeps, work done elsewhere.

The machine's own clocks are left alone: a `sitecustomize` moves what Python tells emt, from the moment at
which the command makes a file. So the jump falls into the run for certain, however slow the machine is.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import pytest

from .conftest import Done, assert_ten_watts, codes, mentions

Emt = Callable[..., Done]

_MOVED = """
import os, time
_wall, _clock = time.time, time.clock_gettime
def _has_jumped(): return os.path.exists(os.environ["FAULT_FLAG"])
time.time = lambda: _wall() + (float(os.environ["FAULT_WALL_S"]) if _has_jumped() else 0.0)
def _moved(clock):
    jump_s = float(os.environ["FAULT_BOOT_S"]) if clock == time.CLOCK_BOOTTIME and _has_jumped() else 0.0
    return _clock(clock) + jump_s
time.clock_gettime = _moved
"""

JUMP = ["sh", "-c", 'sleep 0.4; touch "$FAULT_FLAG"; sleep 0.4; exit 7']


@pytest.fixture
def jumping(
    environment: dict[str, str], emt: Emt, tmp_path: pathlib.Path, the_record: Callable[[], dict[str, Any]]
) -> Callable[..., tuple[Done, dict[str, Any]]]:
    """`jumping(wall_s=-3600)`: a run in the middle of which clocks jump, and its record."""

    def run(*, wall_s: float, boot_s: float = 0.0) -> tuple[Done, dict[str, Any]]:
        folder = tmp_path / "customized"
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(_MOVED)
        environment["PYTHONPATH"] = f"{folder}:{environment['PYTHONPATH']}"
        environment["FAULT_FLAG"] = str(tmp_path / "jumped")
        environment.update(FAULT_WALL_S=str(wall_s), FAULT_BOOT_S=str(boot_s))
        done = emt("run", "--", *JUMP)
        assert (tmp_path / "jumped").exists()
        return done, the_record()

    return run


@pytest.mark.usefixtures("ten_watts")
@pytest.mark.parametrize("wall_s", [-3600.0, 86400.0])
def test_a_clock_that_is_set_during_the_run_changes_no_figure(
    jumping: Callable[..., tuple[Done, dict[str, Any]]], wall_s: float
) -> None:
    before = datetime.now(timezone.utc)
    done, record = jumping(wall_s=wall_s)
    assert done.returncode == 7
    assert mentions(done, "the wall clock was set by", f"{wall_s:+.0f}"[:4])
    assert 0.8 <= record["duration_s"] < (datetime.now(timezone.utc) - before).total_seconds()
    assert_ten_watts(record)
    assert record["suspended_s"] < 1.0
    assert "clock_changed" in codes(record) and "suspended" not in codes(record)
    started = datetime.fromisoformat(record["started_at"].replace("Z", "+00:00"))
    assert abs((started - before).total_seconds()) < 60
    assert all(
        0.0 <= process["started_s"] <= record["duration_s"] for process in record["processes"]["listed"]
    )


@pytest.mark.usefixtures("ten_watts")
def test_a_suspend_in_the_middle_is_told_and_is_no_part_of_the_duration(
    jumping: Callable[..., tuple[Done, dict[str, Any]]], emt: Emt
) -> None:
    """What a suspend does: the clock of the boot and the wall clock move on, the monotonic one does not."""
    done, record = jumping(wall_s=100.0, boot_s=100.0)
    assert done.returncode == 7
    assert record["suspended_s"] == pytest.approx(100.0, abs=0.5)
    assert 0.8 <= record["duration_s"] < 60
    assert_ten_watts(record)
    assert "suspended" in codes(record) and "clock_changed" not in codes(record)
    assert mentions(done, "the machine was suspended for 100.0 s during the run")
    assert mentions(Done([], 0, "", emt("report").stdout), "suspended for 100.0 s")


@pytest.mark.usefixtures("ten_watts")
def test_a_clock_that_is_set_during_a_suspend_is_told_apart_from_it(
    jumping: Callable[..., tuple[Done, dict[str, Any]]],
) -> None:
    _, record = jumping(wall_s=100.0 - 3600.0, boot_s=100.0)
    assert record["suspended_s"] == pytest.approx(100.0, abs=0.5)
    assert {"suspended", "clock_changed"} <= set(codes(record))


@pytest.mark.usefixtures("ten_watts")
def test_a_clock_that_is_corrected_by_little_is_not_worth_a_word(
    jumping: Callable[..., tuple[Done, dict[str, Any]]],
) -> None:
    _, record = jumping(wall_s=-0.2)
    assert not {"suspended", "clock_changed"} & set(codes(record))


# --- work elsewhere ---------------------------------------------------------------------------------

LAUNCHERS = ("docker", "sbatch", "srun", "ssh", "systemd-run", "kubectl")


@pytest.fixture
def launchers(environment: dict[str, str], tmp_path: pathlib.Path) -> None:
    """Programs of those names that do what the real ones do from here: next to nothing."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in LAUNCHERS:
        (folder / name).write_text("#!/bin/sh\nsleep 0.2\nexit 5\n")
        (folder / name).chmod(0o755)
    environment["PATH"] = f"{folder}:{environment['PATH']}"


@pytest.mark.usefixtures("launchers")
@pytest.mark.parametrize(
    ("command", "remedy"),
    [
        ("docker run --rm ubuntu make", "docker run IMAGE emt run --"),
        ("docker --context far exec box make", "docker run IMAGE emt run --"),
        ("sbatch job.sh", "srun emt run --"),
        ("srun -n 4 ./a.out", "srun emt run --"),
        ("ssh -p 22 host make", "ssh HOST emt run --"),
        ("systemd-run --user make", "systemd-run emt run --"),
    ],
)
def test_work_that_is_done_elsewhere_is_told_with_where_to_put_emt(
    emt: Emt, the_record: Callable[[], dict[str, Any]], command: str, remedy: str
) -> None:
    done = emt("run", "--", *command.split())
    assert done.returncode == 5
    assert mentions(done, f"{command.split(maxsplit=1)[0]} hands work to processes outside this tree", remedy)
    record = the_record()
    [warning] = [one for one in record["warnings"] if one["code"] == "work_elsewhere"]
    assert remedy in warning["hint"]


@pytest.mark.usefixtures("launchers")
@pytest.mark.parametrize("command", ["docker images", "ssh -V", "kubectl get pods"])
def test_a_launcher_that_launches_nothing_is_no_reason_to_warn(
    emt: Emt, the_record: Callable[[], dict[str, Any]], command: str
) -> None:
    assert emt("run", "-q", "--", *command.split()).returncode == 5
    assert "work_elsewhere" not in codes(the_record())
