"""Runs written by hand: a machine whose power and CPU load are functions of time, read at any frequency."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from emt_cli.analysis.energy import account
from emt_cli.model import (
    Channel,
    ChannelEnergy,
    CpuTime,
    DeviceUse,
    Energy,
    Host,
    Observed,
    Run,
    Sample,
    Sampling,
    Settings,
)

OfTime = Callable[[float], float]
"""Something cumulative: joules or CPU seconds from the start to a moment."""


def channel(id: str = "cpu0/package", **facts: Any) -> Channel:
    device, _, domain = id.partition("/")
    known: dict[str, Any] = {
        "sensor": "powercap",
        "device": device,
        "domain": domain or device.rstrip("0123456789"),
        "kind": "counter",
        "provenance": "measured",
        "source": "test",
    }
    return Channel(id=id, **{**known, **facts})


def steady(rate: float) -> OfTime:
    return lambda t_s: rate * t_s


TEN_WATTS, HALF_A_CPU, ONE_CPU = steady(10.0), steady(0.5), steady(1.0)


def steps(*levels: tuple[float, float]) -> OfTime:
    """The integral of a rate that is constant for so many seconds each: (seconds, rate), ..."""

    def total(t_s: float) -> float:
        found, start_s = 0.0, 0.0
        for length_s, rate in levels:
            found += rate * min(max(t_s - start_s, 0.0), length_s)
            start_s += length_s
        return found

    return total


def times(duration_s: float, frequency_hz: float) -> list[float]:
    count = int(duration_s * frequency_hz - 1e-9)
    return [*(n / frequency_hz for n in range(count + 1)), duration_s]


def samples(
    joules: Sequence[OfTime],
    tree: OfTime | None,
    machine: OfTime | None,
    moments: Sequence[float],
    cpu_every: int = 1,
) -> list[Sample]:
    """CPU time is read at the edges and at every so manieth moment."""
    found = []
    for n, t_s in enumerate(moments):
        is_read = n % cpu_every == 0 or n == len(moments) - 1
        found.append(
            Sample(
                t_s,
                tuple(energy(t_s) for energy in joules),
                (None,) * len(joules),
                tree(t_s) if tree is not None and is_read else None,
                machine(t_s) if machine is not None and is_read else None,
            )
        )
    return found


def run_of(
    joules: OfTime | dict[str, OfTime] = TEN_WATTS,
    *,
    tree: OfTime | None = HALF_A_CPU,
    machine: OfTime | None = ONE_CPU,
    duration_s: float = 10.0,
    frequency_hz: float = 10.0,
    cpu_every: int = 1,
    cpus: int = 4,
    channels: Sequence[Channel] | None = None,
    settings: Settings | None = None,
    **facts: Any,
) -> Run:
    """A finished run of a machine that draws `joules` and is busy for `machine`, of which the tree `tree`."""
    by_id = joules if isinstance(joules, dict) else {"cpu0/package": joules}
    channels = tuple(channels or [channel(id) for id in by_id])
    curves = [by_id[each.id] for each in channels]
    rows = samples(curves, tree, machine, times(duration_s, frequency_hz), cpu_every)
    powers = [
        max((curve(b.t_s) - curve(a.t_s)) / (b.t_s - a.t_s) for a, b in pairwise(rows)) for curve in curves
    ]
    known: dict[str, Any] = {
        "id": "20260101T000000Z-test-1",
        "command": ("work",),
        "started_at": "2026-01-01T00:00:00Z",
        "host": Host(node="test", cpu_count=cpus),
        "sampling": Sampling(frequency_hz=frequency_hz),
        "channels": channels,
        "state": "complete",
        "duration_s": duration_s,
        "observed": tuple(
            Observed(
                channel=each.id,
                energy_j=curve(duration_s) - curve(0.0),
                readings=len(rows),
                max_power_w=power_w,
            )
            for each, curve, power_w in zip(channels, curves, powers, strict=True)
        ),
        "cpu_time": CpuTime(
            tree_s=None if tree is None else tree(duration_s),
            machine_s=None if machine is None else machine(duration_s),
            series_s=None if tree is None else tree(duration_s),
            winner="perf",
            coverage=1.0,
            logical_cpus=cpus,
        ),
        "settings": settings or Settings(),
        "samples": rows,
    }
    return Run(**{**known, **facts})


def with_cpu(run: Run, **facts: Any) -> Run:
    return replace(run, cpu_time=replace(run.cpu_time, **facts))


def with_observed(run: Run, **facts: Any) -> Run:
    return replace(run, observed=tuple(replace(each, **facts) for each in run.observed))


def energy_of(run: Run) -> Energy:
    return account(run)[0]


def row_of(run: Run, id: str = "cpu0/package") -> ChannelEnergy:
    return next(row for row in energy_of(run).channels if row.id == id)


def gpu_run(use: DeviceUse | None, joules: float = 100.0, **facts: Any) -> Run:
    """A run of ten seconds on a machine with a CPU and a GPU of `joules`, used as told."""
    return run_of(
        {"cpu0/package": steady(10.0), "gpu0": steady(joules / 10)},
        devices=() if use is None else (use,),
        **facts,
    )
