"""What reports say of repeated runs and of benchmarks, from values written by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from emt_cli.analysis.executions import repeat
from emt_cli.analysis.ranking import Ranked, rank
from emt_cli.model import Exit, Run, Spread
from emt_cli.reports import benchmark, markdown, summary
from emt_cli.reports.repeats import execution_rows, outlier_text, repeat_facts
from tests.reports.conftest import HOSTILE, repeated

ONE_SECOND = Spread(n=1, mean=1.0, min=1.0, max=1.0, median=1.0)


def shown(relative: float | None, low: float | None = None, high: float | None = None) -> str:
    ranked = Ranked(
        index=0, verdict="same", time_s=ONE_SECOND, energy_j=ONE_SECOND, relative=relative, low=low, high=high
    )
    run = repeated()
    contestant = benchmark.Contestant(label="x", line="x", parameters={}, run=run)
    bench = benchmark.Bench(id="b", scope="tree", contestants=(contestant,), ranked=(ranked,))
    return benchmark.energy_rows(bench)[0][2]


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        ((None,), ""),
        ((0.031,), "+3.1 %"),
        ((0.031, 0.023, 0.039), "+3.1 % ± 0.8"),
        ((0.0004, 0.0001, 0.0007), "+0.04 % ± 0.03"),
        ((2.42, 2.3, 2.55), "x 3.42 (3.30 to 3.55)"),
        ((0.4, -0.2, 1.5), "+40 % (-20 to +150 %)"),
        ((0.96, -0.99, 99.0), "+96 % (-99 to x 100)"),
        ((5.0, -0.9, 1e300), "x 6.00 (0.100 to over 1000)"),
    ],
)
def test_a_difference_is_told_with_its_interval(figures: tuple[float, ...], said: str) -> None:
    assert shown(*figures) == said


def test_failures_and_outliers_are_never_left_out_of_the_table() -> None:
    rows, left_out = execution_rows(repeated())
    assert (len(rows), left_out) == (25, 5)
    marked = {row.number: (row.exit, row.note) for row in rows if row.is_marked}
    assert marked == {"8": ("1", ""), "21": ("0", "outlier")}


def test_the_lines_name_what_is_a_mean_and_what_failed() -> None:
    facts = dict(repeat_facts(repeated()))
    assert "an execution" in facts["energy"]
    assert facts["repeats"].startswith("30 executions, 1 of them failed and not counted; mean ± 95 %")
    assert facts["outliers"].startswith("execution 21 (90.0 J in 2.00 s): close other programs")


def test_an_outlier_at_the_beginning_asks_for_a_warm_up() -> None:
    first = repeated()
    executions = (replace(first.executions[0], duration_s=9.0), *first.executions[1:20])
    assert outlier_text(replace(first, executions=executions, repeat=repeat(executions))).endswith(
        "use --warmup"
    )


def test_where_all_failed_all_are_counted_and_it_is_said() -> None:
    run = repeated()
    executions = tuple(replace(each, exit=Exit(code=2)) for each in run.executions)
    facts = dict(repeat_facts(replace(run, executions=executions, repeat=repeat(executions))))
    assert "30 executions, all of them failed" in facts["repeats"]


@pytest.mark.parametrize("width", [30, 60, 80, 100])
def test_the_summary_of_a_repeated_run_fits(width: int) -> None:
    lines = summary.lines(repeated(), stored=None, width=width)
    assert max(map(len, lines)) <= width
    assert any(line.startswith("  total ") for line in lines)


def test_rows_of_the_markdown_table_are_as_wide_as_their_head() -> None:
    page = markdown.as_markdown([repeated()])
    block = page[page.index("| # |") :].split("\n\n")[0].splitlines()
    assert {line.count("|") for line in block} == {9}


def bench_of(*runs: Run, label: str = "command") -> benchmark.Bench:
    contestants = tuple(
        benchmark.Contestant(label=f"{label} {at}", line=label, parameters={}, run=run)
        for at, run in enumerate(runs)
    )
    return benchmark.Bench(id="b", scope="tree", contestants=contestants, ranked=rank(runs, "tree"))


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_tables_of_a_benchmark_fit_and_obey_nothing_in_a_name(width: int) -> None:
    page = benchmark.draw(bench_of(repeated(), repeated(), label=HOSTILE), width=width)
    assert "\x1b" not in page
    assert max(map(len, page.splitlines())) <= max(width, 78)
    assert "Holm's correction over 1 pair," in " ".join(page.split())


def test_a_benchmark_in_markdown_is_escaped() -> None:
    page = benchmark.as_markdown(bench_of(repeated(), repeated(), label=HOSTILE))
    assert "\\|pipe\\|" in page
    table = [line for line in page.splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in table} == {5, 6}
