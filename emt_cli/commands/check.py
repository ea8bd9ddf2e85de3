"""`emt check`: whether a run keeps its limits, as a status that a script or a pipeline can act on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from emt_cli.commands import limiting, stdout
from emt_cli.commands.finding import load_runs
from emt_cli.errors import IncomparableError, UsageError

if TYPE_CHECKING:
    from emt_cli.model import Run, Scope
    from emt_cli.reports.checked import Checked

app = typer.Typer(add_completion=False)

_MISSED = 3
_TOLERANCE = 0.05
_NARROW = 60


@app.command()
def check(
    run: Annotated[
        str,
        typer.Argument(
            metavar="[RUN|PATH]",
            help="A run by id, name or tag, @latest, or a path (see emt report).",
        ),
    ] = "@latest",
    max_energy: limiting.MaxEnergy = None,
    max_co2e: limiting.MaxCo2e = None,
    max_power: limiting.MaxPower = None,
    max_time: limiting.MaxTime = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            "--baseline", metavar="RUN|PATH", help="Not more energy than this run.", show_default=False
        ),
    ] = None,
    tolerance: Annotated[
        str | None,
        typer.Option(
            "--tolerance", metavar="SHARE", help="How much more is let pass [5%].", show_default=False
        ),
    ] = None,
    scope: Annotated[
        Literal["tree", "machine"] | None,
        typer.Option(
            "--scope",
            help="Whose energy: the command's or the machine's; else the run's own.",
            show_default=False,
        ),
    ] = None,
    across_hosts: Annotated[
        bool, typer.Option("--across-hosts", help="Take a baseline of another host all the same.")
    ] = False,
    form: Annotated[
        Literal["table", "json", "csv", "markdown"],
        typer.Option("--format", help="Tables for people; JSON, CSV or Markdown on standard output."),
    ] = "table",
) -> None:
    """Hold a run to limits, or to a baseline.

    Status 0: all kept. Status 3: one is missed; what is not known never
    passes. Of a repeated run the mean of its executions decides. A baseline
    is missed by energy that is above the tolerance and, beyond chance or
    uncertainty, more; one that cannot be compared is an error (1).

    Example: emt check --max-energy 5kJ --baseline main.json --tolerance 3%
    """
    from emt_cli.analysis import limits
    from emt_cli.reports.checked import Checked

    wanted = limiting.limits_of(max_energy, max_co2e, max_power, max_time) or limits.Limits()
    if not wanted.each() and baseline is None:
        raise UsageError("emt check needs a limit to hold the run to", hint="emt check --max-energy 5kJ")
    if min(wanted.each().values(), default=1.0) <= 0:
        raise UsageError("nothing that runs can keep a limit of 0", hint="leave that limit out")
    share = _tolerance(tolerance, baseline)
    measured = _one(run, "RUN")
    chosen: Scope = scope or measured.settings.scope
    checks = limits.check(measured, wanted, scope=chosen)
    other = None if baseline is None else _one(baseline, "--baseline")
    if other is not None:
        _demand_comparable(other, measured, chosen, across_hosts=across_hosts)
        checks += (limits.check_baseline(measured, other, share, scope=chosen),)
    _print(form, Checked(run=measured, baseline=other, scope=chosen, checks=checks))
    if not all(each.is_passed for each in checks):
        raise typer.Exit(_MISSED)


def _tolerance(text: str | None, baseline: str | None) -> float:
    from emt_cli import quantities

    if text is None:
        return _TOLERANCE
    if baseline is None:
        raise UsageError("--tolerance is of a baseline, and there is none", hint="add --baseline RUN")
    try:
        return quantities.share(text)
    except UsageError as error:
        raise UsageError(f"--tolerance: {error}", hint=error.hint) from error


def _one(wanted: str, what: str) -> Run:
    found = load_runs([wanted])
    if len(found) != 1:
        raise UsageError(
            f"{what} {wanted} holds {len(found)} runs, and one is checked at a time",
            hint=f"{wanted}#1 is the first row, {wanted}#-1 the last"
            if wanted.lower().endswith(".csv")
            else "name one of them: emt runs lists them",
        )
    return found[0]


def _demand_comparable(baseline: Run, run: Run, scope: Scope, *, across_hosts: bool) -> None:
    """Raises IncomparableError: a gate must not decide by a difference of machines, nor by half a record."""
    from emt_cli.analysis.comparison import compare

    (found,) = compare(baseline, run, scope=scope, across_hosts=across_hosts)
    if found.refusals:
        told = "; ".join(f"{one.what}: {one.a} there, {one.b} here" for one in found.refusals)
        is_waivable = all(one.weight == "host" for one in found.refusals)
        raise IncomparableError(
            f"the baseline is not comparable with the run ({told})",
            hint="record a baseline here"
            + (", or take this one all the same: --across-hosts" if is_waivable else ""),
        )
    if baseline.state != "complete":
        raise IncomparableError(
            f"the baseline's record breaks off ({baseline.state})", hint="record it again: emt run -r 10"
        )


def _print(form: str, told: Checked) -> None:
    from emt_cli.reports import checked, data

    if form == "json":
        stdout.write(data.as_json([checked.document(told)]))
    elif form == "csv":
        stdout.write(data.table_as_csv(checked.COLUMNS, checked.csv_rows(told)))
    elif form == "markdown":
        _print_markdown(told)
    else:
        _print_table(told)


def _print_markdown(told: Checked) -> None:
    from emt_cli.reports import checked
    from emt_cli.reports.markdown import as_list, table

    heads = [column.head for column in checked.columns()]
    facts = [(name or "ended", said) for name, said in checked.facts(told)]
    lines = table(heads, checked.rows(told.checks), {"found", "at most"})
    stdout.write("\n".join([*lines, "", as_list(facts)]))


def _print_table(told: Checked) -> None:
    from emt_cli.reports import checked, text

    look = stdout.terminal()
    columns, rows = checked.columns(), checked.rows(told.checks)
    if look.width < _NARROW:
        columns, rows = [*columns[:2], *columns[3:]], [[*row[:2], *row[3:]] for row in rows]
    table = text.render_table(columns, rows, styles=checked.styles(told.checks), **look._asdict())
    facts = text.render_table([], [], facts=checked.facts(told), **look._asdict())
    stdout.write(f"{table}\n{facts}")
