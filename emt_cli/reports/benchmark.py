"""What `emt bench` says: commands side by side, from the least energy to the most, for people and programs.

Pairs of a label and a text, and tables as rows of cells, as in `tables`; JSON and CSV hold the same numbers
in full. Standard library only, but for the one function that draws.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from emt_cli import units
from emt_cli.analysis.difference import LEVEL
from emt_cli.analysis.executions import has_succeeded
from emt_cli.analysis.ranking import Ranked, rounds_of
from emt_cli.model import Run, Scope, Spread
from emt_cli.reports.columns import Column
from emt_cli.reports.facts import warning_texts
from emt_cli.reports.markdown import escape, table
from emt_cli.reports.phrases import provenance
from emt_cli.reports.words import clean, cut, cut_middle
from emt_cli.values import Value

FORMAT = "emt-bench"
VERSION = 1
_LONGEST_LABEL = 200
_MOST_NAMED = 5
_LARGE = 1000.0
"""An interval that reaches further knows nothing."""
_NUMBERS = ("n", "mean", "sd", "low", "high", "min", "max", "median")
_SPREADS = ("energy_j", "time_s", "power_w", "edp_js")
_SINGLE = ("co2e_g", "per_unit_j", "unit", "relative", "relative_low", "relative_high", "p", "method")
_VERDICTS = {
    "best": "best",
    "more": "more",
    "same": "no significant difference",
    "unresolved": "below the resolution",
    "few": "too few rounds to tell",
    "zero": "an execution used 0 J",
    "unknown": "energy unknown",
}


class Contestant(Value):
    """One of the commands: as it was typed, with its parameters filled in, and its record."""

    label: str
    line: str
    parameters: Mapping[str, str]
    run: Run


class Bench(Value):
    """A finished benchmark; `ranked` is in order of energy and points into `contestants`."""

    id: str
    scope: Scope
    contestants: tuple[Contestant, ...]
    ranked: tuple[Ranked, ...]
    is_kept: bool = True
    """Whether its records are in the store, to be compared again."""

    @property
    def rounds(self) -> int:
        return rounds_of(self.contestants[0].run)


# --- for people -------------------------------------------------------------------------------------

ENERGY = (
    Column("command", "command"),
    Column("energy", "number"),
    Column("against the best", "number"),
    Column("verdict"),
)


def energy_rows(bench: Bench) -> list[list[str]]:
    """Joules of an execution with their interval, and how much more that is than the best one's."""
    has_ties = any(each.verdict in ("same", "unresolved") for each in bench.ranked)
    rows = []
    for each in bench.ranked:
        verdict = _VERDICTS[each.verdict]
        if each.verdict == "best" and len(bench.ranked) > 1 and has_ties:
            verdict = "lowest mean"
        rows.append([_label(bench, each), _said(each.energy_j, units.energy), _relative(each), verdict])
    return rows


def further_columns(bench: Bench) -> list[Column]:
    heads = ["time", "power", *([per] if (per := _per_unit(bench)) else []), "CO2e", "energy x time"]
    return [Column("command", "command"), *(Column(head, "number") for head in heads)]


def further_rows(bench: Bench) -> list[list[str]]:
    """Time, power, joules per unit of work, grams and the energy-delay product of an execution."""
    rows = []
    for each in bench.ranked:
        work = [] if each.per_unit_j is None else [units.energy(each.per_unit_j)]
        if _per_unit(bench) and not work:
            work = [""]
        rows.append(
            [
                _label(bench, each),
                _said(each.time_s, units.seconds),
                _said(each.power_w, units.power),
                *work,
                "" if each.co2e_g is None else units.mass(each.co2e_g),
                "" if each.edp_js is None else f"{units.energy(each.edp_js.mean)}·s",
            ]
        )
    return rows


def facts(bench: Bench) -> list[tuple[str, str]]:
    """What the tables rest on: rounds and method, whose energy, outliers, failures, warnings."""
    rounds = bench.rounds
    pairs = len(bench.ranked) * (len(bench.ranked) - 1) // 2
    said = f"{rounds} round{'' if rounds == 1 else 's'}, interleaved, every other one in reverse"
    method = f"mean of an execution ± 95 % interval (Student's t); {said}"
    if pairs:
        method += (
            f"; verdicts by the paired t test on log ratios, Holm's correction over {pairs} "
            f"pair{'' if pairs == 1 else 's'}, at {LEVEL:.0%}"
        ).replace("%", " %")
    whose = "of the machine" if bench.scope == "machine" else "of each command with all it starts"
    kinds = dict.fromkeys(
        provenance(each.run.energy) for each in bench.contestants if each.run.energy is not None
    )
    found = [("method", method), ("energy", f"{whose}, {'; '.join(kinds) or 'unknown'}")]
    found += [("outliers", text)] if (text := _outliers(bench)) else []
    found += [("failed", text) for text in _failures(bench)]
    found += [("warning", happened) for happened in _warnings(bench)]
    kept = [("next", f"emt compare bench={bench.id}")] if bench.is_kept else []
    return found + kept


def draw(bench: Bench, *, width: int = 80, color: bool = False, encoding: str = "utf-8") -> str:
    """Two tables and what they rest on, for a terminal."""
    from emt_cli.reports.text import render_table

    styles = ["green" if each.verdict == "best" else "" for each in bench.ranked]
    look = {"width": width, "color": color, "encoding": encoding}
    first = render_table(ENERGY, energy_rows(bench), styles=styles, **look)  # type: ignore[arg-type]
    second = render_table(further_columns(bench), further_rows(bench), facts=facts(bench), **look)  # type: ignore[arg-type]
    return f"{first}\n{second}"


def as_markdown(bench: Bench) -> str:
    """The same for a pull request."""
    lines = table([column.head for column in ENERGY], energy_rows(bench), {"energy", "against the best"})
    columns = further_columns(bench)
    numbers = {column.head for column in columns if column.kind == "number"}
    lines += ["", *table([column.head for column in columns], further_rows(bench), numbers), ""]
    lines += [f"- {escape(label)}: {escape(text)}" for label, text in facts(bench)]
    return "\n".join(lines) + "\n"


def _label(bench: Bench, ranked: Ranked) -> str:
    return cut_middle(clean(bench.contestants[ranked.index].label), _LONGEST_LABEL) or "(no command)"


def _said(spread: Spread | None, say: object) -> str:
    if spread is None or not callable(say):
        return ""
    half = None if spread.low is None or spread.high is None else (spread.high - spread.low) / 2
    return str(say(spread.mean, half) if half else say(spread.mean))


def _relative(ranked: Ranked) -> str:
    """`+3.1 % ± 0.8`, `+40 % (-20 to +150 %)`, `x 3.42 (3.30 to 3.55)`; empty where it is not known."""
    relative, low, high = ranked.relative, ranked.low, ranked.high
    if relative is None:
        return ""
    if relative >= 1:
        said = f"x {units.significant(1 + relative, 3)}"
        return said if low is None or high is None else f"{said} ({_times(low)} to {_times(high)})"
    if low is None or high is None:
        return f"{100 * relative:+.1f} %"
    below, above = relative - low, high - relative
    if max(below, above) > 0.2 and abs(above - below) > 0.1 * (above + below):
        top = f"{100 * high:+.0f} %" if high < 10 else f"x {_times(high)}"
        return f"{100 * relative:+.0f} % ({100 * low:+.0f} to {top})"
    half = 50 * (high - low)
    places = 1 if half >= 0.1 else 2
    return f"{100 * relative:+.{places}f} % ± {half:.{places}f}"


def _times(relative: float) -> str:
    return units.significant(1 + relative, 3) if relative < _LARGE else f"over {_LARGE:g}"


def _per_unit(bench: Bench) -> str:
    found = dict.fromkeys(cut(clean(each.unit), 20) for each in bench.ranked if each.per_unit_j is not None)
    return f"per {'/'.join(found)}" if found else ""


def _outliers(bench: Bench) -> str:
    """By the modified z-score of Iglewicz & Hoaglin (1993), in energy or time; empty if there are none."""
    said = []
    for ranked in bench.ranked:
        repeat = bench.contestants[ranked.index].run.repeat
        if repeat is None:
            continue
        spread = repeat.machine_j if bench.scope == "machine" else repeat.attributed_j
        found = sorted({*repeat.duration_s.outliers, *(spread.outliers if spread is not None else ())})
        if found:
            rounds = ", ".join(str(index + 1) for index in found[:_MOST_NAMED])
            more = ", ..." if len(found) > _MOST_NAMED else ""
            said.append(f"{cut_middle(_label(bench, ranked), 40)} in round {rounds}{more}")
    return f"{'; '.join(said)} (close other programs, use --warmup or --cooldown)" if said else ""


def _failures(bench: Bench) -> Iterable[str]:
    for ranked in bench.ranked:
        executions = bench.contestants[ranked.index].run.executions
        failed = sum(not has_succeeded(each) for each in executions)
        if failed:
            label = cut_middle(_label(bench, ranked), 40)
            what = "all are counted" if failed == len(executions) else "not counted"
            yield f"{label}: {failed} of {len(executions)} executions ({what})"


def _warnings(bench: Bench) -> list[str]:
    """Each once, by what it is about: times and numbers differ from command to command."""
    found: dict[str, str] = {}
    for each in bench.contestants:
        for notice, (happened, _) in zip(each.run.notices, warning_texts(each.run), strict=True):
            found.setdefault(notice.code, happened)
    return list(found.values())


# --- for programs -----------------------------------------------------------------------------------


def document(bench: Bench) -> dict[str, object]:
    """Everything as one object, the commands in the order in which they were given."""
    ranked = {each.index: (place, each) for place, each in enumerate(bench.ranked, start=1)}
    return {
        "format": FORMAT,
        "version": VERSION,
        "id": bench.id,
        "scope": bench.scope,
        "rounds": bench.rounds,
        "level": LEVEL,
        "commands": [
            {
                "command": each.line,
                "name": each.label,
                "parameters": dict(each.parameters),
                "run": each.run.id,
                **_figures(*ranked[index]),
                "executions": [
                    {
                        "duration_s": one.duration_s,
                        "attributed_j": one.attributed_j,
                        "machine_j": one.machine_j,
                        "exit_code": one.exit.code,
                        "exit_signal": one.exit.signal,
                    }
                    for one in each.run.executions
                ],
                "warnings": [notice.code for notice in each.run.notices],
            }
            for index, each in enumerate(bench.contestants)
        ],
    }


def _figures(place: int, ranked: Ranked) -> dict[str, object]:
    return {
        "place": place,
        "verdict": ranked.verdict,
        "energy_j": _numbers(ranked.energy_j),
        "time_s": _numbers(ranked.time_s),
        "power_w": _numbers(ranked.power_w),
        "edp_js": _numbers(ranked.edp_js),
        "co2e_g": ranked.co2e_g,
        "per_unit_j": ranked.per_unit_j,
        "unit": ranked.unit or None,
        "relative": ranked.relative,
        "relative_low": ranked.low,
        "relative_high": ranked.high,
        "p": ranked.p,
        "method": ranked.method,
    }


def _numbers(spread: Spread | None) -> dict[str, object] | None:
    if spread is None:
        return None
    return {name: getattr(spread, name) for name in _NUMBERS}


def csv_rows(bench: Bench) -> tuple[list[str], list[list[object]]]:
    """The heads and a row for each command, in order of energy; an unknown is None."""
    names = sorted({name for each in bench.contestants for name in each.parameters})
    heads = ["bench", "scope", "rounds", "place", "verdict", "command", "name", "run"]
    heads += [f"param.{name}" for name in names]
    heads += [f"{spread}_{number}" for spread in _SPREADS for number in _NUMBERS]
    heads += _SINGLE
    rows = []
    for place, ranked in enumerate(bench.ranked, start=1):
        one = bench.contestants[ranked.index]
        figures = _figures(place, ranked)
        cells: list[object] = [bench.id, bench.scope, bench.rounds, place, ranked.verdict]
        cells += [one.line, one.label, one.run.id, *(one.parameters.get(name) for name in names)]
        for spread in _SPREADS:
            numbers = figures[spread]
            cells += [numbers.get(each) if isinstance(numbers, dict) else None for each in _NUMBERS]
        rows.append([*cells, *(figures[name] for name in _SINGLE)])
    return heads, rows
