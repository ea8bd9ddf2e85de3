"""Records for the commands that decide by them: written as files, and measured on simulated machines."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from emt_cli.model import Run
from emt_cli.store.record import dump, encode
from emt_cli.store.summary import header, row
from tests.simulation import SimulatedMachine

Emt = Callable[..., subprocess.CompletedProcess[str]]


def write(path: Path, run: Run) -> str:
    """The run as a single JSON file; its path as one types it."""
    path.write_bytes(dump(encode(run)))
    return str(path)


def write_csv(path: Path, *runs: Run) -> str:
    path.write_bytes(header() + b"".join(map(row, runs)))
    return str(path)


def keep(store: Path, number: int, run: Run) -> str:
    """The run in the store, the later the larger its number; its id."""
    id = f"20260101-0000{number:02d}-work-{number:04x}"
    (store / id).mkdir(parents=True)
    started = f"2026-01-01T00:00:{number:02d}Z"
    (store / id / "run.json").write_bytes(dump(encode(replace(run, id=id, started_at=started))))
    return id


def emt_on(machine: SimulatedMachine, environment: Mapping[str, str]) -> Emt:
    """The whole command on a simulated machine."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tests.simulated_emt", machine.root, *arguments],
            env=dict(environment),
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    return run
