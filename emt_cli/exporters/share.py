"""A record that may be handed to strangers: the joules and what makes them comparable, and no names.

A bundle is a record of format 1 like any other, so that `report` and `compare` read it. It is built up from
what may be told rather than by taking away what may not: a field that the model gains tomorrow is not in
it until somebody puts it here. Left out: the user, the host, paths, the command, processes, tags, names of
runs and marks, jobs, texts of warnings, PIDs, boot id and time zone. Kept: dates, processor, memory,
versions of system and kernel, sensors, readings, grid, results. Texts that emt itself wrote about a sensor
are kept unless a path, a device's serial number or a name of this host or user is in them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import TypeVar

from emt_cli.exporters.pseudonyms import Pseudonyms
from emt_cli.model import (
    Attribution,
    Carbon,
    Channel,
    ChannelEnergy,
    CpuTime,
    DeviceUse,
    Energy,
    Execution,
    Exit,
    GapSpan,
    Grid,
    Host,
    Mark,
    Notice,
    Observed,
    Run,
    Settings,
)
from emt_cli.notices import CODES

WITHHELD = "not-shared"
"""Stands where there was a text that is not told."""

_PATH = re.compile(r"(?<![\w.)])(?:~\w*|\.{1,2}|[A-Za-z]:)?[/\\][^\s/\\]")
"""The beginning of a path: not the slash of `W/GB`, `E3/E5` or `codecarbon/amd.com`."""
_SERIAL = re.compile(
    r"(?:GPU-|MIG-)?[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|\b(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b",
    re.IGNORECASE,
)
"""UUIDs (NVIDIA names its boards so) and hardware addresses."""
_HOME = re.compile(r"(?:/home|/Users|\\Users)[/\\]([^/\\\s:;,'\"]+)")
_DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", re.ASCII)
_KERNEL = re.compile(r"\d+(?:\.\d+)*", re.ASCII)
"""What follows is a builder's own: a cluster's, a company's."""
_SHORTEST_NAME = 3

_Sum = TypeVar("_Sum", Observed, GapSpan)


def anonymous(run: Run) -> Run:
    """The run as it may be shared; recomputed, it gives the same joules. Equal runs give equal bundles."""
    return _Bundle(run).made()


class _Bundle:
    """One run on its way: what must not be said of it, and its devices by other names."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._names = _names_in(run)
        self._called = Pseudonyms(run.channels, run.energy.channels if run.energy else ())

    def made(self) -> Run:
        run = self._run
        date = match[0] if (match := _DATE.match(run.started_at)) else ""
        return Run(
            id=_id(run.id, date),
            command=(WITHHELD,),
            started_at=f"{date}Z" if date else "",
            host=self._host(run.host),
            sampling=run.sampling,  # numbers only
            channels=tuple(map(self._channel, run.channels)),
            state="recovered" if run.state == "running" else run.state,
            duration_s=run.duration_s,
            exit=_exit(run.exit),
            observed=tuple(map(self._by_channel, run.observed)),
            gaps=tuple(replace(self._by_channel(gap), reason=WITHHELD) for gap in run.gaps),
            cpu_time=self._cpu_time(run.cpu_time),
            devices=tuple(map(self._device, run.devices)),
            marks=tuple(self._marks(run)),
            suspended_s=run.suspended_s,
            paused_s=run.paused_s,
            settings=self._settings(run.settings),
            work=None if run.work is None else replace(run.work, unit=self._text(run.work.unit)),
            executions=tuple(map(self._execution, run.executions)),
            grid=None if run.grid is None else self._grid(run.grid),
            notices=tuple(Notice(code=each.code, text="") for each in run.notices if each.code in CODES),
            samples=run.samples,
            energy=None if run.energy is None else self._energy(run.energy),
            attribution=None if run.attribution is None else self._attribution(run.attribution),
            carbon=None if run.carbon is None else self._carbon(run.carbon),
            repeat=run.repeat,
            curve=run.curve,
        )

    def _text(self, text: str) -> str:
        """A text that emt wrote, without serial numbers; nothing of it where a path or a name is in it."""
        is_telling = _PATH.search(text) or (self._names and self._names.search(text))
        return WITHHELD if is_telling else _SERIAL.sub("", text)

    def _host(self, host: Host) -> Host:
        kernel = _KERNEL.match(host.kernel)
        return Host(
            os=self._text(host.os),
            kernel=kernel[0] if kernel else "",
            architecture=self._text(host.architecture),
            cpu_model=self._text(host.cpu_model),
            cpu_count=host.cpu_count,
            cpu_packages=host.cpu_packages,
            memory_bytes=host.memory_bytes,
            hypervisor=self._text(host.hypervisor),
            container=self._text(host.container),
            pid_namespace=self._text(host.pid_namespace),
            governor=self._text(host.governor),
            python=self._text(host.python),
            emt_version=self._text(host.emt_version),
        )

    def _channel(self, channel: Channel) -> Channel:
        is_ours = self._called.is_ours(channel)
        return Channel(
            id=self._called.channel(channel.id),
            sensor=self._called.sensor(channel.sensor),
            device=self._called.device(channel.device),
            domain=self._called.domain(channel.domain),
            kind=channel.kind,
            provenance=channel.provenance,
            source=self._text(channel.source) if is_ours else WITHHELD,
            within=None if channel.within is None else self._called.channel(channel.within),
            unit=channel.unit,
            range_raw=channel.range_raw,
            resolution_j=channel.resolution_j,
            update_period_s=channel.update_period_s,
            accuracy=channel.accuracy,
            max_power_w=channel.max_power_w,
            idle_w=channel.idle_w,
            low_w=channel.low_w,
            high_w=channel.high_w,
            note=self._text(channel.note) if is_ours else "",
            dropped=(self._text(channel.dropped) if is_ours else WITHHELD) if channel.dropped else "",
            checks=self._called.channel(channel.checks) if channel.checks else "",
            full_j=channel.full_j,
            left_j=channel.left_j,
        )

    def _by_channel(self, told: _Sum) -> _Sum:
        """Numbers of one channel, under its name in the bundle."""
        return replace(told, channel=self._called.channel(told.channel))

    def _cpu_time(self, cpu: CpuTime) -> CpuTime:
        return CpuTime(
            tree_s=cpu.tree_s,
            machine_s=cpu.machine_s,
            witnesses={self._text(name): value for name, value in cpu.witnesses.items()},
            winner=self._text(cpu.winner),
            spread_s=cpu.spread_s,
            series_s=cpu.series_s,
            coverage=cpu.coverage,
            stolen_s=cpu.stolen_s,
            logical_cpus=cpu.logical_cpus,
            refusals={self._text(name): WITHHELD for name in cpu.refusals},
            blind_spot=WITHHELD if cpu.blind_spot else "",
            processes_seen=cpu.processes_seen,
            late=cpu.late,
        )

    def _device(self, use: DeviceUse) -> DeviceUse:
        """PIDs by their place in the list: how many they are is a part of the rule. 0 stays nobody known."""
        number = len(use.tree_pids) + 1
        others = tuple(pid and at for at, pid in enumerate(use.other_pids, number))
        return DeviceUse(
            device=self._called.device(use.device),
            tree_busy_s=use.tree_busy_s,
            total_busy_s=use.total_busy_s,
            tree_pids=tuple(range(1, number)),
            other_pids=others,
            slice_share=use.slice_share,
            sees_others=use.sees_others,
        )

    @staticmethod
    def _marks(run: Run) -> Iterator[Mark]:
        numbers: dict[str, int] = {}
        for mark in run.marks:
            yield Mark(t_s=mark.t_s, name=f"mark {numbers.setdefault(mark.name, len(numbers) + 1)}")

    def _execution(self, execution: Execution) -> Execution:
        return Execution(
            start_s=execution.start_s,
            duration_s=execution.duration_s,
            exit=_exit(execution.exit),
            observed=tuple(map(self._by_channel, execution.observed)),
            cpu_time=self._cpu_time(execution.cpu_time),
            devices=tuple(map(self._device, execution.devices)),
            machine_j=execution.machine_j,
            attributed_j=execution.attributed_j,
            low_j=execution.low_j,
            high_j=execution.high_j,
            active_j=execution.active_j,
            idle_share_j=execution.idle_share_j,
        )

    def _settings(self, settings: Settings) -> Settings:
        return Settings(
            scope=settings.scope,
            total=settings.total,
            idle_policy=settings.idle_policy,
            idle_w={self._called.channel(id): watts for id, watts in settings.idle_w.items()},
            idle_w_source=self._text(settings.idle_w_source),
            reserved_cpus=settings.reserved_cpus,
            pue=settings.pue,
            pue_source=self._text(settings.pue_source),
        )

    def _grid(self, grid: Grid) -> Grid:
        return Grid(
            intensity_g_per_kwh=grid.intensity_g_per_kwh,
            location=self._text(grid.location),
            location_name=self._text(grid.location_name),
            location_source=self._text(grid.location_source),
            intensity_source=self._text(grid.intensity_source),
            dataset=self._text(grid.dataset),
            year=grid.year,
            scope=self._text(grid.scope),
        )

    def _carbon(self, carbon: Carbon) -> Carbon:
        return Carbon(
            co2e_g=carbon.co2e_g,
            low_g=carbon.low_g,
            high_g=carbon.high_g,
            basis=carbon.basis,
            energy_j=carbon.energy_j,
            pue=carbon.pue,
            pue_source=self._text(carbon.pue_source),
            intensity_g_per_kwh=carbon.intensity_g_per_kwh,
            location=self._text(carbon.location),
            location_name=self._text(carbon.location_name),
            location_source=self._text(carbon.location_source),
            intensity_source=self._text(carbon.intensity_source),
            dataset=self._text(carbon.dataset),
            year=carbon.year,
            scope=self._text(carbon.scope),
        )

    def _energy(self, energy: Energy) -> Energy:
        return replace(energy, channels=tuple(map(self._channel_energy, energy.channels)))

    def _channel_energy(self, energy: ChannelEnergy) -> ChannelEnergy:
        return replace(
            energy,
            id=self._called.channel(energy.id),
            device=self._called.device(energy.device),
            domain=self._called.domain(energy.domain),
            rule=self._text(energy.rule),
            note=self._text(energy.note) if self._called.is_known(energy.id) else "",
        )

    def _attribution(self, attribution: Attribution) -> Attribution:
        return replace(
            attribution, rule=self._text(attribution.rule), idle_source=self._text(attribution.idle_source)
        )


def _exit(ended: Exit) -> Exit:
    return Exit(code=ended.code, signal=ended.signal)


def _id(id: str, date: str) -> str:
    """A name of the same form without the program's, which stands in an id."""
    stamp = re.sub(r"[-:]", "", date).replace("T", "-") or "undated"
    return f"{stamp}-shared-{hashlib.sha256(id.encode('utf-8', 'replace')).hexdigest()[:4]}"


def _names_in(run: Run) -> re.Pattern[str] | None:
    """A pattern of the names of the host and its users, as far as the record tells them.

    Only what may stand in a text of emt's own: a run that is called `cpu` must not blank every sensor.
    """
    node = run.host.node
    found = {node, node.partition(".")[0], run.job.node if run.job is not None else ""}
    texts = [*run.command, run.settings.pue_source, *(each.text + each.hint for each in run.notices)]
    texts += [process.command for process in run.processes]
    texts += [channel.source + channel.note for channel in run.channels]
    for text in texts:
        found.update(_HOME.findall(text))
    told = sorted((name for name in found if len(name) >= _SHORTEST_NAME), key=len, reverse=True)
    if not told:
        return None
    return re.compile(r"(?<!\w)(?:" + "|".join(map(re.escape, told)) + r")(?!\w)", re.IGNORECASE)
