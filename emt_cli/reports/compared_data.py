"""Comparisons for programs: JSON and CSV, with the numbers behind every word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from emt_cli.analysis.comparison import Comparison
from emt_cli.analysis.figures import Figure, executions_of
from emt_cli.analysis.verdicts import Compared
from emt_cli.model import Run
from emt_cli.reports.changes import verdict
from emt_cli.reports.compared import headline, label
from emt_cli.reports.words import clean

COLUMNS = (
    *("run", "id", "baseline_id", "quantity", "unit", "per", "scope", "comparable"),
    *("baseline_n", "baseline_mean", "baseline_low", "baseline_high", "n", "mean", "low", "high"),
    *("relative", "relative_low", "relative_high", "p", "method", "paired", "verdict", "words"),
)
"""Of the CSV: a row for each run after the first and each quantity."""


def document(runs: Sequence[Run], comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """The whole comparison; what is unknown is null."""
    first = comparisons[0]
    return {
        "scope": first.scope,
        "per": first.per or None,
        "comparable": not any(each.refusals for each in comparisons),
        "runs": [
            {
                "label": label(index),
                "id": run.id,
                "name": run.name,
                "command": list(run.command),
                "executions": max(1, len(executions_of(run))),
            }
            for index, run in enumerate(runs)
        ],
        "comparisons": [_comparison(each, index) for index, each in enumerate(comparisons, start=1)],
    }


def _comparison(each: Comparison, index: int) -> dict[str, Any]:
    return {
        "baseline": "A",
        "run": label(index),
        "comparable": not each.refusals,
        "verdict": headline(each, index),
        "paired": each.is_paired,
        "differs": [
            {"what": one.what, "a": one.a or None, "b": one.b or None, "refuses": one in each.refusals}
            for one in each.unlike
        ],
        **{row.name: _row(row, each) for row in each.metrics},
        "devices": {clean(row.name): _row(row, each) for row in each.devices},
        "phases": {clean(row.name): _row(row, each) for row in each.phases},
    }


def _row(row: Compared, comparison: Comparison) -> dict[str, Any]:
    """Without a verdict where the two are not comparable: the figures alone."""
    figures = {"unit": row.unit, "a": _figure(row.a), "b": _figure(row.b)}
    if comparison.refusals:
        return {**figures, "verdict": "not comparable", "words": "not comparable"}
    return {
        **figures,
        "relative": row.relative,
        "low": row.low,
        "high": row.high,
        "p": row.p,
        "method": row.method,
        "verdict": row.verdict,
        "words": verdict(row),
    }


def _figure(found: Figure | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {"n": len(found.values), "mean": found.mean, "low": found.low, "high": found.high}


def csv_rows(runs: Sequence[Run], comparisons: Sequence[Comparison]) -> list[list[object]]:
    """Cells in the order of `COLUMNS`; an unknown is empty."""
    rows: list[list[object]] = []
    for index, comparison in enumerate(comparisons, start=1):
        for row in (*comparison.metrics, *comparison.devices, *comparison.phases):
            told: Mapping[str, Any] = _row(row, comparison)
            a, b = told["a"] or {}, told["b"] or {}
            cells = {
                "run": label(index),
                "id": clean(runs[index].id),
                "baseline_id": clean(runs[0].id),
                "quantity": clean(row.name),
                "per": clean(comparison.per),
                "scope": comparison.scope,
                "comparable": "no" if comparison.refusals else "yes",
                "paired": "yes" if comparison.is_paired else "no",
                **{f"baseline_{name}": value for name, value in a.items()},
                **b,
                **{name: told.get(name) for name in ("unit", "relative", "p", "method", "verdict", "words")},
                "relative_low": told.get("low"),
                "relative_high": told.get("high"),
            }
            rows.append([cells.get(name) for name in COLUMNS])
    return rows
