"""`emt run`: measure a command. The story of one run, from the options to the status it leaves with."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer

from emt_cli.commands import choosing, limiting, working
from emt_cli.commands.choosing import SENSORS
from emt_cli.commands.execution import Order, Plan, draft_of, in_shell, keep, keeping_of, measure, results_of
from emt_cli.config import Config, keys, load_here
from emt_cli.errors import UsageError
from emt_cli.model import Exit, Run
from emt_cli.sensors.base import Machine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from emt_cli.commands.keeping import Keeping
    from emt_cli.measure.session import MeasuringFault
    from emt_cli.measure.systems import System

app = typer.Typer(add_completion=False)

RECORD, REPEATS, MEANING = "Record", "Repeats", "Meaning"
"""Panels of the help page; SENSORS and LIMITS are those of the options that other commands share."""

_WRITE_LIMIT_S = 30.0
_NOT_KEPT = frozenset({"store_unwritable", "output_moved"})


@app.command(context_settings={"allow_interspersed_args": False})
def run(
    context: typer.Context,
    command: Annotated[
        list[str],
        typer.Argument(metavar="[--] COMMAND [ARGS]...", help="What to measure.", show_default=False),
    ],
    frequency: Annotated[
        float | None,
        typer.Option(
            "-F",
            "--frequency",
            metavar="HZ",
            rich_help_panel=SENSORS,
            help="Samples per second, 0.1 to 1000 [10].",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        list[str] | None,
        typer.Option(
            "-o",
            "--output",
            metavar="PATH",
            rich_help_panel=RECORD,
            help="Also write the record here: a folder, a .json or a .csv file. "
            "{host} {node} {pid} {date} {name} {job} {rank} are filled in.",
            show_default=False,
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", rich_help_panel=RECORD, help="Replace what -o names.")
    ] = False,
    no_store: Annotated[
        bool, typer.Option("--no-store", rich_help_panel=RECORD, help="Do not keep the run in the store.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("-q", "--quiet", rich_help_panel=RECORD, help="Print no summary.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", rich_help_panel=RECORD, help="Say more in the summary.")
    ] = False,
    name: Annotated[
        str,
        typer.Option(
            "-n",
            "--name",
            metavar="NAME",
            rich_help_panel=RECORD,
            help="A name to find the run by.",
            show_default=False,
        ),
    ] = "",
    tag: Annotated[
        list[str] | None,
        typer.Option(
            "-t",
            "--tag",
            metavar="KEY=VALUE",
            rich_help_panel=RECORD,
            help="A tag to find the run by.",
            show_default=False,
        ),
    ] = None,
    location: Annotated[
        str | None,
        typer.Option(
            "--location",
            metavar="PLACE",
            rich_help_panel=MEANING,
            help="Whose grid feeds the machine: FR.",
            show_default=False,
        ),
    ] = None,
    intensity: Annotated[
        float | None,
        typer.Option(
            "--intensity",
            metavar="G",
            rich_help_panel=MEANING,
            help="Grams of CO2e for a kilowatt-hour.",
            show_default=False,
        ),
    ] = None,
    pue: Annotated[
        float | None,
        typer.Option(
            "--pue",
            metavar="RATIO",
            rich_help_panel=MEANING,
            help="Power usage effectiveness of the site.",
            show_default=False,
        ),
    ] = None,
    scope: Annotated[
        Literal["tree", "machine"] | None,
        typer.Option(
            "--scope", rich_help_panel=MEANING, help="Whose energy carbon is counted for.", show_default=False
        ),
    ] = None,
    total: Annotated[
        Literal["components", "platform"] | None,
        typer.Option(
            "--total",
            rich_help_panel=MEANING,
            help="The headline: summed components or the whole node.",
            show_default=False,
        ),
    ] = None,
    idle_policy: Annotated[
        Literal["busy", "reserved", "capacity", "none"] | None,
        typer.Option(
            "--idle-policy",
            rich_help_panel=MEANING,
            help="Which share of the idle power the tree bears.",
            show_default=False,
        ),
    ] = None,
    max_samples: Annotated[
        int | None,
        typer.Option(
            "--max-samples",
            metavar="N",
            rich_help_panel=RECORD,
            help="Rows before the curve is thinned.",
            show_default=False,
        ),
    ] = None,
    no_perf: Annotated[
        bool,
        typer.Option("--no-perf", rich_help_panel=SENSORS, help="Count CPU time without the perf counter."),
    ] = False,
    wait_tree: Annotated[
        bool, typer.Option("--wait-tree", help="Measure until the last descendant has ended.")
    ] = False,
    repeat: Annotated[
        int,
        typer.Option(
            "-r",
            "--repeat",
            min=1,
            max=100_000,
            metavar="N",
            rich_help_panel=REPEATS,
            help="Executions.",
            show_default=False,
        ),
    ] = 1,
    warmup: Annotated[
        int,
        typer.Option(
            "--warmup",
            min=0,
            metavar="K",
            rich_help_panel=REPEATS,
            help="Executions before, unmeasured.",
            show_default=False,
        ),
    ] = 0,
    cooldown: Annotated[
        float,
        typer.Option(
            "--cooldown",
            min=0,
            metavar="S",
            rich_help_panel=REPEATS,
            help="Seconds of rest between two.",
            show_default=False,
        ),
    ] = 0.0,
    prepare: Annotated[
        str,
        typer.Option(
            "--prepare",
            metavar="CMD",
            rich_help_panel=REPEATS,
            help="A shell line before each execution.",
            show_default=False,
        ),
    ] = "",
    idle_before: Annotated[
        float,
        typer.Option(
            "--idle-before",
            min=0,
            metavar="S",
            rich_help_panel=REPEATS,
            help="Measure idle power first.",
            show_default=False,
        ),
    ] = 0.0,
    ignore_failure: Annotated[
        bool,
        typer.Option("--ignore-failure", rich_help_panel=REPEATS, help="Go on repeating when COMMAND fails."),
    ] = False,
    units: working.Units = None,
    units_from: working.UnitsFrom = None,
    max_energy: limiting.MaxEnergy = None,
    max_co2e: limiting.MaxCo2e = None,
    max_power: limiting.MaxPower = None,
    max_time: limiting.MaxTime = None,
    on_exceed: limiting.OnExceed = None,
    grace: limiting.Grace = None,
    only: choosing.Only = None,
    exclude: choosing.Exclude = None,
    opt_in: choosing.With = None,
    cpu_watts: Annotated[
        str | None,
        typer.Option(
            "--cpu-watts",
            metavar="IDLE:FULL",
            rich_help_panel=SENSORS,
            help="Watts of an unmeasured CPU, idle and fully loaded: 15:65.",
            show_default=False,
        ),
    ] = None,
    ram_watts_per_gb: Annotated[
        float | None,
        typer.Option(
            "--ram-watts-per-gb",
            metavar="W",
            rich_help_panel=SENSORS,
            help="Watts of unmeasured memory per GB.",
            show_default=False,
        ),
    ] = None,
    require: Annotated[
        Literal["measured"] | None,
        typer.Option(
            "--require",
            rich_help_panel=SENSORS,
            help="Do not start COMMAND where energy can only be estimated.",
            show_default=False,
        ),
    ] = None,
    replay: Annotated[
        str | None,
        typer.Option(
            "--replay",
            metavar="FILE",
            rich_help_panel=SENSORS,
            help="Play recorded readings instead of sensors.",
            show_default=False,
        ),
    ] = None,
    user: Annotated[
        str | None,
        typer.Option(
            "--user", metavar="NAME", help="Run the command as this user (root only).", show_default=False
        ),
    ] = None,
    shell: Annotated[bool, typer.Option("--shell", help="Hand COMMAND to /bin/sh as one line.")] = False,
) -> None:
    """Measure the energy of a command and of all it starts.

    The command keeps its input, output, terminal and signals; emt writes a
    summary to standard error and leaves with the command's own status.
    Options end at the first word that is none.

    Example: emt run -F 100 -o run.json -- python train.py
    """
    flags = {
        keys.FREQUENCY.name: frequency,
        keys.MAX_SAMPLES.name: max_samples,
        keys.SCOPE.name: scope,
        keys.TOTAL.name: total,
        keys.IDLE_POLICY.name: idle_policy,
        keys.PERF.name: False if no_perf else None,
        keys.QUIET.name: True if quiet else None,
        keys.WAIT_TREE.name: True if wait_tree else None,
        keys.LOCATION.name: location,
        keys.INTENSITY.name: intensity,
        keys.PUE.name: pue,
        keys.STORE_ENABLED.name: False if no_store else None,
        keys.CPU_WATTS.name: cpu_watts,
        keys.RAM_W_PER_GB.name: ram_watts_per_gb,
        keys.REQUIRE.name: require,
        keys.REPLAY.name: replay,
        **choosing.flags(only, exclude, opt_in),
    }
    config = load_here(flags)
    machine = context.obj or Machine()
    words = in_shell(command, machine.platform) if shell else command
    order = Order(
        command=tuple(words),
        name=name,
        tags=tags_of(tag or ()),
        outputs=tuple(output or ()),
        is_forced=force,
        user=user,
        work=working.order_of(units, units_from),
        limits=limiting.order_of(
            limiting.limits_of(max_energy, max_co2e, max_power, max_time), on_exceed, grace
        ),
    )
    plan = Plan(
        executions=repeat,
        warmup=warmup,
        cooldown_s=cooldown,
        prepare=prepare,
        idle_before_s=idle_before,
        ignore_failure=ignore_failure,
    )
    from emt_cli.measure.here import this_system
    from emt_cli.measure.session import MeasuringFault

    system = this_system(machine.platform)
    try:
        if plan == Plan():
            ended = _once(order, config, machine, system, is_verbose=verbose)
        else:
            ended = _again_and_again(order, plan, config, machine, system, is_verbose=verbose)
    except MeasuringFault as fault:
        _say_fault(fault)
        ended = fault.exit
    _leave(ended, system)


def _once(order: Order, config: Config, machine: Machine, system: System, *, is_verbose: bool) -> Exit:
    draft = draft_of(order, config, machine)
    keeping = keeping_of(draft, order, config)
    measured = measure(draft, keeping, order, config, machine, system)
    run = keep(limiting.judged(results_of(measured, keeping), order.limits), keeping)
    _tell(run, keeping, is_quiet=config[keys.QUIET], is_verbose=is_verbose)
    return limiting.exit_of(run)


def _again_and_again(
    order: Order, plan: Plan, config: Config, machine: Machine, system: System, *, is_verbose: bool
) -> Exit:
    """How to leave: as the first execution that failed, or as what kept emt from going on."""
    from emt_cli.commands import complain
    from emt_cli.commands.execution import NothingMeasured
    from emt_cli.commands.repeating import measure_repeatedly, progress_on

    progress = progress_on(None if config[keys.QUIET] else sys.stderr)
    try:
        run, keeping, failure = measure_repeatedly(order, plan, config, machine, system, progress)
    except NothingMeasured as nothing:
        complain(str(nothing), nothing.hint)
        return nothing.exit
    _tell(run, keeping, is_quiet=config[keys.QUIET], is_verbose=is_verbose)
    if failure is None:
        return limiting.exit_of(run)
    done = len(run.executions)
    complain(f"after {done} of {plan.executions} executions: {failure}", failure.hint)
    exit_of_fault: Exit | None = getattr(failure, "exit", None)
    return exit_of_fault or Exit(code=failure.exit_code)


def tags_of(words: Sequence[str]) -> dict[str, str]:
    """The tags of every `-t KEY=VALUE`. Raises UsageError."""
    found = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not key or not equals:
            raise UsageError(f"-t {word}: a tag is KEY=VALUE", hint="for example -t model=resnet50")
        found[key] = value
    return found


def _tell(run: Run, keeping: Keeping, *, is_quiet: bool, is_verbose: bool) -> None:
    """The summary, on stderr if there is one. Raises MeasuringFault where it cannot be put into words."""
    from emt_cli.commands import complain
    from emt_cli.measure.session import MeasuringFault
    from emt_cli.reports.summary import lines

    if is_quiet:  # but not about a record that is not where it was wanted
        for each in keeping.notices:
            if each.code in _NOT_KEPT:
                complain(each.text, each.hint)
        return
    stream = sys.stderr
    if stream is None:
        return
    try:
        width = os.get_terminal_size(stream.fileno()).columns if stream.isatty() else 80
        text = lines(
            run, stored=keeping.shown, width=min(width, 100), verbose=is_verbose, encoding=stream.encoding
        )
        stream.write("\n".join(["", *text, ""]) if stream.isatty() else "\n".join([*text, ""]))
        stream.flush()
    except OSError:  # nobody's reading it is no reason to fail
        return
    except Exception as fault:
        raise MeasuringFault(f"the summary could not be written: {fault}", run.exit) from fault


def _say_fault(fault: MeasuringFault) -> None:
    from emt_cli.commands import complain, show_traceback

    show_traceback(fault.__cause__ or fault)
    complain(str(fault), fault.hint)


def _leave(exit_: Exit, system: System) -> NoReturn:
    """End as the command ended. Threads that hang are left behind."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.flush()
    if exit_.signal is not None:
        system.die_by(exit_.signal)
    os._exit(as_c_int(exit_.code or 0))


def as_c_int(code: int) -> int:
    """A code of Windows has 32 bits and no sign (0xC0000005 after a bad access); exit(3) takes an int."""
    return code if code < 1 << 31 else code - (1 << 32)
