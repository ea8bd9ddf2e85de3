"""`emt run`: measure a command. The story of one run, from the options to the status it leaves with."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer

from emt_cli.commands import choosing
from emt_cli.config import Config, keys, load_here
from emt_cli.errors import UsageError
from emt_cli.model import Exit, Notice, Run, Sampling, Settings
from emt_cli.sensors.base import Machine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from emt_cli.commands.keeping import Keeping
    from emt_cli.measure.session import MeasuringFault
    from emt_cli.measure.systems import System
    from emt_cli.sensors import Opened
    from emt_cli.sensors.base import Sensor

app = typer.Typer(add_completion=False)

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
            help="Also write the record here: a folder, a .json or a .csv file. "
            "{host} {node} {pid} {date} {name} {job} {rank} are filled in.",
            show_default=False,
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what -o names.")] = False,
    no_store: Annotated[bool, typer.Option("--no-store", help="Do not keep the run in the store.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print no summary.")] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Say more in the summary.")] = False,
    name: Annotated[
        str,
        typer.Option("-n", "--name", metavar="NAME", help="A name to find the run by.", show_default=False),
    ] = "",
    tag: Annotated[
        list[str] | None,
        typer.Option(
            "-t", "--tag", metavar="KEY=VALUE", help="A tag to find the run by.", show_default=False
        ),
    ] = None,
    location: Annotated[
        str | None,
        typer.Option(
            "--location", metavar="PLACE", help="Whose grid feeds the machine: FR.", show_default=False
        ),
    ] = None,
    intensity: Annotated[
        float | None,
        typer.Option(
            "--intensity", metavar="G", help="Grams of CO2e for a kilowatt-hour.", show_default=False
        ),
    ] = None,
    pue: Annotated[
        float | None,
        typer.Option(
            "--pue", metavar="RATIO", help="Power usage effectiveness of the site.", show_default=False
        ),
    ] = None,
    scope: Annotated[
        Literal["tree", "machine"] | None,
        typer.Option("--scope", help="Whose energy carbon is counted for.", show_default=False),
    ] = None,
    total: Annotated[
        Literal["components", "platform"] | None,
        typer.Option(
            "--total", help="The headline: summed components or the whole node.", show_default=False
        ),
    ] = None,
    idle_policy: Annotated[
        Literal["busy", "reserved", "capacity", "none"] | None,
        typer.Option(
            "--idle-policy", help="Which share of the idle power the tree bears.", show_default=False
        ),
    ] = None,
    max_samples: Annotated[
        int | None,
        typer.Option(
            "--max-samples", metavar="N", help="Rows before the curve is thinned.", show_default=False
        ),
    ] = None,
    no_perf: Annotated[
        bool, typer.Option("--no-perf", help="Count CPU time without the perf counter.")
    ] = False,
    wait_tree: Annotated[
        bool, typer.Option("--wait-tree", help="Measure until the last descendant has ended.")
    ] = False,
    only: choosing.Only = None,
    exclude: choosing.Exclude = None,
    opt_in: choosing.With = None,
    cpu_watts: Annotated[
        str | None,
        typer.Option(
            "--cpu-watts",
            metavar="IDLE:FULL",
            help="Watts of an unmeasured CPU, idle and fully loaded: 15:65.",
            show_default=False,
        ),
    ] = None,
    ram_watts_per_gb: Annotated[
        float | None,
        typer.Option(
            "--ram-watts-per-gb", metavar="W", help="Watts of unmeasured memory per GB.", show_default=False
        ),
    ] = None,
    require: Annotated[
        Literal["measured"] | None,
        typer.Option(
            "--require", help="Do not start COMMAND where energy can only be estimated.", show_default=False
        ),
    ] = None,
    replay: Annotated[
        str | None,
        typer.Option(
            "--replay", metavar="FILE", help="Play recorded readings instead of sensors.", show_default=False
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
    words = _in_shell(command, machine.platform) if shell else command
    draft = _draft(words, name, _tags(tag or ()), config, machine)
    keeping = _keeping(draft, config, output or (), is_forced=force)
    from emt_cli.measure.session import MeasuringFault
    from emt_cli.measure.systems import this_system

    system = this_system(machine.platform)
    try:
        measured = _measure(draft, keeping, config, machine, system, user)
        kept = _keep(_results(measured, keeping), keeping)
        _tell(kept, keeping, is_quiet=config[keys.QUIET], is_verbose=verbose)
        ended = measured.exit
    except MeasuringFault as fault:
        _say_fault(fault)
        ended = fault.exit
    _leave(ended, system)


def _in_shell(command: Sequence[str], platform: str) -> list[str]:
    """The command as one line for the system's shell."""
    if platform == "win32":
        return [os.environ.get("COMSPEC", "cmd.exe"), "/c", " ".join(command)]
    return ["/bin/sh", "-c", " ".join(command)]


def _tags(words: Sequence[str]) -> dict[str, str]:
    found = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not key or not equals:
            raise UsageError(f"-t {word}: a tag is KEY=VALUE", hint="for example -t model=resnet50")
        found[key] = value
    return found


def _draft(command: list[str], name: str, tags: dict[str, str], config: Config, machine: Machine) -> Run:
    """The run as far as it is known before anything was started."""
    from datetime import datetime, timezone

    from emt_cli import host
    from emt_cli.analysis.carbon import find_grid
    from emt_cli.store.library import new_id

    started = datetime.now(timezone.utc)
    facts = host.facts(machine.text, os.environ)
    return Run(
        id=new_id(started, command),
        command=tuple(command),
        started_at=started.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        host=facts,
        sampling=Sampling(frequency_hz=config[keys.FREQUENCY]),
        name=name,
        tags=tags,
        job=host.job(os.environ),
        recorder_pid=os.getpid(),
        settings=Settings(
            scope=config[keys.SCOPE],
            total=config[keys.TOTAL],
            idle_policy=config[keys.IDLE_POLICY],
            idle_w=dict(config[keys.IDLE_W]),
            reserved_cpus=host.reserved_cpus(machine.text, os.environ, facts.cpu_count),
            pue=config[keys.PUE],
            pue_source=config.source(keys.PUE),
        ),
        grid=find_grid(
            location=config[keys.LOCATION],
            location_source=config.source(keys.LOCATION),
            intensity=config[keys.INTENSITY],
            intensity_source=config.source(keys.INTENSITY),
            timezone=facts.timezone,
        ),
        notices=config.notices,
    )


def _keeping(draft: Run, config: Config, outputs: Sequence[str], *, is_forced: bool) -> Keeping:
    from emt_cli.commands.keeping import Keeping, store_of

    store = store_of(config) if config[keys.STORE_ENABLED] else None
    return Keeping(draft, outputs, store=store, force=is_forced, max_samples=config[keys.MAX_SAMPLES])


def _measure(
    draft: Run, keeping: Keeping, config: Config, machine: Machine, system: System, user: str | None
) -> Run:
    """Run the command; its raw record. Any error but a MeasuringFault means that it has not started."""
    from emt_cli.measure.session import MeasuringFault, Options, record

    becoming = None
    if user is not None:
        from emt_cli.measure.users import find_user

        becoming = find_user(user)

    def open_sensors() -> tuple[Sequence[Sensor], Sequence[Notice]]:
        from emt_cli.sensors import open_available

        wishes = choosing.wishes_of(config)
        opened = open_available(machine, replay=config[keys.REPLAY], wishes=wishes)
        if config[keys.REQUIRE] is not None:
            _require_measured(opened, config)
        return opened.sensors, opened.notices

    try:
        return record(
            draft,
            system=system,
            machine=machine,
            open_sensors=open_sensors,
            open_observer=keeping.open,
            options=Options(
                frequency_hz=config[keys.FREQUENCY],
                use_perf=config[keys.PERF],
                use_cgroup=config[keys.CGROUP],
                wait_tree=config[keys.WAIT_TREE],
            ),
            user=becoming,
        )
    except MeasuringFault:
        raise
    except BaseException:
        keeping.discard()
        raise


def _require_measured(opened: Opened, config: Config) -> None:
    """Raises LaunchError where what counts would be estimated."""
    from emt_cli.analysis.cover import counted, is_measured
    from emt_cli.errors import LaunchError

    channels = [channel for sensor in opened.sensors for channel in sensor.channels]
    total = config[keys.TOTAL]
    if is_measured(channels, total):
        return
    ids = counted(channels, total)
    told = [f"{c.id} {c.provenance}" for c in channels if c.id in ids]
    for sensor in opened.sensors:
        sensor.close()
    raise LaunchError(
        f"--require measured: the energy could not be measured ({', '.join(told) or 'no sensor'})",
        hint="emt doctor says what is missing, and what to type",
    )


def _results(run: Run, keeping: Keeping) -> Run:
    """The run with its results. Raises MeasuringFault once the raw record is kept: a report tries again."""
    from emt_cli.analysis import complete
    from emt_cli.measure.session import MeasuringFault

    run = replace(run, samples=keeping.samples(run))
    try:
        return complete(run)
    except Exception as fault:
        _keep(run, keeping)
        raise MeasuringFault(f"the results could not be worked out: {fault}", run.exit) from fault


def _keep(run: Run, keeping: Keeping) -> Run:
    """The run as it was written to where it belongs; a failure is said and changes no status."""
    from emt_cli.commands import complain

    results = [run]

    # A thread of its own: a file system that hangs must not keep us from leaving.
    def write() -> None:
        results.append(keeping.keep(run))

    thread = threading.Thread(target=write, name="emt-keep", daemon=True)
    thread.start()
    thread.join(_WRITE_LIMIT_S)
    if thread.is_alive():
        complain(
            f"the record could not be written within {_WRITE_LIMIT_S:g} s", "is the file system hanging?"
        )
    elif keeping.failure is not None:
        complain(str(keeping.failure), keeping.failure.hint)
    return results[-1]


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
