"""The rounds of a benchmark: every command once a round, one after the other, the order turning each time.

Apart from `bench`, which knows the options and what is shown. Each command's executions become one record;
only whole rounds are kept, since a pair needs both.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from emt_cli.commands.execution import Order, Plan, draft_of, keeping_of
from emt_cli.commands.repeating import Executions, Progress, kept_as_one, scratch_folder
from emt_cli.config import Config
from emt_cli.errors import EmtError
from emt_cli.model import Run

if TYPE_CHECKING:
    from emt_cli.commands.keeping import Keeping
    from emt_cli.measure.systems import System
    from emt_cli.reports.benchmark import Bench
    from emt_cli.sensors.base import Machine


class Line(NamedTuple):
    """A command with its parameters filled in."""

    text: str
    label: str
    words: tuple[str, ...]
    values: dict[str, str]


class ExecutionFailed(EmtError):
    """A command of a benchmark ended with another status than 0."""


@dataclass
class _Entrant:
    """One of the commands while the benchmark goes on; `runs` are those of whole rounds."""

    line: Line
    draft: Run
    keeping: Keeping
    executions: Executions
    runs: list[Run] = field(default_factory=list)
    is_kept: bool = False


class Rounds:
    """A benchmark while it goes on. `order` is the orders' common part."""

    def __init__(
        self,
        lines: Sequence[Line],
        order: Order,
        plan: Plan,
        config: Config,
        machine: Machine,
        system: System,
        *,
        is_shown: bool,
    ) -> None:
        self.failure: EmtError | None = None
        """Why it ended before the last round, where it was no signal."""
        self._lines, self._order, self._plan = lines, order, plan
        self._config, self._machine, self._system = config, machine, system
        self._is_shown = is_shown

    def measure(self, progress: Progress) -> Bench | None:
        """All rounds, or those until something went wrong; None if not one became whole."""
        self._system.enter()
        id = _bench_id()
        entrants: list[_Entrant] = []
        try:
            with scratch_folder() as folder:
                for number, line in enumerate(self._lines):
                    entrants.append(self._enter(id, line, os.path.join(folder, str(number))))
                self._go(entrants, progress)
                runs = [_kept(each) for each in entrants if each.runs]
        except BaseException:
            _discard(entrants)
            raise
        if runs:
            return self._ranked(id, entrants, runs)
        _discard(entrants)
        return None

    def _enter(self, id: str, line: Line, folder: str) -> _Entrant:
        """Raises OutputError where the record could not be written."""
        parameters = {f"param.{name}": value for name, value in line.values.items()}
        tags = {"bench": id, **parameters, **self._order.tags}
        name = "" if line.label == line.text else line.label
        order = replace(self._order, command=line.words, name=name, tags=tags)
        draft = draft_of(order, self._config, self._machine)
        keeping = keeping_of(draft, order, self._config)
        keeping.open()
        os.mkdir(folder)
        plan = replace(self._plan, prepare=_filled(self._plan.prepare, line))
        executions = Executions(order, plan, self._config, self._machine, self._system, folder)
        return _Entrant(line, draft, keeping, executions)

    def _go(self, entrants: Sequence[_Entrant], progress: Progress) -> None:
        plan = self._plan
        try:
            if plan.idle_before_s:
                progress(f"idle power, {plan.idle_before_s:g} s")
                self._measure_idle(entrants)
            for number in range(-plan.warmup, plan.executions):
                told = f"round {number + 1} of {plan.executions}"
                if number < 0:
                    told = f"warm-up round {number + plan.warmup + 1} of {plan.warmup}"
                is_last = number + 1 == plan.executions
                found = self._round(entrants, number % 2 == 1, is_last, told, progress)
                if found is None:
                    return
                for entrant, run in zip(entrants, found, strict=True):
                    if number >= 0:
                        entrant.runs.append(run)
        except EmtError as failure:
            self.failure = failure

    def _measure_idle(self, entrants: Sequence[_Entrant]) -> None:
        first, *others = (entrant.executions for entrant in entrants)
        first.measure_idle()
        for other in others:
            other.settings, other.notices = first.settings, first.notices

    def _round(
        self, entrants: Sequence[_Entrant], is_turned: bool, is_last: bool, told: str, progress: Progress
    ) -> list[Run] | None:
        """One execution of each, in the entrants' order; None if a signal came. Raises what went wrong."""
        found: dict[int, Run] = {}
        places = list(range(len(entrants)))
        for place in reversed(places) if is_turned else places:
            progress(f"{told}, command {place + 1} of {len(places)}")
            entrant = entrants[place]
            with given_streams(is_shown=self._is_shown):
                run = entrant.executions.next()
            if run is None or self._system.interrupted_by is not None:
                return None
            if run.exit.code != 0 and not self._plan.ignore_failure:
                raise _failed(entrant.line, run, is_shown=self._is_shown)
            found[place] = run
            if not (is_last and len(found) == len(places)) and not entrant.executions.rest():
                return None
        return [found[place] for place in places]

    def _ranked(self, id: str, entrants: Sequence[_Entrant], runs: Sequence[Run]) -> Bench:
        from emt_cli.analysis.ranking import rank
        from emt_cli.reports.benchmark import Bench, Contestant

        lines = [each.line for each in entrants]
        scope = runs[0].settings.scope
        return Bench(
            id=id,
            scope=scope,
            contestants=tuple(
                Contestant(label=line.label, line=line.text, parameters=line.values, run=run)
                for line, run in zip(lines, runs, strict=True)
            ),
            ranked=rank(runs, scope),
            is_kept=all(each.keeping.shown is not None for each in entrants),
        )


def _kept(entrant: _Entrant) -> Run:
    draft = entrant.executions.completed(entrant.draft)
    run = kept_as_one(draft, entrant.runs, entrant.keeping)
    entrant.is_kept = True
    return run


def _bench_id() -> str:
    from datetime import datetime, timezone

    from emt_cli.store.library import new_id

    return new_id(datetime.now(timezone.utc), ("bench",))


def _filled(prepare: str, line: Line) -> str:
    from emt_cli.commands.parameters import filled

    return filled(prepare, line.values)


def _discard(entrants: Sequence[_Entrant]) -> None:
    for entrant in entrants:
        if not entrant.is_kept:
            entrant.keeping.discard()


def _failed(line: Line, run: Run, *, is_shown: bool) -> ExecutionFailed:
    from emt_cli.reports.phrases import ending

    see = "" if is_shown else "--show-output shows what it says; "
    return ExecutionFailed(f"{line.text}: {ending(run)}", hint=f"{see}--ignore-failure goes on all the same")


@contextmanager
def given_streams(*, is_shown: bool) -> Iterator[None]:
    """What is started meanwhile reads nothing and writes nowhere, or to standard error if it is shown:
    standard output is the table's. emt's own words go where they always go."""
    saved = [_copy(fd) for fd in (0, 1, 2)]
    before, stream = sys.stderr, None
    try:
        if saved[2] is not None:
            stream = open(saved[2], "w", encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
            sys.stderr = stream
        nowhere = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            if not is_shown or fd == 0:
                os.dup2(nowhere, fd)
            elif fd == 1 and saved[2] is not None:
                os.dup2(saved[2], fd)
        os.close(nowhere)
        yield
    finally:
        sys.stderr = before
        for fd, copy in enumerate(saved):
            if copy is not None:
                with suppress(OSError):
                    os.dup2(copy, fd)
                    os.close(copy)


def _copy(fd: int) -> int | None:
    """None for one that is closed."""
    try:
        return os.dup(fd)
    except OSError:
        return None
