from __future__ import annotations

import fcntl
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emt_cli.errors import OutputError, RecordError, UsageError
from emt_cli.model import Execution, Exit, Run
from emt_cli.store import Output, RunFolder, facts_of, load, plan, summary
from emt_cli.store.outputs import safe_name

from . import examples
from .test_folder import local, small_disk

__all__ = ["small_disk"]  # a fixture

FACTS = {
    "host": "n 1/x",
    "node": "n1",
    "pid": "42",
    "date": "20261121-144849",
    "name": "../etc",
    "job": "",
    "rank": "3",
}


def target(path: Path, *, force: bool = False) -> Output:
    return Output.plan(str(path), FACTS, force)


def stored(path: Path, count: int = 5) -> RunFolder:
    """A finished run folder, as the store holds it."""
    folder = RunFolder.create(str(path), examples.begun(), is_network=local)
    folder.append(examples.samples(count))
    folder.finish(examples.finished())
    return folder


# --- names -------------------------------------------------------------------------------------------


def test_placeholders_become_safe_parts_of_a_name() -> None:
    output = Output.plan("/out/{host}_{node}_{pid}_{date}_{name}_{job}_{rank}.json", FACTS, False)
    assert output.path == "/out/n-1-x_n1_42_20261121-144849_etc_none_3.json"


def test_an_unknown_placeholder_is_refused_with_the_valid_ones() -> None:
    with pytest.raises(UsageError, match=r"\{user\} is no placeholder") as caught:
        Output.plan("{user}.json", FACTS, False)
    assert "{host} {node} {pid} {date} {name} {job} {rank}" in caught.value.hint


def test_doubled_braces_are_braces() -> None:
    assert Output.plan("/x/{{pid}}.json", FACTS, False).path == "/x/{pid}.json"


@given(st.text())
def test_a_value_never_leads_elsewhere(text: str) -> None:
    name = safe_name(text)
    assert "/" not in name
    assert not name.startswith((".", "-"))
    assert len(name) <= 100


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        ("a.json", "json"),
        ("A.JSON", "json"),
        ("a.csv", "csv"),
        ("a", "folder"),
        ("a.json/", "folder"),
        ("a.txt", "folder"),
    ],
)
def test_the_suffix_says_the_kind(spec: str, kind: str) -> None:
    assert Output.plan(spec, FACTS, False).kind == kind


@pytest.mark.parametrize("spec", ["", " ", "a\0b"])
def test_an_output_needs_a_name(spec: str) -> None:
    with pytest.raises(UsageError):
        Output.plan(spec, FACTS, False)


def test_the_same_file_twice_is_refused() -> None:
    assert len(plan(["a.json", "a.csv", "a"], FACTS)) == 3
    with pytest.raises(UsageError, match="twice"):
        plan(["a.json", "./a.json"], FACTS)


def test_the_facts_come_from_the_run() -> None:
    assert facts_of(examples.finished()) == {
        "host": os.uname().nodename,
        "node": "n03",
        "pid": str(os.getpid()),
        "date": "20261121-144849",
        "name": "train",
        "job": "4711",
        "rank": "2",
    }
    bare = replace(examples.begun(), name="", command=("/usr/bin/make",))
    assert facts_of(bare)["name"] == "make"


# --- what is refused before the start ----------------------------------------------------------------


def test_a_free_name_passes_and_leaves_nothing_behind(tmp_path: Path) -> None:
    for name in ("a.json", "a.csv", "a"):
        target(tmp_path / name).check()
    assert os.listdir(tmp_path) == []


def test_a_missing_folder_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="there is no folder") as caught:
        target(tmp_path / "no" / "a.json").check()
    assert caught.value.hint == f"mkdir -p {tmp_path / 'no'}"


def test_what_exists_is_refused_without_force(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("mine")
    (tmp_path / "b").mkdir()
    os.symlink("nowhere", tmp_path / "c.json")
    for name in ("a.json", "b", "c.json"):
        with pytest.raises(OutputError, match="exists already") as caught:
            target(tmp_path / name).check()
        assert "--force" in caught.value.hint
    target(tmp_path / "a.json", force=True).check()


def test_a_folder_is_no_place_for_a_file_even_with_force(tmp_path: Path) -> None:
    for name in ("a.json", "a.csv"):
        (tmp_path / name).mkdir()
        with pytest.raises(OutputError, match="is a folder"):
            target(tmp_path / name, force=True).check()


def test_force_replaces_only_run_folders(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "main.py").write_text("mine")
    with pytest.raises(OutputError, match="is not a run folder"):
        target(tmp_path / "project", force=True).check()
    stored(tmp_path / "run")
    target(tmp_path / "run", force=True).check()
    os.symlink(tmp_path / "run", tmp_path / "link")
    with pytest.raises(OutputError, match="is not a run folder"):
        target(tmp_path / "link", force=True).check()


def test_a_device_is_never_written_to() -> None:
    for name in ("/dev/full.json", "/dev/null"):
        output = Output.plan(name, FACTS, True)
        if os.path.exists(name):
            with pytest.raises(OutputError):
                output.check()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_rights_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="Permission denied"):
        target(tmp_path / "a.json").check()


def test_a_read_only_file_system_is_refused() -> None:
    with pytest.raises(OutputError, match="cannot be written") as caught:
        Output.plan("/proc/sys/a.json", FACTS, False).check()
    assert caught.value.hint


def test_a_full_disk_is_refused_although_it_still_makes_empty_files(small_disk: Path) -> None:
    with (
        open(small_disk / "filler", "wb", buffering=0) as filler,
        pytest.raises(OSError, match="No space left"),
    ):
        while True:
            filler.write(b"x" * 4096)
    for name in ("a.json", "a.csv", "a"):
        with pytest.raises(OutputError, match="No space left") as caught:
            target(small_disk / name).check()
        assert "free space" in caught.value.hint
    assert os.listdir(small_disk) == ["filler"]


# --- JSON --------------------------------------------------------------------------------------------


def test_a_json_file_is_private_and_loads_again(tmp_path: Path) -> None:
    output = target(tmp_path / "a.json")
    assert output.write(examples.finished(), None) == tmp_path / "a.json"
    assert os.listdir(tmp_path) == ["a.json"]
    assert stat.S_IMODE(os.stat(tmp_path / "a.json").st_mode) == 0o600
    assert load(str(tmp_path / "a.json")) == [examples.finished()]


def test_a_file_that_came_into_being_meanwhile_is_stepped_around(tmp_path: Path) -> None:
    output = target(tmp_path / "a.json")
    output.check()
    (tmp_path / "a.json").write_text("theirs")
    (tmp_path / "a-1.json").write_text("theirs too")
    assert output.write(examples.finished(), None) == tmp_path / "a-2.json"
    assert (tmp_path / "a.json").read_text() == "theirs"
    assert sorted(os.listdir(tmp_path)) == ["a-1.json", "a-2.json", "a.json"]


def test_force_replaces_a_file_and_not_what_a_link_points_to(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    os.symlink(tmp_path / "precious", tmp_path / "a.json")
    assert target(tmp_path / "a.json", force=True).write(examples.finished(), None) == tmp_path / "a.json"
    assert (tmp_path / "precious").read_text() == "mine"
    assert not (tmp_path / "a.json").is_symlink()


def test_a_disk_that_is_full_at_the_end_is_an_output_error_without_leftovers(small_disk: Path) -> None:
    run = examples.finished(curve=examples.finished().curve * 2000)
    for name in ("a.json", "b"):
        with pytest.raises(OutputError, match="No space left"):
            target(small_disk / name).write(run, None)
    assert os.listdir(small_disk) == []


# --- folders -----------------------------------------------------------------------------------------


def test_a_folder_is_a_copy_of_the_one_in_the_store(tmp_path: Path) -> None:
    folder = stored(tmp_path / "store")
    path = target(tmp_path / "out").write(examples.finished(), folder)
    assert path == tmp_path / "out"
    assert sorted(os.listdir(path)) == sorted(os.listdir(folder.path))
    for name in os.listdir(path):
        assert (path / name).read_bytes() == (tmp_path / "store" / name).read_bytes()
        assert stat.S_IMODE(os.stat(path / name).st_mode) == 0o600


def test_without_a_store_the_folder_is_written_from_the_samples(tmp_path: Path) -> None:
    run = replace(examples.finished(), samples=examples.samples(5))
    target(tmp_path / "out").write(run, None)
    [loaded] = load(str(tmp_path / "out"))
    assert replace(loaded, samples=()) == examples.finished()
    assert len(list(loaded.samples)) == 5


def test_a_folder_that_came_into_being_meanwhile_is_stepped_around(tmp_path: Path) -> None:
    output = target(tmp_path / "out")
    output.check()
    (tmp_path / "out").mkdir()
    assert output.write(examples.finished(), stored(tmp_path / "store")) == tmp_path / "out-1"
    assert os.listdir(tmp_path / "out") == []


def test_an_opened_folder_is_the_journal_and_stays_where_it_is(tmp_path: Path) -> None:
    output = target(tmp_path / "out")
    folder = output.open(examples.begun())
    assert folder is not None
    folder.append(examples.samples(4))
    assert load(str(tmp_path / "out"))[0].state == "running"
    folder.finish(examples.finished())
    assert output.write(examples.finished(), folder) == tmp_path / "out"
    assert len(list(load(str(tmp_path / "out"))[0].samples)) == 4
    assert target(tmp_path / "a.json").open(examples.begun()) is None
    with pytest.raises(OutputError, match="File exists"):
        output.open(examples.begun())


def test_force_replaces_an_earlier_run_folder(tmp_path: Path) -> None:
    stored(tmp_path / "out", count=50)
    target(tmp_path / "out", force=True).write(examples.finished(), stored(tmp_path / "store"))
    assert len(list(load(str(tmp_path / "out"))[0].samples)) == 5
    folder = target(tmp_path / "out", force=True).open(examples.begun())
    assert folder is not None
    folder.close()
    assert list(load(str(tmp_path / "out"))[0].samples) == []
    assert sorted(os.listdir(tmp_path)) == ["out", "store"]


# --- the summary -------------------------------------------------------------------------------------


def test_a_summary_has_one_header_and_a_row_for_each_run(tmp_path: Path) -> None:
    output = target(tmp_path / "runs.csv")
    for number in range(3):
        output.check()
        assert output.write(replace(examples.finished(), id=f"r{number}"), None) == tmp_path / "runs.csv"
    lines = (tmp_path / "runs.csv").read_text().splitlines()
    assert lines[0] == ",".join(summary.COLUMNS)
    assert len(lines) == 4
    assert stat.S_IMODE(os.stat(tmp_path / "runs.csv").st_mode) == 0o600
    assert [run.id for run in load(str(tmp_path / "runs.csv"))] == ["r0", "r1", "r2"]


def test_a_row_tells_the_run_as_far_as_its_columns_go(tmp_path: Path) -> None:
    odd = ("sh", "-c", 'echo "a,b"\n', os.fsdecode(b"\xff"))
    run = replace(examples.finished(), command=odd, tags={"k": "v,w", "é": os.fsdecode(b"\xfe")})
    target(tmp_path / "runs.csv").write(run, None)
    [loaded] = load(str(tmp_path / "runs.csv"))
    assert (loaded.command, loaded.tags, loaded.exit) == (odd, run.tags, Exit(code=3))
    assert loaded.energy is not None
    assert run.energy is not None
    assert loaded.energy == replace(run.energy, channels=())
    assert loaded.carbon is not None
    assert loaded.carbon.co2e_g == 0.0005
    assert loaded.job is not None
    assert loaded.job.id == "4711"
    assert [notice.code for notice in loaded.notices] == ["late_ticks"]


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=30)
@given(examples.runs())
def test_every_run_has_a_row_that_reads_again(run: Run) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        run = replace(run, name=run.name.replace("\0", ""), notices=())
        path = Path(place) / "a.csv"
        path.write_bytes(summary.header() + summary.row(run))
        try:
            [loaded] = load(str(path))
        except RecordError as error:
            assert "line 2: " in str(error) or "line contains NUL" in str(error)
        else:
            assert loaded.duration_s == run.duration_s / max(1, len(run.executions))


def test_a_repeated_run_has_a_row_with_the_mean_of_its_executions(tmp_path: Path) -> None:
    run = replace(examples.finished(), executions=(Execution(start_s=0, duration_s=1),) * 4)
    target(tmp_path / "runs.csv").write(run, None)
    header, row = (line.split(",") for line in (tmp_path / "runs.csv").read_text().splitlines())
    assert row[header.index("executions")] == "4"
    [loaded] = load(str(tmp_path / "runs.csv"))
    assert run.energy is not None and run.energy.machine_j is not None and loaded.energy is not None
    assert loaded.energy.machine_j == run.energy.machine_j / 4
    assert loaded.duration_s == run.duration_s / 4


def test_a_file_without_the_column_of_executions_still_reads(tmp_path: Path) -> None:
    path = tmp_path / "old.csv"
    header = summary.header().replace(b",executions", b"")
    path.write_bytes(header + summary.row(examples.finished()).rsplit(b",", 1)[0] + b"\n")
    assert [run.id for run in load(str(path))] == [examples.finished().id]


def test_a_command_line_beyond_what_a_cell_may_hold_is_cut_and_still_reads(tmp_path: Path) -> None:
    run = replace(examples.finished(), command=("sh", "-c", "echo " * 50_000))
    target(tmp_path / "a.csv").write(run, None)
    [loaded] = load(str(tmp_path / "a.csv"))
    assert loaded.command[0].startswith("sh -c 'echo echo")


def test_an_unknown_energy_is_an_empty_cell_and_no_energy_again(tmp_path: Path) -> None:
    target(tmp_path / "a.csv").write(replace(examples.finished(), energy=None, carbon=None), None)
    assert load(str(tmp_path / "a.csv"))[0].energy is None


@pytest.mark.parametrize("force", [False, True])
def test_a_file_with_other_columns_is_not_appended_to(tmp_path: Path, force: bool) -> None:
    path = tmp_path / "a.csv"
    path.write_text("x,y\n1,2\n")
    output = target(path, force=force)
    if force:
        output.check()
        assert output.write(examples.finished(), None) == path
        assert len(path.read_text().splitlines()) == 2
        return
    with pytest.raises(OutputError, match="other columns"):
        output.check()
    assert output.write(examples.finished(), None) == tmp_path / "a-1.csv"
    assert path.read_text() == "x,y\n1,2\n"


def test_a_last_line_without_an_end_and_an_empty_file_are_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes((summary.header() + summary.row(examples.finished())).rstrip())
    target(path, force=True).write(examples.finished(), None)
    assert len(load(str(path))) == 2
    (tmp_path / "b.csv").touch()
    target(tmp_path / "b.csv").write(examples.finished(), None)
    assert len(load(str(tmp_path / "b.csv"))) == 1


def test_parallel_runs_do_not_mix_their_rows(tmp_path: Path) -> None:
    code = (
        "import sys; from dataclasses import replace; from tests.store import examples;"
        "from emt_cli.store import Output; out = Output.plan(sys.argv[1], {}, False);"
        "[out.write(replace(examples.finished(), name='x' * 5000), None) for _ in range(50)]"
    )
    path = tmp_path / "a.csv"
    root = Path(__file__).parents[2]
    children = [subprocess.Popen([sys.executable, "-c", code, str(path)], cwd=root) for _ in range(4)]
    assert [child.wait() for child in children] == [0] * 4
    assert len(load(str(path))) == 200
    assert os.listdir(tmp_path) == ["a.csv"]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    from emt_cli.store import placing

    monkeypatch.setattr(placing._lock, "__defaults__", (0.0,))
    yield


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("force", [False, True])
def test_a_summary_that_somebody_keeps_locked_is_stepped_around(tmp_path: Path, force: bool) -> None:
    path = tmp_path / "a.csv"
    target(path).write(examples.finished(), None)
    with open(path) as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert target(path, force=force).write(examples.finished(), None) == tmp_path / "a-1.csv"
    assert len(load(str(path))) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("a,b\n", "no summary of emt"),
        ("format,id\n1,x\n", "no summary of emt: it has no column name"),
        ("t_s,x_j\n", "no summary of emt"),
    ],
)
def test_a_csv_that_is_no_summary_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(RecordError, match=message):
        load(str(tmp_path / "a.csv"))


def test_a_wrong_cell_is_refused_with_its_line(tmp_path: Path) -> None:
    row = summary.row(examples.finished()).replace(b"38.4", b"lots", 1)
    (tmp_path / "a.csv").write_bytes(summary.header() + summary.row(examples.finished()) + row)
    with pytest.raises(RecordError, match=r'line 3: energy.machine_j is "lots", expected a number'):
        load(str(tmp_path / "a.csv"))
    newer = b"2" + summary.row(examples.finished())[1:]
    (tmp_path / "a.csv").write_bytes(summary.header() + newer)
    with pytest.raises(RecordError, match="written by a newer emt"):
        load(str(tmp_path / "a.csv"))


def test_the_json_file_is_json_for_every_parser(tmp_path: Path) -> None:
    target(tmp_path / "a.json").write(examples.finished(), None)
    document = json.loads((tmp_path / "a.json").read_bytes(), parse_constant=pytest.fail)
    assert document["files"] == {}
