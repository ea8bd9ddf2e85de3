"""Surroundings that lack what everybody has: home, current folder, terminal, locale, streams."""

from __future__ import annotations

import json
import os
import pathlib
import pty
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from tests.conftest import EMT

from .conftest import Done, assert_says, mentions

Emt = Callable[..., Done]

ENDING = ["sh", "-c", "exit 7"]


def bare(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    *unset: str,
    before: Sequence[str] = (),
    **options: Any,
) -> Done:
    """emt without some variables, and with other words before it."""
    left = {name: value for name, value in environment.items() if name not in unset}
    options = {"timeout": 120, "text": True, "capture_output": True, "check": False, **options}
    return subprocess.run([*before, *EMT, *arguments], env=left, **options)  # noqa: PLW1510 - among the options


# --- home -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("home", [None, "", "relative", "/dev/null"])
def test_a_home_that_is_none_is_no_reason_to_fail(
    emt: Emt, environment: dict[str, str], tmp_path: pathlib.Path, home: str | None
) -> None:
    given = {**environment, "HOME": home} if home is not None else environment
    unset = () if home is not None else ("HOME",)
    done = bare(["run", "-q", "--", *ENDING], given, *unset, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (7, "")
    done = bare(["report", "--get", "exit.code"], given, *unset, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "7\n", "")


def test_a_read_only_home_costs_the_record_in_the_store_and_nothing_else(
    environment: dict[str, str], small_disk: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    given = {**environment, "HOME": str(small_disk)}
    done = bare(["run", "-o", "run.json", "--", *ENDING], given, "EMT_STORE", cwd=tmp_path)
    assert done.returncode == 7
    assert mentions(done, f"could not be stored in {small_disk}/.local/state", "Read-only file system")
    assert json.loads((tmp_path / "run.json").read_text())["exit"]["code"] == 7
    done = bare(["runs"], given, "EMT_STORE", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


# --- the current folder -----------------------------------------------------------------------------


def in_a_removed_folder(
    arguments: Sequence[str], environment: Mapping[str, str], folder: pathlib.Path
) -> Done:
    folder.mkdir(exist_ok=True)
    script = 'cd "$0" && rmdir "$0" && exec "$@"'
    return bare(arguments, environment, before=["sh", "-c", script, str(folder)])


@pytest.mark.usefixtures("one_run")
def test_in_a_folder_that_was_removed_everything_else_can_be_read(
    environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    gone = tmp_path / "gone"
    for reader in (["report"], ["runs"], ["config"], ["sensors"]):
        done = in_a_removed_folder(reader, environment, gone)
        assert (done.returncode, done.stderr) == (0, ""), reader


@pytest.mark.parametrize("arguments", [["run", "-o", "x.json", "--", "true"], ["report", "x.json"]])
def test_paths_from_a_folder_that_was_removed_lead_nowhere_and_that_is_said(
    environment: dict[str, str], tmp_path: pathlib.Path, arguments: list[str]
) -> None:
    done = in_a_removed_folder(arguments, environment, tmp_path / "gone")
    assert (done.returncode, done.stdout) == (125 if arguments[0] == "run" else 1, "")
    assert_says(done, "x.json")


@pytest.mark.parametrize("arguments", [["run", "--", "true"], ["runs"], ["report"]])
def test_a_store_from_a_folder_that_was_removed_leads_nowhere_and_that_is_said(
    environment: dict[str, str], tmp_path: pathlib.Path, arguments: list[str]
) -> None:
    given = {**environment, "EMT_STORE": "store"}
    done = in_a_removed_folder(arguments, given, tmp_path / "gone")
    assert (done.returncode, done.stdout) == (125 if arguments[0] == "run" else 1, "")
    assert_says(done, "the current folder was removed")


# --- terminal and locale ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "variables",
    [
        {"COLUMNS": "nonsense"},
        {"COLUMNS": "-5", "TERM": ""},
        {"COLUMNS": "1", "TERM": "nonsense"},
        {"COLUMNS": "9" * 30},
    ],
    ids=str,
)
@pytest.mark.usefixtures("one_run")
def test_a_terminal_that_makes_no_sense_shows_a_report(emt: Emt, variables: dict[str, str]) -> None:
    for reader in ("report", "runs"):
        done = emt(reader, env=variables)
        assert (done.returncode, done.stderr) == (0, ""), reader
        assert "true" in done.stdout


@pytest.mark.parametrize(
    ("variables", "has_colour"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)],
    ids=["plain", "NO_COLOR", "dumb"],
)
@pytest.mark.usefixtures("one_run")
def test_colour_only_where_it_is_wanted(
    environment: dict[str, str], tmp_path: pathlib.Path, variables: dict[str, str], has_colour: bool
) -> None:
    primary, secondary = pty.openpty()
    given = {**environment, "TERM": "xterm-256color", "COLUMNS": "80", **variables}
    with subprocess.Popen([*EMT, "report"], env=given, stdout=secondary, cwd=tmp_path) as process:
        os.close(secondary)
        said = b""
        try:
            while block := os.read(primary, 65536):
                said += block
        except OSError:  # how a pseudo-terminal says that nobody is at the other end
            pass
    os.close(primary)
    assert process.returncode == 0
    assert (b"\x1b[" in said) is has_colour


@pytest.mark.parametrize("coerced", ["0", "1"], ids=["truly C", "coerced to UTF-8"])
def test_in_the_c_locale_any_command_line_is_run_and_shown(
    emt: Emt, environment: dict[str, str], coerced: str
) -> None:
    variables = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": coerced}
    done = emt("run", "-n", "naïve", "--", "printf", "%s", "grüße €", env=variables)
    assert done.returncode == 0
    assert done.stdout == "grüße €"
    for reader in (["report"], ["report", "--format", "json"], ["runs"], ["runs", "--format", "csv"]):
        done = emt(*reader, env=variables)
        assert (done.returncode, done.stderr) == (0, ""), reader
        assert "printf" in done.stdout


def test_without_path_the_command_is_looked_for_where_the_system_says(
    environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    done = bare(["run", "-q", "--", "true"], environment, "PATH", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


# --- variables that others have set (nobody's list had these) -----------------------------------------


@pytest.mark.parametrize(
    "variables",
    [
        {"SLURM_JOB_ID": "1", "SLURM_PROCID": "9" * 40, "SLURM_CPUS_ON_NODE": "9" * 400},
        {"SLURM_JOB_ID": "\x1b[31m", "SLURM_PROCID": "-1", "SLURM_CPUS_ON_NODE": "²"},
        {"PBS_JOBID": "7[].server", "PMI_RANK": "none"},
        {"SUDO_UID": "²", "SUDO_GID": "³"},
        {"SUDO_UID": "9" * 5000, "SUDO_GID": "9" * 5000},
        {"SUDO_UID": str(2**32 - 1), "SUDO_GID": str(2**32 - 1)},
        {"TZ": ":No/Such/Zone"},
        {"TZ": "x" * 100_000},
        {"LC_ALL": "xx_YY.nonsense"},
        {"XDG_CONFIG_HOME": "\n", "XDG_STATE_HOME": "relative"},
        {"CUDA_VISIBLE_DEVICES": "-1,²,GPU-x"},
    ],
    ids=" ".join,
)
def test_variables_that_make_no_sense_harm_neither_the_run_nor_its_record(
    emt: Emt, environment: dict[str, str], variables: dict[str, str]
) -> None:
    done = emt("run", "-q", "--", *ENDING, env=variables)
    assert (done.returncode, done.stderr) == (7, "")
    done = emt("report", "--get", "exit.code", env=variables)
    assert (done.returncode, done.stdout, done.stderr) == (0, "7\n", "")


def test_the_longest_command_line_that_there_is_can_be_read_again(emt: Emt, tmp_path: pathlib.Path) -> None:
    """Linux takes 2 MiB of arguments; a reader of records bounds its texts at 1 MiB."""
    done = emt("run", "-q", "-o", "run.csv", "-o", "run.json", "--", "true", *["x" * 100_000] * 15)
    assert (done.returncode, done.stderr) == (0, "")
    for reader in (["report"], ["report", "run.csv"], ["report", "run.json", "--format", "csv"], ["runs"]):
        done = emt(*reader)
        assert (done.returncode, done.stderr) == (0, ""), reader
        assert "true xxx" in done.stdout.replace("\n", " ")


# --- readers and streams -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments", [["report"], ["report", "--format", "json"], ["runs"], ["config"], ["sensors"]]
)
@pytest.mark.usefixtures("one_run")
def test_a_reader_that_leaves_after_the_first_line_hears_nothing(
    environment: dict[str, str], tmp_path: pathlib.Path, arguments: list[str]
) -> None:
    before = ["bash", "-c", 'set -o pipefail; "$@" | head -n 1', "bash"]
    done = bare(arguments, environment, before=before, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("closed", "status"), [("2>&-", 0), ("<&-", 0), (">&-", 1), ("<&- >&- 2>&-", 1)])
@pytest.mark.usefixtures("one_run")
def test_closed_standard_streams_break_no_reader(
    environment: dict[str, str], tmp_path: pathlib.Path, closed: str, status: int
) -> None:
    before = ["sh", "-c", f'"$@" {closed}', "sh"]
    for reader in ("report", "runs"):
        done = bare([reader], {**environment, "EMT_TYPO": "1"}, before=before, cwd=tmp_path)
        assert done.returncode == status
        assert "Traceback" not in done.stderr
        assert "EMT_TYPO" not in done.stdout, "a warning strayed into the data"
        assert ("standard output is closed" in done.stderr) is (closed == ">&-")
