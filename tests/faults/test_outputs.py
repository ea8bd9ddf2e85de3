"""Where the record should go and cannot: the command runs as if nothing were, and what was lost is said.

A path that the user named is tried before the start and costs nothing (125). What emt wants for itself, the
store and a temporary folder, never keeps a command from running.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import EMT

from .conftest import FILLING, Done, assert_says, assert_ten_watts, codes, fill, mentions

Emt = Callable[..., Done]

pytestmark = pytest.mark.usefixtures("ten_watts")

ENDING = ["sh", "-c", "sleep 0.4; exit 7"]


def filling(disk: pathlib.Path, journal: str = "$EMT_STORE/*") -> list[str]:
    """A command that waits until rows of the journal are on disk, leaves no room on one, goes on for a while,
    and ends with 7."""
    rows = f"$(cat {journal}/samples.csv 2>/dev/null | wc -l)"
    wait = f'until [ "{rows}" -gt 20 ] || [ $((n += 1)) -gt 600 ]; do sleep 0.05; done'
    script = f"n=0; {wait}; {FILLING}; sleep 0.6; exit 7"
    return ["sh", "-c", script, "sh", str(disk)]


def store_of(environment: dict[str, str]) -> list[pathlib.Path]:
    folder = pathlib.Path(environment["EMT_STORE"])
    return sorted(folder.iterdir()) if folder.exists() else []


# --- a disk that is full before the start -----------------------------------------------------------


def test_with_a_full_store_the_command_runs_and_the_other_outputs_are_written(
    emt: Emt, small_disk: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    fill(small_disk)
    full = {"EMT_STORE": str(small_disk / "store")}
    done = emt("run", "-o", "run.json", "--", *ENDING, env=full)
    assert done.returncode == 7
    assert mentions(done, "could not be stored", "No space left on device", "EMT_STORE")
    assert not mentions(done, "Errno")
    record = json.loads((tmp_path / "run.json").read_text())
    assert_ten_watts(record)
    assert "store_unwritable" in codes(record)
    assert not list((small_disk / "store").glob("*")), "a half-made run was left"


def test_a_quiet_run_says_that_it_could_not_be_stored(emt: Emt, small_disk: pathlib.Path) -> None:
    fill(small_disk)
    done = emt("run", "-q", "--", *ENDING, env={"EMT_STORE": str(small_disk / "store")})
    assert done.returncode == 7
    assert_says(done, "could not be stored", "No space left on device")


@pytest.mark.parametrize("name", ["run.json", "run.csv", "run"])
def test_a_full_disk_that_was_named_is_refused_before_the_start(
    emt: Emt, environment: dict[str, str], small_disk: pathlib.Path, tmp_path: pathlib.Path, name: str
) -> None:
    fill(small_disk)
    done = emt("run", "-o", str(small_disk / name), "--", "touch", "started")
    assert done.returncode == 125
    assert_says(done, "No space left on device", "free space")
    assert not (tmp_path / "started").exists()
    assert os.listdir(small_disk) == ["filler"]
    assert store_of(environment) == []


@pytest.mark.parametrize("what", ["full", "missing"])
def test_without_room_for_temporary_files_the_totals_are_right_all_the_same(
    emt: Emt, small_disk: pathlib.Path, tmp_path: pathlib.Path, what: str
) -> None:
    fill(small_disk)
    folder = small_disk if what == "full" else small_disk / "missing"
    done = emt("run", "--no-store", "-o", "run.json", "--", *ENDING, env={"TMPDIR": str(folder)})
    assert done.returncode == 7
    assert mentions(done, "samples could not be written", str(folder))
    record = json.loads((tmp_path / "run.json").read_text())
    assert_ten_watts(record)
    assert record["state"] == "complete" and "journal_failed" in codes(record)
    assert os.listdir(small_disk) == ["filler"]


# --- a disk that fills up in the middle --------------------------------------------------------------


def test_a_store_that_fills_up_keeps_what_it_has_and_the_summary_has_the_rest(
    emt: Emt, small_disk: pathlib.Path
) -> None:
    store = {"EMT_STORE": str(small_disk / "store")}
    done = emt("run", "-F", "1000", "--", *filling(small_disk), env=store)
    assert done.returncode == 7
    assert mentions(done, "samples could not be written from", "could not be stored", "No space left")
    assert mentions(done, "exit 7", "of the command, measured")
    shown = json.loads(emt("report", "--format", "json", env=store).stdout)
    assert shown["state"] == "recovered"
    assert_ten_watts(shown)
    assert "recovered" in emt("runs", env=store).stdout


@pytest.mark.parametrize("name", ["run.json", "run.csv"])
def test_a_file_for_which_there_is_no_room_at_the_end_is_told_and_the_store_has_the_run(
    emt: Emt, small_disk: pathlib.Path, the_record: Callable[[], dict[str, Any]], name: str
) -> None:
    done = emt("run", "-F", "100", "-o", str(small_disk / name), "--", *filling(small_disk))
    assert done.returncode == 7
    assert f"emt: {small_disk / name} cannot be written: No space left on device" in done.stderr
    assert "free space" in done.stderr and "exit 7" in done.stderr
    record = the_record()
    assert record["state"] == "complete" and record["exit"]["code"] == 7
    assert_ten_watts(record)
    left = [path for path in small_disk.iterdir() if path.name != "filler"]
    assert all(path.stat().st_size == 0 for path in left), "half a record was left"


def test_of_two_journals_one_that_fills_up_does_not_harm_the_other(
    emt: Emt, small_disk: pathlib.Path, the_record: Callable[[], dict[str, Any]]
) -> None:
    done = emt("run", "-F", "1000", "-o", str(small_disk / "run"), "--", *filling(small_disk))
    assert done.returncode == 7
    assert mentions(done, f"could not be stored in {small_disk / 'run'}: No space left")
    record = the_record()
    assert record["state"] == "complete"
    assert_ten_watts(record)
    assert emt("report", str(small_disk / "run"), "--get", "state").stdout == "recovered\n"
    whole = emt("report", "--get", "sampling.ticks").stdout
    assert int(whole) > 0


def test_temporary_files_that_fill_the_disk_leave_the_totals_right_and_nothing_behind(
    emt: Emt, small_disk: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    full = {"TMPDIR": str(small_disk)}
    done = emt(
        "run",
        "--no-store",
        "-F",
        "1000",
        "-o",
        "run.json",
        "--",
        *filling(small_disk, "$TMPDIR/emt-*"),
        env=full,
    )
    assert done.returncode == 7
    record = json.loads((tmp_path / "run.json").read_text())
    assert "journal_failed" in codes(record)
    assert_ten_watts(record)
    assert os.listdir(small_disk) == ["filler"]


def test_a_limit_on_the_size_of_files_ends_the_journal_and_not_the_run(
    environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    """`ulimit -f 8`: what emt may write is 4 or 8 KiB; the command's own SIGXFSZ is not emt's to change."""
    limited = ["sh", "-c", 'ulimit -f 8; exec "$@"', "sh", *EMT, "run", "-F", "500", "--", *ENDING]
    done = subprocess.run(
        limited, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 7
    assert mentions(done, "File too large", "of the command, measured")


# --- paths that cannot be ----------------------------------------------------------------------------


def test_a_read_only_file_system_is_told_with_a_remedy(
    emt: Emt, small_disk: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    done = emt("run", "-o", str(small_disk / "run.json"), "--", "touch", "started")
    assert done.returncode == 125
    assert_says(done, "Read-only file system", "choose another folder")
    assert not (tmp_path / "started").exists()
    done = emt("run", "--", *ENDING, env={"EMT_STORE": str(small_disk / "store")})
    assert done.returncode == 7
    assert mentions(done, "could not be stored", "Read-only file system")


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("file/run.json", "there is no folder"),
        ("file", "exists already"),
        ("file.json", "exists already"),
        ("folder.json", "is a folder"),
        ("other.csv", "other columns"),
        ("missing/run.json", "mkdir -p"),
        ("link.json", "exists already"),
        ("pipe.json", "exists already"),
        ("n" * 300 + ".json", "shorter name"),
    ],
)
def test_what_is_there_already_is_left_as_it_is(
    emt: Emt, tmp_path: pathlib.Path, target: str, says: str
) -> None:
    place = tmp_path / "place"
    (place / "folder.json").mkdir(parents=True)
    os.mkfifo(place / "pipe.json")
    (place / "link.json").symlink_to("nowhere")
    for name in ("file", "file.json", "other.csv"):
        (place / name).write_text("mine, not yours\n")
    before = sorted((path.name, path.lstat().st_mtime_ns) for path in place.iterdir())
    done = emt("run", "-o", str(place / target), "--", "touch", "started")
    assert done.returncode == 125
    assert_says(done, says)
    assert not (tmp_path / "started").exists()
    assert sorted((path.name, path.lstat().st_mtime_ns) for path in place.iterdir()) == before


def test_a_file_that_the_command_itself_makes_there_is_stepped_around(
    emt: Emt, tmp_path: pathlib.Path
) -> None:
    done = emt("run", "-q", "-o", "run.json", "--", "sh", "-c", "sleep 0.5; echo mine > run.json; exit 7")
    assert done.returncode == 7
    assert_says(done, "came into being during the run")
    assert (tmp_path / "run.json").read_text() == "mine\n"
    assert_ten_watts(json.loads((tmp_path / "run-1.json").read_text()))


@pytest.mark.parametrize("store", ["/dev/null", "/proc/nowhere", "loop"])
def test_a_store_that_cannot_be_one_is_told_and_the_command_runs(
    emt: Emt, tmp_path: pathlib.Path, store: str
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    done = emt("run", "--", *ENDING, env={"EMT_STORE": store})
    assert done.returncode == 7
    assert mentions(done, "could not be stored")
    if store != "/proc/nowhere":  # that one is a store that is not there yet
        assert_says(emt("runs", env={"EMT_STORE": store}), "cannot be read", "ls -ld")
        assert_says(emt("report", env={"EMT_STORE": store}), "cannot be read", "ls -ld")


# --- a folder that is taken away (nobody's list had this: `emt run -- git clean -fdx`) ---------------


def test_a_store_that_the_command_removes_is_written_anew_with_every_sample(
    emt: Emt, environment: dict[str, str], the_record: Callable[[], dict[str, Any]]
) -> None:
    done = emt("run", "--", "sh", "-c", 'sleep 0.4; rm -r "$EMT_STORE"; sleep 0.3; exit 7')
    assert done.returncode == 7
    [folder] = store_of(environment)
    assert mentions(done, str(folder))
    record = the_record()
    assert record["state"] == "complete" and record["exit"]["code"] == 7
    assert_ten_watts(record)
    first, *_, last = (folder / "samples.csv").read_text().splitlines()[1:]
    assert float(first.split(",")[0]) < 0.2
    assert float(last.split(",")[0]) == pytest.approx(record["duration_s"], abs=0.2)


def test_an_output_folder_that_the_command_removes_is_written_anew(emt: Emt, tmp_path: pathlib.Path) -> None:
    (tmp_path / "build").mkdir()
    done = emt("run", "-q", "--no-store", "-o", "build/energy", "--", "sh", "-c", "sleep 0.5; rm -r build")
    assert (done.returncode, done.stderr) == (0, "")
    record = json.loads((tmp_path / "build" / "energy" / "run.json").read_text())
    assert record["state"] == "complete"
    assert_ten_watts(record)


@pytest.mark.parametrize("name", ["run.json", "run.csv"])
def test_a_file_whose_folder_the_command_removes_is_written_all_the_same(
    emt: Emt, tmp_path: pathlib.Path, name: str
) -> None:
    (tmp_path / "build").mkdir()
    done = emt("run", "-q", "--no-store", "-o", f"build/{name}", "--", "sh", "-c", "rm -r build; exit 7")
    assert (done.returncode, done.stderr) == (7, "")
    assert emt("report", f"build/{name}", "--get", "exit.code").stdout == "7\n"


def test_temporary_files_that_the_command_removes_are_not_missed(emt: Emt, tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    done = emt(
        "run", "-q", "--no-store", "-o", "run.json", "--", "sh", "-c", 'sleep 0.5; rm -r "$TMPDIR"/*; exit 7',
        env={"TMPDIR": str(folder)},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (7, "")
    record = json.loads((tmp_path / "run.json").read_text())
    assert_ten_watts(record)
    assert len(record["curve"]) > 1
