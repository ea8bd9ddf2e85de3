"""Idle power: what is known of it, from whom, and what a run's own windows tell where nobody knows it.

Apart from `attribution`, which shares energy out whatever the idle power is, and from `linear_fit`, which
knows lines and no runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from emt_cli.analysis.attribution import CpuSplit, Gaps, Idle
from emt_cli.analysis.sums import known_sum
from emt_cli.analysis.windows import Window
from emt_cli.model import Channel, IdlePolicy, Run
from emt_cli.units import power
from emt_cli.values import Value

MOST_LOADS = 2048
"""Windows that are kept for the fit; beyond twice as many, neighbours are put together."""
FEWEST_LOADS = 20
"""As many as `linear_fit` asks for at least: a run with fewer pays for no fit."""
_FITTED_FROM = frozenset({"measured", "integrated"})


class FittedIdle(Value):
    """Idle power in watts from the run's own windows; `error` is its half-width, relative."""

    power_w: float
    error: float


Fitted = Mapping[str, FittedIdle]
"""By channel id."""


def knowledge(run: Run, fitted: Fitted) -> Idle:
    """What is known of the idle power of every channel, and which share of it the tree bears.

    To be asked anew for every pass over the windows: gaps are told once.
    """
    settings, cpus = run.settings, max(1, run.cpu_time.logical_cpus)
    policy: IdlePolicy = settings.idle_policy or ("busy" if settings.reserved_cpus is None else "reserved")
    reserved = 1.0 if settings.reserved_cpus is None else min(1.0, settings.reserved_cpus / cpus)
    spans = _spans(run)
    return Idle(
        power_w=[_power_w(run, channel, fitted) for channel in run.channels],
        policy=policy,
        reserved_share=reserved,
        logical_cpus=cpus,
        gaps=[Gaps(spans[channel.id]) for channel in run.channels] if run.gaps else (),
    )


def source(run: Run, channels: Iterable[Channel], fitted: Fitted) -> str:
    """Where the idle power of these channels comes from: `calibrated 2026-11-21, unknown`."""
    sources = {_source(run, channel, fitted) for channel in channels}
    return ", ".join(sorted(sources)) or "unknown"


def mark(split: CpuSplit, run: Run, fitted: Fitted) -> None:
    """Write beside the shares how sure their idle power is, and how it came about."""
    for channel, shared in zip(run.channels, split.channels, strict=True):
        if (found := fitted.get(channel.id)) is not None:
            shared.idle_error = found.error
            shared.note = f"idle power {power(found.power_w)} (within {found.error:.1%}) fitted from this run"


def _source(run: Run, channel: Channel, fitted: Fitted) -> str:
    if _is_set(run, channel):
        return run.settings.idle_w_source
    if channel.idle_w is not None:
        return "model"
    return "fitted" if channel.id in fitted else "unknown"


def _is_set(run: Run, channel: Channel) -> bool:
    """Whether the settings decide. A model knows its own idle power; only what the user stated beats it."""
    is_stated = run.settings.idle_w_source == "configured"
    return channel.id in run.settings.idle_w and (is_stated or channel.idle_w is None)


def _power_w(run: Run, channel: Channel, fitted: Fitted) -> float | None:
    if _is_set(run, channel):
        return run.settings.idle_w[channel.id]
    if channel.idle_w is None and channel.id in fitted:
        return fitted[channel.id].power_w
    return channel.idle_w


def _spans(run: Run) -> dict[str, list[tuple[float, float]]]:
    spans: dict[str, list[tuple[float, float]]] = {channel.id: [] for channel in run.channels}
    for gap in run.gaps:
        spans.setdefault(gap.channel, []).append((gap.start_s, gap.end_s))
    return spans


# --- fitting ----------------------------------------------------------------------------------------


class Loads:
    """Keeps the windows that pass by, fewer than `2 * most` of them: a run of a day takes no more memory."""

    def __init__(self, most: int = MOST_LOADS) -> None:
        self._most = most
        self._kept: list[Window] = []
        self._step = 1
        self._open: list[Window] = []

    def watch(self, windows: Iterable[Window]) -> Iterator[Window]:
        """Hands every window on untouched."""
        for window in windows:
            self._open.append(window)
            if len(self._open) == self._step:
                self._kept.append(_together(self._open))
                self._open = []
            if len(self._kept) >= 2 * self._most:
                self._kept = [_together(self._kept[at : at + 2]) for at in range(0, len(self._kept), 2)]
                self._step *= 2
            yield window

    def windows(self) -> Sequence[Window]:
        return self._kept


def fit(run: Run, loads: Sequence[Window], candidates: Iterable[Channel]) -> dict[str, FittedIdle]:
    """The idle power of those candidates that nobody knows it of and whose fit is sound.

    A window is a point: its busy share of all CPUs, and the channel's watts. The line's power at no load is
    the idle power if `linear_fit.is_sound_fit` lets it pass (which names its test), so not on a machine
    whose load hardly changed, nor where the power bends with the load. Its error is the larger of the line's
    own 95 % interval and what a bend could hide.
    """
    if len(loads) < FEWEST_LOADS or any(window.cpu_machine_s is None for window in loads):
        return {}
    at = {channel.id: index for index, channel in enumerate(run.channels)}
    spans = _spans(run)
    found = {}
    for channel in candidates:
        if channel.provenance not in _FITTED_FROM or _power_w(run, channel, {}) is not None:
            continue
        gaps = Gaps(spans[channel.id])
        whole = [each for each in loads if not gaps.lost_until(each.start_s + each.duration_s)]
        if (fitted := _fit_one(whole, at[channel.id], max(1, run.cpu_time.logical_cpus))) is not None:
            found[channel.id] = fitted
    return found


def _fit_one(loads: Sequence[Window], index: int, cpus: int) -> FittedIdle | None:
    from emt_cli.analysis import linear_fit

    shares, watts = [], []
    for window in loads:
        if window.cpu_machine_s is not None and (joules := window.energy_j[index]) is not None:
            shares.append(window.cpu_machine_s / (cpus * window.duration_s))
            watts.append(joules / window.duration_s)
    if len(shares) < FEWEST_LOADS or min(shares) == max(shares):
        return None
    line = linear_fit.fit(shares, watts)
    if not linear_fit.is_sound_fit(line):
        return None
    bent = line.intercept if line.intercept_bent is None else line.intercept_bent
    half_w = max(line.intercept_high - line.intercept, abs(bent - line.intercept))
    return FittedIdle(power_w=line.intercept, error=half_w / line.intercept)


def _together(windows: Sequence[Window]) -> Window:
    """Neighbours as one; what one of them does not know is not known of all."""
    if len(windows) == 1:
        return windows[0]
    return Window(
        start_s=windows[0].start_s,
        duration_s=sum(window.duration_s for window in windows),
        energy_j=tuple(
            known_sum(joules) for joules in zip(*(each.energy_j for each in windows), strict=True)
        ),
        cpu_tree_s=known_sum(window.cpu_tree_s for window in windows),
        cpu_machine_s=known_sum(window.cpu_machine_s for window in windows),
    )
