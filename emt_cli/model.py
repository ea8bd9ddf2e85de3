"""The words of the house as values: what a sensor offers, what a tick brings, what a run is.

Everything here is frozen and free of I/O. `Run` is the record: its fields are the groups of `run.json`,
raw readings first, and the results (`energy`, `carbon`, `curve`) are filled in by pure functions of
`analysis` and can be computed again from the rest.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import field
from typing import Literal, NamedTuple

from emt_cli.values import Value

Kind = Literal["counter", "gauge", "model"]
Provenance = Literal["measured", "integrated", "configured", "estimated"]
Scope = Literal["tree", "machine"]
IdlePolicy = Literal["busy", "reserved", "capacity", "none"]
Total = Literal["components", "platform"]
CgroupUse = Literal["auto", "on", "off"]
State = Literal["running", "complete", "recovered"]

PROVENANCES: tuple[Provenance, ...] = ("measured", "integrated", "configured", "estimated")
"""From the strongest to the weakest."""

PLATFORM_DOMAINS = frozenset({"psys", "node", "battery"})
"""Domains that see the whole node: shown beside the components, never added to them."""

DEVICE_DOMAINS = frozenset({"gpu", "module", "accelerator"})
"""Domains whose energy goes by who used the device; all others go by CPU time."""


def weakest(provenances: Iterable[Provenance]) -> Provenance:
    """The provenance of a sum; of nothing at all: estimated."""
    return max(provenances, key=PROVENANCES.index, default="estimated")


# --- what a sensor offers ---------------------------------------------------------------------------


class Channel(Value):
    """One stream of one sensor.

    A `counter` counts joules since some origin and may wrap; a `gauge` tells watts now; a `model` tells
    joules from a formula, cumulative like a counter. `unit` is what one raw step means, in joules
    (counter, model) or watts (gauge); `range_raw` is the number of raw steps after which a counter wraps.
    """

    id: str
    sensor: str
    device: str
    domain: str
    kind: Kind
    provenance: Provenance
    source: str
    within: str | None = None
    unit: float = 1.0
    range_raw: int | None = None
    resolution_j: float | None = None
    update_period_s: float | None = None
    accuracy: float | None = None
    """Half-width of the maker's stated accuracy, relative (0.05 for +-5 %)."""
    max_power_w: float = 2000.0
    """No real device behind this channel draws more: tells a wrap from a reset and a value from garbage."""
    idle_w: float | None = None
    """Idle power where the sensor itself knows it (models do)."""
    low_w: float | None = None
    high_w: float | None = None
    """A model's bounds on the power; the truth lies between them."""
    note: str = ""
    dropped: str = ""
    """Why the registry keeps this channel out of every total (a mirror, an overlap); empty if it counts."""
    checks: str = ""
    """The channel whose energy this one tells a second time, in another way: a difference is a warning."""
    full_j: float | None = None
    """What a battery holds when it is full."""
    left_j: float | None = None
    """What it held when the sensor was opened, a moment before the start."""

    @property
    def is_platform(self) -> bool:
        return self.domain in PLATFORM_DOMAINS


class Reading(NamedTuple):
    """A raw value and the monotonic time at which it was read."""

    t_s: float
    value: int | float


class Gap(NamedTuple):
    """A reading that failed, and why."""

    t_s: float
    reason: str


class GpuUse(Value):
    """What one process did on one device since the last time it was asked.

    `pid` is one of this process' own PID namespace; 0 is somebody of whom no more is known: of the tree, or
    not. `busy_s` is seconds of the device's compute units; None where the driver does not tell. On a device
    that is divided (MIG) `part` names the instance that it ran on and `part_share` is that one's part of the
    device; the empty name is all that cannot be seen from here.
    """

    device: str
    pid: int
    busy_s: float | None
    part: str = ""
    part_share: float | None = None


class Sample(NamedTuple):
    """What one tick brought: one row of samples.csv. Energies are cumulative since the start of the run."""

    t_s: float
    energy_j: tuple[float | None, ...]
    power_w: tuple[float | None, ...]
    cpu_tree_s: float | None = None
    cpu_machine_s: float | None = None


# --- what a run consists of -------------------------------------------------------------------------


class Notice(Value):
    """A warning: a stable code (see `notices`), what happened, and what to do about it."""

    code: str
    text: str
    hint: str = ""


class Mark(Value):
    """A named instant of a run."""

    t_s: float
    name: str


class PhaseSpan(Value):
    """Once through a phase: from when to when of the run, and the CPU seconds that were spent for it."""

    name: str
    start_s: float
    end_s: float
    cpu_s: float = 0.0


class Phase(Value):
    """A named stretch of a run, all its times together; the joules are results, as in `Energy`."""

    name: str
    count: int
    duration_s: float
    cpu_s: float
    attributed_j: float | None = None
    low_j: float | None = None
    high_j: float | None = None


class Process(Value):
    """A member of the tree that was seen. `cpu_s` is its own CPU time, its children's not included."""

    pid: int
    ppid: int
    name: str
    command: str = ""
    started_s: float = 0.0
    ended_s: float | None = None
    cpu_s: float = 0.0
    is_left_running: bool = False


class Host(Value):
    """Facts that make two runs comparable."""

    node: str = ""
    os: str = ""
    kernel: str = ""
    architecture: str = ""
    cpu_model: str = ""
    cpu_count: int = 1
    cpu_packages: int = 1
    memory_bytes: int | None = None
    hypervisor: str = ""
    container: str = ""
    pid_namespace: str = ""
    """`host` or `own`: whether PIDs are the host's; empty where that is not known."""
    governor: str = ""
    boot_id: str = ""
    timezone: str = ""
    python: str = ""
    emt_version: str = ""


class Job(Value):
    """Where a batch system put this run; read from the environment, never asked of the scheduler."""

    scheduler: str
    id: str
    node: str = ""
    rank: int | None = None
    step: str = ""
    task: str = ""


class Exit(Value):
    """How the command ended: its exit code, or the signal that killed it."""

    code: int | None = None
    signal: int | None = None


class Sampling(Value):
    """How the run was sampled, and what that cost.

    `own_cpu_s` is emt's CPU time while the command ran, a part of the machine's; `own_total_cpu_s` has its
    start-up too. None: not known, as after a kill.
    """

    frequency_hz: float
    ticks: int = 0
    late: int = 0
    lost_rows: int = 0
    own_cpu_s: float | None = None
    own_total_cpu_s: float | None = None
    peak_memory_bytes: int | None = None


class Observed(Value):
    """What one channel's meter saw of the run.

    `trapezoid_j` bounds the error of the trapezoid rule on a gauge: half the sum of |step| x dt. `edge_j`
    was read before the start or after the end, and is cut off: it is not in `energy_j`.
    """

    channel: str
    energy_j: float = 0.0
    readings: int = 0
    failed: int = 0
    wraps: int = 0
    resets: int = 0
    gap_s: float = 0.0
    max_power_w: float = 0.0
    trapezoid_j: float = 0.0
    edge_j: float = 0.0


class GapSpan(Value):
    """A stretch of a channel whose energy is unknown."""

    channel: str
    start_s: float
    end_s: float
    reason: str


class LateCpu(Value):
    """CPU time that was learnt at `end_s` but spent from `start_s` on."""

    start_s: float
    end_s: float
    cpu_s: float


class CpuTime(Value):
    """CPU seconds of the tree by witness, and of the machine.

    `tree_s` is the largest witness. `coverage` is the share of the tree's CPU time that the winning
    witness is known to have seen: 1.0 where nothing speaks against it, None where a part was out of
    sight of every witness. `machine_s` is busy time, emt's own included, less stolen time.
    """

    tree_s: float | None = None
    machine_s: float | None = None
    witnesses: dict[str, float] = field(default_factory=dict)
    winner: str = ""
    spread_s: float | None = None
    series_s: float | None = None
    """Where the running series of the samples ended; the windows are stretched to `tree_s`."""
    coverage: float | None = None
    stolen_s: float | None = None
    logical_cpus: int = 1
    refusals: dict[str, str] = field(default_factory=dict)
    """Witnesses that were not to be had, and why."""
    blind_spot: str = ""
    """Why a part of the tree may be out of sight of /proc; perf sees it all the same."""
    processes_seen: int = 0
    late: tuple[LateCpu, ...] = ()


class DeviceUse(Value):
    """Who used one GPU over the whole run. `tree_busy_s` of `total_busy_s` compute-unit seconds."""

    device: str
    tree_busy_s: float | None = None
    total_busy_s: float | None = None
    tree_pids: tuple[int, ...] = ()
    other_pids: tuple[int, ...] = ()
    """PID 0: somebody of whom no more is known."""
    slice_share: float | None = None
    """The tree's part of a divided device (MIG), by the slices of the instances in use; None: not divided."""
    sees_others: bool = True
    """False where users of other accounts are out of sight: what they used looks like the tree's."""


class Work(Value):
    """What a run got done, in the user's own unit: 50,000 images. What a unit took is a result."""

    amount: float
    unit: str
    per_unit_j: float | None = None
    per_unit_low_j: float | None = None
    per_unit_high_j: float | None = None
    per_unit_co2e_g: float | None = None
    per_second: float | None = None
    """Units done in a second."""


class Execution(Value):
    """One of the executions of a repeated run, on the run's own time line, where they follow each other.

    The raw part is what its own meters and witnesses saw; the joules are results, as in `Energy`.
    """

    start_s: float
    duration_s: float
    exit: Exit = Exit()
    observed: tuple[Observed, ...] = ()
    cpu_time: CpuTime = CpuTime()
    devices: tuple[DeviceUse, ...] = ()
    machine_j: float | None = None
    attributed_j: float | None = None
    low_j: float | None = None
    high_j: float | None = None
    active_j: float | None = None
    idle_share_j: float | None = None


class Spread(Value):
    """A quantity over the executions of a repeated run: a mean and how sure it is. One value has no scatter
    and no interval: None, not 0."""

    n: int
    mean: float
    sd: float | None = None
    low: float | None = None
    """The 95 % confidence interval of the mean."""
    high: float | None = None
    min: float
    max: float
    median: float
    outliers: tuple[int, ...] = ()
    """Which executions stand far from the others, counted from 0 among all of the run's."""


class Repeat(Value):
    """What one execution of a repeated run uses. `executions` counts those in it: the ones that succeeded, or
    all where none did."""

    executions: int
    duration_s: Spread
    machine_j: Spread | None = None
    attributed_j: Spread | None = None
    machine_w: Spread | None = None
    attributed_w: Spread | None = None


class Settings(Value):
    """What the user chose that changes results rather than readings; kept so that they can be recomputed."""

    scope: Scope = "tree"
    total: Total = "components"
    idle_policy: IdlePolicy | None = None
    """None: `reserved` where CPUs are reserved for the job, else `busy`."""
    idle_w: dict[str, float] = field(default_factory=dict)
    """Known idle power by channel id."""
    idle_w_source: str = "configured"
    """How it came to be known: configured, calibrated (and when), measured before the run, or fitted."""
    reserved_cpus: float | None = None
    pue: float = 1.0
    pue_source: str = "default"


# --- results ----------------------------------------------------------------------------------------


class ChannelEnergy(Value):
    """One channel's joules: the machine's, the tree's, and how sure that is.

    `low_j` to `high_j` encloses `attributed_j`, `machine_low_j` to `machine_high_j` encloses `machine_j`;
    `uncertainty_j` is the half-width where the interval is near symmetric. `rule` names the attribution.
    """

    id: str
    device: str
    domain: str
    is_counted: bool
    provenance: Provenance
    rule: str
    machine_j: float
    machine_low_j: float
    machine_high_j: float
    attributed_j: float | None
    low_j: float | None
    high_j: float | None
    active_j: float | None = None
    idle_share_j: float | None = None
    idle_j: float | None = None
    uncertainty_j: float | None = None
    clamped_j: float = 0.0
    gap_s: float = 0.0
    note: str = ""


class Energy(Value):
    """The totals over the counted channels, and every channel. None: nothing was there to know it from."""

    machine_j: float | None = None
    machine_low_j: float | None = None
    machine_high_j: float | None = None
    platform_j: float | None = None
    attributed_j: float | None = None
    active_j: float | None = None
    idle_share_j: float | None = None
    idle_j: float | None = None
    low_j: float | None = None
    high_j: float | None = None
    uncertainty_j: float | None = None
    provenance: Provenance = "estimated"
    by_provenance: dict[str, float] = field(default_factory=dict)
    """Attributed joules by provenance: what the weakest word above is made of."""
    own_j: float | None = None
    """emt's own share of `machine_j`, by the same rule."""
    channels: tuple[ChannelEnergy, ...] = ()


class Attribution(Value):
    """The named rule that shared the energy out, and what it rested on."""

    rule: str
    idle_policy: IdlePolicy
    idle_source: str
    scope: Scope
    total: Total
    windows: int = 0
    window_s: float = 0.0
    reserved_share: float | None = None
    clamped_j: float = 0.0
    carried_cpu_s: float = 0.0


class Grid(Value):
    """How dirty a kilowatt-hour is, where, and how both were found."""

    intensity_g_per_kwh: float
    location: str
    location_name: str
    location_source: str
    intensity_source: str
    dataset: str
    year: int | None = None
    scope: str = "life-cycle"


class Carbon(Value):
    """Grams of CO2e = energy x PUE x intensity; `basis` says whose energy."""

    co2e_g: float
    low_g: float
    high_g: float
    basis: Literal["attributed", "machine", "platform"]
    energy_j: float
    pue: float
    pue_source: str
    intensity_g_per_kwh: float
    location: str
    location_name: str
    location_source: str
    intensity_source: str
    dataset: str
    year: int | None = None
    scope: str = "life-cycle"
    equivalents: tuple[Equivalent, ...] = ()


class Equivalent(Value):
    """An everyday comparison: `text` is ready to read, `source` says whose factor."""

    id: str
    text: str
    amount: float
    unit: str
    source: str


class CurvePoint(Value):
    """Mean power over one stretch of the run, for a picture."""

    t_s: float
    machine_w: float
    attributed_w: float


class Run(Value):
    """Everything recorded about one execution.

    `samples` can be iterated again and again: a list in memory, or the store's reader of samples.csv.
    Its tuples are in the order of `channels`.
    """

    id: str
    command: tuple[str, ...]
    started_at: str
    """RFC 3339, UTC."""
    host: Host
    sampling: Sampling
    channels: tuple[Channel, ...] = ()
    name: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    state: State = "running"
    duration_s: float = 0.0
    exit: Exit = Exit()
    job: Job | None = None
    recorder_pid: int | None = None
    recorder_started_ticks: int | None = None
    """When that process started, in clock ticks since boot: tells it from a later one with its PID."""
    observed: tuple[Observed, ...] = ()
    gaps: tuple[GapSpan, ...] = ()
    cpu_time: CpuTime = CpuTime()
    devices: tuple[DeviceUse, ...] = ()
    processes: tuple[Process, ...] = ()
    marks: tuple[Mark, ...] = ()
    spans: tuple[PhaseSpan, ...] = ()
    """When each phase was gone through, as the program told."""
    suspended_s: float = 0.0
    paused_s: float = 0.0
    settings: Settings = Settings()
    work: Work | None = None
    executions: tuple[Execution, ...] = ()
    """Of a repeated run: its executions, and `duration_s`, `observed` and `cpu_time` are their sums."""
    grid: Grid | None = None
    notices: tuple[Notice, ...] = ()
    samples: Iterable[Sample] = ()

    energy: Energy | None = None
    attribution: Attribution | None = None
    carbon: Carbon | None = None
    phases: tuple[Phase, ...] = ()
    repeat: Repeat | None = None
    curve: tuple[CurvePoint, ...] = ()
