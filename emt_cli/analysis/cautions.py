"""The warnings that follow from a record: each a small function of the run, with a code from `notices`."""

from __future__ import annotations

import os.path
from collections.abc import Iterator

from emt_cli.analysis.attribution import SHORT_RUN_S
from emt_cli.model import Notice, Run
from emt_cli.notices import notice

_GAP_S = 0.01
_STOLEN = 0.05
_LATE = 0.05
_PAUSE_S = 1.0
_TINY_CORES = 0.25
"""A tree that used less than this many cores on average is small beside work done elsewhere."""

_ELSEWHERE = {
    "docker": ("run exec compose start build", "put emt inside: docker run IMAGE emt run -- CMD"),
    "podman": ("run exec compose start build", "put emt inside: podman run IMAGE emt run -- CMD"),
    "nerdctl": ("run exec compose start build", "put emt inside the container"),
    "kubectl": ("run exec apply create", "put emt inside the container's command"),
    "systemd-run": ("", "put emt inside: systemd-run emt run -- CMD, or add --scope"),
    "sbatch": ("", "put emt inside the batch script: srun emt run -- CMD"),
    "srun": ("", "turn it round: srun emt run -- CMD"),
    "salloc": ("", "put emt inside: salloc srun emt run -- CMD"),
    "qsub": ("", "put emt inside the job script"),
    "bsub": ("", "put emt inside the job: bsub emt run -- CMD"),
    "ssh": ("", "measure over there: ssh HOST emt run -- CMD"),
    "ray": ("submit job", "put emt around the workers' command"),
    "at": ("", "put emt inside the job"),
    "batch": ("", "put emt inside the job"),
}


def merge(run: Run) -> tuple[Notice, ...]:
    """The notices that came with the run, then those that follow from it; each follows once."""
    derived = tuple(_derived(run))
    codes = {each.code for each in derived}
    return (*(each for each in run.notices if each.code not in codes), *derived)


def _derived(run: Run) -> Iterator[Notice]:
    yield from _of_time(run)
    yield from _of_tree(run)
    yield from _of_channels(run)


def _of_time(run: Run) -> Iterator[Notice]:
    if run.state == "complete" and run.duration_s < SHORT_RUN_S:
        yield notice("short_run", duration_s=run.duration_s)
    if run.suspended_s > _PAUSE_S:
        yield notice("suspended", seconds=run.suspended_s)
    if run.paused_s > _PAUSE_S:
        yield notice("paused", seconds=run.paused_s)
    sampling = run.sampling
    ticks = sampling.ticks + sampling.late
    if ticks >= 20 and sampling.late > _LATE * ticks and not run.paused_s:
        yield notice("late_ticks", late=sampling.late, ticks=ticks, frequency_hz=sampling.frequency_hz)


def _of_tree(run: Run) -> Iterator[Notice]:
    cpu = run.cpu_time
    if cpu.blind_spot and cpu.coverage is None:
        yield notice("coverage", reason=cpu.blind_spot)
    left = [process for process in run.processes if process.is_left_running]
    if left:
        names = ", ".join(f"{process.name} ({process.pid})" for process in left[:5])
        yield notice("left_running", count=len(left), names=names)
    available_s = cpu.logical_cpus * run.duration_s
    if cpu.stolen_s is not None and available_s > 0 and cpu.stolen_s > _STOLEN * available_s:
        yield notice("stolen_time", share=cpu.stolen_s / available_s)
    if (cpu.tree_s or 0.0) < _TINY_CORES * run.duration_s and run.duration_s > SHORT_RUN_S:
        yield from _work_elsewhere(run)


def _work_elsewhere(run: Run) -> Iterator[Notice]:
    commands = [list(run.command), *(process.command.split() for process in run.processes)]
    for words in commands:
        launcher = os.path.basename(words[0]) if words else ""
        verbs, remedy = _ELSEWHERE.get(launcher, ("", ""))
        if remedy and (not verbs or set(verbs.split()) & set(words[1:])):
            yield notice("work_elsewhere", launcher=launcher, remedy=remedy)
            return


def _of_channels(run: Run) -> Iterator[Notice]:
    for observed in run.observed:
        spans = [gap for gap in run.gaps if gap.channel == observed.channel]
        if observed.gap_s > _GAP_S:
            reason = spans[0].reason if spans else "unknown"
            yield notice("sensor_gap", channel=observed.channel, gap_s=observed.gap_s, reason=reason)
        if observed.resets:
            yield notice("counter_reset", channel=observed.channel, count=observed.resets)
    for row in run.energy.channels if run.energy is not None else ():
        if row.is_counted and abs(row.clamped_j) > 0.01 * row.machine_j and run.duration_s > SHORT_RUN_S:
            yield notice("clamped", channel=row.id, joules=row.clamped_j)
        if row.rule == "whole_device_unknown":
            yield notice("gpu_whole_device", device=row.device)
    for use in run.devices:
        if use.tree_pids and use.other_pids:
            rule = "SM time" if use.tree_busy_s is not None and use.total_busy_s else "equal shares"
            pids = ", ".join(map(str, use.other_pids[:5]))
            yield notice("gpu_shared", device=use.device, pids=pids, rule=rule)
