"""`emt compare`, through the command line: verdicts, refusals, every way to name a run, every format."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from emt_cli.model import Run
from emt_cli.notices import notice
from tests.analysis.examples import channel
from tests.analysis.recorded import RAPL, plain, repeated
from tests.commands.records import Emt, emt_on, keep, write, write_csv
from tests.reports import conftest
from tests.simulation import SimulatedMachine, Zone, constant

BEFORE = [100.0, 101.0, 99.0, 100.5, 99.5]
AFTER = [0.9 * each for each in BEFORE]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    store = tmp_path / "store"
    keep(store, 1, repeated(BEFORE, name="before", tags={"variant": "a/b"}))
    keep(store, 2, repeated(AFTER, name="after", tags={"variant": "c"}))
    keep(store, 3, plain(100.0, name="single"))
    keep(store, 4, repeated([each + 0.1 for each in BEFORE], name="after", tags={"variant": "c"}))
    return store


@pytest.fixture
def compared(emt: Emt, store: Path) -> Callable[..., dict[str, Any]]:
    """The document of a comparison, whatever its status."""

    def run(*arguments: str) -> dict[str, Any]:
        done = emt("compare", *arguments, "--format", "json")
        assert done.stderr == "" and done.returncode in (0, 3)
        return dict(json.loads(done.stdout))

    return run


def ids(document: Mapping[str, Any]) -> list[str]:
    return [run["id"].split("-")[1] for run in document["runs"]]


# --- verdicts ---------------------------------------------------------------------------------------


def test_a_difference_is_told_with_its_interval_and_status_0(emt: Emt, store: Path) -> None:
    done = emt("compare", "before", "after~1")
    assert (done.returncode, done.stderr) == (0, "")
    assert "B uses 10.0 % less energy than A, ± " in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "\x1b" not in done.stdout


def test_no_difference_has_status_0_too(emt: Emt, store: Path) -> None:
    done = emt("compare", "before", "after")
    assert done.returncode == 0
    assert "no significant difference in energy between A and B" in done.stdout


def test_single_runs_are_told_to_be_little(emt: Emt, store: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other.json", plain(97.0))
    page = emt("compare", "single", other).stdout
    assert "A and B cannot be told apart: one run each" in page
    assert "A and B are one run each, which is little: emt run -r 10 -- COMMAND" in " ".join(page.split())


def test_one_run_against_several_gets_no_verdict_but_an_interval(emt: Emt, store: Path) -> None:
    page = " ".join(emt("compare", "before", "single").stdout.split())
    assert "too few executions for a verdict" in page and "B is one run, which is little" in page


def test_several_runs_are_each_compared_with_the_first(compared: Callable[..., dict[str, Any]]) -> None:
    document = compared("before", "after~1", "single", "after")
    assert [one["run"] for one in document["comparisons"]] == ["B", "C", "D"]
    assert [one["energy"]["verdict"] for one in document["comparisons"]] == ["less", "few", "same"]


def test_the_scope_is_the_first_runs_own_unless_it_is_given(
    compared: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    run = repeated(BEFORE)
    path = write(tmp_path / "m.json", replace(run, settings=replace(run.settings, scope="machine")))
    assert compared(path, "before")["scope"] == "machine"
    assert compared("before", path)["scope"] == "tree"
    machine = compared("before", path, "--scope", "machine")["comparisons"][0]
    assert machine["energy"]["a"]["mean"] == pytest.approx(200.0)


def test_other_commands_are_compared_all_the_same_and_told(emt: Emt, store: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other.json", repeated(AFTER, command=("another",)))
    done = emt("compare", "before", other)
    assert done.returncode == 0 and "different ones, compared all the same" in done.stdout


# --- refusals ---------------------------------------------------------------------------------------


def other_cpu(run: Run) -> Run:
    return replace(run, host=replace(run.host, cpu_model="EPYC 7763"))


def test_unlike_hosts_are_refused_with_what_differs_and_status_3(
    emt: Emt, store: Path, tmp_path: Path
) -> None:
    gauge = channel(kind="gauge", provenance="integrated", sensor="hwmon")
    other = write(tmp_path / "other.json", other_cpu(repeated(AFTER, channels=[gauge])))
    done = emt("compare", "before", other)
    assert done.returncode == 3 and done.stderr == ""
    assert "B is not comparable with A: other CPU, other sensors" in done.stdout
    assert "A Xeon 6248; B EPYC 7763" in done.stdout
    assert "% less" not in done.stdout
    assert "cpu0/package (hwmon, integrated)" in " ".join(done.stdout.split())


def test_across_hosts_only_the_host_is_let_pass(emt: Emt, store: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other.json", other_cpu(repeated(AFTER)))
    done = emt("compare", "before", other, "--across-hosts")
    assert done.returncode == 0 and "B uses 10.0 % less" in done.stdout and "EPYC 7763" in done.stdout
    method = write(tmp_path / "method.json", repeated(AFTER, channels=[channel("cpu1/package")]))
    assert emt("compare", "before", method, "--across-hosts").returncode == 3


def test_a_refused_comparison_has_figures_but_no_verdict_for_programs(
    emt: Emt, store: Path, tmp_path: Path
) -> None:
    other = write(tmp_path / "other.json", other_cpu(repeated(AFTER)))
    done = emt("compare", "before", other, "--format", "json")
    document = json.loads(done.stdout)
    assert done.returncode == 3 and document["comparable"] is False
    energy = document["comparisons"][0]["energy"]
    assert energy["b"]["mean"] == pytest.approx(90.0) and "relative" not in energy
    assert {"what": "CPU", "a": "Xeon 6248", "b": "EPYC 7763", "refuses": True} in document["comparisons"][0][
        "differs"
    ]


# --- which runs -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "numbers"),
    [
        (("@latest~1", "@latest"), ["000003", "000004"]),
        (("20260101-000001", "20260101-000002-work-0002"), ["000001", "000002"]),
        (("after~1", "after"), ["000002", "000004"]),
        (("variant=a/b", "variant=c"), ["000001", "000004"]),
        (("variant=c~1", "variant=c~0"), ["000002", "000004"]),
        (("before", "before"), ["000001", "000001"]),
    ],
)
def test_a_run_is_named_by_age_id_name_or_tag(
    words: tuple[str, ...], numbers: list[str], compared: Callable[..., dict[str, Any]]
) -> None:
    assert ids(compared(*words)) == numbers


def test_folders_files_and_rows_are_read(
    compared: Callable[..., dict[str, Any]], store: Path, tmp_path: Path
) -> None:
    folder = str(store / "20260101-000001-work-0001")
    file = write(tmp_path / "one.json", plain(100.0, id="20260101-000077-x"))
    rows = write_csv(
        tmp_path / "some.csv",
        *(plain(10.0 * n, id=f"20260101-0001{n:02d}-x", name=f"n{n}") for n in (1, 2, 3)),
    )
    assert ids(compared(folder, file)) == ["000001", "000077"]
    assert ids(compared(rows)) == ["000101", "000102", "000103"]
    assert ids(compared(f"{rows}#1", f"{rows}#-1")) == ["000101", "000103"]
    assert ids(compared(f"{rows}#n2", f"{rows}#20260101-000103-x")) == ["000102", "000103"]


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ((), 2, "Missing argument"),
        (("before",), 2, "needs two runs"),
        (("before", "nothing"), 1, "there is no run nothing"),
        (("before", "variant=z"), 1, "there is no run variant=z"),
        (("before", "after~9"), 1, "there is no run after~9"),
        (("before", "@latest~9"), 1, "holds only 4 runs"),
        (("before", "after", "--format", "xml"), 2, "--format"),
        (("before", "after", "--scope", "all"), 2, "--scope"),
    ],
)
def test_bad_usage_is_told_and_has_a_status(
    words: tuple[str, ...], status: int, said: str, emt: Emt, store: Path
) -> None:
    done = emt("compare", *words)
    assert done.returncode == status and said in done.stderr and "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("hello", "is not JSON"),
        ("{}", "names no format"),
        ('{"format": 99}', "newer emt"),
        ("NaN", "is no record"),
    ],
)
def test_what_is_no_record_is_told(text: str, said: str, emt: Emt, store: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text(text)
    done = emt("compare", "before", str(tmp_path / "bad.json"))
    assert done.returncode == 1 and said in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e400", '"many"'])
def test_a_number_that_is_none_is_refused_by_its_field(
    value: str, emt: Emt, store: Path, tmp_path: Path
) -> None:
    path = Path(write(tmp_path / "nan.json", plain(100.0)))
    path.write_text(path.read_text().replace('"attributed_j": 100.0', f'"attributed_j": {value}'))
    done = emt("compare", "before", str(path))
    assert done.returncode == 1 and "energy.attributed_j" in done.stderr


def test_rows_that_a_summary_does_not_have_are_told(emt: Emt, store: Path, tmp_path: Path) -> None:
    rows = write_csv(tmp_path / "some.csv", plain(1.0), plain(2.0))
    for row in ("0", "3", "-3", "x", "", "9" * 40):
        done = emt("compare", "before", f"{rows}#{row}")
        assert done.returncode == 1 and "2 rows" in done.stderr


def test_zero_and_unknown_energy_are_told_in_words(emt: Emt, store: Path, tmp_path: Path) -> None:
    zero, none = write(tmp_path / "zero.json", plain(0.0)), write(tmp_path / "none.json", plain(None))
    done = emt("compare", zero, none, "single")
    assert done.returncode == 0 and "unknown" in done.stdout
    assert "C has no ratio to A: one of them is 0 J" in " ".join(done.stdout.split())


# --- what it looks like -----------------------------------------------------------------------------


def test_narrow_terminals_and_plain_encodings_get_a_table_too(emt: Emt, store: Path) -> None:
    done = emt("compare", "before", "after", env={"COLUMNS": "50"})
    assert done.returncode == 0 and max(map(len, done.stdout.splitlines())) <= 50
    plainly = emt(
        "compare", "before", "after", env={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    )
    assert plainly.stdout.isascii() and "+- " in plainly.stdout


def test_markdown_is_two_tables_and_the_verdict(emt: Emt, store: Path) -> None:
    page = emt("compare", "before", "after~1", "--format", "markdown").stdout
    assert page.count("\n| ---") == 2 and "- verdict: B uses 10.0 % less energy than A" in page


def test_csv_has_a_row_for_each_quantity(emt: Emt, store: Path) -> None:
    text = emt("compare", "before", "after~1", "single", "--format", "csv").stdout
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [(row["run"], row["quantity"]) for row in rows] == [
        (run, quantity) for run in "BC" for quantity in ("energy", "time", "power", "co2e")
    ]
    assert float(rows[0]["relative"]) == pytest.approx(-0.1) and rows[0]["verdict"] == "less"
    assert rows[0]["baseline_n"] == "5" and rows[4]["n"] == "1"


def test_devices_and_warnings_are_told(emt: Emt, store: Path, tmp_path: Path) -> None:
    gpu = channel("gpu0", domain="gpu", sensor="nvml", source="energy, A100")
    a = write(tmp_path / "a.json", plain(100.0, channels=[RAPL, gpu]))
    warned = plain(50.0, channels=[RAPL, gpu], notices=(notice("short_run", duration_s=0.1),))
    page = emt("compare", a, write(tmp_path / "b.json", warned)).stdout
    assert "\n    gpu0  A" in page and "warnings: short_run" in page


def test_hostile_records_move_no_terminal(emt: Emt, store: Path, tmp_path: Path) -> None:
    evil = write(tmp_path / "evil.json", replace(conftest.hostile(), id="evil", curve=()))
    for form in ("table", "json", "csv", "markdown"):
        done = emt("compare", "before", evil, "--format", form)
        assert done.returncode in (0, 3) and done.stdout
        assert all(letter == "\n" or letter.isprintable() for letter in done.stdout)


# --- the real thing ---------------------------------------------------------------------------------


def test_measured_runs_are_compared_end_to_end(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "machine").mkdir()
    emt = emt_on(SimulatedMachine(tmp_path / "machine", zones=(Zone(power=constant(40.0)),)), environment)
    for name, seconds in (("short", "0.2"), ("long", "0.6")):
        assert emt("run", "-q", "-r", "3", "-n", name, "--", "sleep", seconds).returncode == 0
    done = emt("compare", "short", "long", "--scope", "machine", "--format", "json")
    (found,) = json.loads(done.stdout)["comparisons"]
    assert done.returncode == 0 and found["comparable"]
    assert found["energy"]["verdict"] == found["time"]["verdict"] == "more"
    assert found["energy"]["relative"] == pytest.approx(2.0, abs=0.7)
    page = emt("compare", "short", "long", "--scope", "machine").stdout
    assert "B uses" in page and "times as much energy as A" in page


def test_the_records_of_a_bench_are_compared_in_pairs(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "machine").mkdir()
    emt = emt_on(SimulatedMachine(tmp_path / "machine", zones=(Zone(power=constant(40.0)),)), environment)
    assert emt("bench", "-r", "3", "sleep 0.1", "sleep 0.4").returncode == 0
    bench = emt("report", "--get", "tags.bench").stdout.strip()
    done = emt("compare", f"bench={bench}", "--scope", "machine", "--format", "json")
    document = json.loads(done.stdout)
    assert [run["command"] for run in document["runs"]] == [["sleep", "0.1"], ["sleep", "0.4"]]
    (found,) = document["comparisons"]
    assert found["paired"] and found["energy"]["method"] == "paired t"
    assert found["energy"]["verdict"] == "more"
