from __future__ import annotations

import csv
import io
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from emt_cli.commands import runs
from emt_cli.errors import EmtError, NotFoundError, OutputError, UsageError
from emt_cli.model import Run
from emt_cli.store import create
from tests.store import examples


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EMT_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "store"


def put(store: Path, number: int, **changes: object) -> Run:
    run = examples.begun(id=f"20261121-1200{number:02d}-python-{number:04x}")
    run, folder = create(str(store), run)
    done = replace(examples.finished(), id=run.id, started_at=f"2026-11-21T12:00:{number:02d}Z", **changes)  # type: ignore[arg-type]
    folder.finish(done)
    return done


def said(*arguments: str) -> str:
    """What the command prints. Raises the error that emt would report."""
    result = CliRunner().invoke(runs.app, arguments, catch_exceptions=True)
    if isinstance(result.exception, EmtError):
        raise result.exception
    assert result.exception is None, result.exception
    return result.stdout


def test_a_bare_runs_is_the_list(store: Path) -> None:
    put(store, 1)
    assert said() == said("list")


def test_an_empty_store_says_how_to_fill_it(store: Path) -> None:
    assert said() == f"no runs in {store} yet; emt run -- COMMAND records one\n"
    assert said("--format", "json") == "[]\n"
    assert len(said("--format", "csv").splitlines()) == 1


def test_the_table_shows_newest_first_with_count_and_size(store: Path) -> None:
    put(store, 1, name="old")
    put(store, 2, name="new")
    lines = said("list").splitlines()
    assert lines[0].split() == ["id", "name", "started", "(UTC)", "duration", "energy", "state", "command"]
    assert lines[1].split()[:9] == [
        "20261121-120002-python-0002", "new", "2026-11-21", "12:00:02", "1.000", "s", "30.1", "J", "complete",
    ]  # fmt: skip
    assert lines[2].split()[1] == "old"
    assert lines[3].startswith("2 runs, ")
    assert lines[3].endswith(f" in {store}")


def test_an_unknown_energy_is_a_dash_and_not_zero(store: Path) -> None:
    put(store, 1, energy=None)
    assert " - " in said("list").splitlines()[1]
    assert json.loads(said("list", "--format", "json"))[0]["attributed_j"] is None


def test_json_and_csv_tell_the_same(store: Path) -> None:
    run = put(store, 1)
    [one] = json.loads(said("list", "--format", "json"))
    assert (one["id"], one["attributed_j"], one["command"]) == (run.id, 30.1, list(run.command))
    [row] = csv.DictReader(io.StringIO(said("list", "--format", "csv")))
    assert (row["id"], row["attributed_j"]) == (run.id, "30.1")
    assert row["command"] == "python train.py --password=hunter2"


def test_nothing_in_a_record_moves_the_cursor_of_a_terminal(store: Path) -> None:
    put(store, 1, name="\x1b[2Jboo", command=("echo", "\x07", os.fsdecode(b"\xff"), "\u202e"))
    for form in ("table", "json", "csv"):
        text = said("list", "--format", form)
        assert "\x1b" not in text
        assert "\x07" not in text
        assert "\u202e" not in text
        text.encode("utf-8")


def test_a_damaged_run_is_shown_with_its_problem(store: Path) -> None:
    run = put(store, 1)
    (store / run.id / "run.json").write_text("")
    assert "damaged" in said("list")


def test_rm_deletes_what_it_is_given_once(store: Path) -> None:
    first, second = put(store, 1, name="a"), put(store, 2, name="b")
    text = said("rm", "a", first.id)
    assert text.startswith("1 run deleted, ")
    assert os.listdir(store) == [second.id]
    with pytest.raises(NotFoundError):
        said("rm", "a")


def test_rm_leaves_alone_what_is_no_run(store: Path, tmp_path: Path) -> None:
    put(store, 1)
    (tmp_path / "mine").mkdir()
    with pytest.raises(OutputError, match="not a run folder"):
        said("rm", "@latest", "mine")
    assert len(os.listdir(store)) == 1


def test_prune_says_what_it_freed(store: Path) -> None:
    for number in range(1, 5):
        put(store, number)
    dry = said("prune", "--keep", "1", "--dry-run").splitlines()
    assert len(dry) == 4
    assert dry[0].startswith("20261121-120003")
    assert dry[-1].startswith("3 runs would be deleted; store")
    assert len(os.listdir(store)) == 4
    text = said("prune", "--keep", "1")
    assert text.startswith("3 runs deleted; store")
    assert text.split(": ")[1].split(" -> ")[0] == dry[-1].split(": ")[1].split(" -> ")[0]
    assert os.listdir(store) == ["20261121-120004-python-0004"]


def test_prune_without_a_measure_is_refused(store: Path) -> None:
    with pytest.raises(UsageError, match="--keep or --older"):
        said("prune")


@pytest.mark.parametrize(
    ("text", "seconds"), [("90d", 90 * 86400), ("12h", 43200), ("1.5w", 907200), ("30 s", 30), ("0d", 0)]
)
def test_an_age_is_a_number_and_a_unit(text: str, seconds: float) -> None:
    assert runs.age_s(text) == seconds


@pytest.mark.parametrize("text", ["", "90", "d", "-1d", "1month", "nan d", "1e3d"])
def test_what_is_no_age_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not an age"):
        runs.age_s(text)


@pytest.mark.parametrize(("columns", "has_time"), [("80", False), ("140", True)])
def test_on_a_terminal_the_command_gives_way_first(
    store: Path,
    monkeypatch: pytest.MonkeyPatch,
    columns: str,
    has_time: bool,
) -> None:
    from emt_cli.store import entries

    monkeypatch.setenv("COLUMNS", columns)
    run = put(store, 1, name="[bold]x")
    lines = runs._rich(list(entries(str(store))), str(store)).splitlines()
    assert lines[1].split()[:2] == [run.id, "[bold]x"]
    assert "30.1 J" in lines[1]
    assert "complete" in lines[1]
    assert ("12:00:01" in lines[1]) is has_time
    assert lines[2].startswith("1 run, ")
