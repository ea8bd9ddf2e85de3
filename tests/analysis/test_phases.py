"""The named stretches of a run: all their times together, and what they used."""

from __future__ import annotations

from dataclasses import replace

import pytest

from emt_cli.analysis import complete
from emt_cli.analysis.comparison import compare
from emt_cli.analysis.figures import Figure
from emt_cli.model import PhaseSpan, Run
from emt_cli.reports.compared import rows
from emt_cli.reports.markdown import as_markdown
from emt_cli.reports.tables import phase_rows
from emt_cli.reports.text import render
from tests.analysis.examples import run_of

SPANS = (
    PhaseSpan(name="load", start_s=0.0, end_s=0.1, cpu_s=0.1),
    PhaseSpan(name="train", start_s=0.1, end_s=0.5, cpu_s=0.2),
    PhaseSpan(name="train", start_s=0.5, end_s=0.9, cpu_s=0.1),
    PhaseSpan(name="inner", start_s=0.2, end_s=0.4, cpu_s=0.1),
)


def with_phases(*spans: PhaseSpan) -> Run:
    """A run of a second that was attributed 5 J for half a CPU second."""
    return complete(replace(run_of(duration_s=1.0), spans=spans))


def test_a_phase_has_all_its_times_together() -> None:
    load, train, inner = with_phases(*SPANS).phases
    assert [(each.name, each.count) for each in (load, train, inner)] == [
        ("load", 1),
        ("train", 2),
        ("inner", 1),
    ]
    assert (train.duration_s, train.cpu_s) == (pytest.approx(0.8), pytest.approx(0.3))
    assert train.attributed_j == pytest.approx(3.0)
    assert load.attributed_j == pytest.approx(1.0)


def test_a_phase_within_another_counts_in_both() -> None:
    alone = with_phases(SPANS[3]).phases[0]
    beside = with_phases(*SPANS).phases[2]
    assert alone.attributed_j == beside.attributed_j == pytest.approx(1.0)


def test_a_run_without_phases_has_none() -> None:
    assert with_phases().phases == ()


def test_phases_of_a_run_whose_energy_is_unknown_are_unknown() -> None:
    run = complete(replace(run_of(duration_s=1.0), channels=(), observed=(), samples=(), spans=SPANS))
    assert [phase.attributed_j for phase in run.phases] == [None, None, None]


def test_the_bounds_of_a_phase_enclose_it() -> None:
    for phase in with_phases(*SPANS).phases:
        assert phase.low_j is not None and phase.high_j is not None and phase.attributed_j is not None
        assert phase.low_j <= phase.attributed_j <= phase.high_j


def test_two_runs_are_compared_phase_by_phase() -> None:
    one, other = with_phases(*SPANS[:2]), with_phases(SPANS[1])
    (comparison,) = compare(one, other, scope="tree")
    load, train = comparison.phases
    assert (load.name, load.verdict, load.b) == ("load", "unknown", None)
    assert isinstance(train.a, Figure) and isinstance(train.b, Figure)
    assert train.a.mean == pytest.approx(train.b.mean)
    assert [row[0].strip() for row in rows([comparison])][::2][:3] == ["energy", "load", "train"]


def test_the_reports_show_the_phases() -> None:
    run = with_phases(*SPANS)
    assert [row[0] for row in phase_rows(run)] == ["load", "train", "inner"]
    assert "Phases" in render(run, show=frozenset({"phases"}))
    assert "| train | 2 |" in as_markdown([run])
    assert "Phases" not in render(with_phases(), show=frozenset({"phases"}))
