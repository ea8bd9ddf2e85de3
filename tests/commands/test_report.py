"""`emt report`, through the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from emt_cli.model import CurvePoint, Run
from emt_cli.store.record import dump, encode
from emt_cli.store.summary import header, row
from tests.reports import conftest

Emt = Callable[..., subprocess.CompletedProcess[str]]
LATEST = "20250103-000000-pytest-0001"
MEASURED = "20250102-101112-python-7f3a"


def keep(store: Path, id: str, run: Run) -> Path:
    folder = store / id
    folder.mkdir(parents=True)
    (folder / "run.json").write_bytes(dump(encode(replace(run, id=id))))
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Path:
    store = tmp_path / "store"
    keep(store, MEASURED, conftest.measured())
    keep(store, LATEST, conftest.estimated())
    return store


@pytest.fixture
def emt(tmp_path: Path, store: Path) -> Emt:
    """The command in a process of its own, away from this user's settings."""

    def emt(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        inherited = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
        return subprocess.run(
            [sys.executable, "-c", "from emt_cli.commands import main; main()", *arguments],
            env={**inherited, "HOME": str(tmp_path), "EMT_STORE": str(store), "LC_ALL": "C.UTF-8", **environ},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    return emt


# --- what is shown ----------------------------------------------------------------------------------


def test_without_a_name_the_newest_run_is_shown(emt: Emt) -> None:
    done = emt("report")
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.startswith("pytest -q\n")
    assert "Energy  41.3 J (20.1 to 42.0 J) of the command, estimated" in done.stdout


def test_a_pipe_gets_80_columns_and_no_colour(emt: Emt) -> None:
    page = emt("report", MEASURED, TERM="xterm-256color").stdout
    assert "\x1b" not in page
    assert max(map(len, page.splitlines())) <= 80


def test_width_and_columns_are_obeyed(emt: Emt) -> None:
    assert max(map(len, emt("report", MEASURED, "--width", "40").stdout.splitlines())) <= 40
    assert 80 < max(map(len, emt("report", MEASURED, COLUMNS="120").stdout.splitlines())) <= 120


def test_an_encoding_without_blocks_gets_plain_letters(emt: Emt) -> None:
    done = emt("report", MEASURED, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert done.returncode == 0
    assert done.stdout.isascii() and "+- 0.091" in done.stdout and "####" in done.stdout


def test_several_runs_are_a_table_and_with_show_a_page_each(emt: Emt) -> None:
    table = emt("report", MEASURED, LATEST).stdout
    assert len(table.splitlines()) == 4 and "unit tests" in table
    pages = emt("report", MEASURED, LATEST, "--show", "carbon").stdout
    assert pages.count("\nCO2e  ") == 2 and "Energy" not in pages


def test_paths_are_read_like_runs_of_the_store(emt: Emt, store: Path, tmp_path: Path) -> None:
    (tmp_path / "one.json").write_bytes(dump(encode(conftest.measured())))
    (tmp_path / "some.csv").write_bytes(header() + row(conftest.measured()) + row(conftest.estimated()))
    assert "1.819 kJ" in emt("report", str(tmp_path / "one.json")).stdout
    assert "1.819 kJ" in emt("report", str(store / MEASURED)).stdout
    assert len(emt("report", str(tmp_path / "some.csv")).stdout.splitlines()) == 4


def test_the_row_of_a_summary_is_a_page_with_its_warnings_by_code(emt: Emt, tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_bytes(header() + row(conftest.estimated()))
    page = emt("report", str(tmp_path / "one.csv")).stdout
    assert "41.3 J" in page and "! stolen_time" in page


def test_a_run_without_results_gets_them_when_it_is_read(emt: Emt, store: Path) -> None:
    folder = keep(store, "20250104-000000-x-0001", replace(conftest.recovered(), state="complete"))
    document = json.loads(emt("report", str(folder), "--format", "json").stdout)
    assert document["energy"] is not None and document["attribution"]["rule"]


def test_recompute_works_the_results_out_anew(emt: Emt) -> None:
    assert emt("report", MEASURED, "--get", "attribution.rule").stdout == "cpu-time share in windows\n"
    assert emt("report", MEASURED, "--get", "attribution.rule", "--recompute").stdout == "cpu_share\n"


def test_a_record_full_of_escapes_moves_no_terminal(emt: Emt, tmp_path: Path) -> None:
    run = replace(
        conftest.hostile(), id="evil", curve=(CurvePoint(t_s=0.0, machine_w=1.0, attributed_w=1.0),)
    )
    (tmp_path / "evil.json").write_bytes(dump(encode(run)))
    for form in ("table", "json", "csv", "markdown"):
        done = emt("report", str(tmp_path / "evil.json"), "--format", form)
        assert done.returncode == 0 and done.stdout
        assert all(letter == "\n" or letter.isprintable() for letter in done.stdout)


# --- for programs -----------------------------------------------------------------------------------


def test_the_machine_formats_stand_alone_on_stdout(emt: Emt) -> None:
    done = emt("report", MEASURED, "--format", "json")
    assert json.loads(done.stdout)["id"] == MEASURED and done.stderr == ""
    assert len(json.loads(emt("report", MEASURED, LATEST, "--format", "json").stdout)) == 2
    lines = emt("report", MEASURED, LATEST, "--format", "csv").stdout.splitlines()
    assert len(lines) == 3 and lines[0].startswith("format,id,")
    assert emt("report", "--format", "markdown").stdout.startswith("### `pytest -q`")


def test_get_prints_one_value_a_run(emt: Emt) -> None:
    done = emt("report", "--get", "energy.attributed_j")
    assert (done.returncode, done.stdout, done.stderr) == (0, "41.3\n", "")
    assert emt("report", MEASURED, LATEST, "--get", "exit.code").stdout == "0\n1\n"
    assert emt("report", "--get", "name").stdout == "unit tests\n"
    assert emt("report", "--get", "name", "--format", "json").stdout == '"unit tests"\n'


def test_an_unknown_value_is_a_message_and_status_1(emt: Emt) -> None:
    done = emt("report", "--get", "exit.signal")
    assert (done.returncode, done.stdout) == (1, "")
    assert "exit.signal is not known of run" in done.stderr
    done = emt("report", MEASURED, LATEST, "--get", "energy.idle_j")
    assert (done.returncode, done.stdout) == (1, "1120.0\nnull\n")


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("--get", "energy.atributed_j"), 2, "did you mean energy.attributed_j"),
        (("--get", "energy.low_j", "--format", "csv"), 2, "--get"),
        (("--show", "enrgy"), 2, "there are energy"),
        (("--show", ","), 2, "--show names no section"),
        (("--show", "curve", "--format", "markdown"), 2, "curve"),
        (("--show", "energy", "--format", "json"), 2, "always complete"),
        (("--format", "yaml"), 2, "yaml"),
        (("--width", "5"), 2, "5"),
        (("no-such-run",), 1, "no-such-run"),
    ],
)
def test_a_mistake_is_told_in_a_line_with_a_remedy(
    emt: Emt, arguments: tuple[str, ...], status: int, said: str
) -> None:
    done = emt("report", *arguments)
    assert (done.returncode, done.stdout) == (status, "")
    assert said in done.stderr and "Traceback" not in done.stderr


def test_an_empty_store_is_told(emt: Emt, tmp_path: Path) -> None:
    done = emt("report", EMT_STORE=str(tmp_path / "none"))
    assert done.returncode == 1 and "emt run" in done.stderr


# --- where it goes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["table", "json"])
def test_a_reader_that_has_gone_is_no_error(store: Path, tmp_path: Path, form: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-c", "from emt_cli.commands import main; main()", "report", "--format", form],
        env={**os.environ, "EMT_STORE": str(store), "HOME": str(tmp_path)},
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=60,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_full_disk_is_told_and_is_status_1(store: Path, tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", "from emt_cli.commands import main; main()", "report"],
            env={**os.environ, "EMT_STORE": str(store), "HOME": str(tmp_path)},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=60,
        )
    assert done.returncode == 1
    assert (
        "No space left" in done.stderr and "Traceback" not in done.stderr and "Exception" not in done.stderr
    )


def on_a_terminal(store: Path, home: Path, **environ: str) -> str:
    """What `emt report` writes to a pseudo-terminal of 80 columns."""
    import fcntl
    import pty
    import struct
    import termios

    main, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    inherited = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    settings = {"EMT_STORE": str(store), "HOME": str(home), "LC_ALL": "C.UTF-8", "TERM": "xterm"}
    with subprocess.Popen(
        [sys.executable, "-c", "from emt_cli.commands import main; main()", "report", "--show", "energy"],
        env={**inherited, **settings, **environ},
        stdin=side,
        stdout=side,
    ) as child:
        os.close(side)
        shown = b""
        try:
            while part := os.read(main, 65536):
                shown += part
        except OSError:  # EIO: the other side was closed
            pass
        assert child.wait(60) == 0
    os.close(main)
    return shown.decode()


def test_a_terminal_gets_colour(store: Path, tmp_path: Path) -> None:
    assert "\x1b[1" in on_a_terminal(store, tmp_path)


@pytest.mark.parametrize("environ", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_colour_where_it_is_not_wanted(store: Path, tmp_path: Path, environ: dict[str, str]) -> None:
    page = on_a_terminal(store, tmp_path, **environ)
    assert "\x1b" not in page and "41.3 J" in page
