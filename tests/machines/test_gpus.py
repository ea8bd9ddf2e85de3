"""Machines with NVIDIA GPUs: the real pynvml on a library that plays them, through the whole command."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.nvml import FakeGpu, FakeProcess, fake_nvml
from tests.simulation import SimulatedMachine, Zone, constant

from .conftest import Measured, Running

Measure = Callable[..., Measured]
Begin = Callable[..., Running]
Gpus = Callable[..., tuple[SimulatedMachine, dict[str, str]]]

CPU_W = 55.0
FRESH_S = 0.001
"""A counter that is never stale, so that its joules are known; real ones move every 20 to 100 ms."""


@pytest.fixture
def gpus(simulate: Callable[..., SimulatedMachine]) -> Gpus:
    """`machine, env = gpus(FakeGpu(...))`: one socket and these GPUs, and what lets emt see them."""

    def build(*devices: FakeGpu, **options: Any) -> tuple[SimulatedMachine, dict[str, str]]:
        dram = Zone(folder="intel-rapl:0:0", name="dram", power=constant(5))
        machine = simulate(Zone(power=constant(50)), dram)
        return machine, fake_nvml(Path(machine.root, "usr/lib"), devices, **options)

    return build


def working(pid_file: Path, seconds: float = 1.0) -> list[str]:
    """A command that lets the GPU know its PID."""
    return ["sh", "-c", f"echo $$ > {pid_file}; sleep {seconds}"]


def test_two_gpus_add_their_joules_to_the_cpus(gpus: Gpus, measure: Measure) -> None:
    machine, env = gpus(FakeGpu(power_w=300, refresh_s=FRESH_S), FakeGpu(power_w=120, refresh_s=FRESH_S))
    measured = measure(machine, command=["sleep", "1"], env=env)
    seconds = measured.duration_s
    assert measured.machine_j == pytest.approx((CPU_W + 300 + 120) * seconds, rel=0.005)
    assert measured.channel("gpu0")["machine_j"] == pytest.approx(300 * seconds, rel=0.005)
    assert measured.channel("gpu1")["machine_j"] == pytest.approx(120 * seconds, rel=0.005)
    assert measured.energy["provenance"] == "measured"


def test_a_counter_that_moves_every_tenth_of_a_second_is_off_by_no_more_than_the_bounds_say(
    gpus: Gpus, measure: Measure
) -> None:
    machine, env = gpus(FakeGpu(power_w=300, refresh_s=0.1))
    measured = measure(machine, command=["sleep", "1"], env=env)
    row, truth_j = measured.channel("gpu0"), 300 * measured.duration_s
    assert row["machine_low_j"] <= truth_j <= row["machine_high_j"]
    assert abs(row["machine_j"] - truth_j) <= 300 * 0.1
    assert row["machine_high_j"] - row["machine_low_j"] < truth_j, "bounds that say something"


def test_only_the_gpus_that_the_command_may_see_are_counted(gpus: Gpus, measure: Measure) -> None:
    machine, env = gpus(FakeGpu(power_w=300, refresh_s=FRESH_S), FakeGpu(power_w=120, refresh_s=FRESH_S))
    measured = measure(machine, command=["sleep", "0.6"], env={**env, "CUDA_VISIBLE_DEVICES": "1"})
    assert measured.machine_j == pytest.approx((CPU_W + 120) * measured.duration_s, rel=0.01)
    assert [c["id"] for c in measured.record["channels"] if c["domain"] == "gpu"] == ["gpu1"]


def test_a_gpu_that_only_the_command_uses_is_its_own_and_an_unused_one_is_not(
    gpus: Gpus, measure: Measure, tmp_path: Path
) -> None:
    pid_file = tmp_path / "pid"
    ours = FakeGpu(power_w=300, refresh_s=FRESH_S, processes=[FakeProcess(pid_file=pid_file, sm_percent=60)])
    machine, env = gpus(ours, FakeGpu(power_w=120, refresh_s=FRESH_S))
    measured = measure(machine, command=working(pid_file), env=env)
    used, unused = measured.channel("gpu0"), measured.channel("gpu1")
    assert used["rule"] == "whole_device"
    assert used["attributed_j"] == used["machine_j"] == pytest.approx(300 * measured.duration_s, rel=0.005)
    assert (unused["rule"], unused["attributed_j"]) == ("not_used_by_tree", 0)
    (device,) = (d for d in measured.record["devices"] if d["device"] == "gpu0")
    assert device["tree_pids"] == [int(pid_file.read_text())]
    assert device["other_pids"] == []


def test_a_shared_gpu_goes_by_compute_time_and_names_who_shared_it(
    gpus: Gpus, measure: Measure, tmp_path: Path
) -> None:
    pid_file = tmp_path / "pid"
    shared = FakeGpu(
        power_w=300,
        refresh_s=FRESH_S,
        processes=[
            FakeProcess(pid_file=pid_file, sm_percent=60),
            FakeProcess(pid=os.getpid(), sm_percent=20),  # this test: no part of the tree
        ],
    )
    machine, env = gpus(shared)
    measured = measure(machine, command=working(pid_file, 2.5), env=env)
    row = measured.channel("gpu0")
    assert row["rule"] == "sm_time_share"
    assert row["machine_j"] == pytest.approx(300 * measured.duration_s, rel=0.005)
    # The driver's averages overlap the start by up to a second, in which the stranger was alone.
    assert row["attributed_j"] == pytest.approx(0.75 * row["machine_j"], rel=0.15)
    assert row["low_j"] <= 0.75 * row["machine_j"] <= row["high_j"] * 1.05
    assert str(os.getpid()) in measured.warning("gpu_shared")["text"]


def test_a_gpu_that_is_lost_on_the_way_is_a_gap_and_the_other_goes_on(
    gpus: Gpus, measure: Measure, tmp_path: Path
) -> None:
    healthy = FakeGpu(power_w=120, refresh_s=FRESH_S)
    machine, env = gpus(FakeGpu(power_w=300, refresh_s=FRESH_S), healthy)
    after = fake_nvml(tmp_path / "after", [FakeGpu(power_w=300, refresh_s=FRESH_S, lost_at_s=0.0), healthy])
    command = ["sh", "-c", f"sleep 0.6; mv {after['FAKE_NVML']} {env['FAKE_NVML']}; sleep 0.6; exit 3"]
    measured = measure(machine, command=command, env=env)
    assert measured.status == 3
    lost, kept = measured.channel("gpu0"), measured.channel("gpu1")
    assert kept["machine_j"] == pytest.approx(120 * measured.duration_s, rel=0.005)
    (gap,) = measured.gaps("gpu0")
    assert "lost" in gap["reason"].lower()
    assert gap["end_s"] == pytest.approx(measured.duration_s, abs=1e-6)
    assert 0.5 < lost["gap_s"] < measured.duration_s - 0.5
    assert lost["machine_j"] == pytest.approx(300 * (measured.duration_s - lost["gap_s"]), rel=0.02)
    assert lost["machine_low_j"] <= 300 * measured.duration_s <= lost["machine_high_j"]


def test_a_gpu_that_tells_power_alone_is_integrated(gpus: Gpus, begin: Begin) -> None:
    machine, env = gpus(FakeGpu(power_w=250, has_counter=False))
    command = ["sleep", "1.2"]
    for running in [begin(machine, "-F", hertz, command=command, env=env) for hertz in ("1", "10", "100")]:
        measured = running.finish()
        row = measured.channel("gpu0")
        assert row["provenance"] == "integrated"
        assert row["machine_j"] == pytest.approx(250 * measured.duration_s, rel=0.005)
        assert measured.energy["provenance"] == "integrated"
        assert measured.machine_j == pytest.approx((CPU_W + 250) * measured.duration_s, rel=0.005)
