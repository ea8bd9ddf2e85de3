"""What a report says of a repeated run: one execution in numbers, a table of all, and which stand apart.

Apart from `facts` and `tables` because it is there for repeated runs alone. Standard library only: the
summary takes its lines from here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from emt_cli import units
from emt_cli.model import Execution, Repeat, Run, Spread
from emt_cli.reports.phrases import energy_and_bounds, energy_with_bounds, finite, has_failed, signal_name

LEGEND = "mean ± 95 % interval (smallest to largest)"
METHOD = (
    "Student's t interval; outliers by the modified z-score of Iglewicz & Hoaglin (1993). The bounds in the "
    "table are the measurement's own"
)
_MOST_ROWS = 25
_MOST_NAMED = 5

Say = Callable[..., str]


class ExecutionRow(NamedTuple):
    """One execution as it is shown; `is_marked`: it failed, or stands apart."""

    number: str
    time: str
    energy: str
    bounds: str
    machine: str
    power: str
    exit: str
    note: str
    is_marked: bool


def repeat_facts(run: Run) -> list[tuple[str, str]]:
    """Of one execution: energy, time and power, each with its interval and range; how many there were."""
    repeat = run.repeat
    if repeat is None:
        return []
    facts = [("energy", text)] if (text := _energy(run, repeat)) else []
    facts.append(("time", _spread(repeat.duration_s, units.seconds, units.seconds_range)))
    watts = _chosen(run, repeat.machine_w, repeat.attributed_w)
    if watts is not None:
        facts.append(("power", _spread(watts, units.power, units.power_range)))
    facts.append(("repeats", _count(run, repeat)))
    return facts + ([("outliers", text)] if (text := outlier_text(run)) else [])


def total_text(run: Run) -> str:
    """`12.3 J ± 0.4 of the command, 14.1 J ± 0.2 of the machine`: over all executions, with the bounds of the
    measurement; empty if unknown."""
    energy = run.energy
    if energy is None:
        return ""
    command = energy_with_bounds(energy.attributed_j, energy.uncertainty_j, energy.low_j, energy.high_j)
    machine = energy_with_bounds(energy.machine_j, None, energy.machine_low_j, energy.machine_high_j)
    known = [f"{said} of the {who}" for said, who in ((command, "command"), (machine, "machine")) if said]
    return ", ".join(known)


def outlier_text(run: Run) -> str:
    """Which executions stand apart, and what helps; empty if none does."""
    apart = _apart(run)
    if not apart:
        return ""
    named = []
    for index in apart[:_MOST_NAMED]:
        execution = run.executions[index]
        joules, took = _of(run, execution), units.seconds(execution.duration_s)
        named.append(f"{index + 1} ({took if joules is None else f'{units.energy(joules)} in {took}'})")
    more = f" and {len(apart) - _MOST_NAMED} more" if len(apart) > _MOST_NAMED else ""
    word = "execution" if len(apart) == 1 else "executions"
    remedy = "use --warmup" if apart == [0] else "close other programs, use --warmup or --cooldown"
    return f"{word} {', '.join(named)}{more}: {remedy}"


def execution_rows(run: Run) -> tuple[list[ExecutionRow], int]:
    """The executions as rows, and how many were left out: those that fail or stand apart are never."""
    apart = set(_apart(run))
    rows = [_row(run, index, each, index in apart) for index, each in enumerate(run.executions)]
    if len(rows) <= _MOST_ROWS:
        return rows, 0
    marked = [row for row in rows if row.is_marked][:_MOST_ROWS]
    plain = [row for row in rows if not row.is_marked][: _MOST_ROWS - len(marked)]
    shown = sorted((*marked, *plain), key=lambda row: int(row.number))
    return shown, len(rows) - len(shown)


def more_text(left_out: int) -> str:
    return f"+{left_out} more: emt report --format json" if left_out else ""


def _row(run: Run, index: int, execution: Execution, is_apart: bool) -> ExecutionRow:
    joules = _of(run, execution)
    energy, bounds = energy_and_bounds(execution.attributed_j, None, execution.low_j, execution.high_j)
    watts = joules / execution.duration_s if joules is not None and execution.duration_s > 0 else None
    machine = finite(execution.machine_j)
    is_failed = has_failed(execution.exit)
    return ExecutionRow(
        number=str(index + 1),
        time=units.seconds(execution.duration_s),
        energy=energy,
        bounds=bounds,
        machine="" if machine is None else units.energy(machine),
        power="" if watts is None else units.power(watts),
        exit=_exit(execution),
        note="outlier" if is_apart else "",
        is_marked=is_failed or is_apart,
    )


def _exit(execution: Execution) -> str:
    ended = execution.exit
    if ended.signal is not None:
        return signal_name(ended.signal).partition(" (")[0]
    return "" if ended.code is None else str(ended.code)


def _count(run: Run, repeat: Repeat) -> str:
    whole, counted = len(run.executions), repeat.executions
    word = "execution" if whole == 1 else "executions"
    failed = sum(has_failed(each.exit) for each in run.executions)
    said = f"{whole} {word}"
    if failed and counted < whole:
        said += f", {failed} of them failed and not counted"
    elif failed:
        said += ", all of them failed" if failed == whole else f", {failed} of them failed"
    return f"{said}; {LEGEND}" if counted > 1 else f"{said}: no interval can be told from one"


def _energy(run: Run, repeat: Repeat) -> str:
    chosen = _chosen(run, repeat.machine_j, repeat.attributed_j)
    if chosen is None:
        return ""
    return f"{_spread(chosen, units.energy, units.energy_range)} an execution"


def _chosen(run: Run, machine: Spread | None, attributed: Spread | None) -> Spread | None:
    return machine if run.settings.scope == "machine" or attributed is None else attributed


def _spread(spread: Spread, say: Say, say_range: Say) -> str:
    """`0.504 J ± 0.021 (0.48 to 0.53 J)`."""
    if spread.n < 2 or spread.low is None or spread.high is None:
        return say(spread.mean)
    half = (spread.high - spread.low) / 2
    said = say(spread.mean, half) if half > 0 else say(spread.mean)
    return f"{said} ({say_range(spread.min, spread.max)})" if spread.max > spread.min else said


def _apart(run: Run) -> list[int]:
    """Outliers in energy or in time: a pause in one may not show in the other."""
    repeat = run.repeat
    if repeat is None:
        return []
    energy = _chosen(run, repeat.machine_j, repeat.attributed_j)
    found = {*repeat.duration_s.outliers, *(energy.outliers if energy is not None else ())}
    return sorted(index for index in found if 0 <= index < len(run.executions))


def _of(run: Run, execution: Execution) -> float | None:
    is_machine = run.settings.scope == "machine" or execution.attributed_j is None
    return finite(execution.machine_j if is_machine else execution.attributed_j)
