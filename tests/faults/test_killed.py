"""emt killed at any moment, and told to stop: the command lives on, and what was measured can be read."""

from __future__ import annotations

import json
import os
import pathlib
import random
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest

from emt_cli.store import load
from tests.conftest import EMT

from .conftest import Done, assert_ten_watts

Emt = Callable[..., Done]

KILLS = 100
AT_ONCE = 8
STARTING_S, RUNNING_S = 0.5, 2.1
"""A third of the kills fall so long after emt's start, the others so long after the command's, which takes
less: a slow machine changes nothing about how many commands have started."""
FLUSHED_S = 1.0
"""The journal is written at least this often (DESIGN: 'readable up to a second before')."""
BEATS, BEAT_S = 18, 0.1

HEART = 'read up _ < /proc/uptime; echo "$up"'
BEATING = f"n=0; while [ $n -lt {BEATS} ]; do {HEART}; sleep {BEAT_S}; n=$((n + 1)); done; echo end"
"""Writes the time since boot ten times a second, and `end`; hundredths of a second, and no process for it."""


@dataclass(frozen=True, kw_only=True)
class Kill:
    """What came of one run whose emt was killed: what the command wrote, and when the kill fell."""

    store: pathlib.Path
    beats: tuple[float, ...]
    ended: bool
    killed_s: float
    """Since boot, as the beats."""
    status: int

    @property
    def late_s(self) -> float:
        """By how much this machine kept the command waiting until the kill. What it does to a process that
        only sleeps it does to emt's journal too, so it is no fault of emt's."""
        beats = [beat for beat in self.beats if beat < self.killed_s]
        beats += [self.killed_s] if len(beats) < BEATS else []
        return sum(max(0.0, after - before - BEAT_S) for before, after in pairwise(beats))


def since_boot_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def kill_at(
    moment_s: float, is_running: bool, environment: dict[str, str], store: pathlib.Path, cwd: pathlib.Path
) -> Kill:
    """Start a run, kill its emt `moment_s` later, or `is_running` after the command's first sign of life, and
    wait until everything that holds its output is gone."""
    command = [*EMT, "run", "-q", "--", "sh", "-c", BEATING]
    with subprocess.Popen(
        command, env={**environment, "EMT_STORE": str(store)}, cwd=cwd, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        first = process.stdout.readline() if is_running else ""
        try:
            process.wait(timeout=moment_s)
        except subprocess.TimeoutExpired:
            process.kill()
        killed_s = since_boot_s()
        said = (first + process.stdout.read()).split()
        process.wait(timeout=120)
    ended = said[-1:] == ["end"]
    beats = tuple(float(beat) for beat in said if beat != "end")
    return Kill(store=store, beats=beats, ended=ended, killed_s=killed_s, status=process.returncode)


@pytest.fixture(scope="module")
def kills(tmp_path_factory: pytest.TempPathFactory) -> list[Kill]:
    """A hundred runs, each killed at its own moment; the seed is fixed, the machine's timing is not."""
    place = tmp_path_factory.mktemp("killed")
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "LD_LIBRARY_PATH") if name in os.environ}
    environment = {**kept, "HOME": str(place), "PYTHONPATH": str(pathlib.Path(__file__).parents[2])}
    environment["TMPDIR"] = str(place)
    chance = random.Random(2026)
    moments = [(chance.uniform(0.0, STARTING_S), False) for _ in range(KILLS // 3)]
    moments += [(chance.uniform(0.0, RUNNING_S), True) for _ in range(KILLS - len(moments))]
    chance.shuffle(moments)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        runs = [
            pool.submit(kill_at, *moment, environment, place / f"store{number}", place)
            for number, moment in enumerate(moments)
        ]
    return [run.result() for run in runs]


def folders(kill: Kill) -> list[pathlib.Path]:
    return sorted(kill.store.iterdir()) if kill.store.exists() else []


def test_the_kills_fall_before_the_start_in_the_run_and_after_it(kills: Sequence[Kill]) -> None:
    assert len(kills) == KILLS
    assert sum(kill.status == -signal.SIGKILL for kill in kills) > KILLS // 2
    assert sum(bool(kill.beats) for kill in kills) > KILLS // 2


def test_the_command_lives_on_to_its_end_or_never_started(kills: Sequence[Kill]) -> None:
    for kill in kills:
        assert kill.ended is bool(kill.beats), kill
        assert len(kill.beats) in (0, BEATS), kill


def test_the_record_is_readable_up_to_a_second_before(kills: Sequence[Kill]) -> None:
    checked = 0
    for kill in kills:
        if not kill.beats or kill.beats[0] >= kill.killed_s:
            continue  # nothing had begun
        [folder] = folders(kill)
        [run] = load(str(folder))
        assert run.state == ("recovered" if kill.status else "complete") or run.exit.code == 0
        ran_s = min(kill.killed_s, kill.beats[-1]) - kill.beats[0]
        assert run.duration_s >= ran_s - FLUSHED_S - 0.1 - kill.late_s, kill
        assert run.duration_s <= kill.killed_s - kill.beats[0] + 1.0 + kill.late_s, kill
        checked += 1
    assert checked > KILLS // 2


def test_a_command_that_never_started_leaves_nothing_that_reads_as_more(kills: Sequence[Kill]) -> None:
    for kill in kills:
        if not kill.beats:
            for folder in folders(kill):
                if (folder / "run.json").exists():
                    [run] = load(str(folder))
                    assert run.state == "recovered" and run.exit.code is None


def test_every_one_is_reported_and_listed(kills: Sequence[Kill], emt: Emt, tmp_path: pathlib.Path) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    for number, kill in enumerate(kills):
        for folder in folders(kill):
            folder.rename(whole / f"{folder.name}-{number}")
    store = {"EMT_STORE": str(whole)}
    names = [path.name for path in whole.iterdir() if (path / "run.json").exists()]
    done = emt("report", *names, env=store)
    assert (done.returncode, done.stderr) == (0, "")
    for name in sorted(names)[::25]:
        done = emt("report", name, env=store)
        assert (done.returncode, done.stderr) == (0, "")
    done = emt("runs", "--format", "json", env=store)
    assert (done.returncode, done.stderr) == (0, "")
    listed = json.loads(done.stdout)
    assert {one["id"] for one in listed} == {path.name for path in whole.iterdir()}
    assert not [one for one in listed if one["state"] == "running"]
    assert emt("runs", "prune", "--keep", "0", env=store).returncode == 0


# --- told to stop -----------------------------------------------------------------------------------

PATIENT = "trap 'echo told; exit 3' TERM; sleep 0.5; echo ready; while :; do sleep 0.05; done"


@pytest.mark.usefixtures("ten_watts")
@pytest.mark.parametrize("whom", ["emt alone", "the whole group"])
def test_a_batch_system_that_ends_the_job_gets_a_complete_record(
    environment: dict[str, str], the_record: Callable[[], dict[str, Any]], tmp_path: pathlib.Path, whom: str
) -> None:
    """SIGTERM to the first process of the step, or (as scancel does) to all of them at once: that one cannot
    be told from two signals, and may arrive twice."""
    command = [*EMT, "run", "-q", "--", "sh", "-c", PATIENT]
    with subprocess.Popen(
        command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        if whom == "emt alone":
            process.send_signal(signal.SIGTERM)
        else:
            os.killpg(process.pid, signal.SIGTERM)
        said = process.stdout.read()
        status = process.wait(timeout=60)
    assert status == 3
    assert said == "told\n" or (whom == "the whole group" and said == "told\ntold\n")
    record = the_record()
    assert (record["state"], record["exit"]) == ("complete", {"code": 3, "signal": None})
    assert_ten_watts(record)
