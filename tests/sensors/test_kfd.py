"""ROCm's view of AMD cards and its compute queues, in folders that look like the kernel's."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from emt_cli.sensors.base import Machine
from emt_cli.sensors.fdinfo import DrmUse
from emt_cli.sensors.kfd import QueueUse, nodes, visible_cards
from tests.fakes.amdsmi import FakeAmdGpu, gpu_id_of, pci_of, show_cards, unique_id_of

ADDRESSES = [pci_of(0), pci_of(1), pci_of(2)]
QUEUES = "sys/class/kfd/kfd/proc"


def machine(root: Path, environ: dict[str, str] | None = None) -> Machine:
    show_cards(root, [FakeAmdGpu()] * 3)
    return Machine(str(root), environ=environ or {})


def runs(root: Path, pid: int, card: int, working: int | None = None, queue: int = 0) -> None:
    """A process with a queue on a card, `working` compute units of which are its."""
    _write(root / f"{QUEUES}/{pid}/queues/{queue}/gpuid", gpu_id_of(card))
    for each in range(3):  # a process has an entry for every card
        _write(root / f"{QUEUES}/{pid}/vram_{gpu_id_of(each)}", 4096)
    if working is not None:
        _write(root / f"{QUEUES}/{pid}/stats_{gpu_id_of(card)}/cu_occupancy", working)


def _write(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{value}\n")


def queue_use(root: Path) -> QueueUse:
    return QueueUse(machine(root), {address: f"gpu{at}" for at, address in enumerate(ADDRESSES)})


def test_rocms_cards_are_told_in_its_order_with_address_id_and_size(tmp_path: Path) -> None:
    found = nodes(machine(tmp_path))
    assert [node.pci for node in found] == ADDRESSES
    assert [node.uuid for node in found] == [f"GPU-{unique_id_of(at):016x}" for at in range(3)]
    assert [node.gpu_id for node in found] == [str(gpu_id_of(at)) for at in range(3)]
    assert {node.compute_units for node in found} == {104}


def test_a_processor_and_a_broken_node_are_no_cards(tmp_path: Path) -> None:
    here = machine(tmp_path)
    folder = tmp_path / "sys/class/kfd/kfd/topology/nodes"
    _write(folder / "0/gpu_id", 0)
    (folder / "2/properties").unlink()
    (folder / "3/gpu_id").write_text("<unknown>\n")
    assert [node.pci for node in nodes(here)] == [ADDRESSES[0]]


def test_a_high_domain_is_part_of_the_address(tmp_path: Path) -> None:
    show_cards(tmp_path, [FakeAmdGpu(pci="0001:c1:00.0"), FakeAmdGpu(pci="10000:02:1f.7")])
    assert [node.pci for node in nodes(Machine(str(tmp_path)))] == ["0001:c1:00.0", "10000:02:1f.7"]


@pytest.mark.parametrize(
    ("environ", "positions"),
    [
        ({}, [0, 1, 2]),
        ({"ROCR_VISIBLE_DEVICES": "1"}, [1]),
        ({"ROCR_VISIBLE_DEVICES": f"GPU-{unique_id_of(2):016x}"}, [2]),
        ({"ROCR_VISIBLE_DEVICES": "2,0", "HIP_VISIBLE_DEVICES": "0"}, [2]),
        ({"HIP_VISIBLE_DEVICES": "-1"}, []),
    ],
)
def test_the_environment_leaves_cards_by_rocms_numbers(
    tmp_path: Path, environ: dict[str, str], positions: list[int]
) -> None:
    assert visible_cards(machine(tmp_path, environ), ADDRESSES) == [ADDRESSES[at] for at in positions]


def test_without_the_compute_driver_the_order_of_the_bus_is_taken(tmp_path: Path) -> None:
    here = machine(tmp_path, {"ROCR_VISIBLE_DEVICES": f"GPU-{unique_id_of(1):016x},0"})
    shutil.rmtree(tmp_path / "sys/class/kfd")
    assert visible_cards(here, ADDRESSES) == ADDRESSES[:2]


def test_a_card_that_rocm_does_not_know_is_hidden_by_any_choice(tmp_path: Path) -> None:
    here = machine(tmp_path, {"HIP_VISIBLE_DEVICES": "0,1,2,3"})
    assert visible_cards(here, [*ADDRESSES, "0000:fe:00.0"]) == ADDRESSES


def test_queues_go_by_the_compute_units_that_work_for_them(tmp_path: Path) -> None:
    use = queue_use(tmp_path)
    use.look(10.0)
    runs(tmp_path, 7, card=1, working=52)
    runs(tmp_path, 8, card=1, working=26)
    use.look(12.0)
    assert use.take() == {("gpu1", 7): pytest.approx(1.0), ("gpu1", 8): pytest.approx(0.5)}
    assert use.take() == {}


def test_at_the_first_look_no_time_has_passed(tmp_path: Path) -> None:
    use = queue_use(tmp_path)
    runs(tmp_path, 7, card=0, working=104)
    use.look(10.0)
    assert use.take() == {("gpu0", 7): 0.0}


def test_without_occupancy_the_use_is_unknown(tmp_path: Path) -> None:
    use = queue_use(tmp_path)
    runs(tmp_path, 7, card=2)
    use.look(10.0)
    assert use.take() == {("gpu2", 7): None}


def test_a_process_without_queues_uses_nothing(tmp_path: Path) -> None:
    use = queue_use(tmp_path)
    _write(tmp_path / f"{QUEUES}/7/vram_{gpu_id_of(0)}", 4096)
    (tmp_path / f"{QUEUES}/7/queues").mkdir()
    use.look(10.0)
    assert use.take() == {}


def test_before_linux_5_8_memory_on_a_card_tells_who_uses_it(tmp_path: Path) -> None:
    use = queue_use(tmp_path)
    _write(tmp_path / f"{QUEUES}/7/vram_{gpu_id_of(0)}", 4096)
    _write(tmp_path / f"{QUEUES}/7/vram_{gpu_id_of(1)}", 0)
    use.look(10.0)
    assert use.take() == {("gpu0", 7): None}


def test_a_queue_number_that_is_used_again_on_another_card_is_seen_anew(tmp_path: Path) -> None:
    use = queue_use(tmp_path)
    runs(tmp_path, 7, card=0)
    use.look(10.0)
    shutil.rmtree(tmp_path / f"{QUEUES}/7")
    use.look(11.0)
    runs(tmp_path, 7, card=1)
    use.take()
    use.look(12.0)
    assert use.take() == {("gpu1", 7): None}


def test_a_process_that_computes_and_draws_has_both_added(tmp_path: Path) -> None:
    now = [10.0]
    folder = tmp_path / "proc/7"
    for each in ("fd", "fdinfo"):
        (folder / each).mkdir(parents=True)
    use = DrmUse(machine(tmp_path), {ADDRESSES[0]: "gpu0"}, clock=lambda: now[0])
    use.look()
    now[0] = 12.0
    (folder / "fd/5").symlink_to("/dev/dri/renderD128")
    text = f"drm-driver: amdgpu\ndrm-client-id: 1\ndrm-pdev: {ADDRESSES[0]}\ndrm-engine-gfx: 500000000 ns\n"
    (folder / "fdinfo/5").write_text(text)
    runs(tmp_path, 7, card=0, working=26)
    runs(tmp_path, 8, card=0)
    assert {use.pid: use.busy_s for use in use.usage()} == {7: pytest.approx(1.0), 8: None}
