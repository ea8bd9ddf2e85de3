"""The warnings that follow from a record: each a small function of the run, with a code from `notices`."""

from __future__ import annotations

import os.path
from collections.abc import Iterator

from emt_cli.analysis.attribution import SHORT_RUN_S
from emt_cli.model import Channel, Notice, Observed, Run
from emt_cli.notices import notice

_GAP_S = 0.01
_STOLEN = 0.05
_LATE = 0.05
_PAUSE_S = 1.0
_TINY_CORES, _TINY_S = 0.25, 0.5
"""A tree is tiny beside work done elsewhere below so many cores on average, or CPU seconds in all."""
_CLAMPED = 0.01
_APART = 0.1
"""Relative: two sensors of one thing that differ by more do not tell the same."""
_APART_PERIODS = 20
"""Each of two counters may be a refresh off at an edge: over so many refreshes half of `_APART` at most."""
_APART_GAUGE_S = 10.0
"""A gauge may tell the mean of the last second (NVIDIA since Ampere): where the load steps up at the start it
misses half a second of it, half of `_APART` over this time."""
_APART_J, _APART_STEPS = 5.0, 20
"""Fewer joules, or fewer steps of the coarser counter, tell no difference of `_APART`."""

DERIVED = frozenset(
    {
        "short_run",
        "suspended",
        "paused",
        "late_ticks",
        "location_unknown",
        "coverage",
        "left_running",
        "stolen_time",
        "work_elsewhere",
        "sensor_gap",
        "counter_reset",
        "clamped",
        "gpu_whole_device",
        "gpu_shared",
        "gpu_sliced",
    }
)
"""The codes that are found here, and only here: in a record that comes in they are results of before."""

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
    """The notices that came with the run, then those that follow from it; each cause once."""
    came = (each for each in run.notices if each.code not in DERIVED)
    return tuple(dict.fromkeys((*came, *_derived(run))))


def _derived(run: Run) -> Iterator[Notice]:
    yield from _of_time(run)
    yield from _of_tree(run)
    yield from _of_channels(run)
    yield from _of_checks(run)
    yield from _of_devices(run)
    if run.grid is not None and run.grid.location_source == "world average":
        yield notice("location_unknown")


def _of_time(run: Run) -> Iterator[Notice]:
    shared_s = run.duration_s / max(1, len(run.executions))  # each execution is shared out by itself
    if run.state == "complete" and shared_s < SHORT_RUN_S:
        yield notice("short_run", duration_s=shared_s)
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
        # A system without perf has nothing to allow.
        remedy = "allow perf: sudo sysctl kernel.perf_event_paranoid=2" if "perf" in cpu.refusals else ""
        yield notice("coverage", reason=cpu.blind_spot, remedy=remedy)
    left = [process for process in run.processes if process.is_left_running]
    if left:
        names = ", ".join(f"{process.name} ({process.pid})" for process in left[:5])
        yield notice("left_running", count=len(left), names=names)
    available_s = cpu.logical_cpus * run.duration_s
    if cpu.stolen_s is not None and available_s > 0 and cpu.stolen_s > _STOLEN * available_s:
        yield notice("stolen_time", share=cpu.stolen_s / available_s)
    if (cpu.tree_s or 0.0) < max(_TINY_S, _TINY_CORES * run.duration_s):
        yield from _work_elsewhere(run)


def _work_elsewhere(run: Run) -> Iterator[Notice]:
    commands = [list(run.command), *(process.command.split() for process in run.processes)]
    for words in commands:
        launcher = os.path.basename(words[0]) if words else ""
        verbs, remedy = _ELSEWHERE.get(launcher, ("", ""))
        if remedy and _hands_over(words[1:], verbs):
            yield notice("work_elsewhere", launcher=launcher, remedy=remedy)
            return


def _hands_over(arguments: list[str], verbs: str) -> bool:
    """Whether a launcher was asked for work: by one of its verbs; one without verbs, by more than options."""
    if verbs:
        return not set(verbs.split()).isdisjoint(arguments)
    return not arguments or any(not word.startswith("-") for word in arguments)


def _of_channels(run: Run) -> Iterator[Notice]:
    idle = {channel.id for channel in run.channels if channel.dropped}
    for observed in run.observed:
        if observed.channel in idle:  # it counts nowhere: its gaps are nobody's loss
            continue
        spans = [gap for gap in run.gaps if gap.channel == observed.channel]
        reason = spans[0].reason if spans else "unknown"
        if observed.gap_s > _GAP_S and observed.readings < 2:
            reason = f"could not be read ({reason}); only the upper bound of the total allows for it"
            remedy = "emt sensors shows what can be read here"
            yield notice("sensor_denied", sensor=observed.channel, reason=reason, remedy=remedy)
        elif observed.gap_s > _GAP_S:
            yield notice("sensor_gap", channel=observed.channel, gap_s=observed.gap_s, reason=reason)
        if observed.resets:
            yield notice("counter_reset", channel=observed.channel, count=observed.resets)
    for row in run.energy.channels if run.energy is not None else ():
        if row.is_counted and row.clamped_j > _CLAMPED * row.machine_j and run.duration_s > SHORT_RUN_S:
            yield notice("clamped", channel=row.id, joules=row.clamped_j)
        if row.rule == "whole_device_unknown":
            yield notice("gpu_whole_device", device=row.device)


def _of_checks(run: Run) -> Iterator[Notice]:
    channels = {channel.id: channel for channel in run.channels}
    observed = {each.channel: each for each in run.observed}
    for channel in run.channels:
        checked = channels.get(channel.checks)
        one, two = observed.get(channel.id), observed.get(channel.checks)
        if checked is None or checked.dropped or one is None or two is None:
            continue
        if not _can_be_compared(run, channel, one) or not _can_be_compared(run, checked, two):
            continue
        apart_j, most_j = abs(one.energy_j - two.energy_j), max(one.energy_j, two.energy_j)
        steps_j = max(channel.resolution_j or 0.0, checked.resolution_j or 0.0)
        unsure_j = one.trapezoid_j + two.trapezoid_j
        if most_j >= max(_APART_J, _APART_STEPS * steps_j) and apart_j - unsure_j > _APART * most_j:
            remedy = _remedy_of_check(channel, checked)
            yield notice(
                "cross_check",
                channel=channel.id,
                check=channel.checks,
                share=apart_j / most_j,
                remedy=remedy,
            )


def _can_be_compared(run: Run, channel: Channel, observed: Observed) -> bool:
    """Whether the run was seen as a whole, and took long enough for this sensor."""
    enough_s = _APART_PERIODS * (channel.update_period_s or 0.0)
    if channel.kind == "gauge":
        enough_s = max(enough_s, _APART_GAUGE_S)
    is_whole = observed.readings >= 2 and observed.gap_s <= _GAP_S and not observed.resets
    return is_whole and run.duration_s >= enough_s


def _remedy_of_check(channel: Channel, checked: Channel) -> str:
    if channel.sensor != checked.sensor:
        return f"{checked.id} is counted; --exclude {checked.sensor} lets {channel.sensor} count instead"
    return f"{checked.id} is counted; emt sensors shows what both tell now; a newer driver may mend it"


def _of_devices(run: Run) -> Iterator[Notice]:
    for use in run.devices:
        if use.slice_share is not None and 0 < use.slice_share < 1:
            yield notice("gpu_sliced", device=use.device, share=use.slice_share)
        elif use.tree_pids and use.other_pids:
            rule = "SM time" if use.tree_busy_s is not None and use.total_busy_s else "equal shares"
            pids = ", ".join(str(pid) if pid else "of unknown PID" for pid in use.other_pids[:5])
            yield notice("gpu_shared", device=use.device, pids=pids, rule=rule)
