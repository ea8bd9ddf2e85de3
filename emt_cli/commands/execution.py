"""One execution of a command: from the settings to a draft, a measured run, its results and its record.

What `emt run` does once, repeats and benchmarks do many times; so it stands apart from the options.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import field, replace
from typing import TYPE_CHECKING

from emt_cli.commands import choosing
from emt_cli.commands.limiting import Limited, LimitOrder
from emt_cli.commands.working import Counted, WorkOrder
from emt_cli.config import Config, keys
from emt_cli.errors import EmtError
from emt_cli.model import Exit, Notice, Run
from emt_cli.sensors.base import Machine
from emt_cli.values import Value

if TYPE_CHECKING:
    from emt_cli.commands.keeping import Keeping
    from emt_cli.measure.systems import System
    from emt_cli.sensors import Opened
    from emt_cli.sensors.base import Sensor

_WRITE_LIMIT_S = 30.0
_FAILURE = ".failure.json"
"""Beside an execution's folder: why it has none."""


class Order(Value):
    """What is to be run and kept, and under which name. `outputs` are those of -o."""

    command: tuple[str, ...]
    name: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    is_forced: bool = False
    user: str | None = None
    work: WorkOrder = None
    limits: LimitOrder | None = None
    """Both of every execution."""


class Plan(Value):
    """How a command is repeated. `prepare` is a line for the shell before every execution, unmeasured;
    after each of them there are `cooldown_s` seconds of rest. `warmup` executions are thrown away."""

    executions: int = 1
    warmup: int = 0
    cooldown_s: float = 0.0
    prepare: str = ""
    idle_before_s: float = 0.0
    ignore_failure: bool = False


class NothingMeasured(EmtError):
    """An execution that came to nothing though it had, or might have, begun: a signal came first, the warm-up
    failed, or the process that measured it was lost. `exit` is what to leave with."""

    def __init__(self, message: str, exit_: Exit, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.exit = exit_


def in_shell(command: Sequence[str], platform: str) -> list[str]:
    """The command as one line for the system's shell."""
    if platform == "win32":
        return [os.environ.get("COMSPEC", "cmd.exe"), "/c", " ".join(command)]
    return ["/bin/sh", "-c", " ".join(command)]


def draft_of(order: Order, config: Config, machine: Machine) -> Run:
    """The run as far as it is known before anything was started."""
    from emt_cli.commands.keeping import home
    from emt_cli.drafting import draft

    return draft(order.command, config, machine, home=home(), name=order.name, tags=order.tags)


def keeping_of(draft: Run, order: Order, config: Config) -> Keeping:
    """Raises UsageError for an output that cannot be."""
    from emt_cli.commands.keeping import Keeping, store_of

    store = store_of(config) if config[keys.STORE_ENABLED] else None
    limit = config[keys.MAX_SAMPLES]
    return Keeping(draft, order.outputs, store=store, force=order.is_forced, max_samples=limit)


def measure(
    draft: Run, keeping: Keeping, order: Order, config: Config, machine: Machine, system: System
) -> Run:
    """Run the command; its raw record. Any error but a MeasuringFault means that it has not started."""
    from emt_cli.measure.session import MeasuringFault, Options, record

    becoming = None
    if order.user is not None:
        from emt_cli.measure.users import find_user

        becoming = find_user(order.user)

    def open_sensors() -> tuple[Sequence[Sensor], Sequence[Notice]]:
        from emt_cli.sensors import open_available

        wishes = choosing.wishes_of(config)
        opened = open_available(machine, replay=config[keys.REPLAY], wishes=wishes)
        if config[keys.REQUIRE] is not None:
            _require_measured(opened, config)
        return opened.sensors, opened.notices

    counted, limited = Counted(order.work), Limited(order.limits)
    try:
        run = record(
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
            watch=limited.watch,
        )
    except MeasuringFault:
        raise
    except BaseException:
        keeping.discard()
        raise
    return limited.on(counted.on(run))


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


def results_of(run: Run, keeping: Keeping) -> Run:
    """The run with its results. Raises MeasuringFault once the raw record is kept: a report tries again."""
    from emt_cli.analysis import complete
    from emt_cli.measure.session import MeasuringFault

    run = replace(run, samples=keeping.samples(run))
    try:
        return complete(run)
    except Exception as fault:
        keep(run, keeping)
        raise MeasuringFault(f"the results could not be worked out: {fault}", run.exit) from fault


def keep(run: Run, keeping: Keeping) -> Run:
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


# --- one of many ------------------------------------------------------------------------------------


def execute_apart(order: Order, folder: str, config: Config, machine: Machine, system: System) -> Run:
    """One execution of many, in a process of its own (see `System.apart`), with its raw record in `folder`,
    a path that does not exist yet. Raises what `measure` raises; NothingMeasured where it died."""
    from emt_cli.store import load

    ended = system.apart(lambda: _execute_into(folder, order, config, machine, system.again()))
    failure = _failure_in(folder)
    if failure is not None:
        raise failure
    if ended.code != 0:
        from emt_cli.reports.phrases import signal_name

        how = f"was killed by {signal_name(ended.signal)}" if ended.signal else "failed"
        raise NothingMeasured(
            f"the process that measured an execution {how}; the command may still be running",
            ended,
            hint="who kills for want of memory is in the kernel's log: dmesg",
        )
    try:
        run = load(folder)[0]
        system.disregard(process.pid for process in run.processes)
        return run
    except EmtError as error:
        raise NothingMeasured(f"an execution left no record: {error}", Exit(code=1)) from None


def _execute_into(folder: str, order: Order, config: Config, machine: Machine, system: System) -> None:
    """What `execute_apart` can tell is left beside the folder, not raised."""
    from emt_cli.commands import show_traceback
    from emt_cli.commands.keeping import Keeping

    try:
        draft = draft_of(order, config, machine)
        limit = config[keys.MAX_SAMPLES]
        keeping = Keeping(draft, (folder + os.sep,), store=None, force=False, max_samples=limit)
        measured = measure(draft, keeping, order, config, machine, system)
        keeping.keep(replace(measured, samples=keeping.samples(measured)))
    except EmtError as error:
        if error.__cause__ is not None and hasattr(error, "exit"):
            show_traceback(error.__cause__)
        _leave_failure(folder, error)
    except Exception as fault:
        show_traceback(fault)
        raise


def _leave_failure(folder: str, error: EmtError) -> None:
    import json

    ended = getattr(error, "exit", None)
    told = {
        "kind": type(error).__name__,
        "message": str(error),
        "hint": error.hint,
        "exit": None if ended is None else [ended.code, ended.signal],
    }
    with open(folder + _FAILURE, "w", encoding="utf-8") as file:
        json.dump(told, file)


def _failure_in(folder: str) -> EmtError | None:
    """The error of an execution that left no record."""
    import json

    from emt_cli import errors
    from emt_cli.measure.session import MeasuringFault

    try:
        with open(folder + _FAILURE, encoding="utf-8") as file:
            told = json.load(file)
    except FileNotFoundError:
        return None
    if told["exit"] is not None:
        code, signal = told["exit"]
        return MeasuringFault(told["message"], Exit(code=code, signal=signal))
    kind: type[EmtError] = getattr(errors, told["kind"], errors.LaunchError)
    return kind(told["message"], hint=told["hint"])
