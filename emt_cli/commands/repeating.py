"""`emt run -r N`: many executions of a command, one record.

Every execution is measured as if it were the only one, in a process of its own (`execution.execute_apart`);
what they left is merged, analysed and kept like any run. What stands between two of them is not measured.
`emt bench` takes its executions from here too.

The parent never runs a command itself: it only sees signals pass by. One that asks emt to end reaches the
command that runs just then, and is the end of the repetition, whatever the command makes of it. What was
measured until then, or until a failure, is kept. Where emt itself is killed (SIGKILL), each execution that
had ended is a run folder in `$TMPDIR/emt-*/`, which `emt report` reads.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from emt_cli.commands.execution import (
    NothingMeasured,
    Order,
    Plan,
    draft_of,
    execute_apart,
    in_shell,
    keep,
    keeping_of,
)
from emt_cli.commands.limiting import LimitOrder, judged, was_stopped
from emt_cli.config import Config
from emt_cli.errors import EmtError, LaunchError, UsageError
from emt_cli.model import Exit, Notice, Run, Sample, Settings
from emt_cli.notices import notice

if TYPE_CHECKING:
    from emt_cli.commands.keeping import Keeping
    from emt_cli.measure.systems import System
    from emt_cli.sensors.base import Machine

_BUSY = 0.05
"""A machine that is busier has no idle power to be measured."""
_TELL_S = 1.0
_LONGEST_S = 7 * 86400.0

Progress = Callable[[str], None]


class Repeated(NamedTuple):
    """A repeated run that is kept. `failure`: why there are fewer executions than planned, where it was
    neither the command nor a signal."""

    run: Run
    keeping: Keeping
    failure: EmtError | None


def measure_repeatedly(
    order: Order, plan: Plan, config: Config, machine: Machine, system: System, progress: Progress
) -> Repeated:
    """Run the command as often as planned, and keep it all as one record. An execution that fails is the last
    one unless `ignore_failure`. Raises what `measure` raises, or NothingMeasured, if none was measured."""
    check(plan)
    system.enter()
    draft = draft_of(order, config, machine)
    keeping = keeping_of(draft, order, config)
    keeping.open()
    try:
        with scratch_folder() as folder:
            executions = Executions(order, plan, config, machine, system, folder)
            runs = list(_until_failure(executions, progress))
            if not runs:
                raise executions.failure or executions.cut_short()
            is_cut_short = executions.ended_by is not None and len(runs) < plan.executions
            ended = Exit(signal=executions.ended_by) if is_cut_short else None
            run = kept_as_one(executions.completed(draft), runs, keeping, ended, limits=order.limits)
            return Repeated(run, keeping, executions.failure)
    except BaseException:
        keeping.discard()
        raise


def check(plan: Plan) -> None:
    """Raises UsageError for seconds that are none."""
    for option, value in (("--cooldown", plan.cooldown_s), ("--idle-before", plan.idle_before_s)):
        if not 0 <= value <= _LONGEST_S:
            raise UsageError(f"{option} {value:g}: that is no time to wait", hint=f"for example {option} 5")


def kept_as_one(
    draft: Run,
    runs: list[Run],
    keeping: Keeping,
    ended: Exit | None = None,
    *,
    limits: LimitOrder | None = None,
) -> Run:
    """These executions as one run with its results, written to where it belongs; `keeping` is open.

    `ended` is how it all ended where the last execution did not fail by itself.
    """
    from emt_cli.analysis import complete
    from emt_cli.analysis.merging import merged

    raw = merged(draft, runs)
    if ended is not None:
        raw = replace(raw, exit=runs[-1].exit if runs[-1].exit.code != 0 else ended)
    keeping.begin(raw)
    for batch in _batches(raw.samples):
        keeping.append(batch)
    run = complete(replace(raw, samples=keeping.samples(replace(raw, samples=()))))
    return keep(judged(run, limits), keeping)


def _batches(samples: Iterable[Sample], size: int = 10_000) -> Iterator[list[Sample]]:
    rest = iter(samples)
    while batch := list(islice(rest, size)):
        yield batch


class Executions:
    """Executions of one command, one by one. What goes wrong in one is raised; a signal is not."""

    def __init__(
        self, order: Order, plan: Plan, config: Config, machine: Machine, system: System, folder: str
    ) -> None:
        self.plan = plan
        self.settings: Settings | None = None
        """The settings with the idle power that was measured before; None until then, or without."""
        self.notices: tuple[Notice, ...] = ()
        self.failure: EmtError | None = None
        """Why it could not go on."""
        self._order = replace(order, outputs=(), name="", tags={})
        self._config, self._machine, self._system = config, machine, system
        self._folder = folder
        self._count = 0

    def completed(self, draft: Run) -> Run:
        """The draft of the whole, with what was learnt before the first execution."""
        notices = (*draft.notices, *self.notices)
        return replace(draft, settings=self.settings or draft.settings, notices=notices)

    @property
    def ended_by(self) -> int | None:
        """The signal that asked emt to end, if there was one."""
        return self._system.interrupted_by

    def cut_short(self) -> NothingMeasured:
        from emt_cli.reports.phrases import signal_name

        number = self.ended_by or 0
        return NothingMeasured(f"{signal_name(number)}: nothing was measured", Exit(signal=number))

    def measure_idle(self) -> None:
        """Watts of every channel that measures while nothing of ours runs, for as long as the plan says."""
        from emt_cli.analysis import complete

        order = replace(self._order, command=sleeping(self.plan.idle_before_s), work=None, limits=None)
        run = complete(self._execute(order))
        cpu = run.cpu_time
        share = (cpu.machine_s or 0.0) / max(cpu.logical_cpus * run.duration_s, 1e-9)
        if share > _BUSY:
            self.notices = (notice("not_idle", share=share),)
        elif run.energy is not None:
            own = {channel.id for channel in run.channels if channel.kind != "model"}
            idle_w = {
                row.id: row.machine_j / run.duration_s
                for row in run.energy.channels
                if row.id in own and row.gap_s < run.duration_s / 2
            }
            known = {**run.settings.idle_w, **idle_w}
            self.settings = replace(run.settings, idle_w=known, idle_w_source="measured before the run")

    def next(self) -> Run | None:
        """Prepare and measure one execution; None where the end came before it."""
        self._prepare()
        return None if self.ended_by else self._execute(self._order)

    def rest(self) -> bool:
        """Whether to go on, after the cool-down: a signal that was sent to emt meanwhile is the end."""
        if self.ended_by is None:
            self._system.rest(self.plan.cooldown_s)
        return self.ended_by is None

    def _execute(self, order: Order) -> Run:
        self._count += 1
        folder = os.path.join(self._folder, str(self._count))
        return execute_apart(order, folder, self._config, self._machine, self._system)

    def _prepare(self) -> None:
        if not self.plan.prepare:
            return
        ended = self._system.run_aside(in_shell([self.plan.prepare], self._machine.platform))
        if ended.code != 0 and self.ended_by is None:
            how = f"with status {ended.code}" if ended.signal is None else f"by signal {ended.signal}"
            raise LaunchError(
                f"--prepare {self.plan.prepare!r} failed {how}",
                hint="it runs before each execution, and has to succeed",
            )


def sleeping(seconds: float) -> tuple[str, ...]:
    """A command that does nothing for so long."""
    if os.name == "nt":
        return (sys.executable, "-S", "-c", f"import time; time.sleep({seconds:g})")
    return ("sleep", f"{seconds:g}")


def _until_failure(executions: Executions, progress: Progress) -> Iterator[Run]:
    """The measured executions; after the first one what cannot go on is an end, and no error."""
    plan = executions.plan
    before(executions, progress)
    for number in range(plan.executions):
        progress(f"execution {number + 1} of {plan.executions}")
        try:
            run = executions.next()
        except EmtError as failure:
            executions.failure = failure
            return
        if run is None:
            return
        yield run
        if was_stopped(run) or (run.exit.code != 0 and not plan.ignore_failure):
            return
        if number + 1 < plan.executions and not executions.rest():
            return


def before(executions: Executions, progress: Progress) -> None:
    """What is measured but not kept: the idle power, the warm-up. Raises NothingMeasured."""
    plan = executions.plan
    if plan.idle_before_s:
        progress(f"idle power, {plan.idle_before_s:g} s")
        executions.measure_idle()
        if executions.ended_by:
            raise executions.cut_short()
    for number in range(plan.warmup):
        progress(f"warm-up {number + 1} of {plan.warmup}")
        run = executions.next()
        if run is not None and run.exit.code != 0 and not plan.ignore_failure and not executions.ended_by:
            raise failed_warmup(run)
        if run is None or not executions.rest():
            raise executions.cut_short()


def failed_warmup(run: Run) -> NothingMeasured:
    from emt_cli.reports.phrases import ending

    return NothingMeasured(
        f"the warm-up failed ({ending(run)}): nothing was measured",
        run.exit,
        hint="--ignore-failure goes on all the same",
    )


@contextmanager
def scratch_folder() -> Iterator[str]:
    """A private folder for the executions' records, gone afterwards. Raises LaunchError."""
    import shutil
    import tempfile

    try:
        folder = tempfile.mkdtemp(prefix="emt-")
    except OSError as error:
        raise LaunchError(
            f"no temporary folder can be made: {error.strerror}", hint="set TMPDIR to a folder with room"
        ) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def progress_on(stream: object) -> Progress:
    """How far it is, on a terminal; nothing elsewhere. Whole lines, one a second at most: the command may
    write to the same terminal, and a line that is written over would take its output along."""
    is_terminal = stream is not None and getattr(stream, "isatty", lambda: False)()
    latest_s = float("-inf")

    def tell(text: str) -> None:
        nonlocal latest_s
        now_s = time.monotonic()
        if is_terminal and now_s - latest_s >= _TELL_S:
            latest_s = now_s
            _write(f"emt: {text}\n")

    return tell


def _write(line: str) -> None:
    try:
        sys.stderr.write(line)
        sys.stderr.flush()
    except OSError:  # nobody sees it: a terminal that has hung up
        return
