"""Finished runs with their results, written by hand: what is compared and held to limits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from emt_cli.model import (
    Attribution,
    Carbon,
    Channel,
    ChannelEnergy,
    Energy,
    Execution,
    Exit,
    Host,
    Provenance,
    Run,
    Sampling,
)
from emt_cli.units import JOULES_PER_KWH
from tests.analysis.examples import channel

HOST = Host(
    node="n01",
    cpu_model="Xeon 6248",
    cpu_count=40,
    architecture="x86_64",
    governor="performance",
    kernel="6.1",
    emt_version="1.0",
)
RAPL = channel(resolution_j=1e-4, unit=1e-6)
ATTRIBUTION = Attribution(
    rule="cpu_share", idle_policy="busy", idle_source="unknown", scope="tree", total="components"
)


def repeated(joules: Sequence[float], *, seconds: float = 10.0, **facts: Any) -> Run:
    """A run whose executions took so many joules each."""
    executions = tuple(
        Execution(
            start_s=index * seconds,
            duration_s=seconds,
            exit=Exit(code=0),
            machine_j=2 * each,
            attributed_j=each,
            low_j=0.9 * each,
            high_j=1.1 * each,
        )
        for index, each in enumerate(joules)
    )
    total, took_s = sum(joules), seconds * len(joules)
    return plain(total, seconds=took_s, **{"executions": executions, **facts})


def plain(
    joules: float | None,
    *,
    low_j: float | None = None,
    high_j: float | None = None,
    seconds: float = 10.0,
    intensity: float = 100.0,
    channels: Sequence[Channel] = (RAPL,),
    **facts: Any,
) -> Run:
    """A run of one execution: joules of the tree, within 5 % by default, and twice that of the machine."""
    known = joules if joules is not None else 0.0
    low, high = (0.95 * known if low_j is None else low_j), (1.05 * known if high_j is None else high_j)
    part = 1 / max(len(channels), 1)
    rows = tuple(
        ChannelEnergy(
            id=each.id,
            device=each.device,
            domain=each.domain,
            is_counted=True,
            provenance=each.provenance,
            rule="cpu_share",
            machine_j=2 * known * part,
            machine_low_j=1.98 * known * part,
            machine_high_j=2.02 * known * part,
            attributed_j=None if joules is None else known * part,
            low_j=low * part,
            high_j=high * part,
        )
        for each in channels
    )
    weakest: Provenance = channels[0].provenance if channels else "measured"
    energy = Energy(
        machine_j=2 * known,
        machine_low_j=1.98 * known,
        machine_high_j=2.02 * known,
        attributed_j=joules,
        low_j=low,
        high_j=high,
        provenance=weakest,
        channels=rows,
    )
    factor = intensity / JOULES_PER_KWH
    given: dict[str, Any] = {
        "id": "20260101-000000-work-0001",
        "command": ("work",),
        "started_at": "2026-01-01T00:00:00Z",
        "host": HOST,
        "sampling": Sampling(frequency_hz=10.0),
        "channels": tuple(channels),
        "state": "complete",
        "duration_s": seconds,
        "exit": Exit(code=0),
        "energy": energy,
        "attribution": ATTRIBUTION,
        "carbon": Carbon(
            co2e_g=known * factor,
            low_g=low * factor,
            high_g=high * factor,
            basis="attributed",
            energy_j=known,
            pue=1.0,
            pue_source="default",
            intensity_g_per_kwh=intensity,
            location="FR",
            location_name="France",
            location_source="flag",
            intensity_source="table",
            dataset="test",
        ),
    }
    return Run(**{**given, **facts})
