"""`emt check`, through the command line: limits, baselines, statuses, and that nothing passes unseen."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.analysis.examples import channel
from tests.analysis.recorded import plain, repeated
from tests.commands.records import Emt, emt_on, keep, write, write_csv
from tests.simulation import SimulatedMachine, Zone, constant

TEN = [99.0, 100.0, 101.0, 99.5, 100.5, 99.0, 100.0, 101.0, 99.5, 100.5]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    store = tmp_path / "store"
    keep(store, 1, repeated(TEN, name="main", tags={"branch": "main"}))
    keep(store, 2, repeated([1.2 * each for each in TEN], name="worse"))
    keep(store, 3, plain(100.0, name="single", intensity=36_000.0))
    return store


# --- limits -----------------------------------------------------------------------------------------


def test_limits_that_are_kept_have_status_0(emt: Emt, store: Path) -> None:
    done = emt("check", "--max-energy", "5kJ", "--max-co2e", "2g", "--max-power", "300W", "--max-time", "2m")
    assert (done.returncode, done.stderr) == (0, "")
    assert "passed: 4 of 4" in done.stdout and "single" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_a_limit_that_is_missed_has_status_3_and_is_named(emt: Emt, store: Path) -> None:
    done = emt("check", "single", "--max-energy", "80J", "--max-co2e", "0.1 g", "--max-time", "2m")
    assert done.returncode == 3 and done.stderr == ""
    assert "failed: 2 of 3 (energy, CO2e)" in done.stdout
    assert "25 % above the limit" in done.stdout and "10 times the limit" in done.stdout


def test_of_a_repeated_run_the_mean_decides_and_it_says_so(emt: Emt, store: Path) -> None:
    done = emt("check", "main", "--max-energy", "100.1J")
    assert done.returncode == 0 and "the mean of 10 executions" in done.stdout
    assert emt("check", "main", "--max-energy", "99.9J").returncode == 3


def test_the_scope_is_the_runs_own_unless_it_is_given(emt: Emt, store: Path, tmp_path: Path) -> None:
    assert emt("check", "single", "--max-energy", "150J", "--scope", "machine").returncode == 3
    run = plain(100.0)
    path = write(tmp_path / "m.json", replace(run, settings=replace(run.settings, scope="machine")))
    assert emt("check", path, "--max-energy", "150J").returncode == 3
    assert emt("check", path, "--max-energy", "150J", "--scope", "tree").returncode == 0


def test_a_value_below_a_limit_that_its_interval_exceeds_passes_with_a_doubt(emt: Emt, store: Path) -> None:
    done = emt("check", "single", "--max-energy", "101J")
    assert done.returncode == 0 and "passed, but uncertain" in done.stdout


def test_unknown_energy_fails_in_words(emt: Emt, store: Path, tmp_path: Path) -> None:
    done = emt("check", write(tmp_path / "none.json", plain(None)), "--max-energy", "1GJ", "--max-time", "1h")
    assert done.returncode == 3
    assert "failed: it is not known" in done.stdout and "failed: 1 of 2 (energy)" in done.stdout


def test_a_record_that_breaks_off_fails_in_words(emt: Emt, store: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "cut.json", replace(plain(100.0), state="recovered"))
    done = emt("check", path, "--max-energy", "1GJ")
    assert done.returncode == 3 and "failed: the record breaks off" in done.stdout


# --- baselines --------------------------------------------------------------------------------------


def test_more_than_the_baseline_and_its_tolerance_has_status_3(emt: Emt, store: Path) -> None:
    done = emt("check", "worse", "--baseline", "branch=main")
    assert done.returncode == 3 and "failed: 20" in done.stdout and "% more" in done.stdout
    assert emt("check", "worse", "--baseline", "main", "--tolerance", "25%").returncode == 0
    assert emt("check", "main", "--baseline", "worse", "--tolerance", "0%").returncode == 0


def test_a_difference_within_uncertainty_passes_and_is_told(emt: Emt, store: Path, tmp_path: Path) -> None:
    done = emt("check", write(tmp_path / "a.json", plain(108.0)), "--baseline", "single")
    page = " ".join(done.stdout.split())
    assert done.returncode == 0 and "passed, but uncertain" in page
    assert "no more than chance or the sensors' errors can explain" in page and "emt run -r 10" in page


def test_a_baseline_of_another_host_is_an_error_that_says_what_differs(
    emt: Emt, store: Path, tmp_path: Path
) -> None:
    run = plain(100.0)
    path = write(tmp_path / "other.json", replace(run, host=replace(run.host, cpu_model="EPYC 7763")))
    done = emt("check", "single", "--baseline", path)
    assert done.returncode == 1 and done.stdout == ""
    assert "CPU: EPYC 7763 there, Xeon 6248 here" in done.stderr and "--across-hosts" in done.stderr
    assert emt("check", "single", "--baseline", path, "--across-hosts").returncode == 0


def test_a_baseline_of_other_sensors_cannot_be_waived(emt: Emt, store: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "other.json", plain(100.0, channels=[channel("cpu1/package")]))
    for options in ((), ("--across-hosts",)):
        done = emt("check", "single", "--baseline", path, *options)
        assert done.returncode == 1 and "sensors" in done.stderr and "--across" not in done.stderr


def test_a_baseline_that_breaks_off_is_an_error(emt: Emt, store: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "cut.json", replace(plain(100.0), state="recovered"))
    done = emt("check", "single", "--baseline", path)
    assert done.returncode == 1 and "breaks off" in done.stderr


def test_another_command_is_compared_all_the_same_and_told(emt: Emt, store: Path, tmp_path: Path) -> None:
    done = emt("check", write(tmp_path / "a.json", plain(100.0, command=("other",))), "--baseline", "single")
    assert done.returncode == 0 and "different ones, compared all the same" in done.stdout


def test_a_zero_energy_baseline_is_told_in_words(emt: Emt, store: Path, tmp_path: Path) -> None:
    done = emt("check", "single", "--baseline", write(tmp_path / "zero.json", plain(0.0)))
    assert done.returncode == 3 and "failed: no ratio, one of them is 0" in done.stdout


def test_a_row_of_a_summary_is_a_baseline_and_a_whole_one_is_not(
    emt: Emt, store: Path, tmp_path: Path
) -> None:
    rows = write_csv(tmp_path / "some.csv", plain(50.0), plain(100.0))
    assert emt("check", "single", "--baseline", f"{rows}#2").returncode == 0
    assert emt("check", "single", "--baseline", f"{rows}#1").returncode == 3
    done = emt("check", "single", "--baseline", rows)
    assert done.returncode == 2 and "holds 2 runs" in done.stderr and "#1" in done.stderr


@pytest.mark.parametrize("text", ["", "hello", "{}", '{"format": 1}', "[]"])
def test_a_baseline_that_is_no_record_is_told(text: str, emt: Emt, store: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text(text)
    done = emt("check", "single", "--baseline", str(tmp_path / "bad.json"))
    assert done.returncode == 1 and "bad.json" in done.stderr and "Traceback" not in done.stderr


def test_nan_in_a_baseline_is_refused_by_its_field(emt: Emt, store: Path, tmp_path: Path) -> None:
    path = Path(write(tmp_path / "nan.json", plain(100.0)))
    path.write_text(path.read_text().replace('"attributed_j": 100.0', '"attributed_j": NaN'))
    done = emt("check", "single", "--baseline", str(path))
    assert done.returncode == 1 and "energy.attributed_j" in done.stderr


# --- bad input --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "needs a limit"),
        (("--tolerance", "5%"), "needs a limit"),
        (("--max-energy", "5kJ", "--tolerance", "5%"), "--tolerance is of a baseline"),
        (("--max-energy", "5"), "--max-energy: '5' is not a quantity of energy: the unit is missing"),
        (("--max-energy", "1,5kJ"), "a comma is not read as a decimal point"),
        (("--max-energy", "5parsec"), "units: µJ"),
        (("--max-energy", "0J"), "limit of 0"),
        (("--max-energy", "nan J"), "not a finite number"),
        (("--max-power", "5kJ"), "kJ is a unit of energy"),
        (("--max-time", "-1s"), "--max-time"),
        (("--max-co2e", ""), "it is empty"),
        (("--baseline", "main", "--tolerance", "0.05"), "the % is missing"),
        (("--baseline", "main", "--tolerance", "0,5%"), "comma"),
        (("--baseline", "main", "--tolerance", "-5%"), "negative"),
    ],
)
def test_bad_usage_has_status_2_and_says_what_to_type(
    options: tuple[str, ...], said: str, emt: Emt, store: Path
) -> None:
    done = emt("check", "single", *options)
    assert done.returncode == 2 and said in done.stderr and done.stdout == ""
    assert "Traceback" not in done.stderr


def test_a_locale_with_a_decimal_comma_changes_nothing(emt: Emt, store: Path) -> None:
    german = {"LC_ALL": "de_DE.UTF-8", "LANG": "de_DE.UTF-8"}
    done = emt("check", "single", "--max-energy", "1.5kJ", env=german)
    assert done.returncode == 0 and "1.50 kJ" in done.stdout


def test_a_run_that_is_not_there_is_told(emt: Emt, store: Path) -> None:
    done = emt("check", "sinlge", "--max-energy", "5J")
    assert done.returncode == 1 and "near: single" in done.stderr


# --- formats ----------------------------------------------------------------------------------------


def test_json_holds_the_numbers_behind_the_words(emt: Emt, store: Path) -> None:
    done = emt("check", "worse", "--max-energy", "1kJ", "--baseline", "main", "--format", "json")
    document = json.loads(done.stdout)
    assert done.returncode == 3 and document["passed"] is False
    energy, baseline = document["checks"]
    assert (energy["passed"], energy["limit"], energy["n"]) == (True, 1000.0, 10)
    assert baseline["relative"] == pytest.approx(0.2) and baseline["baseline"] == pytest.approx(100.0)
    assert baseline["limit"] == pytest.approx(105.0) and baseline["outcome"] == "exceeded"


def test_csv_and_markdown_say_the_same(emt: Emt, store: Path) -> None:
    options = ("check", "worse", "--max-energy", "1kJ", "--baseline", "main", "--format")
    rows = list(csv.DictReader(io.StringIO(emt(*options, "csv").stdout)))
    assert [(row["check"], row["passed"]) for row in rows] == [("energy", "yes"), ("baseline", "no")]
    page = emt(*options, "markdown").stdout
    assert "| energy |" in page and "- verdict: failed: 1 of 2 (baseline)" in page


def test_a_narrow_terminal_gets_a_table_too(emt: Emt, store: Path) -> None:
    done = emt("check", "worse", "--max-energy", "1kJ", "--baseline", "main", env={"COLUMNS": "45"})
    assert max(map(len, done.stdout.splitlines())) <= 45 and "failed" in done.stdout


# --- the real thing ---------------------------------------------------------------------------------


def test_measured_runs_are_checked_end_to_end(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "machine").mkdir()
    emt = emt_on(SimulatedMachine(tmp_path / "machine", zones=(Zone(power=constant(40.0)),)), environment)
    for name, seconds in (("short", "0.2"), ("long", "0.6")):
        assert emt("run", "-q", "-r", "3", "-n", name, "--", "sleep", seconds).returncode == 0
    scope = ("--scope", "machine")
    kept = emt("check", "short", "--max-energy", "1kJ", "--max-power", "1kW", "--max-time", "1m", *scope)
    assert kept.returncode == 0 and "passed: 3 of 3" in kept.stdout
    assert emt("check", "--max-energy", "1J", *scope).returncode == 3  # the newest
    missed = emt("check", "--baseline", "short", "--tolerance", "10%", *scope)
    assert missed.returncode == 3 and "times as much" in missed.stdout
    assert emt("check", "short", "--baseline", "long", *scope).returncode == 0
