from __future__ import annotations

import os
import re
import stat
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emt_cli.errors import NotFoundError, OutputError, RecordError
from emt_cli.model import Run
from emt_cli.store import create, entries, find, load, new_id, prunable, remove, root
from emt_cli.store.listing import entry
from emt_cli.store.removal import is_removable, total_bytes

from . import examples

NOON = datetime.fromisoformat("2026-11-21T12:00:00+00:00").timestamp()
DAY_S = 86400.0


def put(store: Path, *, second: int = 0, day: int = 21, **changes: object) -> Run:
    """A finished run in the store, begun at so many seconds after noon."""
    started = f"2026-11-{day:02d}T12:00:{second:02d}.5Z"
    run = examples.begun(id=f"202611{day:02d}-1200{second:02d}-python-{second:04x}", started_at=started)
    run, folder = create(str(store), run)
    folder.append(examples.samples(3))
    done = replace(examples.finished(), id=run.id, started_at=started, **changes)  # type: ignore[arg-type]
    folder.finish(done)
    return done


# --- where -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "configured", "expected"),
    [
        ({"EMT_STORE": "/s", "XDG_STATE_HOME": "/x"}, "/c", "/s"),
        ({"EMT_STORE": "", "XDG_STATE_HOME": "/x"}, "/c", "/c"),
        ({"XDG_STATE_HOME": "/x"}, None, "/x/emt/runs"),
        ({"XDG_STATE_HOME": "relative"}, None, "/home/me/.local/state/emt/runs"),
        ({}, None, "/home/me/.local/state/emt/runs"),
        ({}, "~/runs", "/home/me/runs"),
    ],
)
def test_the_store_is_where_the_first_of_the_sources_says(
    environ: dict[str, str], configured: str | None, expected: str
) -> None:
    assert root(environ, "/home/me", configured) == expected


@given(st.lists(st.text(max_size=40)))
def test_an_id_is_a_plain_name_whatever_the_command(command: list[str]) -> None:
    found = new_id(datetime(2026, 11, 21, 14, 48, 49), command)
    assert re.fullmatch(r"20261121-144849-[A-Za-z0-9._+-]{1,20}-[0-9a-f]{4}", found)


def test_an_id_tells_the_program() -> None:
    assert new_id(datetime(2026, 11, 21, 14, 48, 49), ["/usr/bin/python3"])[:-4] == "20261121-144849-python3-"


def test_a_taken_id_is_exchanged_and_both_runs_are_kept(tmp_path: Path) -> None:
    first, one = create(str(tmp_path), examples.begun())
    second, two = create(str(tmp_path), examples.begun())
    one.close()
    two.close()
    assert first.id != second.id
    assert sorted(os.listdir(tmp_path)) == sorted([first.id, second.id])
    assert load(two.path)[0].id == second.id


def test_the_store_is_made_private_with_all_above_it(tmp_path: Path) -> None:
    create(str(tmp_path / "state" / "emt" / "runs"), examples.begun())[1].close()
    for place in ("state", "state/emt", "state/emt/runs"):
        assert stat.S_IMODE(os.stat(tmp_path / place).st_mode) == 0o700


def test_a_store_that_cannot_be_is_an_output_error_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in ("file", "file/deeper"):
        with pytest.raises(OutputError, match="cannot be written") as caught:
            create(str(tmp_path / place), examples.begun())
        assert "EMT_STORE" in caught.value.hint


# --- what is there -----------------------------------------------------------------------------------


def test_a_listing_is_newest_first_even_within_a_second(tmp_path: Path) -> None:
    put(tmp_path, second=1)
    put(tmp_path, second=3)
    put(tmp_path, second=2)
    early = examples.begun(id="20261121-120003-a-ffff", started_at="2026-11-21T12:00:03.1Z")
    create(str(tmp_path), early)[1].close()
    late = examples.begun(id="20261121-120003-a-0000", started_at="2026-11-21T12:00:03.9Z")
    create(str(tmp_path), late)[1].close()
    assert [one.id[9:] for one in entries(str(tmp_path))] == [
        "120003-a-0000",
        "120003-python-0003",
        "120003-a-ffff",
        "120002-python-0002",
        "120001-python-0001",
    ]


def test_a_listing_tells_what_the_record_tells(tmp_path: Path) -> None:
    run = put(tmp_path)
    [one] = entries(str(tmp_path))
    assert (one.id, one.name, one.state, one.started_at) == (run.id, "train", "complete", run.started_at)
    assert (one.command, one.duration_s, one.attributed_j) == (run.command, 1.0, 30.1)
    assert one.size_bytes == sum(path.stat().st_size for path in (tmp_path / run.id).iterdir())


def test_a_record_laid_out_by_another_program_is_listed_all_the_same(tmp_path: Path) -> None:
    import json

    run = put(tmp_path)
    path = tmp_path / run.id / "run.json"
    before = entry(str(tmp_path / run.id))
    for layout in ({"indent": 1}, {"sort_keys": True}, {"indent": None}):
        path.write_text(json.dumps(json.loads(path.read_bytes()), **layout))  # type: ignore[arg-type]
        assert replace(entry(str(tmp_path / run.id)), size_bytes=before.size_bytes) == before


def test_a_store_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert list(entries(str(tmp_path / "none"))) == []


@pytest.mark.parametrize(
    "damage", ["no record", "empty record", "no folder content", "not JSON", "newer", "no format"]
)
def test_a_damaged_run_is_listed_as_such_and_can_be_removed(tmp_path: Path, damage: str) -> None:
    run = put(tmp_path)
    path = tmp_path / run.id
    if damage == "no record":
        (path / "run.json").unlink()
    elif damage == "no folder content":
        for file in path.iterdir():
            file.unlink()
    else:
        text = {
            "empty record": "",
            "not JSON": '{"format": 1, "id"',
            "newer": '{"format": 9}',
            "no format": "{}",
        }
        (path / "run.json").write_text(text[damage])
    [one] = entries(str(tmp_path))
    assert one.state == "damaged"
    assert one.problem
    with pytest.raises(RecordError) as caught:
        load(str(path))
    assert caught.value.hint
    assert remove([str(path)]) == one.size_bytes
    assert os.listdir(tmp_path) == []


def test_samples_without_a_record_are_named_as_that(tmp_path: Path) -> None:
    run = put(tmp_path)
    (tmp_path / run.id / "run.json").unlink()
    with pytest.raises(RecordError, match=r"holds samples but no run\.json"):
        load(str(tmp_path / run.id))


def test_a_run_without_its_recorder_is_listed_as_recovered(tmp_path: Path) -> None:
    create(str(tmp_path), examples.begun())[1].close()
    assert [one.state for one in entries(str(tmp_path))] == ["running"]
    gone = examples.begun(id="20261121-144850-x-0000", recorder_started_ticks=1)
    create(str(tmp_path), gone)[1].close()
    assert [one.state for one in entries(str(tmp_path))] == ["recovered", "running"]


# --- the one that is meant ---------------------------------------------------------------------------


def test_a_run_is_found_by_each_of_its_names(tmp_path: Path) -> None:
    old, new = put(tmp_path, second=1, name="first"), put(tmp_path, second=2, name="second")
    for wanted, run in {
        "@latest": new,
        "@latest~0": new,
        "@latest~1": old,
        old.id: old,
        old.id[:-2]: old,
        "first": old,
        "second": new,
    }.items():
        assert find(str(tmp_path), wanted) == str(tmp_path / run.id), wanted


def test_a_shared_name_means_its_newest_run(tmp_path: Path) -> None:
    put(tmp_path, second=1)
    new = put(tmp_path, second=2)
    assert find(str(tmp_path), "train") == str(tmp_path / new.id)


def test_a_path_is_found_as_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    for wanted in ("a.json", "./a.json", str(tmp_path / "a.json")):
        assert find(str(tmp_path / "store"), wanted) == str(tmp_path / "a.json")


def test_what_is_not_there_is_refused_with_what_is_near(tmp_path: Path) -> None:
    put(tmp_path, second=1, name="baseline")
    with pytest.raises(NotFoundError, match="there is no run baselin; near: baseline") as caught:
        find(str(tmp_path), "baselin")
    assert "emt runs" in caught.value.hint
    for wanted in ("", "no/such", "a\0b", "@latest~x", "\ud800"):
        with pytest.raises(NotFoundError):
            find(str(tmp_path), wanted)


def test_an_ambiguous_beginning_is_refused_with_the_candidates(tmp_path: Path) -> None:
    put(tmp_path, second=1)
    put(tmp_path, second=2)
    with pytest.raises(NotFoundError, match=r"beginning of 2 runs: .*0002, .*0001"):
        find(str(tmp_path), "20261121-1200")


def test_the_latest_of_an_empty_store_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="holds no run") as caught:
        find(str(tmp_path), "@latest")
    assert "emt run --" in caught.value.hint
    put(tmp_path)
    with pytest.raises(NotFoundError, match="holds 1 run"):
        find(str(tmp_path), "@latest~1")


def test_loading_takes_a_folder_its_record_or_a_single_file(tmp_path: Path) -> None:
    run = put(tmp_path)
    for path in (tmp_path / run.id, tmp_path / run.id / "run.json"):
        assert len(list(load(str(path))[0].samples)) == 3
    with pytest.raises(RecordError, match="give its folder"):
        _raise_with_hint(str(tmp_path / run.id / "samples.csv"))
    for nothing in (tmp_path / "none", tmp_path / "none.json", tmp_path / "none.csv", tmp_path):
        with pytest.raises(RecordError):
            load(str(nothing))


def _raise_with_hint(path: str) -> None:
    try:
        load(path)
    except RecordError as error:
        raise RecordError(error.hint) from error


# --- deleting ----------------------------------------------------------------------------------------


def test_only_run_folders_are_deleted_and_the_others_stop_it_all(tmp_path: Path) -> None:
    run = put(tmp_path)
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "run.json").write_text('{"format": 1, "id": "x"}')
    (tmp_path / "project" / "main.py").write_text("mine")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    os.symlink(tmp_path / run.id, tmp_path / "link")
    for name in ("project", "empty", "file", "link", "none"):
        with pytest.raises(OutputError, match="not a run folder"):
            remove([str(tmp_path / run.id), str(tmp_path / name)])
    assert sorted(os.listdir(tmp_path)) == sorted([run.id, "project", "empty", "file", "link"])
    assert (tmp_path / "project" / "main.py").read_text() == "mine"


def test_a_link_in_a_run_folder_is_deleted_and_not_followed(tmp_path: Path) -> None:
    run = put(tmp_path)
    (tmp_path / "precious").write_text("mine")
    (tmp_path / run.id / "samples.csv").unlink()
    os.symlink(tmp_path / "precious", tmp_path / run.id / "samples.csv")
    remove([str(tmp_path / run.id)])
    assert (tmp_path / "precious").read_text() == "mine"
    assert not (tmp_path / run.id).exists()


def test_a_folder_with_a_strange_file_is_left_alone(tmp_path: Path) -> None:
    run = put(tmp_path)
    assert is_removable(str(tmp_path / run.id))
    (tmp_path / run.id / "notes.txt").write_text("mine")
    assert not is_removable(str(tmp_path / run.id))
    assert prunable(str(tmp_path), keep=0, older_s=None) == []


def test_a_running_run_is_not_deleted(tmp_path: Path) -> None:
    run, folder = create(str(tmp_path), examples.begun())
    with pytest.raises(OutputError, match="still running"):
        remove([folder.path])
    assert prunable(str(tmp_path), keep=0, older_s=None) == []
    folder.close()
    assert os.listdir(tmp_path) == [run.id]


def test_a_renamed_run_is_still_known_as_one(tmp_path: Path) -> None:
    run = put(tmp_path)
    os.rename(tmp_path / run.id, tmp_path / "mine")
    assert find(str(tmp_path), "mine") == str(tmp_path / "mine")
    remove([str(tmp_path / "mine")])
    assert os.listdir(tmp_path) == []


def ids(chosen: list[object]) -> list[int]:
    return sorted(int(one.id[6:8]) for one in chosen)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("keep", "older_d", "days"),
    [
        (2, None, [1, 5]),
        (0, None, [1, 5, 10, 20]),
        (9, None, []),
        (None, 8, [1, 5, 10]),
        (3, 8, [1]),
        (1, 30, []),
    ],
)
def test_a_prune_deletes_what_is_both_beyond_and_older(
    tmp_path: Path, keep: int | None, older_d: float | None, days: list[int]
) -> None:
    for day in (5, 1, 20, 10):
        put(tmp_path, day=day)
    older_s = None if older_d is None else older_d * DAY_S
    chosen = prunable(str(tmp_path), keep=keep, older_s=older_s, now=NOON)
    assert sorted(int(one.id[6:8]) for one in chosen) == days
    assert remove([one.path for one in chosen]) == total_bytes(chosen)
    assert len(os.listdir(tmp_path)) == 4 - len(days)


def test_a_half_written_folder_is_pruned_only_once_it_has_settled(tmp_path: Path) -> None:
    path = tmp_path / "20261121-144849-x-0000"
    path.mkdir()
    changed = path.stat().st_mtime
    assert prunable(str(tmp_path), keep=0, older_s=None, now=changed + 60) == []
    [one] = prunable(str(tmp_path), keep=0, older_s=None, now=changed + 7200)
    assert one.path == str(path)


def test_a_listing_reads_only_the_head_of_a_record(tmp_path: Path) -> None:
    curve = examples.finished().curve * 20_000
    run = put(tmp_path, curve=curve)
    path = tmp_path / run.id / "run.json"
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])  # what a listing does not look at may be missing
    assert entry(str(tmp_path / run.id)).state == "complete"
