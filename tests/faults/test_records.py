"""Records that are damaged, hostile or no records at all: told in two lines, in little memory, and at once.

Every way in which a single value can be wrong is `store.test_record`'s; here are whole files and commands.
"""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import EMT

from .conftest import Done, assert_says

Emt = Callable[..., Done]

LITTLE_MEMORY = ["sh", "-c", 'ulimit -v 262144; exec "$@"', "sh"]
"""256 MiB of address space: a report takes a third of that."""
EVIL = "\x1b]0;owned\x07\x1b[2J\x1b[31mred\r\n\x9b1A\u202eabc\udcff"
"""A title, a cleared screen, a colour, a line back, a change of direction, half a letter."""


@pytest.fixture
def good(recorded: pathlib.Path, tmp_path: pathlib.Path) -> dict[str, Any]:
    """A record as emt writes it, also in good.json."""
    [folder] = recorded.iterdir()
    shutil.copy(folder / "run.json", tmp_path / "good.json")
    return dict(json.loads((folder / "run.json").read_text()))


def changed(good: dict[str, Any], **groups: Any) -> str:
    return json.dumps({**good, **groups})


def _damages(good: dict[str, Any], text: str) -> dict[str, tuple[str | bytes, str]]:
    """Of each damage: the file, and what emt says about it."""
    with_nan = text.replace('"duration_s": ', '"duration_s": NaN, "was": ', 1)
    return {
        "truncated": (text[: len(text) // 2], "is truncated"),
        "empty": ("", "is empty"),
        "blank": ("\n \n", "is empty"),
        "prose": ("hello\n", "is not JSON"),
        "not UTF-8": (text.encode().replace(b'"command"', b'"\xff\xfe"'), "is not JSON"),
        "a list": ("[1, 2]", "it holds a list"),
        "another program's": ('{"name": "left-pad", "version": "1.0.0"}', "names no format"),
        "a newer format": (changed(good, format=2), "was written by a newer emt (format 2)"),
        "a format of text": (changed(good, format="1"), "names no format"),
        "NaN": (with_nan, "duration_s is nan"),
        "infinite": (with_nan.replace("NaN", "1e999"), "duration_s is inf"),
        "a huge number": (with_nan.replace("NaN", "1e300"), "duration_s is 1e+300"),
        "a negative time": (changed(good, duration_s=-1), "duration_s is -1"),
        "digits without end": (with_nan.replace("NaN", "9" * 100_000), "thousands of digits"),
        "nested without end": ('{"format": 1, "id": ' + "[" * 200_000, "nested too deeply"),
        "nested and closed": ('{"a": ' * 100_000 + "1" + "}" * 100_000, "nested too deeply"),
        "a number for a name": (changed(good, name=7), "name is 7, expected a text"),
        "a huge integer": (changed(good, recorder_pid=2**80), "recorder_pid is a whole number"),
        "a list for an object": (changed(good, host=[]), "host is a list"),
        "a state twice": (text.replace('"state": ', '"state": "complete", "state": "odd", "was": '), '"odd"'),
        "missing groups": ('{"format": 1}', "is missing"),
        "a loop of channels": (
            changed(good, channels=[{**good["channels"][0], "id": "a", "within": "a"}]), "channels"
        ),
    }  # fmt: skip


def test_a_damaged_record_is_named_with_what_is_wrong(
    emt: Emt, good: dict[str, Any], tmp_path: pathlib.Path
) -> None:
    damages = _damages(good, (tmp_path / "good.json").read_text())
    for name, (content, says) in damages.items():
        path = tmp_path / "damaged.json"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        done = emt("report", str(path))
        assert (done.returncode, done.stdout) == (1, ""), name
        assert_says(done, str(path), says)
        assert len(done.stderr) < 1000, name


def test_a_damaged_run_in_the_store_is_listed_named_and_can_be_removed(
    emt: Emt, environment: dict[str, str], good: dict[str, Any], tmp_path: pathlib.Path
) -> None:
    store = pathlib.Path(environment["EMT_STORE"])
    damages = _damages(good, (tmp_path / "good.json").read_text())
    for number, (content, _) in enumerate(damages.values()):
        folder = store / f"20200101-0000{number:02}-bad"
        folder.mkdir(parents=True)
        (folder / "run.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    assert emt("run", "-q", "-n", "fine", "--", "true").returncode == 0
    done = emt("runs", "--format", "json")
    assert done.returncode == 0, done.stderr
    listed = json.loads(done.stdout)
    assert len(listed) == len(damages) + 1
    assert emt("report", "--get", "name").stdout == "fine\n"
    done = emt("runs")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("damaged") >= 12
    done = emt("runs", "prune", "--keep", "1")
    assert (done.returncode, done.stderr) == (0, "")
    assert emt("runs", "rm", "@latest").returncode == 0


# --- what is no file --------------------------------------------------------------------------------


@pytest.fixture
def oddities(tmp_path: pathlib.Path) -> pathlib.Path:
    place = tmp_path / "odd"
    place.mkdir()
    os.mkfifo(place / "pipe.json")
    (place / "folder.json").mkdir()
    (place / "loop.json").symlink_to("loop.json")
    (place / "dangling.json").symlink_to("nowhere")
    (place / "zero.json").symlink_to("/dev/zero")
    (place / "half").mkdir()
    (place / "samples").mkdir()
    (place / "samples" / "samples.csv").write_text("t_s,cpu_j,cpu_tree_s,cpu_machine_s\n0.1,1,0,0\n")
    return place


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("pipe.json", "is not a regular file"),
        ("folder.json", "holds no run.json"),
        ("loop.json", "Too many levels of symbolic links"),
        ("dangling.json", "No such file"),
        ("zero.json", "is not a regular file"),
        ("half", "holds no run.json"),
        ("samples", "holds samples but no run.json"),
        ("nowhere.json", "there is no run"),
        ("/dev/zero", "is not a regular file"),
        ("/proc/self/mem", "cannot be read"),
        ("n" * 5000, "there is no run"),
        ("\x1b[31mred", "there is no run"),
    ],
)
def test_what_is_no_record_is_refused_without_waiting_for_it(
    emt: Emt, oddities: pathlib.Path, name: str, says: str
) -> None:
    done = emt("report", str(oddities / name) if "\x1b" not in name else name, cwd=oddities, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert_says(done, says)
    assert "\x1b" not in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
def test_a_record_of_somebody_else_is_refused_with_its_rights(
    as_nobody: tuple[str, ...], environment: dict[str, str]
) -> None:
    words = [*as_nobody, *EMT, "report", "/etc/shadow"]
    done = subprocess.run(
        words, env=environment, cwd="/", capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert_says(done, "/etc/shadow", "cannot be read: Permission denied", "ls -ld")


# --- too large --------------------------------------------------------------------------------------


@pytest.fixture
def folder(recorded: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """A run's folder as emt writes it."""
    [folder] = recorded.iterdir()
    return shutil.copytree(folder, tmp_path / "folder")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("run.json", "larger than a record can be"),
        ("processes.csv", "a line of more than"),
        ("marks.csv", "a line of more than"),
    ],
)
def test_two_hundred_megabytes_are_refused_in_little_memory(
    environment: dict[str, str], folder: pathlib.Path, name: str, says: str
) -> None:
    os.truncate(folder / name, 0)
    os.truncate(folder / name, 200 << 20)
    done = subprocess.run(
        [*LITTLE_MEMORY, *EMT, "report", str(folder)],
        env=environment, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert_says(done, str(folder / name), says)


def test_two_hundred_megabytes_of_samples_are_read_in_little_memory(
    environment: dict[str, str], folder: pathlib.Path
) -> None:
    """Zeros after the last row, as a file system leaves them after a crash: no rows, no reason to fail."""
    before = (folder / "samples.csv").read_text().count("\n")
    os.truncate(folder / "samples.csv", 200 << 20)
    done = subprocess.run(
        [*LITTLE_MEMORY, *EMT, "report", str(folder), "--recompute", "--get", "duration_s"],
        env=environment, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert before > 1
    assert (done.returncode, done.stderr) == (0, "")
    assert float(done.stdout) > 0


# --- hostile ----------------------------------------------------------------------------------------


def _poisoned(value: Any) -> Any:
    """Every text of a record that is free to say anything, saying something evil."""
    if isinstance(value, dict):
        fixed = {"state", "started_at", "kind", "provenance", "scope", "total", "idle_policy", "id", "within"}
        fixed |= {"channel", "device", "rule", "basis", "domain", "winner"}
        return {key: item if key in fixed else _poisoned(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_poisoned(item) for item in value]
    return EVIL + value if isinstance(value, str) else value


def test_a_record_full_of_escapes_reaches_no_terminal(
    emt: Emt, environment: dict[str, str], good: dict[str, Any], tmp_path: pathlib.Path
) -> None:
    store = pathlib.Path(environment["EMT_STORE"])
    evil = _poisoned(good)
    evil["tags"] = {EVIL: EVIL}
    for name in ("20200101-000000-evil", "20200101-000001-\x1b[31mname"):
        (store / name).mkdir(parents=True)
        (store / name / "run.json").write_text(json.dumps(evil))
    commands = [["runs"], ["runs", "--format", "csv"], ["runs", "--format", "json"]]
    commands += [["report", "--format", form] for form in ("table", "markdown", "csv", "json")]
    commands += [["runs", "prune", "--keep", "0", "--dry-run"], ["runs", "rm", "20200101-000001"]]
    for command in commands:
        done = emt(*command)
        assert done.returncode == 0, (command, done.stderr)
        strange = {mark for mark in done.stdout + done.stderr if not mark.isprintable() and mark != "\n"}
        assert not strange, (command, strange)


def test_names_full_of_escapes_are_run_and_never_shown_raw(
    emt: Emt, environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    name = "\x1b]0;owned\x07\x1b[31mred"
    done = emt("run", "-n", name, "-t", f"{name}={name}", "--", "sh", "-c", f"true '{name}'", name)
    assert done.returncode == 0
    for text in (done.stderr, emt("report").stdout, emt("runs").stdout, emt("report", name).stdout):
        assert text and "\x1b" not in text and "\x07" not in text
    done = emt("run", "--", f"/nowhere/{name}")
    assert done.returncode == 127
    assert "\x1b" not in done.stderr
    done = emt("run", "--location", name, "-o", f"{name}/x.json", "--", "true")
    assert done.returncode == 125
    assert "\x1b" not in done.stderr


# --- half-written -----------------------------------------------------------------------------------


def test_half_written_runs_are_stepped_over_and_cleared_away(emt: Emt, environment: dict[str, str]) -> None:
    """What a kill can leave: a folder without files, one whose journal has no header, a temporary file."""
    assert emt("run", "-q", "-n", "whole", "--", "true").returncode == 0
    store = pathlib.Path(environment["EMT_STORE"])
    for number in range(3):
        (store / f"2099010{number + 1}-000000-half-000{number}").mkdir()
    (store / "20990102-000000-half-0001" / "samples.csv").write_text("")
    (store / "20990103-000000-half-0002" / ".run.json.123-abc.tmp").write_text('{"format": 1, ')
    (store / "notes").mkdir()
    (store / "notes" / "mine.txt").write_text("no run")
    done = emt("report", "--get", "name")
    assert (done.returncode, done.stdout, done.stderr) == (0, "whole\n", "")
    listed = json.loads(emt("runs", "--format", "json").stdout)
    assert [one["state"] for one in listed] == ["damaged"] * 3 + ["complete"]
    assert all(one["problem"] for one in listed[:3])
    done = emt("report", "20990101")
    assert done.returncode == 1
    assert_says(done, "holds no run.json")
    done = emt("runs", "rm", "20990101", "20990102", "20990103")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(json.loads(emt("runs", "--format", "json").stdout)) == 1
    assert (store / "notes" / "mine.txt").exists()
