"""`emt run -r N`: many executions of a command, one record.

Every execution is measured as if it were the only one, in a process of its own (`execution.execute_apart`);
what they left is merged, analysed and kept like any run. What stands between two of them is not measured.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

from emt_cli.commands.execution import Order, Plan, draft_of, execute_apart, in_shell, keep, keeping_of
from emt_cli.config import Config
from emt_cli.errors import EmtError, LaunchError
from emt_cli.model import Exit, Run, Sample, Settings

if TYPE_CHECKING:
    from emt_cli.commands.keeping import Keeping
    from emt_cli.measure.systems import System
    from emt_cli.sensors.base import Machine


Progress = Callable[[str], None]


def measure_repeatedly(
    order: Order, plan: Plan, config: Config, machine: Machine, system: System, progress: Progress
) -> tuple[Run, Keeping]:
    """The merged run with its results, and where it is kept. An execution that fails is the last one unless
    `ignore_failure`; one that could not be started raises what `measure` raises, if it was the first."""
    from emt_cli.analysis import complete
    from emt_cli.analysis.merging import merged

    draft = draft_of(order, config, machine)
    keeping = keeping_of(draft, order, config)
    keeping.open()
    try:
        with scratch_folder() as folder:
            executions = Executions(order, plan, config, machine, system, folder)
            runs = list(_until_failure(executions, plan, progress))
            draft = replace(draft, settings=executions.settings or draft.settings)
            raw = merged(draft, runs)
            if executions.ended_by is not None:
                raw = replace(raw, exit=Exit(signal=executions.ended_by))
            keeping.begin(raw)
            for batch in _batches(raw.samples):
                keeping.append(batch)
            run = complete(replace(raw, samples=keeping.samples(raw)))
    except BaseException:
        keeping.discard()
        raise
    return keep(run, keeping), keeping


def _batches(samples: Iterable[Sample], size: int = 10_000) -> Iterator[list[Sample]]:
    rest = iter(samples)
    while batch := list(islice(rest, size)):
        yield batch


class Executions:
    """Executions of one command, one by one: `next()` prepares, measures and rests."""

    def __init__(
        self, order: Order, plan: Plan, config: Config, machine: Machine, system: System, folder: str
    ) -> None:
        self.settings: Settings | None = None
        """The settings with the idle power that was measured before; None until then, or without."""
        self.ended_by: int | None = None
        """The signal that came between two executions and ended it all."""
        self._order = replace(order, outputs=(), name="", tags={})
        self._plan = plan
        self._surroundings = config, machine, system
        self._folder = folder
        self._count = 0

    def measure_idle(self) -> None:
        """Watts of every channel while nothing of ours runs, for as long as the plan says."""
        from emt_cli.analysis import complete

        order = replace(self._order, command=("sleep", f"{self._plan.idle_before_s:g}"))
        run = complete(self._execute(order))
        energy = run.energy
        if energy is None or run.duration_s <= 0:
            return
        idle_w = {row.id: row.machine_j / run.duration_s for row in energy.channels}
        self.settings = replace(run.settings, idle_w=idle_w, idle_w_source="measured before the run")

    def next(self) -> Run:
        self._prepare()
        return self._execute(self._order)

    def rest(self) -> bool:
        """Whether to go on, after the cool-down: a signal that was sent to emt meanwhile is the end."""
        _, _, system = self._surroundings
        self.ended_by = system.rest(self._plan.cooldown_s)
        return self.ended_by is None

    def _execute(self, order: Order) -> Run:
        self._count += 1
        return execute_apart(order, os.path.join(self._folder, str(self._count)), *self._surroundings)

    def _prepare(self) -> None:
        if not self._plan.prepare:
            return
        _, machine, system = self._surroundings
        ended = system.run_aside(in_shell([self._plan.prepare], machine.platform))
        if ended.code != 0:
            how = f"with status {ended.code}" if ended.signal is None else f"by signal {ended.signal}"
            raise LaunchError(
                f"--prepare {self._plan.prepare!r} failed {how}",
                hint="it runs before each execution, and has to succeed",
            )


def _until_failure(executions: Executions, plan: Plan, progress: Progress) -> Iterator[Run]:
    """The measured executions; after the first one what cannot go on is an end, not an error."""
    if plan.idle_before_s:
        progress(f"idle power, {plan.idle_before_s:g} s")
        executions.measure_idle()
    for number in range(plan.warmup):
        progress(f"warm-up {number + 1} of {plan.warmup}")
        executions.next()
        executions.rest()
    for number in range(plan.executions):
        progress(f"execution {number + 1} of {plan.executions}")
        try:
            run = executions.next()
        except EmtError:
            if number == 0:
                raise
            return
        yield run
        if number + 1 < plan.executions and not executions.rest():
            return
        if run.exit.signal is not None or (run.exit.code != 0 and not plan.ignore_failure):
            return


@contextmanager
def scratch_folder() -> Iterator[str]:
    """A private folder for the executions' records, gone afterwards."""
    import shutil
    import tempfile

    folder = tempfile.mkdtemp(prefix="emt-")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def progress_on(stream: object) -> Progress:
    """A line that tells how far it is, on a terminal; nothing elsewhere."""
    is_terminal = stream is not None and getattr(stream, "isatty", lambda: False)()

    def tell(text: str) -> None:
        if is_terminal:
            sys.stderr.write(f"emt: {text}\n")
            sys.stderr.flush()

    return tell
