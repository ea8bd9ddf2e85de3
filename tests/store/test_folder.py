from __future__ import annotations

import errno
import os
import random
import signal
import stat
import subprocess
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emt_cli.errors import RecordError
from emt_cli.model import Mark, Process, Run, Sample
from emt_cli.store import RunFolder, SampleFile, load
from emt_cli.store.disk import is_network
from emt_cli.store.liveness import is_alive, started_ticks
from emt_cli.store.samples import header, row_writer

from . import examples


def local(path: str) -> bool:
    return False


def network(path: str) -> bool:
    return True


def write(path: Path, run: Run, rows: list[Sample], limit: int = 1_000_000) -> RunFolder:
    folder = RunFolder.create(str(path), examples.begun(channels=()), limit=limit)
    folder.begin(run)
    for row in rows:
        folder.append([row])
    return folder


def rounded(sample: Sample) -> Sample:
    """What a file keeps of a sample: microseconds, 12 digits, watts of gauges."""
    assert row_writer(examples.CHANNELS)(sample)

    def digits(value: float | None) -> float | None:
        return None if value is None else float(f"{value:.12g}")

    return Sample(
        t_s=float(f"{sample.t_s:.6f}"),
        energy_j=tuple(map(digits, sample.energy_j)),
        power_w=(None, None, digits(sample.power_w[2])),
        cpu_tree_s=digits(sample.cpu_tree_s),
        cpu_machine_s=digits(sample.cpu_machine_s),
    )


# --- writing and reading again -----------------------------------------------------------------------


def test_a_finished_folder_loads_as_the_same_run(tmp_path: Path) -> None:
    run, rows = examples.finished(), examples.samples(20)
    write(tmp_path / "run", run, rows).finish(run)
    [loaded] = load(str(tmp_path / "run"))
    assert replace(loaded, samples=()) == run
    assert list(loaded.samples) == [rounded(row) for row in rows]
    assert list(loaded.samples) == list(loaded.samples), "can be iterated again"


def test_everything_is_private_to_the_user(tmp_path: Path) -> None:
    folder = write(tmp_path / "run", examples.begun(), examples.samples(2))
    folder.write_processes([])
    folder.finish(examples.finished())
    assert stat.S_IMODE(os.stat(tmp_path / "run").st_mode) == 0o700
    modes = {
        name: stat.S_IMODE(os.stat(tmp_path / "run" / name).st_mode) for name in os.listdir(tmp_path / "run")
    }
    assert modes == dict.fromkeys(["run.json", "samples.csv", "processes.csv", "marks.csv"], 0o600)


def test_a_folder_that_is_there_is_never_written_into(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(FileExistsError):
        RunFolder.create(str(tmp_path / "run"), examples.begun())
    os.symlink(tmp_path / "nowhere", tmp_path / "link")
    with pytest.raises(FileExistsError):
        RunFolder.create(str(tmp_path / "link"), examples.begun())
    assert os.listdir(tmp_path / "run") == []


def test_a_discarded_folder_leaves_nothing(tmp_path: Path) -> None:
    write(tmp_path / "run", examples.begun(), examples.samples(3)).discard()
    assert os.listdir(tmp_path) == []


def test_the_columns_are_those_of_the_format(tmp_path: Path) -> None:
    write(tmp_path / "run", examples.begun(), examples.samples(3)).close()
    lines = (tmp_path / "run" / "samples.csv").read_text().splitlines()
    assert lines[0] == "t_s,cpu0/package_j,cpu0/core_j,gpu0_j,gpu0_w,cpu_tree_s,cpu_machine_s"
    assert lines[2] == "0.100000,4.2,,7.5,75,0.08,0.4"


def test_nan_in_a_sample_becomes_an_empty_cell(tmp_path: Path) -> None:
    row = Sample(1.0, (float("nan"), 1.0, float("inf")), (None, None, float("-inf")), 1.0, None)
    assert row_writer(examples.CHANNELS)(row) == "1.000000,,1,,,1,\n"


@settings(deadline=None)
@given(
    st.lists(
        st.builds(
            Sample,
            st.floats(0, 1e6),
            st.tuples(*[st.none() | st.floats(0, 1e14)] * 3),
            st.tuples(st.none(), st.none(), st.none() | st.floats(0, 1e5)),
            st.none() | st.floats(0, 1e9),
            st.none() | st.floats(0, 1e9),
        ),
        max_size=20,
    ).map(lambda rows: sorted(rows, key=lambda row: row.t_s))
)
def test_samples_survive_the_file_to_twelve_digits(rows: list[Sample]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "samples.csv"
        line = row_writer(examples.CHANNELS)
        path.write_bytes(header(examples.CHANNELS) + "".join(map(line, rows)).encode())
        file = SampleFile(str(path), examples.CHANNELS)
        assert list(file) == [rounded(row) for row in rows]
        assert file.skipped == 0


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_as_samples_give_rows_or_a_clear_error(data: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "samples.csv"
        path.write_bytes(data)
        with pytest.raises(RecordError, match="no column") if b"\n" in data else _nothing():
            list(SampleFile(str(path), examples.CHANNELS))
        path.write_bytes(header(examples.CHANNELS) + data)
        for row in SampleFile(str(path), examples.CHANNELS):
            assert all(value is None or abs(value) <= 1e18 for value in row.energy_j)


class _nothing:  # noqa: N801 (reads like contextlib.nullcontext)
    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None: ...


def test_rows_that_do_not_parse_are_left_out_and_counted(tmp_path: Path) -> None:
    good = row_writer(examples.CHANNELS)
    rows = examples.samples(4)
    lines = [
        *(good(row) for row in rows[:2]),
        "garbage\n",
        "0.2,1,2\n",
        "nan,1,1,1,1,1,1\n",
        "0.2,1,inf,1,1,1,1\n",
        "0.2,1e19,1,1,1,1,1\n",
        ",1,1,1,1,1,1\n",
        "0.05,1,1,1,1,1,1\n",  # time running backwards
        "\x00\xff\n",
        *(good(row) for row in rows[2:]),
        "0.4,1,1,1,1,1,1",  # cut short
    ]
    path = tmp_path / "samples.csv"
    path.write_bytes(header(examples.CHANNELS) + "".join(lines).encode("latin-1"))
    file = SampleFile(str(path), examples.CHANNELS)
    assert [row.t_s for row in file] == [0.0, 0.1, 0.2, 0.3]
    assert file.skipped == 9


def test_a_line_without_an_end_does_not_fill_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "samples.csv"
    row = row_writer(examples.CHANNELS)(examples.samples(1)[0])
    with open(path, "wb") as text:
        text.write(header(examples.CHANNELS))
        text.truncate(40 << 20)
        text.seek(0, os.SEEK_END)
        text.write(b"\n" + row.encode())
    file = SampleFile(str(path), examples.CHANNELS)
    tracemalloc.start()
    assert len(list(file)) == 1
    assert tracemalloc.get_traced_memory()[1] < 20 << 20
    tracemalloc.stop()
    assert file.skipped == 1


def test_columns_are_found_by_name_wherever_they_stand(tmp_path: Path) -> None:
    path = tmp_path / "samples.csv"
    path.write_text(
        "cpu_machine_s,x,gpu0_w,gpu0_j,cpu_tree_s,cpu0/core_j,cpu0/package_j,t_s\n8,7,6,5,4,3,2,1\n"
    )
    [row] = SampleFile(str(path), examples.CHANNELS)
    assert row == Sample(1.0, (2.0, 3.0, 5.0), (None, None, 6.0), 4.0, 8.0)


def test_a_thinned_long_file_is_even_and_holds_both_ends(tmp_path: Path) -> None:
    path = tmp_path / "samples.csv"
    line = row_writer(examples.CHANNELS)
    rows = examples.samples(60_000)
    path.write_bytes(header(examples.CHANNELS) + "".join(map(line, rows)).encode() + b"6000.0,1")
    assert path.stat().st_size > 1 << 20
    picked = SampleFile(str(path), examples.CHANNELS).thinned(200)
    assert picked[0] == rounded(rows[0])
    assert picked[-1] == rounded(rows[-1])
    assert len(picked) == 201
    steps = [after.t_s - before.t_s for before, after in pairwise(picked[:-1])]
    assert max(steps) < 2 * min(steps)


def test_a_thinned_short_file_is_itself(tmp_path: Path) -> None:
    write(tmp_path / "run", examples.begun(), examples.samples(10)).close()
    file = SampleFile(str(tmp_path / "run" / "samples.csv"), examples.CHANNELS)
    assert file.thinned(500) == list(file)
    assert [row.t_s for row in file.thinned(4)] == [0.0, 0.3, 0.6, 0.9]


# --- the journal -------------------------------------------------------------------------------------


def test_beyond_the_limit_the_rate_halves_and_the_last_sample_is_kept(tmp_path: Path) -> None:
    rows = [row._replace(t_s=float(at)) for at, row in enumerate(examples.samples(36))]
    folder = write(tmp_path / "run", examples.begun(), rows, limit=10)
    assert folder.times_halved == 2
    folder.finish(examples.finished())
    [run] = load(str(tmp_path / "run"))
    times = [row.t_s for row in run.samples]
    assert times == [*range(10), *range(11, 30, 2), 33, 35]


def test_a_failed_append_leaves_whole_rows_and_later_ones_are_written(tmp_path: Path) -> None:
    import resource

    rows = examples.samples(400)
    folder = write(tmp_path / "run", examples.begun(), rows[:10])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = os.path.getsize(tmp_path / "run" / "samples.csv")
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (size + 100, before[1])
    )  # a write is cut short, as on a full disk
    try:
        with pytest.raises(OSError, match="File too large"):
            folder.append(rows[10:300])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert os.path.getsize(tmp_path / "run" / "samples.csv") == size
    folder.append(rows[300:])
    folder.finish(examples.finished())
    [run] = load(str(tmp_path / "run"))
    assert len(list(run.samples)) == 110


def test_processes_are_replaced_whole(tmp_path: Path) -> None:
    folder = write(tmp_path / "run", examples.begun(), examples.samples(2))
    odd = Process(pid=1, ppid=0, name='a,"b"', command="x\ny\r\n" + os.fsdecode(b"\xff\xfe"), ended_s=0.1)
    folder.write_processes([odd])
    folder.write_processes([odd, replace(odd, pid=2, is_left_running=True, ended_s=None)])
    folder.close()
    [run] = load(str(tmp_path / "run"))
    assert run.processes == (odd, replace(odd, pid=2, is_left_running=True, ended_s=None))


def test_all_processes_and_marks_come_back_from_the_tables(tmp_path: Path) -> None:
    run = examples.finished(
        processes=tuple(Process(pid=at, ppid=1, name="p") for at in range(300)),
        marks=tuple(Mark(t_s=at / 8, name=f"m{at}") for at in range(3000)),
    )
    write(tmp_path / "run", run, []).finish(run)
    [loaded] = load(str(tmp_path / "run"))
    assert replace(loaded, samples=()) == run


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("pid\n1\n", "has no column ppid"),
        (
            "pid,ppid,name,command,started_s,ended_s,cpu_s,left_running\nx,1,a,b,0,,0,no\n",
            'line 2: pid is "x"',
        ),
        (
            "pid,ppid,name,command,started_s,ended_s,cpu_s,left_running\n1,1,a,b,0,,nan,no\n",
            "line 2: cpu_s is nan",
        ),
        ("pid,ppid,name,command,started_s,ended_s,cpu_s,left_running\n1,1\n", "line 2 has 2 cells"),
        ("pid,ppid,name,command,started_s,ended_s,cpu_s,left_running\n" + "x" * 200_000, "field larger than"),
    ],
)
def test_a_damaged_table_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    run = examples.finished()
    write(tmp_path / "run", run, []).finish(run)
    (tmp_path / "run" / "processes.csv").write_text(text)
    with pytest.raises(RecordError, match=message):
        load(str(tmp_path / "run"))


def test_a_table_that_cannot_be_written_does_not_cost_the_record(tmp_path: Path) -> None:
    folder = write(tmp_path / "run", examples.begun(), examples.samples(3))
    (tmp_path / "run" / "processes.csv").mkdir()
    with pytest.raises(OSError, match="Is a directory"):
        folder.finish(examples.finished())
    assert sorted(os.listdir(tmp_path / "run")) == ["marks.csv", "processes.csv", "run.json", "samples.csv"]
    assert '"state": "complete"' in (tmp_path / "run" / "run.json").read_text()


def test_a_folder_removed_during_the_run_is_an_error_not_a_new_folder(tmp_path: Path) -> None:
    import shutil

    folder = write(tmp_path / "run", examples.begun(), examples.samples(3))
    shutil.rmtree(tmp_path / "run")
    folder.append(examples.samples(1))
    with pytest.raises(FileNotFoundError):
        folder.finish(examples.finished())
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_under_sudo_everything_belongs_to_the_user_at_any_time(tmp_path: Path) -> None:
    folder = RunFolder.create(str(tmp_path / "run"), examples.begun(), owner=(1234, 1235))
    assert {os.stat(tmp_path / "run" / name).st_uid for name in ("", *os.listdir(tmp_path / "run"))} == {1234}
    folder.finish(examples.finished())
    owners = {
        (os.stat(tmp_path / "run" / name).st_uid, os.stat(tmp_path / "run" / name).st_gid)
        for name in ("", *os.listdir(tmp_path / "run"))
    }
    assert owners == {(1234, 1235)}


# --- network file systems ----------------------------------------------------------------------------


MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:40 / /home rw,relatime shared:9 - nfs4 server:/home rw
31 30 0:41 / /home/me/local\\040disk rw - xfs /dev/sdb rw
32 22 0:42 / /mnt/remote rw - fuse.sshfs me@there: rw
33 22 0:43 / /scratch rw - ext4 /dev/sdc rw
34 22 0:44 / /scratch rw - lustre mgs:/scratch rw
broken line
"""


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/var/tmp/x", False),
        ("/home/me/runs", True),
        ("/home", True),
        ("/homeless", False),
        ("/home/me/local disk/x", False),
        ("/mnt/remote/x", True),
        ("/scratch/x", True),
    ],
)
def test_network_file_systems_are_told_by_the_innermost_mount(
    tmp_path: Path, path: str, answer: bool
) -> None:
    (tmp_path / "mountinfo").write_text(MOUNTS)
    assert is_network(path, str(tmp_path / "mountinfo")) is answer


def test_without_mountinfo_nothing_is_a_network_file_system(tmp_path: Path) -> None:
    assert not is_network("/", str(tmp_path / "none"))


def test_on_a_network_file_system_the_journal_is_copied_once_a_minute(tmp_path: Path) -> None:
    now = [100.0]
    rows = examples.samples(30)
    folder = RunFolder.create(
        str(tmp_path / "run"), examples.begun(), is_network=network, clock=lambda: now[0]
    )
    path = tmp_path / "run" / "samples.csv"
    folder.append(rows[:10])
    assert len(path.read_text().splitlines()) == 1, "the header only"
    now[0] += 60
    folder.append(rows[10:20])
    assert len(path.read_text().splitlines()) == 21
    folder.append(rows[20:])
    [run] = load(str(tmp_path / "run"))
    assert len(list(run.samples)) == 30, "the local journal is read while there is one"
    journal = Path(run.samples.path)  # type: ignore[attr-defined]
    assert journal.parent != tmp_path / "run"
    assert stat.S_IMODE(journal.stat().st_mode) == 0o600
    folder.finish(examples.finished())
    assert not journal.parent.exists()
    [run] = load(str(tmp_path / "run"))
    assert [row.t_s for row in run.samples] == [rounded(row).t_s for row in rows]


def test_a_journal_elsewhere_that_is_not_ours_is_not_believed(tmp_path: Path) -> None:
    folder = RunFolder.create(str(tmp_path / "run"), examples.begun(), is_network=network)
    folder.append(examples.samples(3))
    journal = Path(load(str(tmp_path / "run"))[0].samples.path)  # type: ignore[attr-defined]
    journal.chmod(0o644)
    assert list(load(str(tmp_path / "run"))[0].samples) == []
    journal.chmod(0o600)
    folder.discard()
    assert not journal.parent.exists()


# --- kills -------------------------------------------------------------------------------------------


def killed_writer(path: Path, after: int, spin: int) -> int:
    """Fork a writer that says when it has done a step, kill it some time after so many; returns the flushes
    that it had said to be done."""
    read_end, write_end = os.pipe()
    rows = examples.samples(600)
    child = os.fork()
    if child == 0:
        try:
            folder = RunFolder.create(str(path), examples.begun(channels=(), recorder_pid=os.getpid()))
            os.write(write_end, b".")
            folder.begin(examples.begun(recorder_pid=os.getpid()))
            for at in range(0, len(rows), 10):
                folder.append(rows[at : at + 10])
                os.write(write_end, b".")
                folder.write_processes(examples.finished().processes)
            folder.finish(examples.finished())
        finally:
            os._exit(0)
    os.close(write_end)
    with open(read_end, "rb", buffering=0) as pipe:
        done = len(pipe.read(1))
        while done < after:
            done += len(pipe.read(1))
        for _ in range(spin):
            pass
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        while said := pipe.read(1000):
            done += len(said)
    return done - 1


@pytest.mark.parametrize("seed", range(50))
def test_a_run_whose_emt_was_killed_holds_all_that_was_flushed(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    flushed = killed_writer(tmp_path / "run", chance.randrange(0, 60), chance.randrange(0, 5000))
    [run] = load(str(tmp_path / "run"))
    expected = [rounded(row) for row in examples.samples(600)]
    found = list(run.samples)
    assert found == expected[: len(found)]
    assert len(found) >= flushed * 10
    assert run.state in ("recovered", "complete")
    if found and run.state == "recovered":
        assert run.duration_s == found[-1].t_s
        assert run.observed[-1].energy_j == found[-1].energy_j[2]
        assert run.observed[-1].max_power_w == 75.0
        assert run.cpu_time.tree_s == found[-1].cpu_tree_s


def test_a_run_that_goes_on_is_read_as_running_with_what_there_is(tmp_path: Path) -> None:
    write(tmp_path / "run", examples.begun(), examples.samples(11)).close()
    [run] = load(str(tmp_path / "run"))
    assert run.state == "running"
    assert run.duration_s == 1.0
    assert run.observed[0].energy_j == 42.0
    assert run.observed[0].max_power_w == pytest.approx(42.0)
    assert run.observed[1].readings == 9


def test_a_later_process_with_the_same_pid_is_not_the_recorder(tmp_path: Path) -> None:
    run = examples.begun(recorder_started_ticks=1)
    write(tmp_path / "run", run, examples.samples(3)).close()
    assert load(str(tmp_path / "run"))[0].state == "recovered"


def test_a_record_of_an_earlier_boot_is_recovered(tmp_path: Path) -> None:
    run = examples.begun()
    run = replace(run, host=replace(run.host, boot_id="another"))
    write(tmp_path / "run", run, examples.samples(3)).close()
    assert load(str(tmp_path / "run"))[0].state == "recovered"


def test_a_run_of_another_node_goes_on_while_its_journal_changes(tmp_path: Path) -> None:
    run = examples.begun()
    run = replace(run, host=replace(run.host, node="n-17", boot_id="another"))
    write(tmp_path / "run", run, examples.samples(3)).close()
    assert load(str(tmp_path / "run"))[0].state == "running"
    os.utime(tmp_path / "run" / "samples.csv", (0, 0))
    assert load(str(tmp_path / "run"))[0].state == "recovered"


def test_a_zombie_and_a_strange_name_are_understood(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    fields = " ".join(str(at) for at in range(4, 53))
    (tmp_path / "7" / "stat").write_text(f"7 (a) S (b) R {fields}")
    assert started_ticks(7, str(tmp_path)) == 22
    (tmp_path / "7" / "stat").write_text(f"7 (a) S (b) Z {fields}")
    assert started_ticks(7, str(tmp_path)) is None
    assert not is_alive(7, 22, node="", boot_id="", changed_at=0.0, proc=str(tmp_path))


def test_the_same_moment_twice_is_not_a_division_by_zero(tmp_path: Path) -> None:
    rows = examples.samples(3)
    write(tmp_path / "run", examples.begun(), [*rows, rows[2]._replace(energy_j=(9.0, 9.0, 15.0))]).close()
    assert load(str(tmp_path / "run"))[0].observed[0].energy_j == 9.0


# --- a full disk -------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 64 KiB."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        reason = f"cannot mount a tmpfs: {mounted.stderr.strip()}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_disk_that_fills_up_keeps_every_row_until_then(small_disk: Path) -> None:
    folder = RunFolder.create(str(small_disk / "run"), examples.begun())
    rows, flushed = examples.samples(5000), 0
    with pytest.raises(OSError, match="No space left") as caught:
        for at in range(0, 5000, 10):
            folder.append(rows[at : at + 10])
            flushed = at + 10
    assert caught.value.errno == errno.ENOSPC
    with pytest.raises(OSError, match="No space left"):
        folder.finish(examples.finished(curve=examples.finished().curve * 500))
    [run] = load(str(small_disk / "run"))
    assert flushed > 500
    assert list(run.samples) == [rounded(row) for row in rows[:flushed]]
    assert sorted(name for name in os.listdir(small_disk / "run") if name.startswith(".")) == []


def test_a_full_disk_refuses_a_new_run_and_keeps_nothing_of_it(small_disk: Path) -> None:
    with (
        open(small_disk / "filler", "wb", buffering=0) as filler,
        pytest.raises(OSError, match="No space left"),
    ):
        while True:
            filler.write(b"x" * 4096)
    with pytest.raises(OSError, match="No space left"):
        RunFolder.create(str(small_disk / "run"), examples.begun())
    assert os.listdir(small_disk) == ["filler"]
