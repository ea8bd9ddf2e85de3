"""Machines with NVIDIA GPUs: the real pynvml on a library that plays them, through the whole command."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.nvml import NO_PERMISSION, FakeGpu, FakeProcess, Mig, fake_nvml
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


def test_a_short_run_is_right_to_two_percent_although_the_counter_moves_every_tenth_of_a_second(
    gpus: Gpus, measure: Measure
) -> None:
    """Plain readings at the edges would be off by 15 of these 105 J: half a step more or less."""
    machine, env = gpus(FakeGpu(power_w=300, refresh_s=0.1))
    errors = []
    for _ in range(5):
        measured = measure(machine, command=["sleep", "0.345"], env=env)
        row, truth_j = measured.channel("gpu0"), 300 * measured.duration_s
        assert row["machine_low_j"] <= truth_j <= row["machine_high_j"]
        errors.append(abs(row["machine_j"] / truth_j - 1))
    assert sorted(errors)[2] < 0.02, "the median: a busy machine may see a step late"


def test_power_is_read_beside_the_counter_agrees_with_it_and_counts_for_nothing(
    gpus: Gpus, measure: Measure
) -> None:
    machine, env = gpus(FakeGpu(power_w=300, refresh_s=FRESH_S))
    measured = measure(machine, command=["sleep", "1"], env=env)
    check = measured.channel("gpu0/power")
    assert check["counted"] is False
    assert check["machine_j"] == pytest.approx(300 * measured.duration_s, rel=0.01)
    assert measured.machine_j == pytest.approx((CPU_W + 300) * measured.duration_s, rel=0.005)
    assert "cross_check" not in measured.codes


def test_only_the_gpus_that_the_command_may_see_are_counted(gpus: Gpus, measure: Measure) -> None:
    machine, env = gpus(FakeGpu(power_w=300, refresh_s=FRESH_S), FakeGpu(power_w=120, refresh_s=FRESH_S))
    measured = measure(machine, command=["sleep", "0.6"], env={**env, "CUDA_VISIBLE_DEVICES": "1"})
    assert measured.machine_j == pytest.approx((CPU_W + 120) * measured.duration_s, rel=0.01)
    assert [c["id"] for c in measured.record["channels"] if c["domain"] == "gpu" and c["counted"]] == ["gpu1"]


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


def test_a_lost_gpu_that_comes_back_under_another_index_is_counted_on(
    gpus: Gpus, measure: Measure, tmp_path: Path
) -> None:
    first = FakeGpu(uuid="GPU-aaaa", power_w=300, refresh_s=FRESH_S)
    second = FakeGpu(uuid="GPU-bbbb", power_w=120, refresh_s=FRESH_S)
    machine, env = gpus(first, second)
    lost = fake_nvml(tmp_path / "lost", [replace(first, lost_at_s=0.0), second])["FAKE_NVML"]
    reset = replace(first, returns=1, counts_from_s=time.monotonic())
    back = fake_nvml(tmp_path / "back", [second, reset])["FAKE_NVML"]
    here = env["FAKE_NVML"]
    script = f"sleep 0.6; mv {lost} {here}; sleep 0.4; mv {back} {here}; sleep 2.5"
    measured = measure(machine, command=["sh", "-c", script], env=env)
    row = measured.channel("gpu0")
    # It is looked for every second, and what its counter says is believed once that moves.
    assert 0.3 < row["gap_s"] < 2.5
    assert row["machine_j"] == pytest.approx(300 * (measured.duration_s - row["gap_s"]), rel=0.02)
    assert measured.channel("gpu1")["machine_j"] == pytest.approx(120 * measured.duration_s, rel=0.005)
    assert measured.codes.count("sensor_gap") == 1
    assert measured.observed("gpu0")["resets"] == 1


def test_a_gpu_that_may_not_be_read_is_told_and_the_other_is_measured(gpus: Gpus, measure: Measure) -> None:
    locked = FakeGpu(has_power=False, errors={"nvmlDeviceGetTotalEnergyConsumption": NO_PERMISSION})
    machine, env = gpus(locked, FakeGpu(power_w=120, refresh_s=FRESH_S))
    measured = measure(machine, command=["sleep", "0.6"], env=env)
    warning = measured.warning("sensor_denied")
    assert "gpu0 (Insufficient Permissions)" in warning["text"]
    assert "/dev/nvidia" in warning["hint"]
    assert measured.machine_j == pytest.approx((CPU_W + 120) * measured.duration_s, rel=0.01)


def test_a_grace_hopper_module_counts_once_for_itself_and_its_cpu(gpus: Gpus, measure: Measure) -> None:
    machine, env = gpus(FakeGpu(name="NVIDIA GH200 480GB", power_w=500, module_w=500, refresh_s=FRESH_S))
    measured = measure(machine, command=["sleep", "0.6"], env=env)
    assert measured.machine_j == pytest.approx(500 * measured.duration_s, rel=0.01)
    assert measured.channel("gpu0/power")["machine_j"] == pytest.approx(500 * measured.duration_s, rel=0.02)


def test_a_gpu_that_tells_nothing_is_estimated_between_bounds_and_a_warning_says_so(
    gpus: Gpus, measure: Measure
) -> None:
    old = FakeGpu(name="Tesla T4", has_counter=False, has_power=False, use_percent=50)
    machine, env = gpus(old)
    measured = measure(machine, command=["sleep", "1"], env=env)
    row, seconds = measured.channel("gpu0"), measured.duration_s
    assert row["machine_j"] == pytest.approx((8 + 0.5 * 62) * seconds, rel=0.01)
    assert 0 < row["machine_low_j"] < 8 * seconds
    assert row["machine_high_j"] == pytest.approx(70 * seconds, rel=0.01)
    assert row["provenance"] == measured.energy["provenance"] == "estimated"
    assert "gpu0 energy" in measured.warning("estimated")["text"]


def test_a_gpu_divided_by_mig_goes_by_slices_and_a_warning_says_so(
    gpus: Gpus, measure: Measure, tmp_path: Path
) -> None:
    pid_file = tmp_path / "pid"
    divided = FakeGpu(
        power_w=350,
        refresh_s=FRESH_S,
        instances=[Mig(uuid="MIG-1111", slices=3), Mig(uuid="MIG-2222", slices=2)],
        processes=[FakeProcess(pid_file=pid_file, instance=1), FakeProcess(pid=os.getpid(), instance=2)],
    )
    machine, env = gpus(divided)
    measured = measure(machine, command=working(pid_file), env=env)
    row = measured.channel("gpu0")
    assert row["rule"] == "mig_slice_share"
    assert row["machine_j"] == pytest.approx(350 * measured.duration_s, rel=0.005)
    # Two of the seven slices are not to be seen: somebody may be on them.
    assert row["attributed_j"] == pytest.approx(row["machine_j"] * 3 / 7)
    assert row["low_j"] == 0
    assert row["high_j"] == row["machine_high_j"]
    assert "43%" in measured.warning("gpu_sliced")["text"]
    assert "gpu_shared" not in measured.codes


@pytest.mark.parametrize(
    ("host_pid", "rule"),
    [
        (0, "whole_device_unknown"),  # older drivers list the host's PIDs
        (645400, "whole_device"),  # newer ones ours; compute time goes by the host's with all
    ],
)
def test_in_a_pid_namespace_of_its_own_only_pids_that_exist_there_are_believed(
    gpus: Gpus, measure: Measure, tmp_path: Path, host_pid: int, rule: str
) -> None:
    pid_file = tmp_path / "pid"
    listed = FakeProcess(pid_file=pid_file, sm_percent=60, host_pid=host_pid)
    if not host_pid:
        listed = FakeProcess(pid=5_000_001, sm_percent=60)  # beyond the largest PID that there can be
    machine, env = gpus(FakeGpu(power_w=300, refresh_s=FRESH_S, processes=[listed]))
    namespace = Path(machine.root, "proc/self/ns")
    namespace.mkdir(parents=True)
    (namespace / "pid").symlink_to("pid:[4026532281]")
    measured = measure(machine, command=working(pid_file), env=env)
    row = measured.channel("gpu0")
    assert row["rule"] == rule
    assert row["attributed_j"] == row["machine_j"] == pytest.approx(300 * measured.duration_s, rel=0.005)
    assert ("gpu_whole_device" in measured.codes) == (rule == "whole_device_unknown")


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
