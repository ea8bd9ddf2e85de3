"""Surroundings that lack what everybody has: home, current folder, terminal, locale, descriptors, memory."""

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

from .conftest import Done, assert_says, assert_ten_watts, mentions

Emt = Callable[..., Done]

ENDING = ["sh", "-c", "exit 7"]


def bare(
    arguments: Sequence[str], environment: Mapping[str, str], *unset: str, before: Sequence[str] = (), **options: Any
) -> Done:
    """emt without some variables, and with other words before it."""
    left = {name: value for name, value in environment.items() if name not in unset}
    return subprocess.run(
        [*before, *EMT, *arguments], env=left, capture_output=True, text=True, check=False, timeout=120, **options
    )  # fmt: skip


# --- home -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("home", [None, "", "/nowhere/at/all", "relative", "/dev/null", "/proc/self"])
def test_a_home_that_is_none_is_no_reason_to_fail(
    emt: Emt, environment: dict[str, str], tmp_path: pathlib.Path, home: str | None
) -> None:
    given = {**environment, "HOME": home} if home is not None else environment
    unset = () if home is not None else ("HOME",)
    done = bare(["run", "-q", "--", *ENDING], given, *unset, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (7, "")
    done = bare(["report", "--get", "exit.code"], given, *unset, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "7\n", "")
    assert bare(["config"], given, *unset, cwd=tmp_path).returncode == 0


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


def in_a_removed_folder(arguments: Sequence[str], environment: Mapping[str, str], folder: pathlib.Path) -> Done:
    folder.mkdir(exist_ok=True)
    script = 'cd "$0" && rmdir "$0" && exec "$@"'
    return bare(arguments, environment, before=["sh", "-c", script, str(folder)])


def test_in_a_folder_that_was_removed_the_command_runs(
    environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    gone = tmp_path / "gone"
    done = in_a_removed_folder(["run", "-q", "--", "false"], environment, gone)  # a shell would complain
    assert (done.returncode, done.stderr) == (1, "")
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


@pytest.mark.parametrize("columns", ["nonsense", "-5", "0", "1", "9" * 30])
@pytest.mark.parametrize("term", [None, "", "nonsense"])
def test_a_terminal_that_makes_no_sense_shows_a_report(
    emt: Emt, environment: dict[str, str], columns: str, term: str | None
) -> None:
    if term is None:
        emt("run", "-q", "--", "true")
    variables = {"COLUMNS": columns, **({"TERM": term} if term is not None else {})}
    if term is not None:
        emt("run", "-q", "--", "true")
    for reader in ("report", "runs"):
        done = emt(reader, env=variables)
        assert (done.returncode, done.stderr) == (0, ""), reader
        assert "true" in done.stdout


@pytest.mark.parametrize(
    ("variables", "has_colour"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)],
    ids=["plain", "NO_COLOR", "dumb"],
)
def test_colour_only_where_it_is_wanted(
    emt: Emt, environment: dict[str, str], tmp_path: pathlib.Path, variables: dict[str, str], has_colour: bool
) -> None:
    emt("run", "-q", "--", "true")
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


# --- what the system refuses ------------------------------------------------------------------------


@pytest.mark.parametrize("limit", ["-n 32", "-s 256", "-c 0", "-l 0"])
def test_tight_limits_are_met_or_told(
    environment: dict[str, str], tmp_path: pathlib.Path, ten_watts: None, limit: str
) -> None:
    before = ["sh", "-c", f'ulimit {limit}; exec "$@"', "sh"]
    target = str(tmp_path / "run.json")
    done = bare(
        ["run", "-q", "-o", target, "--", "sh", "-c", "sleep 0.4; exit 7"], environment, before=before, cwd=tmp_path
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (7, "")
    assert_ten_watts(json.loads((tmp_path / "run.json").read_text()))


@pytest.mark.parametrize("limit", [6, 8, 10, 12])
def test_with_too_few_descriptors_either_all_goes_well_or_nothing_starts(
    environment: dict[str, str], tmp_path: pathlib.Path, limit: int
) -> None:
    before = ["sh", "-c", f'ulimit -n {limit}; exec "$@"', "sh"]
    done = bare(["run", "-q", "--", "touch", "started"], environment, before=before, cwd=tmp_path)
    assert (tmp_path / "started").exists() is (done.returncode == 0)
    if done.returncode:
        assert done.returncode == 125
        assert_says(done, "Too many open files", "ulimit -a")
        assert not os.path.exists(environment["EMT_STORE"]) or not os.listdir(environment["EMT_STORE"])


@pytest.mark.parametrize(
    "arguments", [["report"], ["report", "--format", "json"], ["runs"], ["config"], ["sensors"]]
)
def test_a_reader_that_leaves_after_the_first_line_hears_nothing(
    emt: Emt, environment: dict[str, str], tmp_path: pathlib.Path, arguments: list[str]
) -> None:
    emt("run", "-q", "--", "true")
    before = ["bash", "-c", 'set -o pipefail; "$@" | head -n 1', "bash"]
    done = bare(arguments, environment, before=before, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("closed", "status"), [("2>&-", 0), ("<&-", 0), (">&-", 1), ("<&- >&- 2>&-", 1)]
)
def test_closed_standard_streams_break_no_reader(
    emt: Emt, environment: dict[str, str], tmp_path: pathlib.Path, closed: str, status: int
) -> None:
    emt("run", "-q", "--", "true")
    before = ["sh", "-c", f'"$@" {closed}', "sh"]
    for reader in ("report", "runs", "config"):
        done = bare([reader], {**environment, "EMT_TYPO": "1"}, before=before, cwd=tmp_path)
        assert done.returncode == status
        assert "Traceback" not in done.stderr
        assert "EMT_TYPO" not in done.stdout, "a warning strayed into the data"
        assert ("standard output is closed" in done.stderr) is (closed == ">&-")
