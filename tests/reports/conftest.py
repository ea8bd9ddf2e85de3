"""Runs written by hand, as complete as `analysis` would leave them: the reports' sample cases."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from emt_cli.analysis.executions import repeat
from emt_cli.model import (
    Attribution,
    Carbon,
    Channel,
    ChannelEnergy,
    CpuTime,
    CurvePoint,
    DeviceUse,
    Energy,
    Equivalent,
    Execution,
    Exit,
    GapSpan,
    Host,
    Job,
    Notice,
    Process,
    Run,
    Sampling,
    Settings,
)
from emt_cli.notices import notice

HOSTILE = (
    "[bold red]x[/] \x1b[31mred\x1b[0m\x1b]0;title\x07 \x9b2J two\nlines\ttab \u202eflip \udcff |pipe| `tick`"
)


def channel(id: str, domain: str, **more: object) -> Channel:
    facts: dict[str, object] = {
        "id": id,
        "sensor": "powercap",
        "device": id.partition("/")[0],
        "domain": domain,
        "kind": "counter",
        "provenance": "measured",
        "source": f"/sys/class/powercap/{id}",
    }
    return Channel(**{**facts, **more})  # type: ignore[arg-type]


def channel_energy(
    id: str, domain: str, machine_j: float, attributed_j: float, **more: object
) -> ChannelEnergy:
    facts: dict[str, object] = {
        "id": id,
        "device": id.partition("/")[0],
        "domain": domain,
        "is_counted": True,
        "provenance": "measured",
        "rule": "cpu-time",
        "machine_j": machine_j,
        "machine_low_j": machine_j * 0.99,
        "machine_high_j": machine_j * 1.01,
        "attributed_j": attributed_j,
        "low_j": attributed_j * 0.95,
        "high_j": attributed_j * 1.05,
        "uncertainty_j": attributed_j * 0.05,
    }
    return ChannelEnergy(**{**facts, **more})  # type: ignore[arg-type]


def carbon(grams: float, joules: float, *, spread: float = 0.05) -> Carbon:
    return Carbon(
        co2e_g=grams,
        low_g=grams * (1 - spread),
        high_g=grams * (1 + spread),
        basis="attributed",
        energy_j=joules,
        pue=1.0,
        pue_source="default",
        intensity_g_per_kwh=44.2,
        location="FR",
        location_name="France",
        location_source="time zone",
        intensity_source="table",
        dataset="ember",
        year=2024,
        equivalents=(
            Equivalent(
                id="bulb", text="lighting a 10 W LED bulb for 17 s", amount=17.0, unit="s", source="ADEME"
            ),
            Equivalent(
                id="car", text="driving 0.03 m in an average car", amount=3e-5, unit="km", source="EPA"
            ),
        ),
    )


def measured() -> Run:
    channels = [channel("node/psys", "psys", device="node", source="/sys/class/powercap/intel-rapl:2")]
    energies = [channel_energy("node/psys", "psys", 3410.0, 1200.0, device="node", is_counted=False)]
    for socket in ("cpu0", "cpu1"):
        channels += [
            channel(f"{socket}/package", "package"),
            channel(f"{socket}/core", "core", within=f"{socket}/package"),
            channel(f"{socket}/dram", "dram"),
        ]
        energies += [
            channel_energy(f"{socket}/package", "package", 812.0, 301.2, idle_j=300.0, active_j=250.0),
            channel_energy(f"{socket}/core", "core", 500.0, 210.0, is_counted=False),
            channel_energy(f"{socket}/dram", "dram", 91.0, 33.4, idle_j=60.0, active_j=20.0),
        ]
    channels += [
        channel("cpu0/package-mmio", "package", device="cpu0", dropped="mirror of cpu0/package"),
        channel(
            "gpu0", "gpu", sensor="nvml", source="NVML total energy, NVIDIA A100-SXM4-40GB", accuracy=0.05
        ),
    ]
    energies += [
        channel_energy("cpu0/package-mmio", "package", 812.0, 301.2, is_counted=False),
        channel_energy(
            "gpu0", "gpu", 1150.0, 1150.0, rule="whole device", idle_j=400.0, note="edge interpolated"
        ),
    ]
    command = (
        "python",
        "train.py",
        "--epochs",
        "3",
        "--data",
        "/datasets/imagenet/train",
        "--note",
        "two words",
    )
    return Run(
        id="20250102T101112Z-node17-4242",
        command=command,
        started_at="2025-01-02T10:11:12Z",
        host=Host(
            node="node17", cpu_model="Intel(R) Xeon(R) Gold 6248 CPU @ 2.50GHz", cpu_count=80, os="Linux"
        ),
        sampling=Sampling(frequency_hz=10, ticks=124, late=2, own_cpu_s=0.05, own_total_cpu_s=0.12),
        channels=tuple(channels),
        state="complete",
        duration_s=12.34,
        exit=Exit(code=0),
        cpu_time=CpuTime(
            tree_s=118.4,
            machine_s=310.0,
            witnesses={"perf": 118.4, "rusage": 117.9, "proc": 110.2},
            winner="perf",
            spread_s=8.2,
            coverage=1.0,
            logical_cpus=80,
        ),
        devices=(DeviceUse(device="gpu0", tree_busy_s=11.1, total_busy_s=11.1, tree_pids=(4243,)),),
        processes=tuple(
            Process(
                pid=4243 + n,
                ppid=4242,
                name="python",
                command=f"python train.py --worker {n}",
                cpu_s=30.0 / (n + 1),
                started_s=0.1 * n,
            )
            for n in range(14)
        ),
        notices=(notice("gpu_whole_device", device="gpu0"),),
        energy=Energy(
            machine_j=2956.0,
            machine_low_j=2930.0,
            machine_high_j=2982.0,
            platform_j=3410.0,
            attributed_j=1819.2,
            active_j=540.0,
            idle_share_j=129.2,
            idle_j=1120.0,
            low_j=1728.0,
            high_j=1910.0,
            uncertainty_j=91.0,
            provenance="measured",
            by_provenance={"measured": 1819.2},
            own_j=0.61,
            channels=tuple(energies),
        ),
        attribution=Attribution(
            rule="cpu-time share in windows",
            idle_policy="busy",
            idle_source="fitted from the run",
            scope="tree",
            total="components",
            windows=12,
            window_s=1.0,
        ),
        carbon=carbon(0.02234, 1819.2),
        curve=tuple(
            CurvePoint(
                t_s=i * 0.1234,
                machine_w=240 + 60 * math.sin(i / 6) + (80 if 40 < i < 60 else 0),
                attributed_w=150 + 40 * math.sin(i / 6),
            )
            for i in range(100)
        ),
    )


def estimated() -> Run:
    channels = (
        channel(
            "cpu0", "package", sensor="model", kind="model", provenance="estimated", source="EPYC 7763 model"
        ),
        channel("dram0", "dram", sensor="model", kind="model", provenance="estimated", source="0.38 W/GB"),
    )
    weak = {"provenance": "estimated", "uncertainty_j": None, "rule": "cpu-time"}
    return Run(
        id="20250102T101500Z-runner-77",
        command=("pytest", "-q"),
        name="unit tests",
        started_at="2025-01-02T10:15:00Z",
        host=Host(node="runner", cpu_model="AMD EPYC 7763 64-Core Processor", cpu_count=4, hypervisor="kvm"),
        sampling=Sampling(frequency_hz=10, ticks=123, own_cpu_s=0.05, own_total_cpu_s=0.12),
        channels=channels,
        state="complete",
        duration_s=12.3,
        exit=Exit(code=1),
        cpu_time=CpuTime(
            tree_s=11.8, machine_s=12.0, witnesses={"rusage": 11.8}, winner="rusage", coverage=0.97
        ),
        processes=(
            Process(pid=10, ppid=9, name="pytest", command="pytest -q", cpu_s=9.0),
            Process(pid=11, ppid=10, name="cc1", command="/usr/lib/gcc/cc1 -o x", cpu_s=0.41),
        ),
        notices=(
            notice(
                "estimated", what="CPU and memory", remedy="run on bare metal: a VM has no energy counters"
            ),
            notice("stolen_time", share=0.07),
            notice(
                "coverage",
                reason="perf was refused and a parent ignores SIGCHLD",
                remedy="allow perf: sudo sysctl kernel.perf_event_paranoid=2",
            ),
            notice("short_run", duration_s=0.3),
            notice("short_run", duration_s=0.2),
            notice("unknown_variable", name="EMT_STOR", remedy="did you mean EMT_STORE?"),
        ),
        energy=Energy(
            machine_j=45.5,
            machine_low_j=22.0,
            machine_high_j=50.0,
            attributed_j=41.3,
            low_j=20.1,
            high_j=42.0,
            provenance="estimated",
            by_provenance={"estimated": 41.3},
            own_j=0.42,
            channels=(
                channel_energy("cpu0", "package", 40.0, 36.3, low_j=17.0, high_j=37.0, **weak),
                channel_energy("dram0", "dram", 5.5, 5.0, low_j=3.1, high_j=5.0, **weak),
            ),
        ),
        attribution=Attribution(
            rule="cpu-time share in windows",
            idle_policy="busy",
            idle_source="model",
            scope="tree",
            total="components",
        ),
        carbon=carbon(0.00051, 41.3, spread=0.5),
        curve=tuple(CurvePoint(t_s=i * 1.0, machine_w=3.7 + 0.1 * i, attributed_w=3.3) for i in range(12)),
    )


def recovered() -> Run:
    run = measured()

    return replace(
        run,
        state="recovered",
        exit=Exit(),
        energy=None,
        carbon=None,
        attribution=None,
        curve=(),
        gaps=(GapSpan(channel="gpu0", start_s=3.0, end_s=4.0, reason="EIO"),),
    )


def killed() -> Run:

    return replace(
        measured(),
        id="20250102T111112Z-node17-9",
        exit=Exit(signal=9),
        settings=Settings(scope="machine"),
        job=Job(scheduler="slurm", id="1234", node="node17", rank=0),
    )


def hostile() -> Run:

    run = measured()
    assert run.energy is not None and run.carbon is not None
    return replace(
        run,
        id="evil" + HOSTILE,
        name=HOSTILE + "n" * 10_000,
        command=("sh", "-c", HOSTILE * 200),
        host=Host(node=HOSTILE, cpu_model=HOSTILE * 9),
        tags={HOSTILE: HOSTILE},
        processes=tuple(
            Process(pid=n, ppid=1, name=HOSTILE * 100, command=HOSTILE * 100, cpu_s=1.0) for n in range(1, 13)
        ),
        notices=(Notice(code="estimated", text=HOSTILE * 30, hint=HOSTILE * 30),) * 6,
        energy=replace(
            run.energy,
            channels=tuple(
                replace(c, id=c.id + HOSTILE, device=c.device + HOSTILE, domain=HOSTILE, note=HOSTILE)
                for c in run.energy.channels
            ),
        ),
        channels=tuple(
            replace(c, id=c.id + HOSTILE, device=c.device + HOSTILE, domain=HOSTILE, source=HOSTILE)
            for c in run.channels
        ),
        carbon=replace(
            run.carbon,
            location=HOSTILE,
            location_name=HOSTILE,
            dataset=HOSTILE * 9,
            equivalents=(Equivalent(id="x", text=HOSTILE, amount=1, unit="x", source=HOSTILE),),
        ),
        curve=(CurvePoint(t_s=0.0, machine_w=math.nan, attributed_w=-1.0), *run.curve),
    )


def repeated() -> Run:
    """Thirty executions: one failed, one stands apart."""
    executions = tuple(
        Execution(
            start_s=2.0 * at,
            duration_s=2.0 + 0.01 * (at % 5),
            exit=Exit(code=int(at == 7)),
            machine_j=20.0 + at % 3,
            attributed_j=90.0 if at == 20 else 10.0 + 0.1 * (at % 4),
            low_j=8.0,
            high_j=95.0,
        )
        for at in range(30)
    )
    return replace(measured(), executions=executions, repeat=repeat(executions))


def bare() -> Run:
    return Run(id="bare", command=(), started_at="", host=Host(), sampling=Sampling(frequency_hz=10))


ALL = {
    "measured": measured,
    "estimated": estimated,
    "recovered": recovered,
    "killed": killed,
    "hostile": hostile,
    "repeated": repeated,
    "bare": bare,
}


@pytest.fixture(params=ALL)
def any_run(request: pytest.FixtureRequest) -> Run:
    return ALL[request.param]()
