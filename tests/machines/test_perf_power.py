"""The whole command on machines whose RAPL counters perf tells too: each joule once, by the better way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tests.simulation import POWER_EVENTS, Fault, PowerEvent, SimulatedMachine, Zone, constant, power_pmu

from .conftest import Measured

Simulate = Callable[..., SimulatedMachine]
Measure = Callable[..., Measured]

LOCKED = (Fault(kind="EACCES"),)
SLEEP = ["sleep", "1"]
NO_GPUS = {"CUDA_VISIBLE_DEVICES": ""}


def perf(
    packages: Mapping[int, int], watts: Mapping[tuple[str, int], float], *, fault: str = "", **options: Any
) -> dict[str, Any]:
    """A PMU whose events, by name and CPU, draw so many watts."""
    events = [
        PowerEvent(config=POWER_EVENTS[name], cpu=cpu, power=constant(each_w), fault=fault)
        for (name, cpu), each_w in watts.items()
    ]
    names = tuple(dict.fromkeys(name for name, _ in watts))
    return {"events": events, "files": power_pmu(packages, events=names), **options}


def counted(measured: Measured) -> dict[str, float]:
    """Watts of what counts."""
    rows = [row for row in measured.energy["channels"] if row["counted"]]
    return {row["id"]: row["machine_j"] / measured.duration_s for row in rows}


def sensor_of(measured: Measured, id: str) -> str:
    return str(next(channel["sensor"] for channel in measured.record["channels"] if channel["id"] == id))


def of_sensors(measured: Measured) -> list[str]:
    """The warnings but for those of the place and of a busy box."""
    return [code for code in measured.codes if code not in ("location_unknown", "late_ticks")]


def near(watts: Mapping[str, float]) -> object:
    return pytest.approx(dict(watts), rel=0.005)


def test_two_sockets_that_both_ways_show_count_once_by_perf(simulate: Simulate, measure: Measure) -> None:
    zones = [
        Zone(folder="intel-rapl:0", name="package-0", power=constant(80)),
        Zone(folder="intel-rapl:0:0", name="dram", power=constant(8)),
        Zone(folder="intel-rapl:1", name="package-1", power=constant(60), start_uj=10**9),
        Zone(folder="intel-rapl:1:0", name="dram", power=constant(6), start_uj=10**8),
    ]
    watts = {
        ("energy-pkg", 0): 80,
        ("energy-pkg", 18): 60,
        ("energy-ram", 0): 8,
        ("energy-ram", 18): 6,
    }
    measured = measure(simulate(*zones, **perf({0: 0, 18: 1}, watts)), command=SLEEP, env=NO_GPUS)
    expected = {"cpu0/package": 80, "cpu1/package": 60, "cpu0/dram": 8, "cpu1/dram": 6}
    assert counted(measured) == near(expected)
    assert measured.machine_j == pytest.approx(154 * measured.duration_s, rel=0.005)
    assert {sensor_of(measured, id) for id in expected} == {"perf"}
    for id in expected:
        again = next(c for c in measured.record["channels"] if c["id"] == f"{id}.2")
        assert (again["sensor"], again["dropped"], again["checks"]) == (
            "powercap",
            "perf reads the same",
            id,
        )
        assert measured.observed(f"{id}.2")["energy_j"] == pytest.approx(
            measured.observed(id)["energy_j"], rel=0.02
        )
    assert of_sensors(measured) == []


def test_perf_alone_counts_where_powercap_is_locked(simulate: Simulate, measure: Measure) -> None:
    zones = [Zone(faults=LOCKED), Zone(folder="intel-rapl:0:0", name="dram", faults=LOCKED)]
    machine = simulate(*zones, **perf({0: 0}, {("energy-pkg", 0): 50, ("energy-ram", 0): 5}))
    measured = measure(machine, command=SLEEP, env=NO_GPUS)
    assert counted(measured) == near({"cpu0/package": 50, "cpu0/dram": 5})
    assert measured.energy["provenance"] == "measured"
    assert of_sensors(measured) == []


def test_powercap_counts_what_perf_has_no_event_for(simulate: Simulate, measure: Measure) -> None:
    zones = [
        Zone(power=constant(50)),
        Zone(folder="intel-rapl:0:0", name="core", power=constant(30)),
        Zone(folder="intel-rapl:0:1", name="dram", power=constant(5)),
    ]
    measured = measure(simulate(*zones, **perf({0: 0}, {("energy-pkg", 0): 50})), command=SLEEP, env=NO_GPUS)
    assert counted(measured) == near({"cpu0/package": 50, "cpu0/dram": 5})
    assert sensor_of(measured, "cpu0/dram") == "powercap"
    assert measured.channel("cpu0/core")["machine_j"] == pytest.approx(30 * measured.duration_s, rel=0.005)


def test_the_platform_that_perf_sees_stands_beside_its_components(
    simulate: Simulate, measure: Measure
) -> None:
    zones = [Zone(power=constant(50)), Zone(folder="intel-rapl:1", name="psys", power=constant(90))]
    watts = {("energy-pkg", 0): 50, ("energy-cores", 0): 30, ("energy-gpu", 0): 4, ("energy-psys", 0): 90}
    machine = simulate(*zones, **perf({0: 0}, watts), memory_bytes=0)
    measured = measure(machine, "--exclude", "dram", command=SLEEP, env=NO_GPUS)
    assert counted(measured) == near({"cpu0/package": 50})
    assert measured.energy["platform_j"] == pytest.approx(90 * measured.duration_s, rel=0.005)


def test_a_perf_that_counts_nothing_is_not_believed_and_powercap_counts(
    simulate: Simulate, measure: Measure
) -> None:
    zones = [Zone(power=constant(50)), Zone(folder="intel-rapl:0:0", name="dram", power=constant(5))]
    machine = simulate(*zones, **perf({0: 0}, {("energy-pkg", 0): 0, ("energy-ram", 0): 0}))
    measured = measure(machine, command=SLEEP, env=NO_GPUS)
    assert counted(measured) == near({"cpu0/package": 50, "cpu0/dram": 5})
    assert sensor_of(measured, "cpu0/package") == "powercap"
    assert of_sensors(measured) == ["cross_check"]
    assert "100%" in measured.warning("cross_check")["text"]


def test_a_perf_that_goes_astray_during_the_run_is_told_at_the_end(
    simulate: Simulate, measure: Measure
) -> None:
    """15 % apart: too little to be sure of before the run, enough to be told after it."""
    machine = simulate(
        Zone(power=constant(50)),
        Zone(folder="intel-rapl:0:0", name="dram", power=constant(5)),
        **perf({0: 0}, {("energy-pkg", 0): 42.5}),
    )
    measured = measure(machine, command=SLEEP, env=NO_GPUS)
    assert counted(measured) == near({"cpu0/package": 42.5, "cpu0/dram": 5})
    warning = measured.warning("cross_check")
    assert "15%" in warning["text"]
    assert "--exclude perf" in warning["hint"]


def test_an_unprivileged_user_whom_powercap_serves_hears_nothing_of_perf(
    simulate: Simulate, measure: Measure
) -> None:
    zones = [Zone(power=constant(50)), Zone(folder="intel-rapl:0:0", name="dram", power=constant(5))]
    machine = simulate(*zones, **perf({0: 0}, {("energy-pkg", 0): 50}, fault="EACCES"))
    measured = measure(machine, command=SLEEP, env=NO_GPUS)
    assert counted(measured) == near({"cpu0/package": 50, "cpu0/dram": 5})
    assert of_sensors(measured) == []


def test_one_whom_neither_serves_is_told_once_how_to_open_powercap_to_a_group(
    simulate: Simulate, measure: Measure
) -> None:
    machine = simulate(Zone(faults=LOCKED), **perf({0: 0}, {("energy-pkg", 0): 50}, fault="EACCES"))
    measured = measure(machine, command=SLEEP, env=NO_GPUS)
    assert measured.energy["provenance"] == "estimated"
    assert of_sensors(measured) == ["sensor_denied", "estimated"]
    assert "systemd-tmpfiles" in measured.warning("sensor_denied")["hint"]


def test_the_dies_of_an_amd_package_that_perf_repeats_count_once(
    simulate: Simulate, measure: Measure
) -> None:
    packages = {0: 0, 8: 0, 16: 0}
    watts = {("energy-pkg", cpu): 180.0 for cpu in packages}
    machine = simulate(**perf(packages, watts), cpu_model="AMD EPYC 9654 96-Core Processor")
    measured = measure(machine, "--exclude", "dram", command=SLEEP, env=NO_GPUS)
    assert counted(measured) == near({"cpu0/package": 180})
