"""Limits kept and missed, in words and as rows: what `emt check` says, however it is laid out.

Also for programs: the document and the cells that JSON, CSV and the CI exporters are made of.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from emt_cli import units
from emt_cli.analysis.figures import Figure, executions_of
from emt_cli.analysis.limits import Check
from emt_cli.model import Run, Scope
from emt_cli.reports.changes import change
from emt_cli.reports.columns import Column
from emt_cli.reports.compared import SCOPES, Facts, amount
from emt_cli.reports.phrases import command_line, ending, started
from emt_cli.reports.words import clean, cut_middle
from emt_cli.values import Value

COLUMNS = (
    *("id", "scope", "check", "unit", "passed", "outcome", "n", "value", "low", "high", "limit"),
    *("baseline", "relative", "relative_low", "relative_high", "words"),
)
_NAMES = {"co2e": "CO2e", "power": "mean power"}
_SAY = {"J": units.energy, "g": units.mass, "W": units.power, "s": units.seconds}
_UNCERTAIN = "passed, but uncertain"
"""Its value is below the limit but its interval is not, or only by less than can be told."""
_LONGEST_COMMAND = 200


class Checked(Value):
    """A run, what it was held to, and what became of that."""

    run: Run
    baseline: Run | None
    scope: Scope
    checks: tuple[Check, ...]


def is_passed(checks: Sequence[Check]) -> bool:
    return all(check.is_passed for check in checks)


def headline(checks: Sequence[Check]) -> str:
    """`passed: 3 of 3`, `failed: 1 of 3 (energy)`."""
    failed = [name(check) for check in checks if not check.is_passed]
    if not failed:
        return f"passed: {len(checks)} of {len(checks)}"
    return f"failed: {len(failed)} of {len(checks)} ({', '.join(failed)})"


def name(check: Check) -> str:
    return _NAMES.get(check.name, check.name)


def words(check: Check) -> str:
    """What became of it, and why that is not the whole story."""
    found = check.found
    if check.outcome == "unknown":
        return "failed: it is not known"
    if check.outcome == "not ended":
        return "failed: the record breaks off"
    assert found is not None, "only an unknown one has no figure"
    if check.outcome == "within uncertainty":
        return _UNCERTAIN
    if check.compared is not None:
        return f"{'passed' if check.is_passed else 'failed'}: {_against_baseline(check)}"
    if check.outcome == "exceeded":
        return f"failed: {_over(found.mean / check.limit)}"
    if found.high is not None and found.high > check.limit:
        return _UNCERTAIN
    return "passed"


def _over(ratio: float) -> str:
    if ratio >= 2:
        return f"{units.significant(ratio, 2)} times the limit"
    return f"{units.significant(100 * (ratio - 1), 2)} % above the limit"


def _against_baseline(check: Check) -> str:
    row = check.compared
    if row is None or row.relative is None:
        return "no ratio, one of them is 0"
    return change(row.relative, row.low, row.high)


# --- for people -------------------------------------------------------------------------------------


def columns() -> list[Column]:
    return [
        Column("limit"),
        Column("found", "number"),
        Column("±"),
        Column("at most", "number"),
        Column("", "name"),
    ]


def rows(checks: Sequence[Check]) -> list[list[str]]:
    return [
        [name(check), *amount(check.found, check.unit), _SAY[check.unit](check.limit), words(check)]
        for check in checks
    ]


def styles(checks: Sequence[Check]) -> list[str]:
    return ["" if check.is_passed else "red" for check in checks]


def facts(told: Checked) -> Facts:
    """Verdict first, then what was checked and by what."""
    run, baseline = told.run, told.baseline
    found = [
        ("verdict", headline(told.checks)),
        ("run", _called(run)),
        ("", f"{ending(run)} · {started(run)}"),
    ]
    found += [("decided by", said)] if (said := _decided_by(run)) else []
    if baseline is not None:
        found.append(("baseline", _called(baseline)))
        found.append(("", f"{_decided_by(baseline) or 'one run'} · {started(baseline)}"))
        found += _doubt(told)
    return [*found, ("scope", SCOPES[told.scope])]


def _called(run: Run) -> str:
    command = command_line(run.command) or "(no command)"
    return cut_middle(f"{clean(run.name)}: {command}" if run.name else command, _LONGEST_COMMAND)


def _decided_by(run: Run) -> str:
    """Of a repeated run, how many executions its mean is of."""
    if not run.executions:
        return ""
    count = len(executions_of(run))
    of = f" of {len(run.executions)}" if count < len(run.executions) else ""
    return f"the mean of {count}{of} executions" if count > 1 else f"1{of} execution"


def _doubt(told: Checked) -> Facts:
    check = told.checks[-1]
    found: Facts = []
    if check.outcome == "within uncertainty":
        said = _against_baseline(check)
        found.append(("uncertain", f"{said}: no more than chance or the sensors' errors can explain"))
    if min(len(each.values) for each in (check.found, check.compared and check.compared.a) if each) < 2:
        found.append(("hint", "one run is little to compare: emt run -r 10 -- COMMAND shows what is chance"))
    if told.baseline is not None and told.baseline.command != told.run.command:
        found.append(("commands", "different ones, compared all the same"))
    return found


# --- for programs -----------------------------------------------------------------------------------


def document(told: Checked) -> dict[str, Any]:
    return {
        "id": told.run.id,
        "name": told.run.name,
        "baseline_id": None if told.baseline is None else told.baseline.id,
        "scope": told.scope,
        "passed": is_passed(told.checks),
        "verdict": headline(told.checks),
        "checks": [_check(check) for check in told.checks],
    }


def _check(check: Check) -> dict[str, Any]:
    row = check.compared
    return {
        "check": check.name,
        "unit": check.unit,
        "passed": check.is_passed,
        "outcome": check.outcome,
        **_figure(check.found),
        "limit": check.limit,
        "baseline": row.a.mean if row is not None and row.a is not None else None,
        "relative": row.relative if row is not None else None,
        "relative_low": row.low if row is not None else None,
        "relative_high": row.high if row is not None else None,
        "words": words(check),
    }


def _figure(found: Figure | None) -> dict[str, Any]:
    if found is None:
        return {"n": 0, "value": None, "low": None, "high": None}
    return {"n": len(found.values), "value": found.mean, "low": found.low, "high": found.high}


def csv_rows(told: Checked) -> list[list[object]]:
    """Cells in the order of `COLUMNS`."""
    rows = [{"id": clean(told.run.id), "scope": told.scope, **_check(check)} for check in told.checks]
    return [[row[key] for key in COLUMNS] for row in rows]
