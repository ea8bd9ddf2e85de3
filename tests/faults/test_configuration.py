"""Settings that are broken, hostile or somebody else's: named with file, line and key before anything starts.

What each kind of file comes to is `tests.test_config`'s; here is what every command does with it.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable
from typing import Any

import pytest

from .conftest import Done, assert_says, codes, mentions

Emt = Callable[..., Done]

READERS = [["report"], ["runs"], ["runs", "prune", "--keep", "5"], ["config"]]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("run = [", ["is not valid TOML", "at end of document"]),
        ("[run]\nscope = tree\n", ["is not valid TOML", "line 2", "needs quotes"]),
        ("[run]\nfrequency = 5\n", ["line 2", "unknown key run.frequency", "run.frequency_hz"]),
        ("[carbon]\nintensity_g_per_kwh = -5\n", ["line 2", "-5", "above 0"]),
        ("[carbon]\npue = nan\n", ["line 2", "nan", "from 1 to 5"]),
        ("[run]\nfrequency_hz = 1e9\n", ["line 2", "from 0.1 to 1000"]),
        ("[run]\nidle_w = { 'cpu0/package' = -1.0 }\n", ["line 2", "channel = watts"]),
        ("\x00\x01", ["emt.toml", "TOML"]),
    ],
    ids=["cut off", "no quotes", "unknown key", "intensity", "nan", "frequency", "idle power", "binary"],
)
def test_a_wrong_project_file_stops_a_run_before_it_does_anything(
    emt: Emt, tmp_path: pathlib.Path, text: str, says: list[str]
) -> None:
    (tmp_path / "emt.toml").write_text(text)
    done = emt("run", "--", "touch", "started")
    assert (done.returncode, done.stdout) == (125, "")
    assert_says(done, str(tmp_path / "emt.toml"), *says)
    assert not (tmp_path / "started").exists()


def test_a_wrong_project_file_stops_the_other_commands_too(emt: Emt, tmp_path: pathlib.Path) -> None:
    (tmp_path / "emt.toml").write_text("[run]\nfrequency = 5\n")
    for reader in READERS:
        done = emt(*reader)
        assert (done.returncode, done.stdout) == (2, ""), reader
        assert_says(done, "unknown key run.frequency", "run.frequency_hz")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("[store]\npath = '/tmp/theirs'", "store.path may not stand in a project's emt.toml"),
        ("[sensors]\nreplay = 'theirs.json'", "sensors.replay may not stand in a project's emt.toml"),
    ],
)
def test_a_project_file_may_not_say_where_records_go_or_what_is_measured(
    emt: Emt, tmp_path: pathlib.Path, line: str, says: str
) -> None:
    (tmp_path / "emt.toml").write_text(line + "\n")
    done = emt("run", "--", "touch", "started")
    assert done.returncode == 125
    assert_says(done, says, "line 2", "~/.config/emt/config.toml")
    assert not (tmp_path / "started").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("text", ["[carbon]\npue = 4.5\nlocation = 'PL'\n", "broken = ["])
def test_somebody_elses_project_file_is_ignored_and_that_is_said(
    emt: Emt, tmp_path: pathlib.Path, the_record: Callable[[], dict[str, Any]], text: str
) -> None:
    path = tmp_path / "emt.toml"
    path.write_text(text)
    os.chown(path, 65534, 65534)
    done = emt("run", "--", "sh", "-c", "exit 7")
    assert done.returncode == 7
    assert mentions(done, f"{path} belongs to another user and was ignored", "~/.config/emt/config.toml")
    record = the_record()
    assert "foreign_config" in codes(record)
    assert (record["carbon"]["pue"], record["carbon"]["location"]) == (1.0, "WORLD")
    done = emt("report", "--get", "exit.code")
    assert (done.returncode, done.stdout) == (0, "7\n")
    assert mentions(done, "belongs to another user")


def test_a_project_file_that_is_a_pipe_holds_nobody_up(emt: Emt, tmp_path: pathlib.Path) -> None:
    os.mkfifo(tmp_path / "emt.toml")
    done = emt("run", "--", "touch", "started", timeout=60)
    assert done.returncode == 125
    assert_says(done, "not a regular file")


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("EMT_FREQUENCY", "nan", "EMT_FREQUENCY='nan' is not a number from 0.1 to 1000"),
        ("EMT_INTENSITY", "-5", "EMT_INTENSITY='-5' is not a number above 0"),
        ("EMT_PUE", "much", "EMT_PUE='much' is not a number from 1 to 5"),
        ("EMT_QUIET", "perhaps", "EMT_QUIET='perhaps' is not true or false"),
        ("EMT_SCOPE", "\x1b[31m", "EMT_SCOPE"),
        ("EMT_LOCATION", "Frnace", "did you mean FR (France)?"),
        ("EMT_REPLAY", "nowhere.json", "nowhere.json"),
    ],
)
def test_a_wrong_variable_is_named(
    emt: Emt, tmp_path: pathlib.Path, variable: str, value: str, says: str
) -> None:
    done = emt("run", "--", "touch", "started", env={variable: value})
    assert done.returncode == 125
    assert_says(done, says)
    assert "\x1b" not in done.stderr
    assert not (tmp_path / "started").exists()


def test_an_unknown_location_of_a_file_is_told_with_what_is_near(
    emt: Emt, environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    path = pathlib.Path(environment["HOME"], ".config", "emt", "config.toml")
    path.parent.mkdir(parents=True)
    path.write_text("[carbon]\nlocation = 'Germny'\n")
    done = emt("run", "--", "touch", "started")
    assert done.returncode == 125
    assert_says(done, "'Germny'", "did you mean DE (Germany)")
    assert not (tmp_path / "started").exists()
    assert emt("run", "-q", "--location", "DE", "--", "true").returncode == 0


def test_a_misspelt_variable_is_told_and_changes_nothing(emt: Emt) -> None:
    done = emt("run", "--", "sh", "-c", "exit 7", env={"EMT_FREQENCY": "5"})
    assert done.returncode == 7
    assert mentions(done, "EMT_FREQENCY is not a setting of emt", "did you mean EMT_FREQUENCY?")
