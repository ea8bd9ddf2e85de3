"""The books of a tree whose root is this process: it has lived before, and nothing comes to it by itself."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emt_cli.measure import own_tree
from emt_cli.measure.own_tree import OwnTree
from tests.tree.kernel import ME as INIT
from tests.tree.kernel import Kernel, installed
from tests.tree.test_books import World


@contextmanager
def within(kernel: Kernel, me: int) -> Iterator[None]:
    """This process is `me`, a child of somebody who is not ours."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "getpid", lambda: me)
        patch.setattr(own_tree, "reaped_s", lambda: kernel.tasks[me].reaped_s)
        yield


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    with installed() as kernel, within(kernel, kernel.fork(INIT)):
        yield kernel


def test_what_was_used_before_the_beginning_is_left_out(kernel: Kernel) -> None:
    me = os.getpid()
    child, gone = kernel.fork(me), kernel.fork(me)
    for pid, seconds in ((me, 5.0), (child, 3.0), (gone, 2.0)):
        kernel.burn(pid, seconds)
    kernel.end(gone)
    kernel.wait(me, gone)
    tree = OwnTree()
    tree.begin()
    assert tree.pass_over(1.0) == 0.0
    kernel.burn(child, 1.0)
    kernel.end(child)
    kernel.wait(me, child)
    assert tree.pass_over(2.0) == pytest.approx(1.0)
    assert tree.blind_spot == ""


def test_waited_for_children_are_known_to_more_than_clock_ticks(kernel: Kernel) -> None:
    me = os.getpid()
    tree = OwnTree()
    tree.begin()
    for _ in range(10):
        child = kernel.fork(me)
        kernel.burn(child, 0.0039)
        kernel.end(child)
        kernel.wait(me, child)
    assert tree.pass_over(1.0) == pytest.approx(0.039)


def test_a_daemon_that_was_met_counts_to_its_end_and_after(kernel: Kernel) -> None:
    me = os.getpid()
    tree = OwnTree()
    tree.begin()
    parent = kernel.fork(me)
    daemon = kernel.fork(parent)
    kernel.burn(daemon, 1.0)
    tree.pass_over(1.0)
    kernel.end(parent)
    kernel.wait(me, parent)
    kernel.burn(daemon, 2.0)
    assert tree.pass_over(2.0) == pytest.approx(3.0)
    kernel.end(daemon)
    kernel.wait(INIT, daemon)
    kernel.burn(me, 0.5)
    assert tree.pass_over(3.0) == pytest.approx(3.5)


def test_a_sensors_own_program_counts_for_nothing(kernel: Kernel) -> None:
    me = os.getpid()
    helper = kernel.fork(me)
    tree = OwnTree(frozenset({helper}))
    tree.begin()
    kernel.burn(helper, 4.0)
    kernel.burn(me, 1.0)
    assert tree.pass_over(1.0) == pytest.approx(1.0)
    assert tree.has(me)
    assert not tree.has(helper)


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32), may_ignore=st.booleans())
def test_no_order_of_events_makes_anything_count_twice(seed: int, may_ignore: bool) -> None:
    """Where the program has subreapers of its own (not `may_ignore`) no pass is interrupted: who moves to
    one and dies there between two looks of the same pass can still count twice, once in thousands."""
    with installed() as kernel:
        deck = random.Random(seed)
        world = World(kernel, deck, may_ignore=may_ignore)
        with within(kernel, world.root):
            for _ in range(deck.randrange(20)):
                world.step()
            base_s, before_s = kernel.spent_s, 0.0
            tree = OwnTree()
            tree.begin()
            # What was lost or out of sight at the beginning was never in the base.
            unseen_s = base_s - tree.base_s
            for now in range(60):
                for _ in range(deck.randrange(6)):
                    world.step()
                for orphan in kernel.children(INIT):
                    if kernel.tasks[orphan].is_dead:
                        kernel.wait(INIT, orphan)
                if may_ignore:
                    kernel.between = partial(passing, world)
                seen_s = tree.pass_over(float(now))
                kernel.between = lambda _: None
                assert before_s <= seen_s <= kernel.spent_s - base_s + unseen_s + 1e-9
                before_s = seen_s


def passing(world: World, _pid: int) -> None:
    """What may happen between two looks of a pass."""
    if world.deck.random() < 0.3:
        world.step()
