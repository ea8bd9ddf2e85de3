"""Every way to name a run: age, id, name, tag, the one before, a path, a row."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from emt_cli.errors import NotFoundError
from emt_cli.store import select
from emt_cli.store.record import dump, encode
from emt_cli.store.summary import header, row
from tests.store import examples


@pytest.fixture
def store(tmp_path: Path) -> str:
    folder = tmp_path / "store"
    for number, name, tags in (
        (1, "night", {"lr": "0.1", "data": "runs/a=b"}),
        (2, "night", {"lr": "0.2"}),
        (3, "day", {"lr": "0.1"}),
        (4, "day~1", {"empty": ""}),
    ):
        id = f"20260101-00000{number}-x-{number}"
        run = replace(
            examples.finished(), id=id, name=name, tags=tags, started_at=f"2026-01-01T00:00:0{number}Z"
        )
        (folder / id).mkdir(parents=True)
        (folder / id / "run.json").write_bytes(dump(encode(run)))
    return str(folder)


@pytest.mark.parametrize(
    ("wanted", "number"),
    [
        ("@latest", 4),
        ("@latest~0", 4),
        ("@latest~3", 1),
        ("20260101-000002", 2),
        ("night", 2),
        ("night~1", 1),
        ("lr=0.1", 3),
        ("lr=0.1~1", 1),
        ("lr=0.2", 2),
        ("data=runs/a=b", 1),
        ("empty=", 4),
        ("day~1", 4),  # a name of its own comes before "the one before"
    ],
)
def test_a_run_of_the_store_is_found(store: str, wanted: str, number: int) -> None:
    assert [run.id for run in select(store, wanted)] == [f"20260101-00000{number}-x-{number}"]


@pytest.mark.parametrize(
    "wanted", ["nobody", "lr=9", "lr=0.1~2", "night~2", "=", "lr", "=0.1", "", "~1", "\0", "x#1", "no.csv#1"]
)
def test_what_is_not_there_is_told(store: str, wanted: str) -> None:
    with pytest.raises(NotFoundError, match="there is no run"):
        select(store, wanted)


def test_a_path_that_looks_like_a_tag_is_a_path(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("lr=0.1").write_bytes(dump(encode(replace(examples.finished(), id="file"))))
    assert [run.id for run in select(store, "lr=0.1")] == ["file"]


def test_a_row_of_a_summary_is_found_by_number_id_or_name(store: str, tmp_path: Path) -> None:
    runs = [replace(examples.finished(), id=f"r{at}", name="same" if at else "first") for at in range(3)]
    path = tmp_path / "s.csv"
    path.write_bytes(header() + b"".join(map(row, runs)))
    assert [run.id for run in select(store, str(path))] == ["r0", "r1", "r2"]
    found = {
        mark: select(store, f"{path}#{mark}")[0].id for mark in ("1", "3", "-1", "-3", "r1", "first", "same")
    }
    assert found == {"1": "r0", "3": "r2", "-1": "r2", "-3": "r0", "r1": "r1", "first": "r0", "same": "r2"}
    for mark in ("0", "4", "-4", "", "x", "--1", "1.0", "9" * 5000):
        with pytest.raises(NotFoundError, match="has 3 rows"):
            select(store, f"{path}#{mark}")


def test_a_file_whose_name_has_a_hash_is_itself(store: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(header() + row(replace(examples.finished(), id="a")))
    (tmp_path / "a.csv#1").write_bytes(dump(encode(replace(examples.finished(), id="b"))))
    assert [run.id for run in select(store, str(tmp_path / "a.csv#1"))] == ["b"]


def test_a_benchmark_is_all_its_records_in_order(store: str) -> None:
    for number, bench in ((7, "b1"), (6, "b1"), (8, "b2")):
        id = f"20260102-000000-x-{9 - number}"
        run = replace(
            examples.finished(), id=id, tags={"bench": bench}, started_at=f"2026-01-02T00:00:00.00{number}Z"
        )
        (Path(store) / id).mkdir()
        (Path(store) / id / "run.json").write_bytes(dump(encode(run)))
    assert [run.id[-1] for run in select(store, "bench=b1")] == ["3", "2"]
    assert [run.id[-1] for run in select(store, "bench=b2")] == ["1"]
    with pytest.raises(NotFoundError, match="there is no run bench=b3"):
        select(store, "bench=b3")
