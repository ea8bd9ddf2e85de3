"""The watch: it looks when it should, ends once, is patient, and whatever befalls it reaches nobody else."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from math import inf

import pytest

from emt_cli.measure.watch import Devices, Look, Watch
from emt_cli.measure.writer import Writer
from emt_cli.model import Host, Process, Run, Sample, Sampling

LIMIT_S = 30.0
RUN = Run(
    id="x", command=("x",), started_at="2026-01-01T00:00:00Z", host=Host(), sampling=Sampling(frequency_hz=1)
)
SAMPLE = Sample(1.0, (5.0,), (None,), 1.0, 1.0)


class FakeJudge:
    """Hands out the looks that it was given, then nothing new; notes what it was shown."""

    def __init__(self, *looks: Look | Exception, due_s: float = inf, grace_s: float = 60.0) -> None:
        self.due_s, self.grace_s = due_s, grace_s
        self.seen: queue.Queue[tuple[list[Sample], float]] = queue.Queue()
        self._looks = list(looks)

    def begin(self, run: Run) -> None:
        assert run is RUN

    def look(self, samples: Sequence[Sample], elapsed_s: float, devices: Devices) -> Look:
        self.due_s = inf
        self.seen.put((list(samples), elapsed_s))
        found = self._looks.pop(0) if self._looks else Look()
        if isinstance(found, Exception):
            raise found
        return found


class Command:
    """What the watch can end; `is_over` when there is nothing left to end."""

    def __init__(self, *, is_over: bool = False) -> None:
        self.ends: queue.Queue[bool] = queue.Queue()
        self.is_over = is_over

    def end(self, at_once: bool) -> bool:
        self.ends.put(at_once)
        return not self.is_over


@pytest.fixture
def said() -> queue.Queue[str]:
    return queue.Queue()


def started(judge: FakeJudge, command: Command, say: Callable[[str], None]) -> Watch:
    watch = Watch(judge, say)
    watch.prepare()
    watch.start(RUN, time.monotonic(), command.end, lambda: ())
    return watch


def test_samples_reach_the_judge(said: queue.Queue[str]) -> None:
    judge = FakeJudge()
    watch = started(judge, Command(), said.put)
    watch.see([SAMPLE])
    assert judge.seen.get(timeout=LIMIT_S)[0] == [SAMPLE]
    watch.stop()


def test_it_looks_when_it_is_due_without_any_sample(said: queue.Queue[str]) -> None:
    judge = FakeJudge(due_s=0.2)
    watch = started(judge, Command(), said.put)
    samples, elapsed_s = judge.seen.get(timeout=LIMIT_S)
    assert samples == [] and elapsed_s >= 0.2
    watch.stop()


def test_it_tells_what_is_new_and_ends_nothing_unless_asked(said: queue.Queue[str]) -> None:
    command = Command()
    watch = started(FakeJudge(Look(["over"])), command, said.put)
    watch.see([SAMPLE])
    assert said.get(timeout=LIMIT_S) == "over"
    assert command.ends.empty() and watch.ended_s is None
    watch.stop()


def test_it_ends_politely_and_when_patience_is_over_at_once(said: queue.Queue[str]) -> None:
    command = Command()
    watch = started(FakeJudge(Look(["over"], ends=True), grace_s=0.1), command, said.put)
    watch.see([SAMPLE])
    assert command.ends.get(timeout=LIMIT_S) is False
    assert command.ends.get(timeout=LIMIT_S) is True
    assert watch.ended_s is not None
    watch.stop()


def test_it_ends_once_however_many_limits_are_exceeded(said: queue.Queue[str]) -> None:
    command = Command()
    judge = FakeJudge(Look(["one"], ends=True), Look(["two"], ends=True))
    watch = started(judge, command, said.put)
    for text in ("one", "two"):
        watch.see([SAMPLE])
        assert said.get(timeout=LIMIT_S) == text
    assert command.ends.qsize() == 1
    watch.stop()


def test_a_command_that_is_over_was_not_stopped(said: queue.Queue[str]) -> None:
    command = Command(is_over=True)
    watch = started(FakeJudge(Look(["over"], ends=True)), command, said.put)
    watch.see([SAMPLE])
    assert said.get(timeout=LIMIT_S) == "over"
    assert watch.ended_s is None and watch.notices() == []
    watch.stop()


def test_after_stop_nothing_is_ended(said: queue.Queue[str]) -> None:
    command = Command()
    judge = FakeJudge(Look(ends=True), due_s=0.3)
    watch = started(judge, command, said.put)
    watch.stop()
    with pytest.raises(queue.Empty):
        command.ends.get(timeout=0.5)


def test_nobody_who_reads_what_is_said_does_not_hold_up_the_end() -> None:
    command, forever = Command(), threading.Event()

    def blocked(_: str) -> None:
        forever.wait(LIMIT_S)

    watch = started(FakeJudge(Look(["over"], ends=True), grace_s=0.05), command, blocked)
    watch.see([SAMPLE])
    assert command.ends.get(timeout=LIMIT_S) is False
    assert command.ends.get(timeout=LIMIT_S) is True
    watch.stop()
    forever.set()


def test_a_command_that_never_starts_is_not_watched(said: queue.Queue[str]) -> None:
    before = threading.active_count()
    watch = Watch(FakeJudge(due_s=0.0), said.put)
    watch.prepare()
    watch.stop()
    deadline_s = time.monotonic() + LIMIT_S
    while threading.active_count() > before and time.monotonic() < deadline_s:
        time.sleep(0.005)
    assert threading.active_count() == before and watch.notices() == []


@pytest.mark.parametrize("fault", [ValueError("broken"), RuntimeError("broken")])
def test_a_judge_that_falls_over_is_a_warning(fault: Exception, said: queue.Queue[str]) -> None:
    judge = FakeJudge(fault)
    watch = started(judge, Command(), said.put)
    watch.see([SAMPLE])
    judge.seen.get(timeout=LIMIT_S)
    deadline_s = time.monotonic() + LIMIT_S
    while not watch.notices() and time.monotonic() < deadline_s:
        time.sleep(0.005)
    (told,) = watch.notices()
    assert told.code == "watch_failed" and "broken" in told.text
    watch.see([SAMPLE])  # for nobody, and harmless


def test_a_command_of_another_user_is_told_of(said: queue.Queue[str]) -> None:
    class Foreign(Command):
        def end(self, at_once: bool) -> bool:
            super().end(at_once)
            raise PermissionError

    command = Foreign()
    watch = started(FakeJudge(Look(ends=True)), command, said.put)
    watch.see([SAMPLE])
    command.ends.get(timeout=LIMIT_S)
    deadline_s = time.monotonic() + LIMIT_S
    while not watch.notices() and time.monotonic() < deadline_s:
        time.sleep(0.005)
    assert "another user" in watch.notices()[0].text and watch.ended_s is None


class FullDisk:
    """An observer that takes no sample."""

    def begin(self, run: Run) -> None:
        """Nothing to begin."""

    def append(self, samples: Sequence[Sample]) -> None:
        raise OSError("no space left")

    def write_processes(self, processes: Sequence[Process]) -> None:
        raise OSError("no space left")


class FakeCollector:
    first = last = SAMPLE

    def take(self, up_to_tick: int, origin_s: float) -> list[Sample]:
        return [SAMPLE]


def test_a_journal_that_has_failed_leaves_the_listener_its_samples() -> None:
    heard: queue.Queue[Sequence[Sample]] = queue.Queue()
    writer = Writer(FullDisk(), FakeCollector(), 1.0, heard.put)  # type: ignore[arg-type]
    writer.start(time.monotonic(), tuple)
    assert heard.get(timeout=LIMIT_S) == [SAMPLE]
    assert heard.get(timeout=LIMIT_S) == [SAMPLE], "after the first one the journal had failed"
    writer.stop()
    assert writer.is_done.wait(LIMIT_S)
    assert [each.code for each in writer.notices] == ["journal_failed"]
