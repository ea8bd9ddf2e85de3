"""Limits on a run: `--max-energy 500J`, `--max-time 2m`, and what happens when one is exceeded.

While the command runs they are judged by an estimate (`analysis.so_far`), at least once a second; when it is
over once more, on the final figures, which decide what the record says. Of a repeated run they hold for
every execution by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from emt_cli import units
from emt_cli.errors import UsageError
from emt_cli.model import DeviceUse, Exit, Run, Sample
from emt_cli.notices import notice
from emt_cli.values import Value

if TYPE_CHECKING:
    from collections.abc import Callable

    from emt_cli.analysis.figures import Metric
    from emt_cli.analysis.limits import Limits
    from emt_cli.analysis.so_far import SoFar
    from emt_cli.measure.watch import Look, Watch

STOPPED = 124
"""The status of a run that was stopped over a limit, as timeout(1) leaves with."""
_GRACE_S = 10.0
_SETTLE_S = 5.0
"""A mean power is not judged before: the first second of a program is rarely like the rest."""

LIMITS = "Work and limits"
"""Their panel on a help page."""

MaxEnergy = Annotated[
    str | None,
    typer.Option(
        "--max-energy",
        metavar="JOULES",
        rich_help_panel=LIMITS,
        help="The most that it may use: 500J, 2Wh.",
        show_default=False,
    ),
]
MaxCo2e = Annotated[
    str | None,
    typer.Option(
        "--max-co2e",
        metavar="MASS",
        rich_help_panel=LIMITS,
        help="The most CO2e that it may cause: 2g.",
        show_default=False,
    ),
]
MaxPower = Annotated[
    str | None,
    typer.Option(
        "--max-power",
        metavar="POWER",
        rich_help_panel=LIMITS,
        help="The highest mean power: 300W.",
        show_default=False,
    ),
]
MaxTime = Annotated[
    str | None,
    typer.Option(
        "--max-time",
        metavar="TIME",
        rich_help_panel=LIMITS,
        help="The longest that it may take: 2m.",
        show_default=False,
    ),
]
OnExceed = Annotated[
    Literal["warn", "stop"] | None,
    typer.Option(
        "--on-exceed",
        rich_help_panel=LIMITS,
        help="Over a limit: say so, or end COMMAND with status 124 (warn).",
        show_default=False,
    ),
]
Grace = Annotated[
    str | None,
    typer.Option(
        "--grace",
        metavar="TIME",
        rich_help_panel=LIMITS,
        help="From SIGTERM to SIGKILL, when it is stopped [10s].",
        show_default=False,
    ),
]

OPTIONS: dict[Metric, str] = {
    "energy": "--max-energy",
    "co2e": "--max-co2e",
    "power": "--max-power",
    "time": "--max-time",
}
_SHOW: dict[Metric, Callable[[float], str]] = {
    "energy": units.energy,
    "co2e": units.mass,
    "power": units.power,
    "time": units.duration,
}


class LimitOrder(Value):
    """Which limits hold, and what is to be done when one is exceeded."""

    limits: Limits
    stops: bool = False
    grace_s: float = _GRACE_S


def limits_of(energy: str | None, co2e: str | None, power: str | None, time: str | None) -> Limits | None:
    """The limits of the four options; None without any. Raises UsageError, naming the option."""
    if energy is None and co2e is None and power is None and time is None:
        return None
    from emt_cli import quantities
    from emt_cli.analysis.limits import Limits

    return Limits(
        max_energy_j=_parsed("--max-energy", energy, quantities.energy_j),
        max_co2e_g=_parsed("--max-co2e", co2e, quantities.mass_g),
        max_power_w=_parsed("--max-power", power, quantities.power_w),
        max_time_s=_parsed("--max-time", time, quantities.duration_s),
    )


def order_of(
    limits: Limits | None, on_exceed: Literal["warn", "stop"] | None, grace: str | None
) -> LimitOrder | None:
    """The limits and what to do over them. Raises UsageError for options that mean nothing together."""
    if limits is None:
        for option, given in (("--on-exceed", on_exceed), ("--grace", grace)):
            if given is not None:
                raise UsageError(
                    f"{option}: there is no limit to exceed", hint="for example --max-energy 500J"
                )
        return None
    if grace is not None and on_exceed != "stop":
        raise UsageError("--grace: nothing is stopped without --on-exceed stop", hint="add --on-exceed stop")
    from emt_cli.quantities import duration_s

    grace_s = _parsed("--grace", grace, duration_s)
    return LimitOrder(
        limits=limits, stops=on_exceed == "stop", grace_s=_GRACE_S if grace_s is None else grace_s
    )


def _parsed(option: str, text: str | None, parse: Callable[[str], float]) -> float | None:
    if text is None:
        return None
    try:
        return parse(text)
    except UsageError as error:
        raise UsageError(f"{option}: {error}", hint=error.hint) from None


# --- while the command runs -------------------------------------------------------------------------


class LiveJudge:
    """See `measure.watch.Judge`. Each limit is told of once."""

    def __init__(self, order: LimitOrder) -> None:
        self.grace_s = order.grace_s
        self._order = order
        self._open = order.limits.each()
        self.reason = ""
        """Why the command was to be stopped."""
        self._so_far: SoFar | None = None

    @property
    def due_s(self) -> float:
        return self._open.get("time", inf)

    def begin(self, run: Run) -> None:
        from emt_cli.analysis.so_far import SoFar

        self._so_far = SoFar(run)

    def look(
        self, samples: Sequence[Sample], elapsed_s: float, devices: Callable[[], Sequence[DeviceUse]]
    ) -> Look:
        from emt_cli.measure.watch import Look

        assert self._so_far is not None, "begin comes first"
        self._so_far.add(samples)
        news = []
        for metric, limit in list(self._open.items()):
            value = self._so_far.value(metric, elapsed_s, devices)
            if value is None or value <= limit or (metric == "power" and elapsed_s < _SETTLE_S):
                continue
            del self._open[metric]
            so_far = "" if metric == "time" else f" ({_SHOW[metric](value)} so far)"
            news.append(f"{OPTIONS[metric]} {_SHOW[metric](limit)} is exceeded{so_far}")
            self.reason = self.reason or news[-1]
        ends = self._order.stops and bool(news)
        then = "; the command is being stopped" if ends else ""
        return Look([each + then for each in news], ends)


class Limited:
    """The limits of one execution: made before it starts, and asked when it is over."""

    def __init__(self, order: LimitOrder | None) -> None:
        self.watch: Watch | None = None
        self._judge: LiveJudge | None = None
        if order is not None:
            from emt_cli.measure.watch import Watch

            self._judge = LiveJudge(order)
            self.watch = Watch(self._judge, _say)

    def on(self, run: Run) -> Run:
        """The run, and if it was stopped, why."""
        if self.watch is None or self._judge is None or self.watch.ended_s is None:
            return run
        stopped = notice("limit_stopped", seconds=self.watch.ended_s, reason=self._judge.reason)
        return replace(run, notices=(stopped, *run.notices))


def _say(text: str) -> None:
    from emt_cli.commands import complain

    complain(text)


# --- afterwards -------------------------------------------------------------------------------------


def judged(run: Run, order: LimitOrder | None) -> Run:
    """The run with its results, and a warning for each limit that the final figures exceed."""
    if order is None:
        return run
    notices = []
    for metric, limit in order.limits.each().items():
        values = _values(run, metric)
        over = [value for value in values if value > limit]
        if over:
            is_repeated = len(values) > 1
            where = f" by {len(over)} of {len(values)} executions" if is_repeated else ""
            found = f"{'up to ' if is_repeated else ''}{_SHOW[metric](max(over))}"
            option, most = OPTIONS[metric], _SHOW[metric](limit)
            notices.append(notice("limit_exceeded", option=option, limit=most, where=where, found=found))
    return replace(run, notices=(*notices, *run.notices))


def _values(run: Run, metric: Metric) -> list[float]:
    """That quantity of every execution that knows it, failed ones too: over a limit they fail."""
    from emt_cli.analysis.figures import figure

    each = [replace(run, executions=(execution,)) for execution in run.executions] or [run]
    found = [figure(one, metric, run.settings.scope) for one in each]
    return [figures.mean for figures in found if figures is not None]


def was_stopped(run: Run) -> bool:
    """Whether it was ended over a limit."""
    return any(each.code == "limit_stopped" for each in run.notices)


def exit_of(run: Run) -> Exit:
    """How `emt run` is to leave: as the command ended, or with 124 where it was stopped."""
    return Exit(code=STOPPED) if was_stopped(run) else run.exit
