"""From raw samples to joules: every channel's energy, the totals, and the rule that shared it out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from emt_cli.analysis import cover, uncertainty
from emt_cli.analysis.attribution import CpuSplit, Idle, Shared, share_of_device, split_by_cpu
from emt_cli.analysis.curve import Curve
from emt_cli.analysis.uncertainty import Interval
from emt_cli.analysis.windows import windows
from emt_cli.model import (
    DEVICE_DOMAINS,
    Attribution,
    Channel,
    ChannelEnergy,
    CurvePoint,
    Energy,
    IdlePolicy,
    Observed,
    Run,
    weakest,
)


def account(run: Run) -> tuple[Energy, Attribution, tuple[CurvePoint, ...]]:
    """Everything that follows from a run's samples, meters and settings."""
    counted = cover.counted(run.channels, run.settings.total)
    curve = Curve([i for i, channel in enumerate(run.channels) if channel.id in counted], run.duration_s)
    idle = _idle(run)
    stretches = windows(curve.watch(run.samples), run.cpu_time)
    split = split_by_cpu(stretches, idle, len(run.channels), duration_s=run.duration_s)
    observed = {each.channel: each for each in run.observed}
    rows = tuple(
        _row(run, channel, split, shared, observed.get(channel.id, Observed(channel=channel.id)), counted)
        for channel, shared in zip(run.channels, split.channels, strict=True)
        if channel.id in observed or shared.machine_j > 0
    )
    attribution = Attribution(
        rule="cpu_share",
        idle_policy=idle.policy,
        idle_source=_idle_source(run),
        scope=run.settings.scope,
        total=run.settings.total,
        windows=split.windows,
        window_s=split.duration_s / split.windows if split.windows else 0.0,
        reserved_share=idle.reserved_share if idle.policy == "reserved" else None,
        clamped_j=sum(row.clamped_j for row in rows if row.is_counted),
        carried_cpu_s=split.carried_s,
    )
    return _totals(run, rows, split), attribution, curve.points()


def _idle(run: Run) -> Idle:
    settings, cpus = run.settings, run.cpu_time.logical_cpus
    policy: IdlePolicy = settings.idle_policy or ("busy" if settings.reserved_cpus is None else "reserved")
    reserved = 1.0 if settings.reserved_cpus is None else min(1.0, settings.reserved_cpus / cpus)
    power_w = [settings.idle_w.get(channel.id, channel.idle_w) for channel in run.channels]
    return Idle(power_w=power_w, policy=policy, reserved_share=reserved, logical_cpus=cpus)


def _idle_source(run: Run) -> str:
    sources = {
        "configured"
        if channel.id in run.settings.idle_w
        else "model"
        if channel.idle_w is not None
        else "unknown"
        for channel in run.channels
        if not channel.dropped and channel.domain not in DEVICE_DOMAINS
    }
    return ", ".join(sorted(sources)) or "unknown"


def _row(
    run: Run, channel: Channel, split: CpuSplit, shared: Shared, observed: Observed, counted: frozenset[str]
) -> ChannelEnergy:
    # The meter knows best: it is exact at the edges, whatever became of the journal in between.
    energy_j = observed.energy_j if observed.readings else shared.machine_j
    machine = uncertainty.of_machine(channel, observed, energy_j, shared.peak_w, run.duration_s)
    if channel.domain in DEVICE_DOMAINS:
        part = _device_part(run, channel, energy_j, machine)
    else:
        part = _cpu_part(run, split, shared, energy_j, machine)
    shared, interval = part
    return ChannelEnergy(
        id=channel.id,
        device=channel.device,
        domain=channel.domain,
        is_counted=channel.id in counted,
        provenance=channel.provenance,
        rule=shared.rule,
        machine_j=energy_j,
        machine_low_j=machine.low,
        machine_high_j=machine.high,
        attributed_j=shared.attributed_j,
        low_j=interval.low,
        high_j=interval.high,
        active_j=shared.active_j,
        idle_share_j=shared.idle_share_j,
        idle_j=shared.idle_j,
        uncertainty_j=uncertainty.half_width(shared.attributed_j, interval),
        clamped_j=shared.clamped_j,
        gap_s=observed.gap_s,
        note=channel.note,
    )


def _cpu_part(
    run: Run, split: CpuSplit, shared: Shared, energy_j: float, machine: Interval
) -> tuple[Shared, Interval]:
    if shared.machine_j > 0 and energy_j != shared.machine_j:
        shared = _scaled(shared, energy_j / shared.machine_j)
    interval = uncertainty.of_cpu_share(
        machine,
        energy_j,
        shared.attributed_j,
        cpu_tree_s=split.cpu_tree_s,
        cpu_machine_s=split.cpu_machine_s,
        logical_cpus=run.cpu_time.logical_cpus,
        duration_s=run.duration_s,
        idle_is_known=shared.idle_j is not None,
        is_complete=not run.cpu_time.blind_spot or run.cpu_time.coverage is not None,
    )
    return shared, interval


def _scaled(shared: Shared, factor: float) -> Shared:
    """The same parts of a whole that is a little larger or smaller."""

    def times(value: float | None) -> float | None:
        return None if value is None else value * factor

    return Shared(
        rule=shared.rule,
        machine_j=shared.machine_j * factor,
        attributed_j=shared.attributed_j * factor,
        active_j=times(shared.active_j),
        idle_share_j=times(shared.idle_share_j),
        idle_j=times(shared.idle_j),
        clamped_j=shared.clamped_j * factor,
        peak_w=shared.peak_w,
    )


def _device_part(run: Run, channel: Channel, energy_j: float, machine: Interval) -> tuple[Shared, Interval]:
    use = next((use for use in run.devices if use.device == channel.device), None)
    share, low, high, rule = share_of_device(use)
    shared = Shared(rule=rule, machine_j=energy_j, attributed_j=energy_j * share)
    return shared, Interval(machine.low * low, machine.high * high)


def _totals(run: Run, rows: Sequence[ChannelEnergy], split: CpuSplit) -> Energy:
    counted = [row for row in rows if row.is_counted]
    platform = cover.platform_channel(run.channels)
    platform_j = next((row.machine_j for row in rows if platform is not None and row.id == platform.id), None)
    if not counted:
        return Energy(platform_j=platform_j, channels=tuple(rows))
    attributed_j = sum(row.attributed_j for row in counted)
    interval = Interval(sum(row.low_j for row in counted), sum(row.high_j for row in counted))
    by_provenance: dict[str, float] = {}
    for row in counted:
        by_provenance[row.provenance] = by_provenance.get(row.provenance, 0.0) + row.attributed_j
    return Energy(
        machine_j=sum(row.machine_j for row in counted),
        machine_low_j=sum(row.machine_low_j for row in counted),
        machine_high_j=sum(row.machine_high_j for row in counted),
        platform_j=platform_j,
        attributed_j=attributed_j,
        active_j=_sum(row.active_j for row in counted),
        idle_share_j=_sum(row.idle_share_j for row in counted),
        idle_j=_sum(row.idle_j for row in counted),
        low_j=interval.low,
        high_j=interval.high,
        uncertainty_j=uncertainty.half_width(attributed_j, interval),
        provenance=weakest(row.provenance for row in counted),
        by_provenance=by_provenance,
        own_j=_own(run, counted, split),
        channels=tuple(rows),
    )


def _sum(values: Iterable[float | None]) -> float | None:
    """The sum; unknown as soon as one part is."""
    total = 0.0
    for value in values:
        if value is None:
            return None
        total += value
    return total


def _own(run: Run, counted: Sequence[ChannelEnergy], split: CpuSplit) -> float | None:
    """emt's share of the CPU-shared channels, by the rule that the tree is held to."""
    own_s = run.sampling.own_cpu_s
    if split.cpu_machine_s is None:
        return None
    shared_j = sum(row.machine_j for row in counted if row.domain not in DEVICE_DOMAINS)
    busy_s = max(split.cpu_machine_s, split.cpu_tree_s) + own_s
    return shared_j * own_s / busy_s if busy_s > 0 else None
