"""`emt compare`: by how much runs differ, how sure that is, and whether they may be compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from emt_cli.commands import stdout
from emt_cli.commands.finding import WAYS, load_runs
from emt_cli.errors import UsageError

if TYPE_CHECKING:
    from emt_cli.analysis.comparison import Comparison
    from emt_cli.model import Run, Scope

app = typer.Typer(add_completion=False)

_NOT_COMPARABLE = 3
"""The status where at least one run cannot be compared with the first; the verdict itself has none."""
_NARROW = 60
_MOST = 100


@app.command()
def compare(
    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUN|PATH...", help=f"{WAYS} @latest~1, NAME~1: the one before."),
    ],
    scope: Annotated[
        Literal["tree", "machine"] | None,
        typer.Option(
            "--scope",
            help="Whose energy: the command's or the machine's; else the first run's own.",
            show_default=False,
        ),
    ] = None,
    across_hosts: Annotated[
        bool,
        typer.Option("--across-hosts", help="Compare although the hosts differ."),
    ] = False,
    form: Annotated[
        Literal["table", "json", "csv", "markdown"],
        typer.Option("--format", help="Tables for people; JSON, CSV or Markdown on standard output."),
    ] = "table",
) -> None:
    """Compare runs with the first one: how much less or more, and is it real?

    Repeated runs (emt run -r 10) get a verdict by statistics; of one run
    each, it is only told whether their uncertainties keep them apart.

    Status 0 whatever the verdict; 3 where runs are not comparable, since
    their hosts or sensors differ.

    Example: emt compare before after
    """
    from emt_cli.analysis.comparison import compare as compared

    found = load_runs(runs)
    if len(found) < 2:
        raise UsageError("emt compare needs two runs or more", hint="emt compare @latest~1 @latest")
    if len(found) > _MOST:
        raise UsageError(
            f"these are {len(found)} runs: at most {_MOST} are compared at once", hint="name fewer"
        )
    first, second, *more = found
    chosen: Scope = scope or first.settings.scope
    comparisons = compared(first, second, *more, scope=chosen, across_hosts=across_hosts)
    if form == "json":
        _print_json(found, comparisons)
    elif form == "csv":
        _print_csv(found, comparisons)
    elif form == "markdown":
        _print_markdown(found, comparisons)
    else:
        _print_tables(found, comparisons)
    if any(each.refusals for each in comparisons):
        raise typer.Exit(_NOT_COMPARABLE)


def _print_tables(runs: Sequence[Run], comparisons: Sequence[Comparison]) -> None:
    from emt_cli.reports import compared, text

    look = stdout.terminal()
    is_narrow = look.width < _NARROW
    options = look._asdict()
    stdout.write(
        "\n".join(
            [
                text.render_table(compared.run_columns(), compared.run_rows(runs), **options),
                text.render_table(
                    compared.columns(is_narrow=is_narrow),
                    compared.rows(comparisons, is_narrow=is_narrow),
                    styles=compared.styles(comparisons),
                    **options,
                ),
                text.render_table([], [], facts=compared.facts(runs, comparisons), **options),
            ]
        )
    )


def _print_markdown(runs: Sequence[Run], comparisons: Sequence[Comparison]) -> None:
    from emt_cli.reports import compared
    from emt_cli.reports.markdown import as_list, table

    heads = [column.head for column in compared.run_columns()]
    parts = [*table(heads, compared.run_rows(runs), {"executions"}), ""]
    heads = [column.head for column in compared.columns()]
    parts += [*table(heads, compared.rows(comparisons), {"mean"}), ""]
    parts.append(as_list((name or "verdict", said) for name, said in compared.facts(runs, comparisons)))
    stdout.write("\n".join(parts))


def _print_json(runs: Sequence[Run], comparisons: Sequence[Comparison]) -> None:
    from emt_cli.reports import compared_data, data

    stdout.write(data.as_json([compared_data.document(runs, comparisons)]))


def _print_csv(runs: Sequence[Run], comparisons: Sequence[Comparison]) -> None:
    from emt_cli.reports import compared_data, data

    stdout.write(data.table_as_csv(compared_data.COLUMNS, compared_data.csv_rows(runs, comparisons)))
