"""What a processor draws, idle and fully loaded, from the tables alone.

Apart from the sensor that counts joules with it, because this is the estimate's judgement: which row
stands for a machine, what share of the row's part or server the machine is, and how power rises with load.
"""

from __future__ import annotations

from typing import NamedTuple

from emt_cli import data
from emt_cli.data.clouds import Instance
from emt_cli.data.processors import Processor, find_part, is_client

_ONE_THREAD_PER_CORE = ("AMD Opteron", "Arm ", "Intel Arrow Lake", "Intel Sierra Forest")

STRAIGHT: tuple[float, ...] = ()
"""The load curve of something whose power rises evenly from idle to full."""


class CpuPower(NamedTuple):
    """What this machine's logical CPUs draw together, idle and all busy, and how that is known.

    `curve`: the share of the step from idle to full that is drawn at 10, 20, ... 90 % load.
    """

    idle_w: float
    full_w: float
    includes_memory: bool
    source: str
    note: str
    curve: tuple[float, ...] = STRAIGHT


def cpu_power(processor: Processor, cpus: int, instance: Instance | None = None) -> CpuPower:
    """Idle and full power of a machine with so many logical CPUs of this processor.

    A server's family comes first, since SPECpower measured such servers; a client part's TDP comes first,
    since a laptop is no server. Either stands in for the other; without both, the provider's mean of a
    known cloud, else the median family.
    """
    part = find_part(processor, instance)
    if part.tdp and (part.power is None or is_client(processor)):
        power = _by_tdp(part.tdp, processor, cpus)
    elif part.power:
        power = _by_family(part.power, processor, cpus)
    else:
        return _by_provider(instance, cpus) or _generic(cpus)
    if instance and part.instance:
        shown = instance.kind or f"a machine of {instance.provider}"
        power = power._replace(note=f"{power.note}; known as {shown} by its DMI table")
    return power


def _by_family(row: dict[str, str], processor: Processor, cpus: int) -> CpuPower:
    idle_w, full_w = float(row["idle_w_per_thread"]), float(row["full_w_per_thread"])
    threads, remark = cpus, ""
    has_two = not row["microarchitecture"].startswith(_ONE_THREAD_PER_CORE)
    if has_two and not processor.is_guest and processor.cores and processor.siblings == processor.cores:
        # The figures are per hardware thread of a machine that has two of them on each core.
        threads, remark = 2 * cpus, " (two for each core, as hyper-threading is off)"
    curve, shape = _curve(row, processor)
    return CpuPower(
        idle_w=idle_w * threads,
        full_w=full_w * threads,
        includes_memory=True,
        source=f"{row['microarchitecture']}: {row['source']}, "
        f"{row['n_results']} results of {row['first_year']} to {row['last_year']}",
        note=f"{_per_thread(idle_w, full_w, threads)}{remark}; {shape}",
        curve=curve,
    )


def _curve(row: dict[str, str], processor: Processor) -> tuple[tuple[float, ...], str]:
    """How power rises between the ends, where the machine's load is the whole server's.

    A guest sees its own load alone: how busy the rest of the host is, and so where on the curve it stands,
    nobody tells it. There the straight line is the mean over all that the host may be doing.
    """
    if processor.is_guest:
        return STRAIGHT, "a straight line between them, since a guest cannot see the load of its host"
    if row["load_curve"]:
        return _numbers(row), f"between them by the curve of {row['n_curves']} results"
    if row["microarchitecture"].startswith("Arm "):  # nor does an Arm guest tell that it is one
        return STRAIGHT, "a straight line between them, since no curve is published"
    curves = [_numbers(family) for family in data.rows("cpu_power_model") if family["load_curve"]]
    curve = tuple(_median(list(column)) for column in zip(*curves, strict=True))
    return curve, f"between them by the median curve of {len(curves)} other families"


def _numbers(row: dict[str, str]) -> tuple[float, ...]:
    return tuple(float(word) for word in row["load_curve"].split())


def _by_tdp(row: dict[str, str], processor: Processor, cpus: int) -> CpuPower:
    """Idle is taken as the same share of full power as in the median SPECpower family."""
    threads = int(row["threads"] or row["cores"] or 0)
    if not processor.is_guest and processor.siblings:
        threads = processor.siblings
    share = cpus / threads if threads else 1.0
    tdp_w, idle_share = float(row["tdp_w"]), _medians()[2]
    return CpuPower(
        idle_w=tdp_w * share * idle_share,
        full_w=tdp_w * share,
        includes_memory=False,
        source=f"TDP of {row['key']}: {row['source']}",
        note=f"TDP {tdp_w:g} W x {share:.3g} ({cpus} of {threads or 'unknown'} threads); idle taken as "
        f"{idle_share:.0%} of it, the median of the SPECpower families",
    )


def _by_provider(instance: Instance | None, cpus: int) -> CpuPower | None:
    row = data.find("cloud_instance", instance.provider) if instance else None
    if row is None:
        return None
    idle_w, full_w = float(row["idle_w_per_vcpu"]), float(row["full_w_per_vcpu"])
    return CpuPower(
        idle_w=idle_w * cpus,
        full_w=full_w * cpus,
        includes_memory=True,
        source=f"mean vCPU of {row['key']}: {row['source']}",
        note=f"its processor is not in the tables; {_per_thread(idle_w, full_w, cpus)}",
    )


def _generic(cpus: int) -> CpuPower:
    idle_w, full_w, _ = _medians()
    return CpuPower(
        idle_w=idle_w * cpus,
        full_w=full_w * cpus,
        includes_memory=True,
        source="generic core: medians over the families of SPECpower_ssj2008 results",
        note=f"not in the tables; {_per_thread(idle_w, full_w, cpus)}",
    )


def _per_thread(idle_w: float, full_w: float, threads: int) -> str:
    return (
        f"{idle_w:.3g} W idle to {full_w:.3g} W at full load per thread x {threads} threads; "
        "whole-server power, with memory, board, fans and power supply"
    )


def _medians() -> tuple[float, float, float]:
    """Over the families: watts per thread idle and full, and idle as a share of full."""
    families = data.rows("cpu_power_model")
    idle = [float(row["idle_w_per_thread"]) for row in families]
    full = [float(row["full_w_per_thread"]) for row in families]
    return _median(idle), _median(full), _median([low / high for low, high in zip(idle, full, strict=True)])


def _median(values: list[float]) -> float:
    values = sorted(values)
    middle = len(values) // 2
    return values[middle] if len(values) % 2 else (values[middle - 1] + values[middle]) / 2
