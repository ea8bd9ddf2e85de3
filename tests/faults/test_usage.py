"""Command lines that ask for something that cannot be: named as it was typed, with what to type instead.

That `emt run` leaves with 125 before anything has started is `launch.test_status`'s; here stand the words.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable

import pytest

from .conftest import Done, assert_says

Emt = Callable[..., Done]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--frequenzy", "5"], ["No such option", "--frequency"]),
        (["-F", "nan"], ["--frequency: nan", "from 0.1 to 1000", "--frequency 10"]),
        (["-F", "1e9"], ["--frequency: 1000000000.0"]),
        (["-F", "-inf"], ["--frequency: -inf"]),
        (["-F", "abc"], ["'abc'", "emt run --help"]),
        (["--pue", "0.5"], ["--pue: 0.5", "from 1 to 5", "--pue 1.0"]),
        (["--pue", "nan"], ["--pue: nan"]),
        (["--intensity", "-5"], ["--intensity: -5.0", "above 0"]),
        (["--intensity", "inf"], ["--intensity: inf"]),
        (["--max-samples", "5"], ["--max-samples: 5", "at least 100", "--max-samples 1000000"]),
        (["--location", "Frnace"], ["'Frnace'", "did you mean FR (France)?"]),
        (["--location", "fr-idf"], ["'fr-idf'", "FR"]),
        (["--location", " "], ["--location", "--location FR"]),
        (["--scope", "tre"], ["'tre'", "'tree'"]),
        (["-t", "=value"], ["-t =value", "KEY=VALUE"]),
        (["-o", "a.csv", "-o", "./a.csv"], ["a.csv is given twice"]),
        (["-o", "{nope}"], ["{nope} is no placeholder", "{host}"]),
        (["-o", ""], ["-o needs a name"]),
        (["--replay", "missing.json"], ["missing.json", "No such file"]),
        (["--replay", "noise"], ["noise", "give a run's samples.csv"]),
    ],
    ids=lambda value: " ".join(value)[:30] if isinstance(value, list) else None,
)
def test_what_emt_run_cannot_do_is_named_as_it_was_typed(
    emt: Emt, environment: dict[str, str], tmp_path: pathlib.Path, options: list[str], says: list[str]
) -> None:
    (tmp_path / "noise").write_bytes(bytes(range(256)))
    done = emt("run", *options, "--", "touch", "started")
    assert done.returncode == 125
    assert done.stdout == ""
    assert_says(done, *says)
    assert not (tmp_path / "started").exists()
    assert not pathlib.Path(environment["EMT_STORE"]).exists() or not any(
        pathlib.Path(environment["EMT_STORE"]).iterdir()
    )


def test_an_option_without_its_value_points_to_the_right_help(emt: Emt) -> None:
    done = emt("run", "-F")
    assert done.returncode == 125
    assert_says(done, "requires an argument", "emt run --help")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["rnu"], "rnu"),
        (["--frequency", "5"], "--frequency"),
        (["report", "--nope"], "--nope"),
        (["report", "--width", "many"], "many"),
        (["report", "--format", "xml"], "xml"),
        (["runs", "lst"], "lst"),
        (["runs", "rm"], "RUN"),
        (["runs", "prune", "--keep", "-1"], "-1"),
        (["runs", "prune", "--older", "soon"], "soon"),
        (["config", "--format", "xml"], "xml"),
        (["sensors", "--nope"], "--nope"),
    ],
    ids=" ".join,
)
def test_the_other_commands_leave_with_2(emt: Emt, arguments: list[str], says: str) -> None:
    done = emt(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert_says(done, says)


def test_emt_alone_shows_its_help_and_complains_of_nothing(emt: Emt) -> None:
    done = emt()
    assert done.returncode == 2
    assert "Usage: emt" in done.stdout + done.stderr
    assert "emt: \n" not in done.stdout + done.stderr


@pytest.mark.parametrize("kind", ["no store yet", "an empty store"])
def test_a_report_on_nothing_says_how_to_get_something(
    emt: Emt, environment: dict[str, str], kind: str
) -> None:
    if kind == "an empty store":
        pathlib.Path(environment["EMT_STORE"]).mkdir()
    done = emt("report")
    assert (done.returncode, done.stdout) == (1, "")
    assert_says(done, "holds no run", "emt run -- COMMAND")
    done = emt("runs")
    assert (done.returncode, done.stderr) == (0, "")
    assert "no runs" in done.stdout and "emt run -- COMMAND" in done.stdout
    assert json.loads(emt("runs", "--format", "json").stdout) == []


def test_a_run_that_is_not_there_is_told_with_what_is_near(emt: Emt) -> None:
    emt("run", "-q", "-n", "train", "--", "true")
    done = emt("report", "trian")
    assert (done.returncode, done.stdout) == (1, "")
    assert_says(done, "there is no run trian", "train", "emt runs")
    assert_says(emt("report", ""), "there is no run ''")
    assert_says(emt("report", "@latest~5"), "1 run")
