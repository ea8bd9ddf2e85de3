"""`emt bench`: several commands side by side, in rounds, and what their difference is worth.

Each execution is measured as by `emt run -r`; the commands take turns, and the order turns round with every
round, so that drift hits all alike. Every command's executions become a record of their own, kept together by
the tag `bench`. Only whole rounds are kept: a pair needs both.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from emt_cli.commands import choosing, parameters, stdout, working
from emt_cli.commands.execution import Order, Plan, in_shell
from emt_cli.commands.repeating import check, progress_on
from emt_cli.commands.rounds import Line, Rounds
from emt_cli.commands.run import tags_of
from emt_cli.config import keys, load_here
from emt_cli.errors import OutputError, UsageError
from emt_cli.sensors.base import Machine

if TYPE_CHECKING:
    from emt_cli.reports.benchmark import Bench

app = typer.Typer(add_completion=False)

Format = Literal["table", "json", "csv", "markdown"]
_SUFFIXES: dict[str, Format] = {".json": "json", ".csv": "csv", ".md": "markdown"}
_MOST_COMMANDS = 200


@app.command()
def bench(
    context: typer.Context,
    commands: Annotated[
        list[str],
        typer.Argument(metavar="COMMAND...", help="Each one in quotes, {NAME} for a parameter."),
    ],
    parameter: Annotated[
        list[str] | None,
        typer.Option(
            "-P",
            "--parameter",
            metavar="NAME=V1,V2",
            help="Values of {NAME}; every combination is run.",
            show_default=False,
        ),
    ] = None,
    repeat: Annotated[
        int, typer.Option("-r", "--repeat", min=1, max=100_000, metavar="N", help="Rounds.")
    ] = 10,
    warmup: Annotated[
        int, typer.Option("--warmup", min=0, metavar="K", help="Rounds before, unmeasured.")
    ] = 0,
    cooldown: Annotated[
        float, typer.Option("--cooldown", min=0, metavar="S", help="Seconds of rest between two executions.")
    ] = 0.0,
    prepare: Annotated[
        str,
        typer.Option(
            "--prepare", metavar="CMD", help="A shell line before each execution.", show_default=False
        ),
    ] = "",
    idle_before: Annotated[
        float,
        typer.Option(
            "--idle-before", min=0, metavar="S", help="Measure idle power first.", show_default=False
        ),
    ] = 0.0,
    ignore_failure: Annotated[
        bool, typer.Option("--ignore-failure", help="Go on when a command fails.")
    ] = False,
    name: Annotated[
        list[str] | None,
        typer.Option(
            "-n", "--name", metavar="NAME", help="A name for each command, in order.", show_default=False
        ),
    ] = None,
    scope: Annotated[
        Literal["tree", "machine"] | None,
        typer.Option("--scope", help="Whose energy is compared.", show_default=False),
    ] = None,
    units: working.Units = None,
    units_from: working.UnitsFrom = None,
    form: Annotated[
        Format, typer.Option("--format", help="A table for people; JSON, CSV or Markdown.")
    ] = "table",
    output: Annotated[
        list[str] | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="Also write it to a .json, .csv or .md file.",
            show_default=False,
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what -o names.")] = False,
    show_output: Annotated[
        bool, typer.Option("--show-output", help="Let the commands write, to standard error.")
    ] = False,
    shell: Annotated[bool, typer.Option("--shell", help="Hand each command to /bin/sh.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Show no progress.")] = False,
    no_store: Annotated[bool, typer.Option("--no-store", help="Do not keep the runs in the store.")] = False,
    tag: Annotated[
        list[str] | None,
        typer.Option("-t", "--tag", metavar="KEY=VALUE", help="A tag for every run.", show_default=False),
    ] = None,
    frequency: Annotated[
        float | None,
        typer.Option("-F", "--frequency", metavar="HZ", help="Samples per second [10].", show_default=False),
    ] = None,
    only: choosing.Only = None,
    exclude: choosing.Exclude = None,
    opt_in: choosing.With = None,
    width: Annotated[
        int | None, typer.Option("--width", min=20, max=1000, help="Columns to use.", show_default=False)
    ] = None,
) -> None:
    """Compare the energy of commands that do the same work.

    Each command is run N times, all taking turns, and kept as a record. The
    table says which one uses least, and whether the difference is real.

    Example: emt bench -P level=1,9 'gzip -c -{level} file' 'zstd -c -{level} file'
    """
    flags = {
        keys.FREQUENCY.name: frequency,
        keys.SCOPE.name: scope,
        keys.STORE_ENABLED.name: False if no_store else None,
        **choosing.flags(only, exclude, opt_in),
    }
    config = load_here(flags)
    machine = context.obj or Machine()
    plan = Plan(
        executions=repeat,
        warmup=warmup,
        cooldown_s=cooldown,
        prepare=prepare,
        idle_before_s=idle_before,
        ignore_failure=ignore_failure,
    )
    check(plan)
    lines = lines_of(commands, parameter or (), name or (), machine.platform, is_shell=shell)
    targets = [_target(path, force=force) for path in output or ()]
    work = working.order_of(units, units_from)
    order = Order(command=(), tags=tags_of(tag or ()), work=work)
    from emt_cli.measure.here import this_system

    system = this_system(machine.platform)
    rounds = Rounds(lines, order, plan, config, machine, system, is_shown=show_output)
    found = rounds.measure(progress_on(None if quiet else sys.stderr))
    if found is not None:
        _print(found, form, width)
        for path, kind in targets:
            _write(found, path, kind)
    if system.interrupted_by is not None:
        system.die_by(system.interrupted_by)
    if rounds.failure is not None:
        raise rounds.failure


# --- what is asked for ------------------------------------------------------------------------------


def lines_of(
    commands: Sequence[str], given: Sequence[str], names: Sequence[str], platform: str, *, is_shell: bool
) -> list[Line]:
    """Every command with every combination of the parameters that it uses. Raises UsageError."""
    known = parameters.parameters(given)
    if unused := [name for name in known if not any(name in parameters.names_in(line) for line in commands)]:
        raise UsageError(f"-P {unused[0]}: no command uses {{{unused[0]}}}", hint="write it into a command")
    if len(names) > len(commands):
        raise UsageError(
            f"{len(names)} names for {len(commands)} command(s)", hint="give -n once a command, in order"
        )
    found = []
    for index, command in enumerate(commands):
        for values in parameters.variants(command, known):
            text = parameters.filled(command, values)
            words = in_shell([text], platform) if is_shell else _split(text)
            label = _label(names[index], values) if index < len(names) else text
            found.append(Line(text, label, tuple(words), values))
    if len(found) > _MOST_COMMANDS:
        raise UsageError(
            f"{len(found)} commands: at most {_MOST_COMMANDS} are compared",
            hint="leave out some values of -P",
        )
    return found


def _label(name: str, values: dict[str, str]) -> str:
    """A name with its parameters, in it or behind it."""
    if set(values) <= set(parameters.names_in(name)):
        return parameters.filled(name, values)
    return " ".join([name, *(f"{key}={value}" for key, value in values.items())])


def _split(text: str) -> list[str]:
    try:
        words = shlex.split(text, posix=os.name != "nt")
    except ValueError as error:
        raise UsageError(f"{text}: {error}", hint="check its quotes, or use --shell") from error
    if not words:
        raise UsageError("an empty command", hint="emt bench 'COMMAND ARGS' 'OTHER COMMAND'")
    return words


def _target(path: str, *, force: bool) -> tuple[str, Format]:
    """A file of -o and its format. Raises UsageError and OutputError."""
    kind = _SUFFIXES.get(os.path.splitext(path)[1].lower())
    if kind is None:
        raise UsageError(f"-o {path}: the suffix says the format", hint="there are .json, .csv and .md")
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise OutputError(f"-o {path}: there is no folder {folder}", hint=f"mkdir -p {folder}")
    if os.path.lexists(path) and not force:
        raise OutputError(f"-o {path} is there already", hint="choose another name, or --force")
    return path, kind


# --- what is told -----------------------------------------------------------------------------------


def _print(found: Bench, form: Format, width: int | None) -> None:
    if form == "table":
        from emt_cli.reports.benchmark import draw

        stdout.write(draw(found, **stdout.terminal(width)._asdict()))
    else:
        stdout.write(_text(found, form))


def _text(found: Bench, form: Format) -> str:
    from emt_cli.reports import benchmark, data

    if form == "json":
        return data.as_json([benchmark.document(found)])
    if form == "csv":
        return data.table_as_csv(*benchmark.csv_rows(found))
    return benchmark.as_markdown(found)


def _write(found: Bench, path: str, form: Format) -> None:
    """Raises OutputError."""
    from emt_cli.commands.keeping import invoking_user
    from emt_cli.store.placing import put_file

    try:
        put_file(os.path.abspath(path), _text(found, form).encode(), force=True, owner=invoking_user())
    except OSError as error:
        raise OutputError(
            f"-o {path} cannot be written: {error.strerror}", hint="the runs are kept: emt runs list"
        ) from error
