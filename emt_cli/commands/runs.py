"""`emt runs`: what the store holds, and how to make room in it."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from emt_cli import units
from emt_cli.commands import stdout
from emt_cli.config import load_here
from emt_cli.errors import UsageError
from emt_cli.reports.words import clean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from emt_cli.store.listing import Entry

app = typer.Typer(add_completion=False, invoke_without_command=True)

Format = Annotated[
    Literal["table", "json", "csv"],
    typer.Option("--format", help="A table for people; JSON or CSV for programs."),
]

_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0, "y": 365 * 86400.0}
_HEADERS = ("id", "name", "started (UTC)", "duration", "energy", "state", "command")
_COLUMNS = (
    "id",
    "name",
    "started_at",
    "duration_s",
    "attributed_j",
    "state",
    "size_bytes",
    "command",
    "path",
    "problem",
)
_LONGEST_COMMAND = 60
_WIDE = 110


@app.callback()
def runs(context: typer.Context, form: Format = "table") -> None:
    """List the recorded runs, newest first, and delete old ones.

    Without a command this is emt runs list.

    Example: emt runs prune --keep 100 --older 90d
    """
    if context.invoked_subcommand is None:
        _show(form)


@app.command("list")
def list_runs(form: Format = "table") -> None:
    """List the recorded runs, newest first.

    The energy is the command's own share.

    Example: emt runs list --format csv
    """
    _show(form)


@app.command()
def rm(
    wanted: Annotated[
        list[str],
        typer.Argument(metavar="RUN...", help="Ids, beginnings of ids, names, @latest, or folders."),
    ],
) -> None:
    """Delete runs.

    One that is still going on is refused, and so is a folder that is no run.

    Example: emt runs rm @latest nightly
    """
    from emt_cli.store.listing import find
    from emt_cli.store.removal import remove

    store = _store()
    paths = list(dict.fromkeys(find(store, one) for one in wanted))
    freed = remove(paths)
    stdout.write(f"{_count(len(paths))} deleted, {units.size(freed)} freed\n")


@app.command()
def prune(
    keep: Annotated[
        int | None,
        typer.Option("--keep", metavar="N", min=0, help="Keep the N newest runs.", show_default=False),
    ] = None,
    older: Annotated[
        str | None,
        typer.Option(
            "--older", metavar="AGE", help="Delete only runs older than 90d, 12h, 2w.", show_default=False
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be deleted.")] = False,
) -> None:
    """Delete old runs.

    With both options: those beyond the N newest that are also older than AGE.

    Example: emt runs prune --older 90d --dry-run
    """
    from emt_cli.store.listing import entries
    from emt_cli.store.removal import prunable, remove, total_bytes

    if keep is None and older is None:
        raise UsageError("emt runs prune needs --keep or --older", hint="emt runs prune --older 90d")
    store = _store()
    before = total_bytes(entries(store))
    chosen = prunable(store, keep=keep, older_s=None if older is None else age_s(older))
    lines = []
    if dry_run:
        lines = [f"{clean(one.id)}  {units.size(one.size_bytes)}" for one in chosen]
        freed = total_bytes(chosen)
    else:
        freed = remove([one.path for one in chosen])
    done = f"{_count(len(chosen))} {'would be deleted' if dry_run else 'deleted'}"
    lines.append(f"{done}; store {store}: {units.size(before)} -> {units.size(before - freed)}")
    stdout.write("\n".join([*lines, ""]))


def age_s(text: str) -> float:
    """`90d`, `12h`, `2w` as seconds. Raises UsageError."""
    match = re.fullmatch(r"(\d{1,9}(?:\.\d+)?) ?([smhdwy])", text.strip(), re.ASCII)
    if match is None:
        raise UsageError(
            f"--older {text}: not an age", hint="a number and one of s m h d w y, for example 90d"
        )
    return float(match[1]) * _UNITS_S[match[2]]


def _store() -> str:
    from emt_cli.commands.keeping import store_of

    return store_of(load_here({}))


def _show(form: Literal["table", "json", "csv"]) -> None:
    from emt_cli.store.listing import entries

    store = _store()
    found = list(entries(store))
    if form == "json":
        text = _json(found)
    elif form == "csv":
        text = _csv(found)
    elif not found:
        text = f"no runs in {clean(store)} yet; emt run -- COMMAND records one\n"
    elif sys.stdout is not None and sys.stdout.isatty():
        text = _rich(found, store)
    else:
        text = _plain(found, store)
    stdout.write(text)


def _json(found: Sequence[Entry]) -> str:
    import json

    return json.dumps([{name: getattr(one, name) for name in _COLUMNS} for one in found], indent=1) + "\n"


def _csv(found: Sequence[Entry]) -> str:
    import csv
    import io
    import shlex

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for one in found:
        cells = {name: getattr(one, name) for name in _COLUMNS} | {"command": shlex.join(one.command)}
        writer.writerow([clean(cell) if isinstance(cell, str) else cell for cell in cells.values()])
    return text.getvalue()


def _plain(found: Sequence[Entry], store: str) -> str:
    rows = [_HEADERS, *(_cells(one) for one in found)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(_HEADERS) - 1)]
    lines = []
    for row in rows:
        cells = (
            cell.rjust(width) if header in ("duration", "energy") else cell.ljust(width)
            for header, cell, width in zip(_HEADERS, row, widths, strict=False)
        )
        lines.append("  ".join([*cells, row[-1]]).rstrip())
    return "\n".join([*lines, _footer(found, store), ""])


def _rich(found: Sequence[Entry], store: str) -> str:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(width=stdout.terminal().width)
    # the id tells the time too, so a narrow terminal does without
    shown_at = [at for at, name in enumerate(_HEADERS) if name != "started (UTC)" or console.width >= _WIDE]
    rows = [_cells(one) for one in found]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for at in shown_at:
        is_number = _HEADERS[at] in ("duration", "energy")
        width = max(len(row[at]) for row in [_HEADERS, *rows])
        table.add_column(
            _HEADERS[at],
            justify="right" if is_number else "left",
            no_wrap=True,
            overflow="ellipsis",
            min_width=None if _HEADERS[at] == "command" else width,
        )
    for one, cells in zip(found, rows, strict=True):
        style = {"damaged": "red", "recovered": "yellow", "running": "green"}.get(one.state, "")
        table.add_row(*(Text(cells[at]) for at in shown_at), style=style)
    with console.capture() as capture:
        console.print(table)
        console.print(Text(_footer(found, store)), style="dim")
    return capture.get()


def _cells(one: Entry) -> tuple[str, ...]:
    import shlex

    command = clean(one.problem or shlex.join(one.command))
    return (
        clean(one.id),
        clean(one.name),
        clean(one.started_at[:19].replace("T", " ")),
        "-" if one.duration_s is None else units.duration(one.duration_s),
        "-" if one.attributed_j is None else units.energy(one.attributed_j),
        one.state,
        command if len(command) <= _LONGEST_COMMAND else command[: _LONGEST_COMMAND - 1] + "…",
    )


def _footer(found: Sequence[Entry], store: str) -> str:
    from emt_cli.store.removal import total_bytes

    return f"{_count(len(found))}, {units.size(total_bytes(found))} in {clean(store)}"


def _count(number: int) -> str:
    return "1 run" if number == 1 else f"{number} runs"
