"""Reports on a terminal: tables, power curve, carbon, warnings, drawn with rich.

The only module besides `commands` that knows rich. Every string goes in as a `Text` (never as markup) and
went through `clean` before; the result is a string, so that who prints decides where it goes. Three
layouts: below 60 columns only what fits, up to 110 the standard tables, from there on the notes beside.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from emt_cli import units
from emt_cli.model import Run
from emt_cli.reports import curve
from emt_cli.reports.columns import GAP, Column, fit
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
    cpu_seconds,
    ending,
    energy_with_bounds,
    finite,
    has_failed,
    mass_with_bounds,
    provenance,
    started,
)
from emt_cli.reports.repeats import METHOD, execution_rows, more_text, repeat_facts
from emt_cli.reports.tables import (
    PHASE_HEADS,
    PROCESS_RULE,
    EnergyRow,
    energy_rows,
    phase_rows,
    process_rows,
    total_rows,
)
from emt_cli.reports.words import can_draw, clean, cut, cut_middle, encodable

SECTIONS = frozenset({"energy", "executions", "phases", "processes", "curve", "carbon", "warnings"})
_NARROW, _WIDE = 60, 110
_CURVE_ROWS = 3
_INDENT = 2
_LONGEST_LABEL = 20
_BOX = box.Box("    \n    \n ── \n    \n ── \n    \n    \n    \n")
_LONGEST_TEXT = 300

Facts = Iterable[tuple[str, str]]


def render(
    run: Run,
    *,
    width: int = 80,
    color: bool = False,
    show: frozenset[str] = SECTIONS,
    encoding: str = "utf-8",
) -> str:
    """The report of one run, its results filled in, as text of at most `width` columns.

    `color` allows escape sequences; `show` is a part of `SECTIONS`; what `encoding` cannot say is
    replaced by its plain form.
    """
    page = _Page(width, color=color, encoding=encoding)
    _header(page, run)
    if "energy" in show:
        _energy(page, run)
    if "executions" in show and run.repeat is not None:
        _executions(page, run)
    if "phases" in show and run.phases:
        _phases(page, run)
    if "processes" in show:
        _processes(page, run)
    if "curve" in show:
        _curve(page, run)
    if "carbon" in show and run.carbon is not None and finite(run.carbon.co2e_g) is not None:
        page.title("CO2e", mass_with_bounds(run.carbon.co2e_g, run.carbon.low_g, run.carbon.high_g))
        page.facts(carbon_facts(run.carbon))
    if "warnings" in show:
        _warnings(page, run)
    if "energy" in show:
        page.title("Method")
        page.facts(method_facts(run))
    return page.text()


def render_runs(runs: Sequence[Run], *, width: int = 80, color: bool = False, encoding: str = "utf-8") -> str:
    """Several runs, a row each."""
    wide, narrow = width >= _WIDE, width < _NARROW
    columns = [Column("command", "command"), Column("time", "number"), Column("energy", "number")]
    if not narrow:
        columns = [Column("started"), columns[0], Column("end"), *columns[1:], Column("provenance")]
        columns += [Column("machine", "number")] if wide else []
        columns += [Column("CO2e", "number")]
        columns += [Column("run", "name")] if wide else []
    said = [row_cells(run) for run in runs]
    rows = [[cells[column.head] for column in columns] for cells in said]
    return render_table(columns, rows, width=width, color=color, encoding=encoding)


def render_table(
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    *,
    styles: Sequence[str] = (),
    facts: Facts = (),
    width: int = 80,
    color: bool = False,
    encoding: str = "utf-8",
) -> str:
    """A plain table, a style for each row if wanted, and labelled lines below it."""
    page = _Page(width, color=color, encoding=encoding)
    page.table(columns, rows, styles)
    page.facts(facts)
    return page.text()


# --- the page ---------------------------------------------------------------------------------------


class _Page:
    """A console that writes into a string, whatever terminal or environment there is."""

    def __init__(self, width: int, *, color: bool, encoding: str) -> None:
        self.width = max(width, 20)
        self.encoding = encoding
        self._color = color
        self._file = io.StringIO()
        self._console = Console(
            file=self._file,
            width=self.width,
            height=100,  # with both given, rich asks neither terminal nor TERM
            force_terminal=color,
            color_system="standard" if color else None,
            no_color=not color,
            highlight=False,
            markup=False,
            emoji=False,
            soft_wrap=False,
            legacy_windows=False,
        )

    def add(self, part: Table | Text, indent: int = 0) -> None:
        self._console.print(Padding(part, (0, 0, 0, indent)))

    def line(self, text: str, style: str = "", indent: int = 0) -> None:
        self.add(self._said(cut(text, _LONGEST_TEXT), style), indent)

    def title(self, text: str, said: str = "") -> None:
        self.line("")
        behind = f"  {said}" if said else ""
        self.add(Text.assemble(self._said(text, "bold cyan"), self._said(behind, "bold")))

    def table(
        self,
        columns: Sequence[Column],
        rows: Sequence[Sequence[str]],
        styles: Sequence[str] = (),
        *,
        section_at: int | None = None,
    ) -> None:
        """`section_at`: a line above that row."""
        table = Table(
            box=_BOX, padding=(0, GAP - 1, 0, 0), pad_edge=False, show_edge=False, header_style="dim"
        )
        for column in columns:
            right = column.kind == "number"
            table.add_column(self._said(column.head), justify="right" if right else "left", no_wrap=True)
        plain = [[encodable(cell, self.encoding) for cell in row] for row in rows]
        shown = fit(columns, plain, self.width - _INDENT - 1)
        for index, row in enumerate(shown):
            style = styles[index] if styles else ""
            table.add_row(*(Text(cell) for cell in row), style=style, end_section=index + 1 == section_at)
        self.add(table, _INDENT)

    def facts(self, facts: Facts) -> None:
        """Labelled lines, the labels in a column of their own."""
        grid = Table.grid(padding=(0, GAP, 0, 0))
        grid.add_column(style="dim", no_wrap=True)
        grid.add_column(overflow="fold")
        for label, text in facts:
            grid.add_row(self._said(cut(label, _LONGEST_LABEL)), self._said(cut(text, _LONGEST_TEXT)))
        if grid.row_count:
            self.add(grid, _INDENT)

    def _said(self, text: str, style: str = "") -> Text:
        return Text(encodable(text, self.encoding), style=style)

    def bullet(self, mark: str, text: str, style: str, indent: int) -> None:
        grid = Table.grid(padding=(0, 1, 0, 0))
        grid.add_column(style=style)
        grid.add_column(overflow="fold")
        grid.add_row(self._said(mark), self._said(cut(text, _LONGEST_TEXT)))
        self.add(grid, indent)

    def text(self) -> str:
        lines = "\n".join(line.rstrip() for line in self._file.getvalue().split("\n"))
        return encodable(lines.strip("\n") + "\n", self.encoding)


# --- one run ----------------------------------------------------------------------------------------


def _header(page: _Page, run: Run) -> None:
    page.line(cut_middle(command_line(run.command) or "(no command)", page.width * 2 - 8), "bold")
    mood = "red" if has_failed(run.exit) else ""
    page.line(
        " · ".join(part for part in (ending(run), started(run), cut(clean(run.name), 60)) if part), mood
    )
    for line in setting(run):
        page.line(line, "dim")
    if run.state in STATES:
        page.line(STATES[run.state], "yellow")


def _energy(page: _Page, run: Run) -> None:
    energy = run.energy
    if energy is None:
        page.title("Energy", "unknown: nothing in the record to know it from")
        return
    said = energy_with_bounds(energy.attributed_j, energy.uncertainty_j, energy.low_j, energy.high_j)
    whole = " over all executions" if run.executions else ""
    page.title("Energy", f"{said} of the command{whole}, {provenance(energy)}" if said else "unknown")
    channels, totals = energy_rows(run), total_rows(energy)
    if not any(row.machine or row.attributed for row in channels + totals):
        return
    wide, narrow = page.width >= _WIDE, page.width < _NARROW
    columns = [
        Column("device", "name"),
        Column("command", "number"),
        Column("±"),
        Column("machine", "number"),
    ]
    if narrow:
        columns.pop(2)
    elif any(row.idle for row in channels + totals):
        columns.append(Column("idle", "number"))
    columns += [Column("provenance", "name")] if not narrow else []
    columns += [Column("note", "name")] if wide else []
    rows = [[_energy_cells(row, wide=wide)[column.head] for column in columns] for row in channels + totals]
    styles = ["" if row.is_counted else "dim" for row in channels]
    styles += ["bold" if row.is_counted else "" for row in totals]
    page.table(columns, rows, styles, section_at=len(channels))
    if not wide:
        page.facts((row.label, row.note) for row in channels if row.is_counted and row.note)
    page.facts([(label, said) for label, said in (("work", work(run)), ("battery", battery(run))) if said])


def _energy_cells(row: EnergyRow, *, wide: bool) -> dict[str, str]:
    return {
        "device": "  " * min(row.depth, 4) + row.label,
        "command": row.attributed,
        "±": row.bounds,
        "machine": row.machine,
        "idle": row.idle,
        "provenance": row.provenance if row.is_counted or wide else row.note,
        "note": row.note,
    }


def _executions(page: _Page, run: Run) -> None:
    page.title("One execution")
    page.facts(repeat_facts(run))
    rows, left_out = execution_rows(run)
    columns = [Column("#", "number"), Column("time", "number"), Column("energy", "number")]
    if page.width >= _NARROW:
        columns += [Column("bounds"), Column("machine", "number"), Column("power", "number")]
    columns += [Column("exit"), Column("", "name")]
    said = [
        {
            "#": row.number,
            "time": row.time,
            "energy": row.energy,
            "bounds": row.bounds,
            "machine": row.machine,
            "power": row.power,
            "exit": row.exit,
            "": row.note,
        }
        for row in rows
    ]
    styles = ["yellow" if row.is_marked else "" for row in rows]
    page.table(columns, [[cells[column.head] for column in columns] for cells in said], styles)
    if left_out:
        page.line(more_text(left_out), "dim", _INDENT)
    page.line(METHOD, "dim", _INDENT)


def _phases(page: _Page, run: Run) -> None:
    page.title("Phases")
    columns = [Column(head, "number") for head in PHASE_HEADS]
    columns[0], columns[-1] = Column(PHASE_HEADS[0], "name"), Column(PHASE_HEADS[-1])
    page.table(columns, phase_rows(run))
    page.line("one that lies within another counts in both", "dim", _INDENT)


def _processes(page: _Page, run: Run) -> None:
    processes = process_rows(run)
    if not processes:
        return
    tree = finite(run.cpu_time.tree_s)
    page.title("Processes", f"{cpu_seconds(tree)} CPU s of the tree" if tree is not None else "")
    columns = [Column("CPU s", "number"), Column("energy", "number"), Column("command", "command")]
    if page.width >= _NARROW:
        columns[1:1] = [Column("share", "number")]
        columns[0:0] = [Column("pid", "number")]
    said = [
        {
            "pid": row.pid,
            "CPU s": row.cpu,
            "share": row.share,
            "energy": row.energy,
            "command": row.command + (" (left running)" if row.is_left_running else ""),
        }
        for row in processes
    ]
    page.table(columns, [[cells[column.head] for column in columns] for cells in said])
    page.line(PROCESS_RULE, "dim", _INDENT)


def _curve(page: _Page, run: Run) -> None:
    columns = max(min(page.width - 2 * _INDENT, 160), 10)
    machine = curve.resample([(point.t_s, point.machine_w) for point in run.curve], run.duration_s, columns)
    command = curve.resample(
        [(point.t_s, point.attributed_w) for point in run.curve], run.duration_s, columns
    )
    top = max((value for value in machine + command if value is not None), default=0.0)
    if len(run.curve) < 2 or top <= 0:
        return
    page.title("Power", f"bars from 0 to {units.power(top)}")
    for label, values, style in (("machine", machine, ""), ("command", command, "green")):
        if not (known := [value for value in values if value is not None]):
            continue
        mean = units.power(sum(known) / len(known))
        page.line(
            f"{label}: {mean} mean, {units.power(min(known))} to {units.power(max(known))}", "", _INDENT
        )
        for row in curve.draw(values, top=top, rows=_CURVE_ROWS, blocks=can_draw(page.encoding)):
            if row.strip():
                page.line(row, style, _INDENT)
    page.line(f"0 s{units.duration(run.duration_s):>{columns - 3}}", "dim", _INDENT)


def _warnings(page: _Page, run: Run) -> None:
    if not run.notices:
        return
    page.title("Warnings")
    for happened, remedy in warning_texts(run):
        page.bullet("!", happened, "yellow", _INDENT)
        if remedy:
            page.bullet("->", remedy, "", _INDENT + 2)
