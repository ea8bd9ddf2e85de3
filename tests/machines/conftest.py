"""The whole command on simulated machines: `measure(machine, "-F", "1", command=[...])` runs `emt run` there
in a process of its own and brings back the record, already checked against the schema."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.simulation import SimulatedMachine, Zone

SCHEMA = json.loads((resources.files("emt_cli.data") / "run-1.schema.json").read_text("utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
LIMIT_S = 120

SPIN = """
import os, sys, time
while time.process_time() < float(sys.argv[1]): pass
os.write(1, b"%.6f\\n" % time.process_time())
os._exit(0)  # what the interpreter's end costs would be missing from the number
"""
"""Uses so many CPU seconds, then tells how many it used: its own clock, which no other process shares."""

CLOCKED = """
import sys, time
began = time.monotonic()
while time.monotonic() < began + float(sys.argv[1]): time.sleep(0.01)
print(began, time.monotonic())
"""
"""Takes so many seconds and tells when, by the clock that emt measures with."""

FOREVER = "while True: pass"


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A finished `emt run`: its record, what the command wrote, and the monotonic times around it all."""

    record: dict[str, Any]
    folder: Path
    status: int
    output: str
    errors: str
    began_s: float
    ended_s: float

    @property
    def duration_s(self) -> float:
        return float(self.record["duration_s"])

    @property
    def energy(self) -> dict[str, Any]:
        return dict(self.record["energy"])

    @property
    def machine_j(self) -> float:
        return float(self.energy["machine_j"])

    @property
    def codes(self) -> list[str]:
        return [warning["code"] for warning in self.record["warnings"]]

    def channel(self, wanted: str) -> dict[str, Any]:
        """The joules of a channel."""
        return dict(next(row for row in self.energy["channels"] if row["id"] == wanted))

    def observed(self, wanted: str) -> dict[str, Any]:
        """What the channel's meter saw."""
        return dict(next(row for row in self.record["observed"] if row["channel"] == wanted))

    def gaps(self, wanted: str) -> list[dict[str, Any]]:
        return [gap for gap in self.record["gaps"] if gap["channel"] == wanted]

    def warning(self, code: str) -> dict[str, Any]:
        return dict(next(warning for warning in self.record["warnings"] if warning["code"] == code))


class Running:
    """An `emt run` that goes on; `finish` waits for it."""

    def __init__(self, arguments: Sequence[str], target: Path, environment: Mapping[str, str]) -> None:
        self._target = target
        self._store = Path(environment["EMT_STORE"])
        self.began_s = time.monotonic()
        self.process = subprocess.Popen(
            arguments,
            env=dict(environment),
            cwd=target.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self) -> Measured:
        """Raises AssertionError where there is no record, or one that does not fit the schema."""
        output, errors = self.process.communicate(timeout=LIMIT_S)
        ended_s = time.monotonic()
        assert self._target.exists(), f"no record; emt said: {errors}"
        record = json.loads(self._target.read_text())
        VALIDATOR.validate(record)
        assert record["state"] == "complete"
        assert "Traceback" not in errors
        return Measured(
            record=record,
            folder=self._store / record["id"],
            status=self.process.returncode,
            output=output,
            errors=errors,
            began_s=self.began_s,
            ended_s=ended_s,
        )


@pytest.fixture
def simulate(tmp_path: Path) -> Callable[..., SimulatedMachine]:
    """`simulate(Zone(...), stat=...)`: a machine in a folder of its own."""
    count = iter(range(100))

    def build(*zones: Zone, **options: Any) -> SimulatedMachine:
        folder = tmp_path / f"machine{next(count)}"
        folder.mkdir()
        return SimulatedMachine(folder, zones=zones, **options)

    return build


@pytest.fixture
def begin(environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """`begin(machine, "-F", "1", command=["sleep", "1"])`: starts `emt run` and does not wait for it."""
    count = iter(range(100))
    started: list[Running] = []

    def start(
        machine: SimulatedMachine,
        *options: str,
        command: Sequence[str],
        env: Mapping[str, str] | None = None,
        idle_w: Mapping[str, float] | None = None,
    ) -> Running:
        target = tmp_path / f"record{next(count)}.json"
        if idle_w is not None:
            _configure(Path(environment["HOME"]), idle_w)
        arguments = [sys.executable, "-m", "tests.simulated_emt", machine.root]
        arguments += ["run", "-q", "-o", str(target), *options, "--", *command]
        started.append(Running(arguments, target, {**environment, **(env or {})}))
        return started[-1]

    yield start
    for running in started:
        if running.process.poll() is None:
            running.process.kill()
            running.process.communicate()


@pytest.fixture
def measure(begin: Callable[..., Running]) -> Callable[..., Measured]:
    """`measure(machine, "-F", "1", command=["sleep", "1"])`: the finished run."""
    return lambda *arguments, **options: begin(*arguments, **options).finish()


def _configure(home: Path, idle_w: Mapping[str, float]) -> None:
    folder = home / ".config" / "emt"
    folder.mkdir(parents=True, exist_ok=True)
    table = ", ".join(f'"{channel}" = {watts}' for channel, watts in idle_w.items())
    (folder / "config.toml").write_text(f"[run]\nidle_w = {{ {table} }}\n")


def spinning(cpu_s: float, processes: int = 1) -> list[str]:
    """A command that uses so many CPU seconds in each of so many processes; each writes what it used."""
    if processes == 1:
        return [sys.executable, "-S", "-c", SPIN, str(cpu_s)]
    one = f'"{sys.executable}" -S -c "$0" {cpu_s}'
    return ["sh", "-c", " & ".join([one] * processes) + "; wait", SPIN]


def used_s(measured: Measured) -> float:
    """The CPU seconds that the processes of `spinning` told."""
    return sum(map(float, measured.output.split()))


@contextmanager
def neighbours(count: int) -> Iterator[list[int]]:
    """So many strangers that use all the CPU time they get; ended by their own PIDs."""
    spinners = [subprocess.Popen([sys.executable, "-S", "-c", FOREVER]) for _ in range(count)]
    try:
        yield [spinner.pid for spinner in spinners]
    finally:
        for spinner in spinners:
            spinner.kill()
            spinner.wait()


def tick_error(busy_s: float) -> float:
    """How far a share of CPU time may be off, relative: /proc/stat counts in 10 ms steps for each CPU. The
    simulated counters and emt both read it, each at two edges."""
    return 4 * 0.01 * (os.cpu_count() or 1) / busy_s
