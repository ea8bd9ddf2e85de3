"""Comparisons in words and as rows of a table, free of any way to draw them.

`text` and `markdown` lay out the same columns, rows and facts; here stands what they say. Runs are called
A, B, C, in the order in which they were named.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from emt_cli import units
from emt_cli.analysis.comparison import Comparison
from emt_cli.analysis.difference import LEVEL
from emt_cli.analysis.figures import Figure, executions_of
from emt_cli.analysis.verdicts import Compared
from emt_cli.model import Energy, Run
from emt_cli.reports.changes import change, verdict
from emt_cli.reports.columns import Column
from emt_cli.reports.phrases import command_line, provenance, started
from emt_cli.reports.words import clean, cut

Facts = list[tuple[str, str]]

_NAMES = {"co2e": "CO2e"}
_LONGEST_FACT = 60
SCOPES = {"tree": "tree: the energy of the command", "machine": "machine: the energy of the whole machine"}

# --- words ------------------------------------------------------------------------------------------


def label(index: int) -> str:
    """A to Z, then AA."""
    return (label(index // 26 - 1) if index >= 26 else "") + chr(ord("A") + index % 26)


def headline(comparison: Comparison, index: int) -> str:
    """The verdict on energy as a sentence; `index` is the place of the other run."""
    other, row = label(index), comparison.energy
    if comparison.refusals:
        return f"{other} is not comparable with A: {refusal(comparison)}"
    energy = f"energy per {clean(comparison.per)}" if comparison.per else "energy"
    said = "" if row.relative is None else change(row.relative, row.low, row.high)
    if row.verdict in ("less", "more", "few", "apart"):
        amount, mark, rest = _apart(said)
        sentence = f"{other} uses {amount} {energy} {'as' if 'times' in amount else 'than'} A{mark}{rest}"
        return sentence + {
            "few": ": too few executions for a verdict",
            "apart": ", in one run each: more than their uncertainties explain",
        }.get(row.verdict, "")
    if row.verdict == "same":
        return f"no significant difference in {energy} between A and {other}: {said}"
    return {
        "unresolved": f"no difference in {energy} between A and {other}: it is within the counter's step",
        "overlap": f"A and {other} cannot be told apart: one run each, and their uncertainties overlap",
        "zero": f"{other} has no ratio to A: one of them is 0 J, too short or too little to be measured",
        "unknown": f"the {energy} of {_unknown_runs(row, other)} is unknown: nothing was read (emt doctor)",
    }[row.verdict]


def _apart(said: str) -> tuple[str, str, str]:
    """`3.1 % less, ± 0.8 %` before and after what it is of."""
    for mark in (",", " ("):
        amount, found, rest = said.partition(mark)
        if found:
            return amount, found, rest
    return said, "", ""


def _unknown_runs(row: Compared, other: str) -> str:
    return " and ".join(name for name, found in (("A", row.a), (other, row.b)) if found is None)


def refusal(comparison: Comparison) -> str:
    """`other CPU, other sensors`."""
    return ", ".join(f"other {each.what}" for each in comparison.refusals)


# --- tables -----------------------------------------------------------------------------------------


def run_columns() -> list[Column]:
    return [Column(""), Column("run", "command"), Column("executions", "number"), Column("started")]


def run_rows(runs: Sequence[Run]) -> list[list[str]]:
    """A line for each run: what it is called here, its name or command, how often it was executed."""
    rows = []
    for index, run in enumerate(runs):
        name, command = clean(run.name), command_line(run.command) or "(no command)"
        count = str(len(executions_of(run))) if run.executions else "one run"
        rows.append([label(index), f"{name}: {command}" if name else command, count, started(run)[:16]])
    return rows


def columns(*, is_narrow: bool = False) -> list[Column]:
    found = [Column(""), Column("run"), Column("mean", "number"), Column("±")]
    return [*(found[:3] if is_narrow else found), Column("difference from A", "name")]


def rows(comparisons: Sequence[Comparison], *, is_narrow: bool = False) -> list[list[str]]:
    """Each quantity of each run: its mean, how sure that is, and how it differs from the first run's."""
    found = []
    for quantity in _quantities(comparisons):
        for index in range(len(comparisons) + 1):
            row = quantity[max(index - 1, 0)]
            side = row.b if index else row.a
            said = "" if not index else "not comparable" if comparisons[index - 1].refusals else verdict(row)
            value, bounds = amount(side, row.unit)
            cells = [_name(row, comparisons[0]) if not index else "", label(index), value, bounds, said]
            found.append(cells[:3] + cells[4:] if is_narrow else cells)
    return found


def styles(comparisons: Sequence[Comparison]) -> list[str]:
    """Of each of those rows: green for significantly less, red for more."""
    found = []
    for quantity in _quantities(comparisons):
        for index in range(len(comparisons) + 1):
            is_judged = index > 0 and not comparisons[index - 1].refusals
            word = quantity[index - 1].verdict if is_judged else ""
            found.append({"less": "green", "more": "red"}.get(word, ""))
    return found


def _quantities(comparisons: Sequence[Comparison]) -> list[list[Compared]]:
    """Each quantity with a row for every comparison: energy, its devices and phases, then the others."""
    energy, *others = zip(*(each.metrics for each in comparisons), strict=True)
    devices = zip(*(each.devices for each in comparisons), strict=True)
    phases = zip(*(each.phases for each in comparisons), strict=True)
    return [list(row) for row in (energy, *devices, *phases, *others)]


def _name(row: Compared, comparison: Comparison) -> str:
    """A device or a phase stands below the energy; per unit of work as that is."""
    is_part = row not in comparison.metrics
    name = ("  " if is_part else "") + cut(clean(_NAMES.get(row.name, row.name)), 16)
    is_per_work = comparison.per and row.name != "power" and not is_part
    return f"{name}/{cut(clean(comparison.per), 12)}" if is_per_work else name


def amount(found: Figure | None, unit: str) -> tuple[str, str]:
    """(`41.3 J`, `± 1.2`), or (`41.3 J`, `20.1 to 42.0 J`) where the interval leans to one side."""
    if found is None:
        return "unknown", ""
    say, say_range = {
        "J": (units.energy, units.energy_range),
        "g": (units.mass, units.mass_range),
        "W": (units.power, units.power_range),
        "s": (units.seconds, units.seconds_range),
    }[unit]
    if found.low is None or found.high is None or found.high <= found.low:
        return say(found.mean), ""
    half = (found.high - found.low) / 2
    if max(found.mean - found.low, found.high - found.mean) <= 1.1 * half:
        value, _, rest = say(found.mean, half).partition(" ± ")
        return value, f"± {rest}"
    return say(found.mean), say_range(found.low, found.high)


# --- facts ------------------------------------------------------------------------------------------


def facts(runs: Sequence[Run], comparisons: Sequence[Comparison]) -> Facts:
    """The verdicts, what differs, and what should be known before anybody decides by them."""
    found = [("verdict" if at == 0 else "", headline(each, at + 1)) for at, each in enumerate(comparisons)]
    found += _unlike(comparisons)
    found.append(("scope", SCOPES[comparisons[0].scope]))
    found += _quality(runs)
    found += _advice(runs, comparisons)
    return found


def _unlike(comparisons: Sequence[Comparison]) -> Iterator[tuple[str, str]]:
    """What differs, once for all runs: `A ...; B ...`."""
    seen: dict[str, list[str]] = {}
    for index, comparison in enumerate(comparisons, start=1):
        for each in comparison.unlike:
            known = seen.setdefault(each.what, [f"A {_fact(each.a)}"])
            known.append(f"{label(index)} {_fact(each.b)}")
    for what, told in seen.items():
        if what == "command":
            yield "commands", "different ones, compared all the same"
        elif what == "place and intensity":
            yield "place", f"{'; '.join(told)}: the grids differ in the grams too"
        else:
            yield what, "; ".join(told)


def _fact(text: str) -> str:
    return cut(clean(text), _LONGEST_FACT) or "not known"


def _quality(runs: Sequence[Run]) -> Iterator[tuple[str, str]]:
    """What speaks against a run's own figures."""
    codes = [{notice.code for notice in run.notices} for run in runs]
    common = set.intersection(*codes)
    for index, run in enumerate(runs):
        left_out = len(run.executions) - len(executions_of(run))
        if left_out:
            yield label(index), f"{left_out} of {len(run.executions)} executions failed and are left out"
        elif run.exit.code or run.exit.signal is not None:
            yield label(index), "the command failed"
        if run.state != "complete":
            yield label(index), f"{run.state}: the record breaks off, and so do its figures"
        if own := sorted(codes[index] - common):
            yield label(index), f"warnings: {', '.join(map(clean, own))}"
    estimated = [
        f"{label(index)} {provenance(run.energy)}"
        for index, run in enumerate(runs)
        if run.energy is not None and _is_mostly_estimated(run.energy)
    ]
    if estimated:
        yield "estimates", f"{'; '.join(estimated)}: a model does not see what the hardware does better"


def _is_mostly_estimated(energy: Energy) -> bool:
    """More than half of it; that memory is estimated is so nearly everywhere."""
    parts = energy.by_provenance
    whole = sum(parts.values())
    return energy.provenance == "estimated" and (whole <= 0 or parts.get("estimated", 0.0) > whole / 2)


def _advice(runs: Sequence[Run], comparisons: Sequence[Comparison]) -> Iterator[tuple[str, str]]:
    comparable = [each for each in comparisons if not each.refusals]
    methods = dict.fromkeys(each.energy.method for each in comparable if each.energy.method != "none")
    if methods:
        count = sum(each.energy.p is not None for each in comparable)
        holm = f", Holm's correction over {count}" if count > 1 else ""
        yield "method", f"{', '.join(methods)} test on log ratios{holm}, at {LEVEL:.0%}".replace("%", " %")
    if any("trimmed" in each.energy.method or "Yuen" in each.energy.method for each in comparable):
        yield "outliers", "compared by trimmed means, which may lie apart from the means shown"
    single = [label(index) for index, run in enumerate(runs) if len(executions_of(run)) < 2]
    if single and comparable:
        names = " and ".join(filter(None, (", ".join(single[:-1]), single[-1])))
        verb = "is one run" if len(single) == 1 else "are one run each"
        yield "hint", f"{names} {verb}, which is little: emt run -r 10 -- COMMAND shows what is chance"
    elif any(not each.is_paired for each in comparable):
        yield (
            "hint",
            "measured one after the other: emt bench takes turns, so that drift hits all alike",
        )
