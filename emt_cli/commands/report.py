"""`emt report`: what a record says, as tables for people or as data for programs."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from emt_cli.commands import stdout
from emt_cli.commands.finding import WAYS, load_runs
from emt_cli.errors import NotFoundError, UsageError
from emt_cli.model import Run

app = typer.Typer(add_completion=False)

Format = Literal["table", "json", "csv", "markdown"]
_SHOWN: dict[Format, str] = {
    "table": "energy executions phases processes curve carbon warnings",
    "markdown": "energy executions phases processes carbon warnings",
}


@app.command()
def report(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN|PATH]...",
            help=WAYS,
            show_default=False,
        ),
    ] = None,
    form: Annotated[
        Format, typer.Option("--format", help="Tables for people; JSON, CSV or Markdown on standard output.")
    ] = "table",
    path: Annotated[
        str | None,
        typer.Option(
            "--get", metavar="FIELD", help="One value, for example energy.attributed_j.", show_default=False
        ),
    ] = None,
    show: Annotated[
        str | None,
        typer.Option(
            "--show",
            metavar="LIST",
            help="Only these sections: energy, executions, phases, processes, curve, carbon, warnings.",
            show_default=False,
        ),
    ] = None,
    width: Annotated[
        int | None, typer.Option("--width", min=20, max=1000, help="Columns to use.", show_default=False)
    ] = None,
    recompute: Annotated[
        bool, typer.Option("--recompute", help="Work the results out anew from the raw readings.")
    ] = False,
) -> None:
    """Show what a run used: the newest one, or those that are named.

    Several runs become a table with a row each; with --show, a page each.

    Example: emt report nightly --format markdown
    """
    sections = _sections(show, form)
    if path is not None and form not in ("table", "json"):
        raise UsageError(
            f"--get prints one value and has no --format {form}", hint=f"emt report --get {path}"
        )
    loaded = load_runs(runs or ["@latest"], recompute=recompute)
    if path is not None:
        _print_value(loaded, path, as_json=form == "json")
    elif form == "json":
        _print_json(loaded)
    elif form == "csv":
        _print_csv(loaded)
    elif form == "markdown":
        _print_markdown(loaded, sections)
    else:
        _print_tables(loaded, sections, width)


def _sections(show: str | None, form: Format) -> frozenset[str] | None:
    """The sections asked for; None for all of them. Raises UsageError."""
    if show is None:
        return None
    if form not in _SHOWN:
        raise UsageError(
            f"--show chooses sections for people; --format {form} is always complete", hint="leave --show out"
        )
    known = _SHOWN[form].split()
    wanted = [name.strip() for name in show.split(",") if name.strip()]
    if unknown := [name for name in wanted if name not in known]:
        raise UsageError(f"--show: there is no section {unknown[0]!r}", hint=f"there are {', '.join(known)}")
    if not wanted:
        raise UsageError("--show names no section", hint=f"there are {', '.join(known)}")
    return frozenset(wanted)


# --- printing ---------------------------------------------------------------------------------------


def _print_tables(runs: list[Run], sections: frozenset[str] | None, width: int | None) -> None:
    from emt_cli.reports import text

    to = stdout.terminal(width)
    look = to._asdict()
    if len(runs) != 1 and sections is None:
        stdout.write(text.render_runs(runs, **look))
        return
    shown = text.SECTIONS if sections is None else sections
    stdout.write("\n".join(text.render(run, show=shown, **look) for run in runs))


def _print_markdown(runs: list[Run], sections: frozenset[str] | None) -> None:
    from emt_cli.reports import markdown

    if sections is None:
        stdout.write(markdown.as_markdown(runs))
    else:
        stdout.write("\n".join(markdown.as_markdown([run], sections) for run in runs))


def _print_json(runs: list[Run]) -> None:
    from emt_cli.reports import data
    from emt_cli.store import encode

    stdout.write(data.as_json([encode(run) for run in runs]))


def _print_csv(runs: list[Run]) -> None:
    from emt_cli.reports import data
    from emt_cli.store.summary import header, row

    stdout.write(data.as_csv(header(), (row(run) for run in runs)))


def _print_value(runs: list[Run], path: str, *, as_json: bool) -> None:
    """One line a run. An unknown value prints nothing, or `null` among several runs; the status says so."""
    from emt_cli.reports import data
    from emt_cli.reports.words import clean
    from emt_cli.store import encode

    values = [data.get(encode(run), path) for run in runs]
    write = data.as_line if as_json else data.as_text
    if len(values) > 1 or values[0] is not None:
        stdout.write("".join(f"{write(value)}\n" for value in values))
    if None in values:
        run = runs[values.index(None)]
        raise NotFoundError(
            f"{path} is not known of run {clean(run.id)}", hint="emt report --format json shows all that is"
        )
