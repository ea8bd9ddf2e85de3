"""From raw samples to joules: every channel's energy, the totals, and the rule that shared it out."""

from __future__ import annotations

from collections.abc import Sequence

from emt_cli.analysis import cover, idle, uncertainty
from emt_cli.analysis.attribution import CpuSplit, Shared, share_of_device, split_by_cpu
from emt_cli.analysis.curve import Curve
from emt_cli.analysis.sums import known_sum
from emt_cli.analysis.uncertainty import Interval, MachineBounds
from emt_cli.analysis.windows import Window, windows
from emt_cli.model import (
    PLATFORM_DOMAINS,
    Attribution,
    Channel,
    ChannelEnergy,
    CurvePoint,
    DeviceUse,
    Energy,
    Observed,
    Run,
    weakest,
)

_DEVICE_DOMAINS = frozenset({"gpu", "module", "accelerator"})


def account(run: Run) -> tuple[Energy, Attribution, tuple[CurvePoint, ...]]:
    """Everything that follows from a run's samples, meters and settings."""
    observed = {each.channel: each for each in run.observed}
    seen = [channel for channel in run.channels if _was_read(observed.get(channel.id))]
    counted = cover.counted(seen, run.settings.total)
    curve = Curve(
        [(i, device_share(run, c)) for i, c in enumerate(run.channels) if c.id in counted], run.duration_s
    )
    by_cpu = [c for c in run.channels if c.id in counted and device_share(run, c) is None]
    split, fitted = _split(run, curve, observed, by_cpu)
    rows = tuple(
        _row(run, channel, split, shared, observed.get(channel.id, Observed(channel=channel.id)), counted)
        for channel, shared in zip(run.channels, split.channels, strict=True)
        if channel in seen and (channel.id in observed or shared.machine_j is not None)
    )
    energy = _totals(run, rows, split)
    ids = {channel.id for channel in by_cpu}
    shared_j = known_sum(row.attributed_j for row in rows if row.id in ids)
    points = () if shared_j is None else curve.points(shared_j)
    return energy, _attribution(run, rows, split, idle.source(run, by_cpu, fitted)), points


def _was_read(observed: Observed | None) -> bool:
    """One reading is no difference; a channel without a meter may still stand in the samples."""
    return observed is None or observed.readings >= 2


def _split(
    run: Run, curve: Curve, observed: dict[str, Observed], by_cpu: Sequence[Channel]
) -> tuple[CpuSplit, idle.Fitted]:
    """The channels shared out window by window, and the idle power that the windows told.

    They are looked at once more where they told any; as one window where there are no samples to cut.
    """
    loads, width = idle.Loads(), len(run.channels)
    passing = loads.watch(windows(curve.watch(run.samples), run.cpu_time))
    split = split_by_cpu(passing, idle.knowledge(run, {}), width, duration_s=run.duration_s)
    if split.windows or run.duration_s <= 0:
        fitted = idle.fit(run, loads.windows(), by_cpu)
        if fitted:
            again = windows(run.samples, run.cpu_time)
            split = split_by_cpu(again, idle.knowledge(run, fitted), width, duration_s=run.duration_s)
            idle.mark(split, run, fitted)
        return split, fitted
    meters = [observed.get(channel.id) for channel in run.channels]
    whole = Window(
        start_s=0.0,
        duration_s=run.duration_s,
        energy_j=tuple([None if meter is None else meter.energy_j for meter in meters]),
        cpu_tree_s=run.cpu_time.tree_s,
        cpu_machine_s=run.cpu_time.machine_s,
    )
    return split_by_cpu([whole], idle.knowledge(run, {}), width, duration_s=run.duration_s), {}


def _attribution(run: Run, rows: Sequence[ChannelEnergy], split: CpuSplit, idle_source: str) -> Attribution:
    known = idle.knowledge(run, {})
    return Attribution(
        rule=next((shared.rule for shared in split.channels), "cpu_share"),
        idle_policy=known.policy,
        idle_source=idle_source,
        scope=run.settings.scope,
        total=run.settings.total,
        windows=split.windows,
        window_s=split.duration_s / split.windows if split.windows else 0.0,
        reserved_share=known.reserved_share if known.policy == "reserved" else None,
        clamped_j=sum(row.clamped_j for row in rows if row.is_counted),
        carried_cpu_s=split.carried_s,
    )


def _row(
    run: Run, channel: Channel, split: CpuSplit, shared: Shared, observed: Observed, counted: frozenset[str]
) -> ChannelEnergy:
    # The meter knows best: it is exact at the edges, whatever became of the journal in between.
    energy_j = max(0.0, observed.energy_j if observed.readings else shared.machine_j or 0.0)
    machine = uncertainty.of_machine(channel, observed, energy_j, shared.peak_w, run.duration_s)
    interval: Interval | None
    if device_share(run, channel) is not None:
        shared, interval = _device_part(run, channel, machine)
    else:
        if shared.machine_j:  # the samples also hold what the meter cut off at the edges
            shared.scale(energy_j / shared.machine_j)
        interval = uncertainty.of_cpu_share(machine, shared, split, run.cpu_time)
    return ChannelEnergy(
        id=channel.id,
        device=channel.device,
        domain=channel.domain,
        is_counted=channel.id in counted,
        provenance=channel.provenance,
        rule=shared.rule,
        machine_j=energy_j,
        machine_low_j=machine.interval.low,
        machine_high_j=machine.interval.high,
        attributed_j=shared.attributed_j,
        low_j=None if interval is None else interval.low,
        high_j=None if interval is None else interval.high,
        active_j=shared.active_j,
        idle_share_j=shared.idle_share_j,
        idle_j=shared.idle_j,
        uncertainty_j=uncertainty.half_width(shared.attributed_j, interval),
        clamped_j=shared.clamped_j,
        gap_s=observed.gap_s,
        note="; ".join(each for each in (channel.note, shared.note) if each),
    )


def _use(run: Run, device: str) -> DeviceUse | None:
    return next((use for use in run.devices if use.device == device), None)


def _sees_pids(run: Run) -> bool:
    """Whether PIDs on devices are of the tree's numbering: sensors see to that. In records from before emt
    knew of PID namespaces those of a container may be the host's."""
    return bool(run.host.pid_namespace) or not run.host.container


def device_share(run: Run, channel: Channel | ChannelEnergy) -> float | None:
    """The tree's share of a device that processes are seen on; None where CPU time tells it.

    A module (CPU, memory and maybe a GPU behind one meter) is such a device where its driver tells its users.
    """
    if channel.domain not in _DEVICE_DOMAINS:
        return None
    use = _use(run, channel.device)
    if use is None and channel.domain == "module":
        return None
    return share_of_device(use, sees_pids=_sees_pids(run))[0]


def _device_part(run: Run, channel: Channel, machine: MachineBounds) -> tuple[Shared, Interval]:
    share, low, high, rule = share_of_device(_use(run, channel.device), sees_pids=_sees_pids(run))
    bounds = machine.interval
    shared = Shared(rule=rule, machine_j=machine.energy_j, attributed_j=machine.energy_j * share)
    return shared, Interval(bounds.low * low, bounds.high * high)


def _totals(run: Run, rows: Sequence[ChannelEnergy], split: CpuSplit) -> Energy:
    counted = [row for row in rows if row.is_counted]
    platform = cover.platform_channel(run.channels)
    platform_j = next((row.machine_j for row in rows if platform is not None and row.id == platform.id), None)
    if not counted:
        return Energy(platform_j=platform_j, channels=tuple(rows))
    attributed_j = known_sum(row.attributed_j for row in counted)
    low_j, high_j = known_sum(row.low_j for row in counted), known_sum(row.high_j for row in counted)
    unread_j = _unread(run, rows)
    interval = None if low_j is None or high_j is None else Interval(low_j, high_j + unread_j)
    by_provenance: dict[str, float] = {}
    for row in counted:
        by_provenance[row.provenance] = by_provenance.get(row.provenance, 0.0) + (row.attributed_j or 0.0)
    return Energy(
        machine_j=sum(row.machine_j for row in counted),
        machine_low_j=sum(row.machine_low_j for row in counted),
        machine_high_j=sum(row.machine_high_j for row in counted) + unread_j,
        platform_j=platform_j,
        attributed_j=attributed_j,
        active_j=known_sum(row.active_j for row in counted),
        idle_share_j=known_sum(row.idle_share_j for row in counted),
        idle_j=known_sum(row.idle_j for row in counted),
        low_j=low_j,
        high_j=None if interval is None else interval.high,
        uncertainty_j=uncertainty.half_width(attributed_j, interval),
        provenance=weakest(row.provenance for row in counted),
        by_provenance={} if attributed_j is None else by_provenance,
        own_j=_own(run, counted, split),
        channels=tuple(rows),
    )


def _unread(run: Run, rows: Sequence[ChannelEnergy]) -> float:
    """The most that channels can have used which belong to the total but never gave two readings.

    Where the platform stands in for them it has seen them too.
    """
    if any(row.is_counted and row.domain in PLATFORM_DOMAINS for row in rows):
        return 0.0
    belong = cover.counted(run.channels, run.settings.total) - {row.id for row in rows}
    return sum(channel.max_power_w * run.duration_s for channel in run.channels if channel.id in belong)


def _own(run: Run, counted: Sequence[ChannelEnergy], split: CpuSplit) -> float | None:
    """emt's share of the CPU-shared channels, by the rule that the tree is held to."""
    if split.cpu_machine_s is None or not split.windows:
        return None
    own_s = run.sampling.own_cpu_s
    if own_s is None:
        return None
    shared_j = sum(row.machine_j for row in counted if device_share(run, row) is None)
    busy_s = max(split.cpu_machine_s, (split.cpu_tree_s or 0.0) + own_s)
    return shared_j * own_s / busy_s if busy_s > 0 else None
