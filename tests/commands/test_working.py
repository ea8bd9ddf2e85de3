"""Units of work: stated or read from what the command wrote, energy per unit, and what cannot be."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from emt_cli.analysis import complete
from emt_cli.commands.working import Counted, FromFile, from_file, order_of, stated
from emt_cli.errors import UsageError
from emt_cli.model import Execution, Exit, Grid, Run, Settings, Work
from emt_cli.reports.facts import work
from tests.analysis.examples import run_of

Emt = Callable[..., subprocess.CompletedProcess[str]]
GRID = Grid(
    intensity_g_per_kwh=360.0,
    location="FR",
    location_name="France",
    location_source="flag",
    intensity_source="table",
    dataset="test",
)
FINISHED = run_of(exit=Exit(code=0))


# --- what can be said -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [("50000:images", 50000.0, "images"), ("1.5:epochs", 1.5, "epochs"), ("1e6:tokens/s", 1e6, "tokens/s")],
)
def test_an_amount_and_its_unit_are_read(text: str, amount: float, unit: str) -> None:
    assert stated(text) == Work(amount=amount, unit=unit)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not a number"),
        ("50000", "unit is missing"),
        ("50000:", "unit is missing"),
        (":images", "not a number"),
        ("0:images", "not a number above 0"),
        ("-5:images", "not a number above 0"),
        ("nan:images", "not a number above 0"),
        ("1e999:images", "not a number above 0"),
        ("1_000:images", "not a number above 0"),
        ("1,5:images", "a comma"),
        ("5:two words", "not a word"),
        ("5:7", "not a word"),
        ("5:a\x1b[31m", "not a word"),
    ],
)
def test_what_is_no_amount_of_anything_is_refused_with_an_example(text: str, why: str) -> None:
    with pytest.raises(UsageError, match=why) as refused:
        stated(text)
    assert "50000:images" in refused.value.hint


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("log", "FILE:REGEX"),
        ("log:", "FILE:REGEX"),
        (":(x)", "FILE:REGEX"),
        ("log:([", "regular expression is wrong"),
        ("log:done", "no group"),
        ("log:(?P<unit>images)", "no group"),
    ],
)
def test_a_pattern_that_cannot_tell_a_number_is_refused(text: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        from_file(text)


def test_a_pattern_may_hold_colons_and_a_path_is_made_absolute() -> None:
    assert from_file(r"log:done: (\d+)") == FromFile(path=os.path.abspath("log"), pattern=r"done: (\d+)")


def test_stating_and_reading_at_once_is_refused() -> None:
    with pytest.raises(UsageError, match="one of the two"):
        order_of("5:images", "log:(x)")
    assert order_of(None, None) is None


# --- what was done ----------------------------------------------------------------------------------


def counted(order: Work | FromFile, write: Callable[[], object] = lambda: None, run: Run = FINISHED) -> Run:
    """The run after a command that did `write`."""
    asked = Counted(order)
    write()
    return asked.on(run)


def reason(run: Run) -> str:
    (only,) = run.notices
    assert only.code == "work_unknown" and run.work is None
    return only.text


def test_a_stated_amount_holds_for_a_command_that_succeeded() -> None:
    images = Work(amount=5.0, unit="images")
    assert counted(images).work == images
    for ended in (Exit(code=1), Exit(signal=15), Exit()):
        assert "did not succeed" in reason(counted(images, run=replace(FINISHED, exit=ended)))


@pytest.fixture
def log(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "train.log"


def order(log: pathlib.Path, pattern: str = r"done: (\S+)(?: (?P<unit>\w+))?") -> FromFile:
    return FromFile(path=str(log), pattern=pattern)


def test_the_last_match_of_what_was_written_counts(log: pathlib.Path) -> None:
    text = "done: 10 images\nnoise\ndone: 20 images, done: 30 images\nend\n"
    assert counted(order(log), lambda: log.write_text(text)).work == Work(amount=30.0, unit="images")


def test_without_a_group_for_the_unit_it_is_a_unit(log: pathlib.Path) -> None:
    assert counted(order(log), lambda: log.write_text("done: 2.5")).work == Work(amount=2.5, unit="unit")


def test_the_unit_may_stand_before_the_number(log: pathlib.Path) -> None:
    found = counted(order(log, r"(?P<unit>\w+)=(\d+)"), lambda: log.write_text("tokens=7"))
    assert found.work == Work(amount=7.0, unit="tokens")


def test_what_an_earlier_execution_left_is_not_taken(log: pathlib.Path) -> None:
    log.write_text("done: 10 images")
    assert "has not written" in reason(counted(order(log)))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("nothing", "matches"),
        ("done: many", "not a number above 0"),
        ("done: 0", "not a number above 0"),
        ("done: 1,5", "comma"),
        ("done: nan", "not a number above 0"),
        ("", "matches"),
    ],
)
def test_a_file_that_tells_nothing_is_a_warning(log: pathlib.Path, text: str, why: str) -> None:
    assert why in reason(counted(order(log), lambda: log.write_text(text)))


def test_a_missing_file_and_one_that_is_none_are_warnings(log: pathlib.Path) -> None:
    assert "there is no file" in reason(counted(order(log)))
    assert "not a regular file" in reason(counted(order(log), lambda: os.mkfifo(log)))


def test_the_end_of_a_large_file_is_enough(log: pathlib.Path) -> None:
    def write() -> None:
        with log.open("wb") as file:
            file.truncate(3 * 2**30)
            file.seek(0, os.SEEK_END)
            file.write(b"\ndone: 9 images\n")

    assert counted(order(log), write).work == Work(amount=9.0, unit="images")


# --- energy per unit --------------------------------------------------------------------------------


def test_a_unit_takes_its_part_of_energy_time_and_carbon() -> None:
    found = complete(run_of(work=Work(amount=25.0, unit="images"), grid=GRID)).work
    assert found is not None
    assert found.per_unit_j == pytest.approx(50.0 / 25)
    assert found.per_unit_low_j is not None and found.per_unit_high_j is not None
    assert found.per_unit_low_j < 2.0 < found.per_unit_high_j + 1e-9
    assert found.per_unit_co2e_g == pytest.approx(2.0 * 360 / 3.6e6)
    assert found.per_second == pytest.approx(2.5)


def test_with_scope_machine_a_unit_bears_the_machines_energy() -> None:
    run = run_of(work=Work(amount=25.0, unit="images"), settings=Settings(scope="machine"))
    found = complete(run).work
    assert found is not None and found.per_unit_j == pytest.approx(100.0 / 25)


def test_what_is_not_known_of_the_run_is_not_known_of_a_unit() -> None:
    found = complete(run_of(tree=None, machine=None, work=Work(amount=2.0, unit="x"))).work
    assert found is not None
    assert found.per_unit_j is None and found.per_unit_co2e_g is None


@pytest.mark.parametrize(
    ("done", "said"),
    [
        (Work(amount=50000.0, unit="images"), "50,000 images"),
        (
            Work(amount=4.0, unit="images", per_unit_j=2.0, per_second=12.5),
            "4 images: 2.00 J each, 12.5 a second",
        ),
        (
            Work(amount=1.5, unit="epochs", per_unit_j=2.0, per_second=0.25),
            "1.50 epochs: 2.00 J each, 4 s for one",
        ),
        (Work(amount=4.0, unit="x\x1b[31my", per_unit_j=float("nan")), "4 xy"),
    ],
)
def test_a_report_says_it_in_a_line(done: Work, said: str) -> None:
    assert work(run_of(work=done)) == said
    assert work(run_of()) == ""


def test_a_repeated_runs_amounts_are_added_up_if_all_are_known() -> None:
    from emt_cli.analysis.merging import merged

    one = replace(FINISHED, work=Work(amount=3.0, unit="images"))
    assert merged(FINISHED, [one, one]).work == Work(amount=6.0, unit="images")
    assert merged(FINISHED, [one, FINISHED]).work is None
    assert merged(FINISHED, [one, replace(one, work=Work(amount=3.0, unit="tokens"))]).work is None
    assert isinstance(merged(FINISHED, [one]).executions[0], Execution)


# --- the whole command ------------------------------------------------------------------------------


def test_the_summary_the_record_and_the_reports_tell_it(emt: Emt, record: Callable[..., Any]) -> None:
    found = record("--units", "4:images", "--", "sleep", "0.1")
    assert found["work"]["amount"] == 4 and found["work"]["unit"] == "images"
    assert found["work"]["per_unit_j"] == pytest.approx(found["energy"]["attributed_j"] / 4)
    assert "4 images" in emt("run", "--units", "4:images", "--", "true").stderr
    for form in ("table", "markdown"):
        assert "4 images" in emt("report", "--format", form).stdout
    assert emt("report", "--get", "work.unit").stdout == "images\n"
    assert json.loads(emt("report", "--recompute", "--format", "json").stdout)["work"]["amount"] == 4


def test_each_execution_of_a_repeated_run_is_read(record: Callable[..., Any], tmp_path: pathlib.Path) -> None:
    script = f'echo x >> {tmp_path}/count; echo "did $(wc -l < {tmp_path}/count) images" > {tmp_path}/log'
    words = ("-r", "3", "--units-from", rf"{tmp_path}/log:did (\d+) (?P<unit>\w+)")
    found = record(*words, "--", "sh", "-c", script)
    assert (found["work"]["amount"], found["work"]["unit"]) == (1 + 2 + 3, "images")


def test_a_missing_file_costs_the_run_nothing(emt: Emt, record: Callable[..., Any]) -> None:
    found = record("--units-from", r"nowhere.log:(\d+)", "--", "sh", "-c", "exit 7")
    assert found["exit"]["code"] == 7 and found["work"] is None
    assert "work_unknown" in [each["code"] for each in found["warnings"]]


@pytest.mark.parametrize(
    "options", [("--units", "x"), ("--units-from", "log:(["), ("--units", "1:a", "--units-from", "b:(c)")]
)
def test_bad_options_leave_with_125_before_the_start(
    emt: Emt, tmp_path: pathlib.Path, options: tuple[str, ...]
) -> None:
    done = emt("run", *options, "--", "touch", "started")
    assert done.returncode == 125 and done.stderr.startswith("emt: ")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "started").exists()
