"""Runs to store: one that looks like a real one, and a hypothesis strategy for all that the model allows."""

from __future__ import annotations

import dataclasses
import os
import types
import typing
from typing import Any

from hypothesis import strategies as st

from emt_cli.model import (
    Attribution,
    Carbon,
    Channel,
    ChannelEnergy,
    CpuTime,
    CurvePoint,
    Energy,
    Exit,
    Grid,
    Host,
    Job,
    LateCpu,
    Mark,
    Observed,
    Process,
    Run,
    Sample,
    Sampling,
)
from emt_cli.notices import notice

PACKAGE = Channel(
    id="cpu0/package",
    sensor="powercap",
    device="cpu0",
    domain="package",
    kind="counter",
    provenance="measured",
    source="/sys/class/powercap/intel-rapl:0/energy_uj",
    unit=1e-6,
    range_raw=262_143_328_850,
)
CORE = dataclasses.replace(PACKAGE, id="cpu0/core", domain="core", within="cpu0/package")
GPU = Channel(
    id="gpu0",
    sensor="nvml",
    device="gpu0",
    domain="gpu",
    kind="gauge",
    provenance="integrated",
    source="NVML",
)
CHANNELS = (PACKAGE, CORE, GPU)


def samples(count: int) -> list[Sample]:
    """A tick each 0.1 s; the second channel is unknown at first."""
    return [
        Sample(
            t_s=at * 0.1,
            energy_j=(at * 4.2, at * 3.0 if at > 1 else None, at * 7.5),
            power_w=(None, None, 75.0),
            cpu_tree_s=at * 0.08,
            cpu_machine_s=at * 0.4,
        )
        for at in range(count)
    ]


def begun(**changes: Any) -> Run:
    """A run as it looks when the command has just been started, recorded by this process."""
    facts: dict[str, Any] = {
        "id": "20261121-144849-python-7f3a",
        "name": "train",
        "command": ("python", "train.py", "--password=hunter2"),
        "started_at": "2026-11-21T14:48:49.123456Z",
        "host": Host(node=os.uname().nodename, cpu_count=4, boot_id=boot_id(), cpu_model="Xeon"),
        "sampling": Sampling(frequency_hz=10.0),
        "channels": CHANNELS,
        "recorder_pid": os.getpid(),
        "tags": {"branch": "main"},
    }
    return Run(**(facts | changes))


def finished(**changes: Any) -> Run:
    """The same run at its end, with all its results."""
    shares = ChannelEnergy(
        id="cpu0/package",
        device="cpu0",
        domain="package",
        is_counted=True,
        provenance="measured",
        rule="cpu_time",
        machine_j=38.4,
        machine_low_j=38.0,
        machine_high_j=38.8,
        attributed_j=30.1,
        low_j=29.0,
        high_j=31.2,
        uncertainty_j=1.1,
    )
    facts: dict[str, Any] = {
        "state": "complete",
        "duration_s": 1.0,
        "exit": Exit(code=3),
        "job": Job(scheduler="slurm", id="4711", node="n03", rank=2),
        "observed": (Observed(channel="cpu0/package", energy_j=38.4, readings=11),),
        "cpu_time": CpuTime(
            tree_s=0.8,
            machine_s=4.0,
            witnesses={"perf": 0.8},
            winner="perf",
            late=(LateCpu(start_s=0.1, end_s=0.4, cpu_s=0.2),),
        ),
        "processes": (Process(pid=7, ppid=1, name="python", command='python "train, then".py', cpu_s=0.8),),
        "marks": (Mark(t_s=0.5, name="epoch 1, first"),),
        "notices": (notice("late_ticks", late=1, ticks=10, frequency_hz=10.0),),
        "energy": Energy(machine_j=38.4, attributed_j=30.1, low_j=29.0, high_j=31.2, channels=(shares,)),
        "attribution": Attribution(
            rule="cpu_time", idle_policy="busy", idle_source="unknown", scope="tree", total="components"
        ),
        "carbon": Carbon(
            co2e_g=0.0005,
            low_g=0.0004,
            high_g=0.0006,
            basis="attributed",
            energy_j=30.1,
            pue=1.2,
            pue_source="flag",
            intensity_g_per_kwh=44.2,
            location="FR",
            location_name="France",
            location_source="flag",
            intensity_source="table",
            dataset="ember",
            year=2025,
        ),
        "grid": Grid(
            intensity_g_per_kwh=44.2,
            location="FR",
            location_name="France",
            location_source="flag",
            intensity_source="table",
            dataset="ember",
        ),
        "curve": (CurvePoint(t_s=0.0, machine_w=38.4, attributed_w=30.1),),
    }
    return begun(**(facts | changes))


def boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


NUMBERS = st.floats(-1e18, 1e18)
TEXTS = st.text(max_size=20) | st.binary(max_size=10).map(os.fsdecode)


def any_of(hint: Any) -> st.SearchStrategy[Any]:
    """Every value that a type hint of the model allows."""
    if dataclasses.is_dataclass(hint):
        hints = typing.get_type_hints(hint)
        return st.fixed_dictionaries({name: any_of(each) for name, each in hints.items()}).map(
            lambda facts: typing.cast(Any, hint)(**facts)
        )
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return st.none() | any_of(next(one for one in arguments if one is not types.NoneType))
    if origin is typing.Literal:
        return st.sampled_from(arguments)
    if origin is tuple:
        return st.lists(any_of(arguments[0]), max_size=2).map(tuple)
    if origin is dict:
        return st.dictionaries(TEXTS, any_of(arguments[1]), max_size=2)
    plain = {float: NUMBERS, int: st.integers(-(1 << 64), 1 << 64), str: TEXTS, bool: st.booleans()}
    return plain[hint]


@st.composite
def runs(draw: st.DrawFn) -> Run:
    """Any run that the model allows and that makes sense: channels that exist, a date, a duration."""
    hints = typing.get_type_hints(Run)
    facts = {name: draw(any_of(hint)) for name, hint in hints.items() if name != "samples"}
    names = [f"c{at}" for at in range(len(facts["channels"]))]
    facts["channels"] = tuple(
        dataclasses.replace(channel, id=name, within=draw(st.sampled_from([None, *names[:at]])))
        for at, (name, channel) in enumerate(zip(names, facts["channels"], strict=True))
    )
    for part in ("observed", "gaps"):
        facts[part] = tuple(
            dataclasses.replace(each, channel=draw(st.sampled_from(names))) for each in facts[part] if names
        )
    facts["started_at"] = draw(st.datetimes()).isoformat() + "Z"
    facts["duration_s"] = abs(facts["duration_s"])
    facts["host"] = dataclasses.replace(facts["host"], cpu_count=draw(st.integers(1, 1024)))
    return Run(**facts)
