"""Trees of real processes that report their own clocks, under emt: what was used, and what emt says of it.

The shapes are scripts for `shape.c`, which is compiled here. Truth is the sum of the processes' own CPU
clocks, so it does not depend on how fast or how loaded the machine is.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from emt_cli.measure.linux import TaskClock
from tests.conftest import EMT

SOURCES = Path(__file__).parent
TICK_S = 0.01
NOBODY = 65534


def _perf_is_refused() -> bool:
    try:
        TaskClock(os.getpid()).close()
    except OSError:
        return True
    return False


NEEDS_PERF = pytest.mark.skipif(_perf_is_refused(), reason="perf is refused here")
ALL_WITNESSES = pytest.mark.parametrize(
    "options", [pytest.param((), id="perf", marks=NEEDS_PERF), pytest.param(("--no-perf",), id="no perf")]
)


def compile_c(name: str, folder: Path) -> Path:
    """`NAME.c` of this folder, built as `folder/NAME`."""
    program = folder / name
    words = ["cc", "-O1", "-Wall", "-Werror", "-pthread", "-o", str(program), str(SOURCES / f"{name}.c")]
    subprocess.run(words, check=True, timeout=60)
    return program


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What the processes told: the sum of their own CPU seconds, and how many they were."""

    total_s: float
    count: int


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One run of emt on a shape."""

    record: dict[str, Any]
    truth: Truth
    done: subprocess.CompletedProcess[str]
    folder: Path

    @property
    def cpu(self) -> dict[str, Any]:
        return dict(self.record["cpu_time"])

    @property
    def coverage(self) -> float:
        """What emt says over what was used."""
        return float(self.cpu["tree_s"]) / self.truth.total_s

    @property
    def most_s(self) -> float:
        """What the tree can have used at most: the end of a process, after it has told its clock, and the
        clock ticks in which the kernel counts, are 10 ms for each."""
        return self.truth.total_s * 1.005 + TICK_S * (self.truth.count + 2)

    @property
    def warnings(self) -> set[str]:
        return {warning["code"] for warning in self.record["warnings"]}

    def assert_within(self, low: float) -> None:
        """At least the share `low` of what was used, and nothing that is not the tree's."""
        facts = f"{self.cpu['tree_s']} of {self.truth}: {self.cpu}"
        assert self.coverage >= low, facts
        assert self.cpu["tree_s"] <= self.most_s, facts


class Stage:
    """Where shapes are run: a folder that every user may write to, with the programs in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shape = compile_c("shape", folder)

    @contextmanager
    def playing(self, script: str, clocks: int) -> Iterator[int]:
        """The PID of a shape without emt, once so many clocks have been told; `h` ends with the context."""
        truth = os.open(self.folder / "truth", os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o666)
        hold, release = os.pipe()
        words = [str(self.shape), str(truth), str(hold), script]
        with subprocess.Popen(words, pass_fds=(truth, hold)) as shape:
            try:
                while read_truth(truth).count < clocks and shape.poll() is None:
                    time.sleep(0.01)
                yield shape.pid
            finally:
                for fd in (release, hold, truth):
                    os.close(fd)

    def measure(
        self,
        script: str,
        *options: str,
        environment: Mapping[str, str],
        settings: Mapping[str, str] | None = None,
        before: Sequence[str] = (),
        emt: Sequence[str] = EMT,
        during: Callable[[subprocess.Popen[str]], None] | None = None,
        limits: Callable[[], None] | None = None,
    ) -> Measured:
        """Run emt on a shape, under the command line `before`; `h` in the script ends when emt has ended.

        `during` is called with the running emt. No control group is used but where `settings` say so. Raises
        AssertionError where there is no record.
        """
        output = self.folder / "run"
        shutil.rmtree(output, ignore_errors=True)
        truth = os.open(self.folder / "truth", os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o666)
        hold, release = os.pipe()
        command = [str(self.shape), str(truth), str(hold), script]
        words = [*before, *emt, "run", "-q", "--no-store", "-o", str(output), *options, "--", *command]
        try:
            with subprocess.Popen(
                words,
                env={**environment, "HOME": str(self.folder), "EMT_CGROUP": "off", **(settings or {})},
                cwd=self.folder,
                pass_fds=(truth, hold),
                preexec_fn=limits,  # noqa: PLW1509 - no threads here
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            ) as running:
                try:
                    if during is not None:
                        during(running)
                    # Who is left running may hold stdout and stderr open: emt's own end is what counts.
                    running.wait(timeout=100)
                except BaseException:
                    running.terminate()
                    raise
                told = read_truth(truth)
                os.close(release)
                out, err = running.communicate(timeout=20)
            done = subprocess.CompletedProcess(words, running.returncode, out, err)
            assert (output / "run.json").exists(), done
            record = json.loads((output / "run.json").read_text())
            return Measured(record=record, truth=told, done=done, folder=output)
        finally:
            os.close(truth)
            os.close(hold)


def read_truth(fd: int) -> Truth:
    """The last that each process told."""
    clocks: dict[str, int] = {}
    size = os.fstat(fd).st_size
    for line in os.pread(fd, size, 0).decode().splitlines():
        name, nanoseconds = line.split()
        clocks[name] = int(nanoseconds)
    return Truth(total_s=sum(clocks.values()) * 1e-9, count=len(clocks))
