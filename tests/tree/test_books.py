"""The books of the tree against a kernel that keeps its own: nothing counts twice, whatever happens when."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emt_cli.measure import linux
from emt_cli.measure.cputime import CpuMeter
from emt_cli.measure.tree import Tree, strangers
from emt_cli.sensors.base import Machine
from tests.tree.kernel import ME, Kernel, installed
from tests.tree.shapes import Stage


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    with installed() as kernel:
        yield kernel


def _rusage(kernel: Kernel, tree: Tree) -> float:
    """What the rusage witness says at the end, when the root has been reaped."""
    return kernel.tasks[tree.root].total_s + tree.orphans_s + tree.live_s()


# --- anything at any time -----------------------------------------------------------------------------


class World:
    """Lives at random, one event at a time; `deck` decides."""

    def __init__(self, kernel: Kernel, deck: random.Random, *, may_ignore: bool) -> None:
        self.kernel = kernel
        self.deck = deck
        self.root = kernel.fork(ME)
        self.may_ignore = may_ignore

    def step(self) -> None:
        kernel, deck = self.kernel, self.deck
        alive = [task.pid for task in kernel.tasks.values() if not task.is_dead]
        if not alive:
            return
        pid = deck.choice(alive)
        event = deck.random()
        if event < 0.35 and len(kernel.tasks) < 12:
            kernel.fork(pid)
        elif event < 0.65:
            kernel.burn(pid, deck.choice([0.003, 0.05, 0.407, 3.0]))
        elif event < 0.85:
            self._wait(pid)
        elif event < 0.88 and self.may_ignore:
            kernel.tasks[pid].ignores_children = True
        elif event < 0.9 and not self.may_ignore:
            kernel.tasks[pid].is_subreaper = True
        elif pid != self.root:
            kernel.end(pid)

    def anything(self, _pid: int) -> None:
        self.step()

    def some(self, tree: Tree, _pid: int) -> None:
        """What may happen between two looks of a pass; the main thread reaps meanwhile."""
        event = self.deck.random()
        if event < 0.3:
            self.step()
        elif event < 0.4:
            between, self.kernel.between = self.kernel.between, self.anything
            tree.collect(self.kernel.now_s)
            self.kernel.between = between

    def _wait(self, parent: int) -> None:
        dead = [pid for pid in self.kernel.children(parent) if self.kernel.tasks[pid].is_dead]
        if dead:
            self.kernel.wait(parent, self.deck.choice(dead))


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32), may_ignore=st.booleans())
def test_no_order_of_events_makes_anything_count_twice(seed: int, may_ignore: bool) -> None:
    with installed() as kernel:
        deck = random.Random(seed)
        world = World(kernel, deck, may_ignore=may_ignore)
        tree = Tree(world.root)
        before_s = 0.0
        for now in range(60):
            for _ in range(deck.randrange(6)):
                world.step()
            kernel.between = partial(world.some, tree)
            if deck.random() < 0.5:
                seen_s = tree.pass_over(float(now))
                assert before_s <= seen_s <= kernel.spent_s + 1e-9
                before_s = seen_s
            kernel.between = world.anything
            if deck.random() < 0.5:
                tree.collect(float(now))
            kernel.between = lambda _: None
        kernel.end(world.root)
        tree.pass_over(100.0)
        tree.collect(101.0)
        rusage_s = _rusage(kernel, tree)
        assert rusage_s <= kernel.spent_s + 1e-9
        if kernel.lost_s == 0:
            # Waited-for children of the living are known in ticks of user and of system time alone.
            assert rusage_s >= kernel.spent_s - 2 * linux.CLOCK_TICK_S * len(kernel.tasks)
            assert not tree.late or max(late.cpu_s for late in tree.late) <= kernel.spent_s


# --- orders of events that went wrong, or nearly ------------------------------------------------------


def test_an_orphan_that_is_reaped_after_the_last_pass_counts_once(kernel: Kernel) -> None:
    tree = Tree(kernel.fork(ME))
    orphan = kernel.fork(ME)
    kernel.burn(orphan, 2.0)
    tree.pass_over(1.0)
    kernel.end(orphan)
    tree.collect(2.0)
    assert _rusage(kernel, tree) == 2.0
    assert [row.is_left_running for row in tree.processes(0.0, "") if row.pid == orphan] == [False]


def test_zombies_behind_the_dead_root_are_reaped_too(kernel: Kernel) -> None:
    tree = Tree(kernel.fork(ME))
    orphans = [kernel.fork(ME) for _ in range(3)]
    kernel.end(tree.root)
    for orphan in orphans:
        kernel.burn(orphan, 1.0)
        kernel.end(orphan)
    tree.collect(1.0)
    assert tree.orphans_s == 3.0
    assert list(kernel.tasks) == [tree.root]


def test_who_is_out_of_sight_for_a_moment_is_still_alive(kernel: Kernel) -> None:
    """An inner subreaper, whose children were read before it was given another one."""
    tree = Tree(kernel.fork(ME))
    child = kernel.fork(tree.root)
    kernel.burn(child, 1.0)
    tree.pass_over(1.0)
    kernel.tasks[child].parent = 9_999
    assert tree.pass_over(2.0) == 1.0
    assert [row.ended_s for row in tree.processes(0.0, "") if row.pid == child] == [None]


def test_who_moves_behind_a_later_parent_counts_once(kernel: Kernel) -> None:
    tree = Tree(kernel.fork(ME))
    reaper, parent = kernel.fork(tree.root), kernel.fork(tree.root)
    child = kernel.fork(parent)
    kernel.burn(child, 2.0)

    def move(pid: int) -> None:
        if child not in kernel.tasks:
            return
        if pid == child:
            kernel.tasks[child].parent = reaper
        elif pid == reaper:
            kernel.end(child)
            kernel.wait(reaper, child)

    kernel.between = move
    assert tree.pass_over(1.0) <= 2.0
    assert child not in kernel.tasks
    assert tree.pass_over(2.0) == 2.0


def test_an_orphan_that_is_reaped_during_a_pass_counts_once(kernel: Kernel) -> None:
    tree = Tree(kernel.fork(ME))
    last, orphan = kernel.fork(ME), kernel.fork(ME)
    child = kernel.fork(orphan)
    kernel.burn(child, 2.0)
    tree.pass_over(0.0)

    def reap(pid: int) -> None:
        if pid == last and child in kernel.tasks:
            kernel.end(child)
            kernel.wait(orphan, child)
            kernel.end(orphan)
            tree.collect(1.0)

    kernel.between = reap
    assert tree.pass_over(1.0) == 2.0
    assert orphan not in kernel.tasks


def test_a_reused_pid_is_another_process(kernel: Kernel) -> None:
    tree = Tree(kernel.fork(ME))
    first = kernel.fork(tree.root)
    kernel.burn(first, 2.0)
    tree.pass_over(1.0)
    kernel.end(first)
    kernel.wait(tree.root, first)
    second = kernel.fork(tree.root)
    assert second == first
    kernel.burn(second, 1.0)
    assert tree.pass_over(2.0) == 3.0
    rows = sorted((row.cpu_s, row.ended_s is None) for row in tree.processes(0.0, "") if row.pid == first)
    assert rows == [(1.0, True), (2.0, False)]


def test_an_orphan_with_a_known_strangers_pid_is_not_taken_for_it(kernel: Kernel) -> None:
    """With strangers only who was seen in the tree counts; a reused PID was not."""
    stranger = kernel.fork(ME)
    tree = Tree(kernel.fork(ME), frozenset({stranger}))
    kernel.strangers = {stranger}
    member = kernel.fork(tree.root)
    tree.pass_over(1.0)
    kernel.end(member)
    kernel.wait(tree.root, member)
    strange_orphan = kernel.fork(ME)
    assert strange_orphan == member
    kernel.burn(strange_orphan, 5.0)
    kernel.end(strange_orphan)
    tree.collect(2.0)
    assert tree.orphans_s == 0.0


def test_the_tree_of_a_stranger_is_not_ours(kernel: Kernel) -> None:
    stranger = kernel.fork(ME)
    tree = Tree(kernel.fork(ME), frozenset({stranger}))
    its_child = kernel.fork(stranger)
    kernel.burn(its_child, 5.0)
    assert not tree.has(its_child)
    kernel.end(stranger)
    assert tree.pass_over(1.0) == 0.0
    assert "orphans" in tree.blind_spot
    kernel.end(its_child)
    tree.collect(2.0)
    assert tree.pass_over(3.0) == 0.0


# --- children that vanish -----------------------------------------------------------------------------


def test_what_was_seen_of_children_that_vanish_is_kept_once(kernel: Kernel) -> None:
    tree = Tree(kernel.fork(ME))
    kernel.tasks[tree.root].ignores_children = True
    child = kernel.fork(tree.root)
    kernel.burn(child, 1.0)
    tree.pass_over(0.0)
    tree.pass_over(1.0)
    kernel.burn(child, 4.0)  # never seen
    kernel.end(child)
    for now in (2.0, 3.0):
        assert tree.pass_over(now) == pytest.approx(1.0, abs=0.03)
    assert "ignores SIGCHLD" in tree.blind_spot


def test_children_that_vanish_without_a_word_are_missed_at_the_next_look(kernel: Kernel) -> None:
    tree = Tree(kernel.fork(ME))
    kernel.tasks[tree.root].drops_children = True
    child = kernel.fork(tree.root)
    kernel.burn(child, 1.0)
    tree.pass_over(1.0)
    kernel.end(child)
    tree.pass_over(2.0)
    assert tree.pass_over(3.0) == pytest.approx(1.0, abs=0.03)
    assert "vanished" in tree.blind_spot


def test_children_that_are_waited_for_are_not_missed(kernel: Kernel) -> None:
    tree = Tree(kernel.fork(ME))
    for now in range(20):
        child = kernel.fork(tree.root)
        kernel.burn(child, 0.5)
        tree.pass_over(now + 0.2)
        kernel.end(child)
        kernel.wait(tree.root, child)
        assert tree.pass_over(now + 0.6) == pytest.approx(0.5 * (now + 1))
    assert not tree.blind_spot


# --- what is learnt late ------------------------------------------------------------------------------


def test_an_orphan_that_was_never_seen_alive_is_spread_over_its_life(kernel: Kernel) -> None:
    tree = Tree(kernel.fork(ME))
    tree.pass_over(1.0)
    orphan = kernel.fork(ME)
    kernel.burn(orphan, 1.0)
    kernel.end(orphan)
    tree.collect(2.0)
    assert not tree.late, "the running series does not know yet"
    assert tree.pass_over(3.0) == 1.0
    (late,) = tree.late
    assert (late.end_s, late.cpu_s) == (3.0, 1.0)
    assert late.start_s == pytest.approx(kernel.now_s - linux.suspended_s(), abs=0.01)
    assert [row.name for row in tree.processes(0.0, "") if row.pid == orphan] == [f"p{orphan}"]


def test_what_an_orphan_used_after_it_was_seen_is_spread_from_then_on(kernel: Kernel) -> None:
    tree = Tree(kernel.fork(ME))
    orphan = kernel.fork(ME)
    kernel.burn(orphan, 1.0)
    tree.pass_over(10_000_000.0)
    kernel.burn(orphan, 0.5)
    kernel.end(orphan)
    tree.collect(10_000_001.0)
    assert tree.pass_over(10_000_002.0) == 1.5
    (late,) = tree.late
    assert (late.start_s, late.end_s, late.cpu_s) == (10_000_000.0, 10_000_002.0, 0.5)


# --- the real kernel ----------------------------------------------------------------------------------


def test_a_long_list_of_children_is_read_to_its_end(stage: Stage) -> None:
    """The kernel gives a page at a time, some six hundred children."""
    with stage.playing("1000(h)u1000 h", clocks=1001) as pid:
        assert len(set(linux.children(pid))) == 1000


def test_who_was_here_before_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    with _forked() as pid:
        assert pid in strangers()
        monkeypatch.setattr(linux, "processes_are_visible", lambda: False)
        assert strangers(), "somebody, even where nobody can be named"


def test_a_thread_that_ends_meanwhile_hides_no_children(monkeypatch: pytest.MonkeyPatch) -> None:
    me = str(os.getpid())
    with _forked() as pid:
        monkeypatch.setattr(os, "listdir", lambda _: [str(2**22 + 1), me])
        assert pid in linux.children(os.getpid(), threads=2)


def test_a_process_clock_can_be_read_from_outside() -> None:
    before_s = time.process_time()
    assert before_s <= linux.cpu_clock_s(os.getpid()) <= time.process_time()
    with pytest.raises(OSError):
        linux.cpu_clock_s(2**22 + 1)


@contextmanager
def _forked(burnt_s: float = 0.0) -> Iterator[int]:
    """A child of this process that has used so much CPU time and then only waits."""
    hold, release = os.pipe()
    ready, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(release)
        while time.process_time() < burnt_s:
            pass
        os.write(tell, b"1")
        os.read(hold, 1)
        os._exit(0)
    try:
        os.read(ready, 1)
        yield pid
    finally:
        for fd in (release, hold, ready, tell):
            os.close(fd)
        os.waitpid(pid, 0)


# --- before the command -----------------------------------------------------------------------------------


def test_an_exec_belongs_to_emt_until_it_has_happened() -> None:
    with _forked(burnt_s=0.05) as pid:
        meter = CpuMeter(Machine(), Tree(pid), use_perf=False)
        clock_s = linux.cpu_clock_s(pid)
        meter.note_exec(clock_s - 0.003)
        assert meter.preexec_s == pytest.approx(clock_s)
        meter.note_exec(0.0)
        assert 0 < meter.preexec_s < 0.01, "a reading that comes late takes nothing from the command"


def test_no_witness_counts_what_was_before_the_command() -> None:
    with _forked(burnt_s=0.1) as pid:
        meter = CpuMeter(Machine(), Tree(pid), use_perf=True, use_cgroup="on")
        meter.begin()
        meter.note_exec(linux.cpu_clock_s(pid))
        meter.read(is_last=True)
        cpu = meter.finish(linux.cpu_clock_s(pid))
        meter.close()
        assert {"rusage", "proc"} <= set(cpu.witnesses)
        assert all(seconds < 0.01 for seconds in cpu.witnesses.values()), cpu


# --- the machine ----------------------------------------------------------------------------------------


class Stolen:
    """/proc/stat of a machine with one CPU that is always busy, and has a fifth of it stolen."""

    def __init__(self, path: str) -> None:
        self.reads = -1

    def read(self) -> bytes:
        self.reads += 1
        now = int(time.monotonic() / linux.CLOCK_TICK_S)
        return f"cpu  {now - self.reads * 100} 0 0 0 0 0 0 {self.reads * 100}\ncpu0\n".encode()

    def close(self) -> None:
        pass


def test_stolen_time_is_taken_out_of_what_perf_says(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock:
        def __init__(self, pid: int) -> None: ...

        def seconds(self) -> float:
            return 5.0

    now_s = 1.0  # at 0 the file would count nothing
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    monkeypatch.setattr(linux, "TaskClock", Clock)
    meter = CpuMeter(Machine("/simulated", open_file=Stolen), Tree(kernel.fork(ME)), use_perf=True)
    meter.begin()
    now_s = 6.0
    assert meter.read().machine_s == pytest.approx(4.0)
    assert meter.finish(0.0).witnesses["perf"] == pytest.approx(4.0)


class BusyOnlyWithUs:
    """/proc/stat of a machine with four CPUs on which nothing runs but this process."""

    def __init__(self, path: str) -> None:
        assert path.endswith("/proc/stat")

    def read(self) -> bytes:
        own = int(time.process_time() / linux.CLOCK_TICK_S)
        idle = int(4 * time.monotonic() / linux.CLOCK_TICK_S) - own
        cpus = "".join(f"cpu{number} 0 0 0 0 0 0 0 0\n" for number in range(4))
        return f"cpu  {own} 0 0 {idle} 0 0 0 0\n{cpus}".encode()

    def close(self) -> None:
        pass


def test_emts_own_cpu_time_is_the_machines_and_not_the_trees(kernel: Kernel) -> None:
    meter = CpuMeter(Machine("/simulated", open_file=BusyOnlyWithUs), Tree(kernel.fork(ME)), use_perf=False)
    meter.begin()
    until_s = time.process_time() + 0.3
    while time.process_time() < until_s:
        pass
    reading = meter.read()
    assert reading.machine_s == pytest.approx(0.3, abs=0.05)
    assert reading.tree_s == 0.0
