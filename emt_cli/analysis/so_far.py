"""What a run has used while it goes on: an estimate from its samples, for limits that are watched.

The record's own figures come from `energy` when all is known; here everything is looked at once, in constant
memory: the joules of the channels that count, the tree's share of them by CPU time so far, and of devices by
who has used them so far.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from emt_cli.analysis import cover
from emt_cli.analysis.energy import device_share
from emt_cli.analysis.figures import Metric, grams_per_joule
from emt_cli.analysis.windows import Joules, carried
from emt_cli.model import DeviceUse, Run, Sample


class SoFar:
    """`add` samples as they come, then ask. `run` is the draft with its channels and settings."""

    def __init__(self, run: Run) -> None:
        self._run = run
        counted = cover.counted(run.channels, run.settings.total)
        self._channels = [(at, each) for at, each in enumerate(run.channels) if each.id in counted]
        self._joules: Joules = ()
        self._tree_s: float | None = None
        self._machine_s: float | None = None

    def add(self, samples: Iterable[Sample]) -> None:
        for sample in samples:
            self._joules = carried(sample.energy_j, self._joules)
            self._tree_s = self._tree_s if sample.cpu_tree_s is None else sample.cpu_tree_s
            self._machine_s = self._machine_s if sample.cpu_machine_s is None else sample.cpu_machine_s

    def value(
        self, metric: Metric, elapsed_s: float, devices: Callable[[], Sequence[DeviceUse]]
    ) -> float | None:
        """Joules, seconds, mean watts or grams by the run's scope; None: not known yet."""
        if metric == "time":
            return elapsed_s
        joules = self._energy_j(devices)
        if joules is None:
            return None
        if metric == "co2e":
            factor = grams_per_joule(self._run)
            return None if factor is None else joules * factor
        return joules if metric == "energy" else joules / elapsed_s if elapsed_s > 0 else None

    def _energy_j(self, devices: Callable[[], Sequence[DeviceUse]]) -> float | None:
        if not self._joules or not self._channels:
            return None
        run = replace(self._run, devices=tuple(devices()))
        is_of_tree = run.settings.scope == "tree"
        total = 0.0
        for at, channel in self._channels:
            share: float | None = 1.0
            if is_of_tree:
                share = device_share(run, channel)
                share = self._cpu_share() if share is None else share
            if share is None:
                return None
            total += (self._joules[at] or 0.0) * share
        return total

    def _cpu_share(self) -> float | None:
        """The tree's part of the machine's busy time until now."""
        if self._tree_s is None or self._machine_s is None:
            return None
        return min(1.0, self._tree_s / self._machine_s) if self._machine_s > 0 else 0.0
