"""Programs that emt starts for itself, such as a sensor's: children of emt, and none of the command's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from emt_cli.measure.tree import Tree
from tests.tree.kernel import ME, Kernel, installed


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    with installed() as kernel:
        yield kernel


def test_a_helper_and_what_it_starts_count_for_nothing(kernel: Kernel) -> None:
    root, helper = kernel.fork(ME), kernel.fork(ME)
    tree = Tree(root, helpers=frozenset({helper}))
    its_child = kernel.fork(helper)
    kernel.burn(helper, 2.0)
    kernel.burn(its_child, 5.0)
    kernel.burn(root, 1.0)
    assert tree.pass_over(1.0) == 1.0
    assert not tree.has(helper)
    assert not tree.has(its_child)
    assert tree.orphans() == []
    assert [row.pid for row in tree.processes(0.0, "")] == [root]
    assert tree.blind_spot == ""


def test_a_helper_that_dies_is_left_to_its_sensor_and_hides_no_orphan(kernel: Kernel) -> None:
    root, helper = kernel.fork(ME), kernel.fork(ME)
    tree = Tree(root, helpers=frozenset({helper}))
    parent = kernel.fork(root)
    orphan = kernel.fork(parent)
    kernel.burn(orphan, 3.0)
    kernel.end(helper)
    kernel.end(parent)
    kernel.wait(root, parent)
    kernel.end(orphan)
    tree.collect(1.0)
    assert helper in kernel.tasks
    assert orphan not in kernel.tasks
    assert tree.orphans_s == 3.0


def test_beside_a_helper_orphans_are_still_known_for_sure(kernel: Kernel) -> None:
    """Unlike strangers, who may leave orphans of their own, helpers cost no coverage."""
    root, helper = kernel.fork(ME), kernel.fork(ME)
    tree = Tree(root, helpers=frozenset({helper}))
    parent = kernel.fork(root)
    orphan = kernel.fork(parent)
    kernel.burn(orphan, 2.0)
    kernel.end(parent)
    kernel.wait(root, parent)
    assert tree.pass_over(1.0) == 2.0
    assert tree.orphans() == [orphan]
    assert tree.has(orphan)
