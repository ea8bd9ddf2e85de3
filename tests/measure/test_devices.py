"""Who used a GPU, summed up over a run: the tree, others, and those of whom nothing is known."""

from __future__ import annotations

import pytest

from emt_cli.measure.devices import DeviceShares
from emt_cli.model import DeviceUse, GpuUse


def of(*uses: GpuUse, tree: tuple[int, ...] = (1, 2)) -> DeviceUse:
    shares = DeviceShares(lambda pid: pid in tree, {"gpu0"})
    shares.add(uses, is_first=False)
    (use,) = shares.uses()
    return use


def on(part: str, share: float, *pids: int) -> list[GpuUse]:
    """Processes on an instance."""
    return [GpuUse(device="gpu0", pid=pid, busy_s=None, part=part, part_share=share) for pid in pids]


def test_pid_zero_is_never_of_the_tree() -> None:
    use = of(GpuUse(device="gpu0", pid=0, busy_s=None), tree=(0, 1))
    assert (use.tree_pids, use.other_pids) == ((), (0,))


def test_an_undivided_device_has_no_slices() -> None:
    assert of(GpuUse(device="gpu0", pid=1, busy_s=0.5)).slice_share is None


@pytest.mark.parametrize(
    ("uses", "share"),
    [
        ([*on("a", 3 / 7, 1), *on("b", 1 / 7, 9), *on("", 3 / 7, 0)], 3 / 7),
        ([*on("a", 3 / 7, 1), *on("b", 1 / 7, 9)], 3 / 4),  # nobody is on the rest, and all of it is seen
        ([*on("a", 3 / 7, 1, 2), *on("b", 4 / 7, 1)], 1.0),
        ([*on("a", 2 / 7, 1, 9), *on("", 5 / 7, 0)], 1 / 7),  # two on one instance, by heads
        ([*on("a", 2 / 7, 9), *on("", 5 / 7, 0)], 0.0),
        ([*on("a", 2 / 7, 0), *on("", 5 / 7, 0)], 2 / 7),  # of unknown use, but open to the tree
        (on("", 5 / 7, 0), 0.0),
    ],
)
def test_the_tree_has_its_slices_of_all_that_may_be_in_use(uses: list[GpuUse], share: float) -> None:
    assert of(*uses).slice_share == pytest.approx(share)


def test_an_instance_counts_once_however_often_it_is_seen() -> None:
    shares = DeviceShares(lambda pid: pid == 1, {"gpu0"})
    for is_first in (True, False, False):
        shares.add([*on("a", 3 / 7, 1), *on("b", 1 / 7, 9)], is_first=is_first)
    assert shares.uses()[0].slice_share == pytest.approx(3 / 4)


def test_what_a_process_did_before_its_end_is_the_trees_also_where_it_is_told_after_it() -> None:
    alive = {1}
    shares = DeviceShares(lambda pid: pid in alive, {"gpu0"})
    shares.add([GpuUse(device="gpu0", pid=1, busy_s=0.5)], is_first=False)
    alive.clear()
    shares.add([GpuUse(device="gpu0", pid=1, busy_s=0.25)], is_first=False)
    (use,) = shares.uses()
    assert (use.tree_busy_s, use.tree_pids, use.other_pids) == (0.75, (1,), ())
