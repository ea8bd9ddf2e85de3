"""Machines with AMD GPUs: the real pyrsmi on a library that plays them, through the whole command."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.amdsmi import NO_PERMISSION, FakeAmdGpu, fake_amd, gpu_id_of, pci_of, unique_id_of
from tests.simulation import Signal, SimulatedMachine, Zone, constant

from .conftest import Measured, Running

Measure = Callable[..., Measured]
Begin = Callable[..., Running]
Node = Callable[..., tuple[SimulatedMachine, dict[str, str]]]

CPU_W = 55.0
NOISE = "/opt/amdgpu/share/libdrm/amdgpu.ids: No such file or directory"

DRAWS = """
import os, pathlib, sys, time
root, card, client, seconds, share = sys.argv[1:]
folder = pathlib.Path(root, "proc", str(os.getpid()))
for each in ("fd", "fdinfo"):
    (folder / each).mkdir(parents=True)
os.symlink("/dev/dri/renderD128", folder / "fd/5")
began = time.monotonic()
while time.monotonic() < began + float(seconds):
    ns = int((time.monotonic() - began) * float(share) * 1e9)
    text = f"drm-driver: amdgpu\\ndrm-client-id: {client}\\ndrm-pdev: {card}\\ndrm-engine-gfx: {ns} ns\\n"
    (folder / "fdinfo/new").write_text(text)
    os.rename(folder / "fdinfo/new", folder / "fdinfo/5")
    time.sleep(0.02)
"""
"""A process whose descriptor says that it keeps a card busy for a share of the time."""


@pytest.fixture
def node(simulate: Callable[..., SimulatedMachine]) -> Node:
    """`machine, env = node(FakeAmdGpu(...))`: one socket and these GPUs, seen by hwmon as well, and what
    lets the library play them."""

    def build(*gpus: FakeAmdGpu, **options: Any) -> tuple[SimulatedMachine, dict[str, str]]:
        dram = Zone(folder="intel-rapl:0:0", name="dram", power=constant(5))
        signals, files = [], {}
        for index, gpu in enumerate(gpus):
            for folder in (
                f"/sys/bus/pci/drivers/amdgpu/{gpu.pci or pci_of(index)}/hwmon/hwmon{index}",
                f"/sys/class/hwmon/hwmon{index}",
            ):
                files[f"{folder}/name"] = "amdgpu\n"
                files[f"{folder}/power1_label"] = "PPT\n"
                signals.append(
                    Signal(path=f"{folder}/power1_average", power=constant(gpu.power_w), form="{uw}")
                )
        machine = simulate(Zone(power=constant(50)), dram, signals=signals, files=files)
        for index, gpu in enumerate(gpus):
            card = Path(machine.root, "sys/bus/pci/drivers/amdgpu", gpu.pci or pci_of(index))
            Path(machine.root, f"sys/class/hwmon/hwmon{index}/device").symlink_to(card)
        return machine, fake_amd(machine.root, gpus, **options)

    return build


def drawing(machine: SimulatedMachine, seconds: float, share: float, client: int = 1) -> list[str]:
    return [sys.executable, "-S", "-c", DRAWS, machine.root, pci_of(0), str(client), str(seconds), str(share)]


def gpu_ids(measured: Measured) -> list[str]:
    """The GPU channels that count."""
    return [c["id"] for c in measured.record["channels"] if c["domain"] == "gpu" and c["counted"]]


def test_an_instinct_node_has_the_joules_of_both_gpus_and_of_the_cpu_once_each(
    node: Node, measure: Measure
) -> None:
    machine, env = node(FakeAmdGpu(power_w=500), FakeAmdGpu(power_w=140), noise=NOISE)
    measured = measure(machine, command=["sleep", "1"], env=env)
    seconds = measured.duration_s
    assert measured.machine_j == pytest.approx((CPU_W + 500 + 140) * seconds, rel=0.005)
    assert measured.channel("gpu0")["machine_j"] == pytest.approx(500 * seconds, rel=0.005)
    assert measured.channel("gpu1")["machine_j"] == pytest.approx(140 * seconds, rel=0.005)
    assert measured.energy["provenance"] == "measured"
    assert gpu_ids(measured) == ["gpu0", "gpu1"], "hwmon tells the same a second time"
    assert (measured.output, measured.errors) == ("", "")
    assert "sensor_denied" not in measured.codes


def test_power_alone_is_integrated_whatever_the_frequency(node: Node, begin: Begin) -> None:
    gpus = [FakeAmdGpu(power_w=350, has_counter=False), FakeAmdGpu(power_w=90, frozen_at=5)]
    machine, env = node(*gpus)
    command = ["sleep", "1.2"]
    for running in [begin(machine, "-F", hertz, command=command, env=env) for hertz in ("1", "10", "100")]:
        measured = running.finish()
        assert measured.machine_j == pytest.approx((CPU_W + 440) * measured.duration_s, rel=0.005)
        assert measured.channel("gpu0")["provenance"] == "integrated"
        assert measured.channel("gpu1")["provenance"] == "integrated"


def test_a_gpu_that_is_lost_on_the_way_is_a_gap_and_the_other_goes_on(
    node: Node, measure: Measure, tmp_path: Path
) -> None:
    healthy = FakeAmdGpu(power_w=120)
    machine, env = node(FakeAmdGpu(power_w=300), healthy)
    after = fake_amd(tmp_path / "after", [FakeAmdGpu(power_w=300, lost_at_s=0.0), healthy])
    command = ["sh", "-c", f"sleep 0.6; mv {after['FAKE_AMDSMI']} {env['FAKE_AMDSMI']}; sleep 0.6; exit 3"]
    measured = measure(machine, command=command, env=env)
    assert measured.status == 3
    assert measured.errors == ""
    lost, kept = measured.channel("gpu0"), measured.channel("gpu1")
    assert kept["machine_j"] == pytest.approx(120 * measured.duration_s, rel=0.005)
    (gap,) = measured.gaps("gpu0")
    assert "not found" in gap["reason"]
    assert gap["end_s"] == pytest.approx(measured.duration_s, abs=1e-6)
    assert 0.5 < lost["gap_s"] < measured.duration_s - 0.5
    assert lost["machine_j"] == pytest.approx(300 * (measured.duration_s - lost["gap_s"]), rel=0.02)
    assert lost["machine_low_j"] <= 300 * measured.duration_s <= lost["machine_high_j"]


def test_only_the_gpus_that_the_command_may_see_are_counted(node: Node, measure: Measure) -> None:
    machine, env = node(FakeAmdGpu(power_w=300), FakeAmdGpu(power_w=120))
    chosen = {"ROCR_VISIBLE_DEVICES": f"GPU-{unique_id_of(1):016x}"}
    measured = measure(machine, command=["sleep", "0.6"], env={**env, **chosen})
    assert gpu_ids(measured) == ["gpu1"]
    assert measured.machine_j == pytest.approx((CPU_W + 120) * measured.duration_s, rel=0.01)


def test_where_the_library_may_not_be_opened_hwmon_tells_the_power(node: Node, measure: Measure) -> None:
    machine, env = node(FakeAmdGpu(power_w=300), errors={"amdsmi_init": NO_PERMISSION})
    measured = measure(machine, command=["sleep", "1"], env=env)
    assert "render" in measured.warning("sensor_denied")["hint"]
    assert gpu_ids(measured) == ["gpu0"]
    assert measured.machine_j == pytest.approx((CPU_W + 300) * measured.duration_s, rel=0.005)


def test_a_gpu_that_only_the_command_uses_is_its_own_and_an_unused_one_is_not(
    node: Node, measure: Measure
) -> None:
    machine, env = node(FakeAmdGpu(power_w=300), FakeAmdGpu(power_w=120))
    measured = measure(machine, command=drawing(machine, 1.5, share=0.5), env=env)
    used, unused = measured.channel("gpu0"), measured.channel("gpu1")
    assert used["rule"] == "whole_device"
    assert used["attributed_j"] == used["machine_j"] == pytest.approx(300 * measured.duration_s, rel=0.005)
    assert (unused["rule"], unused["attributed_j"]) == ("not_used_by_tree", 0)


def test_processes_that_come_and_go_are_the_commands_all_the_same(node: Node, measure: Measure) -> None:
    machine, env = node(FakeAmdGpu(power_w=300))
    one, rest = drawing(machine, 0.7, share=0.5), [sys.executable, "-S", "-c"]
    loop = "import subprocess, sys\nfor n in '12': subprocess.run([*sys.argv[1:7], n, *sys.argv[8:]])"
    measured = measure(machine, command=[*rest, loop, *one], env=env)
    (device,) = measured.record["devices"]
    assert len(device["tree_pids"]) == 2
    assert device["other_pids"] == []
    assert device["tree_busy_s"] == pytest.approx(0.7, abs=0.2)


def test_a_shared_gpu_goes_by_engine_time_and_names_who_shared_it(node: Node, measure: Measure) -> None:
    machine, env = node(FakeAmdGpu(power_w=300))
    folder = Path(machine.root, "proc", str(os.getpid()))
    for each in ("fd", "fdinfo"):
        (folder / each).mkdir(parents=True)
    (folder / "fd/9").symlink_to("/dev/dri/renderD128")
    head = f"drm-driver: amdgpu\ndrm-client-id: 2\ndrm-pdev: {pci_of(0)}\n"
    stranger = f"{folder}/fdinfo/9"
    Path(stranger).write_text(head + "drm-engine-gfx: 1000000000 ns\n")
    draw = " ".join(f"'{word}'" for word in drawing(machine, 1.5, share=0.8)[:3])
    rest = " ".join(drawing(machine, 1.5, share=0.8)[4:])
    more = f"sleep 0.5; printf '{head}drm-engine-gfx: 1400000000 ns\\n' > {stranger}"
    measured = measure(machine, command=["sh", "-c", f'{draw} "$0" {rest} & {more}; wait', DRAWS], env=env)
    row = measured.channel("gpu0")
    assert row["rule"] == "sm_time_share"
    # 0.8 of 1.5 s, but for what was done after the last look at it, against 0.4 s of the stranger.
    assert row["attributed_j"] == pytest.approx(0.75 * row["machine_j"], rel=0.1)
    assert str(os.getpid()) in measured.warning("gpu_shared")["text"]


def test_compute_queues_share_a_gpu_by_the_units_that_work_for_them(node: Node, measure: Measure) -> None:
    machine, env = node(FakeAmdGpu(power_w=300))
    queues = Path(machine.root, "sys/class/kfd/kfd/proc")
    stranger = queues / str(os.getpid())
    for name, value in (("queues/0/gpuid", gpu_id_of(0)), (f"stats_{gpu_id_of(0)}/cu_occupancy", 26)):
        (stranger / name).parent.mkdir(parents=True)
        (stranger / name).write_text(f"{value}\n")
    ours = f"{queues}/$$"
    command = (
        f"mkdir -p {ours}/stats_{gpu_id_of(0)} {ours}/queues/1; "
        f"echo 78 > {ours}/stats_{gpu_id_of(0)}/cu_occupancy; echo {gpu_id_of(0)} > {ours}/queues/1/gpuid; "
        "sleep 2.2"
    )
    measured = measure(machine, "-F", "100", command=["sh", "-c", command], env=env)
    row = measured.channel("gpu0")
    assert row["rule"] == "sm_time_share"
    assert row["attributed_j"] == pytest.approx(0.75 * row["machine_j"], rel=0.15)
    assert row["machine_j"] == pytest.approx(300 * measured.duration_s, rel=0.005)
