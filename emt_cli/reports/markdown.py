"""Reports in GitHub's Markdown, for a pull request, an issue or a job summary.

The same rows and facts as on a terminal. What comes from a record is escaped: it must read as it stands,
whatever marks of Markdown or HTML are in it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from emt_cli.model import Run
from emt_cli.reports.facts import (
    STATES,
    battery,
    carbon_facts,
    method_facts,
    row_cells,
    setting,
    warning_texts,
    work,
)
from emt_cli.reports.phrases import (
    command_line,
    ending,
    energy_with_bounds,
    finite,
    mass_with_bounds,
    provenance,
    started,
)
from emt_cli.reports.repeats import METHOD, execution_rows, more_text, repeat_facts
from emt_cli.reports.tables import (
    PHASE_HEADS,
    PROCESS_RULE,
    energy_rows,
    phase_rows,
    process_rows,
    total_rows,
)
from emt_cli.reports.words import clean, cut, cut_middle

SECTIONS = frozenset({"energy", "executions", "phases", "processes", "carbon", "warnings"})
_LONGEST_COMMAND = 200
_LONGEST_TEXT = 300


def as_markdown(runs: Sequence[Run], show: frozenset[str] = SECTIONS) -> str:
    """GitHub's Markdown, for a pull request or a job summary: a page for one run, a table for several."""
    if len(runs) == 1:
        return "\n".join(_page(runs[0], show)).strip() + "\n"
    rows = [row_cells(run) for run in runs]
    for row in rows:
        row["command"] = cut_middle(row["command"], 80)
    heads = ["started", "command", "end", "time", "energy", "provenance", "machine", "CO2e", "run"]
    return (
        "\n".join(
            table(
                heads, [[row[head] for head in heads] for row in rows], {"time", "energy", "machine", "CO2e"}
            )
        )
        + "\n"
    )


def as_list(facts: Iterable[tuple[str, str]]) -> str:
    """Labelled lines as a list."""
    return "\n".join(_list(facts))


def _page(run: Run, show: frozenset[str]) -> list[str]:
    command = cut_middle(command_line(run.command), _LONGEST_COMMAND) or "(no command)"
    facts = [ending(run), started(run), cut_middle(clean(run.name), 60), *setting(run)]
    lines = [f"### {_code(command)}", "", escape(" · ".join(fact for fact in facts if fact)), ""]
    if run.state in STATES:
        lines += [f"**{STATES[run.state]}**", ""]
    if "energy" in show:
        lines += _energy(run)
    if "executions" in show and run.repeat is not None:
        lines += _executions(run)
    if "phases" in show and run.phases:
        lines += [
            "**Phases**",
            "",
            *table(PHASE_HEADS, phase_rows(run), {"times", "time", "CPU s", "energy"}),
            "",
        ]
    if "processes" in show:
        lines += _processes(run)
    if "carbon" in show and run.carbon is not None and finite(run.carbon.co2e_g) is not None:
        carbon = run.carbon
        lines += [
            f"**CO2e: {mass_with_bounds(carbon.co2e_g, carbon.low_g, carbon.high_g)}**",
            "",
            *_list(carbon_facts(carbon)),
        ]
    if "warnings" in show and run.notices:
        lines += ["**Warnings**", ""]
        for happened, remedy in warning_texts(run):
            lines.append(f"- {escape(happened)}" + (f" → {escape(remedy)}" if remedy else ""))
        lines.append("")
    return lines + (_list(method_facts(run)) if "energy" in show else [])


def _energy(run: Run) -> list[str]:
    energy = run.energy
    if energy is None:
        return ["**Energy: unknown**", ""]
    said = energy_with_bounds(energy.attributed_j, energy.uncertainty_j, energy.low_j, energy.high_j)
    whole = " over all executions" if run.executions else ""
    headline = f"**Energy: {said or 'unknown'}** of the command{whole}, {provenance(energy)}"
    rows = [
        [
            "· " * row.depth + row.label,
            row.attributed,
            row.bounds,
            row.machine,
            row.idle,
            row.provenance,
            row.note,
        ]
        for row in energy_rows(run) + total_rows(energy)
        if row.machine or row.attributed
    ]
    heads = ["device", "command", "±", "machine", "idle", "provenance", "note"]
    lines = [headline, "", *table(heads, rows, {"command", "machine", "idle"}), ""]
    below = [(label, text) for label, text in (("work", work(run)), ("battery", battery(run))) if text]
    return lines + (_list(below) if below else [])


def _executions(run: Run) -> list[str]:
    rows, left_out = execution_rows(run)
    heads = ["#", "time", "energy", "bounds", "machine", "power", "exit", ""]
    cells = [[*row[:-1]] for row in rows]
    lines = ["**One execution**", "", *_list(repeat_facts(run))]
    lines += [*table(heads, cells, {"#", "time", "energy", "machine", "power"}), ""]
    return lines + ([f"*{more_text(left_out)}*", ""] if left_out else []) + [f"*{METHOD}*", ""]


def _processes(run: Run) -> list[str]:
    rows = [
        [row.pid, row.cpu, row.share, row.energy, cut_middle(row.command, 80)] for row in process_rows(run)
    ]
    if not rows:
        return []
    heads = ["pid", "CPU s", "share", "energy", "command"]
    return [*table(heads, rows, {"pid", "CPU s", "share", "energy"}), "", f"*{PROCESS_RULE}*", ""]


def _list(facts: Iterable[tuple[str, str]]) -> list[str]:
    return [*(f"- {escape(label)}: {escape(text)}" for label, text in facts), ""]


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], numbers: Collection[str]) -> list[str]:
    """`numbers` holds the heads of the columns that are set to the right."""
    rules = ["--:" if head in numbers else "---" for head in heads]
    body = [[escape(cell) for cell in row] for row in rows]
    return [f"| {' | '.join(cells)} |" for cells in (list(heads), rules, *body)]


def escape(text: str) -> str:
    """`text` as it is read, whatever marks of Markdown or HTML are in it."""
    text = cut(text, _LONGEST_TEXT).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join(f"\\{letter}" if letter in "\\`*_[]|#~$!" else letter for letter in text)


def _code(text: str) -> str:
    """`text` as a code span, whose fence is longer than any run of backticks in it."""
    longest = run = 0
    for letter in text:
        run = run + 1 if letter == "`" else 0
        longest = max(longest, run)
    fence = "`" * (longest + 1)
    pad = " " if longest else ""
    return f"{fence}{pad}{text}{pad}{fence}"
