"""What the fault tests share: a sensor of exactly 10 W, a disk that is soon full, what a message must be."""

from __future__ import annotations

import errno
import json
import os
import pathlib
import shutil
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.conftest import EMT, REPOSITORY

WATTS = 10.0

Done = subprocess.CompletedProcess[str]


@pytest.fixture
def ten_watts(environment: dict[str, str], tmp_path: pathlib.Path) -> None:
    """Every `emt run` of this test has one counter, which counts 10 J a second: any right total is known."""
    path = tmp_path / "ten-watts.json"
    channel = {"id": "cpu0/package", "kind": "counter", "domain": "package", "unit": 1e-6}
    path.write_text(json.dumps({"channels": [channel], "readings": [[0, 0], [3600, 36_000_000_000]]}))
    environment["EMT_REPLAY"] = str(path)


def assert_ten_watts(record: dict[str, Any]) -> None:
    """The machine's joules are 10 W over the duration; the counter is exact, 2 % is for late readings."""
    assert record["duration_s"] > 0.3, "too short to tell"
    assert record["energy"]["machine_j"] == pytest.approx(WATTS * record["duration_s"], rel=0.02)


def assert_says(done: Done, *parts: str) -> None:
    """A message, a line that says what to type, and nothing that only a programmer reads."""
    assert "Traceback" not in done.stderr, done.stderr
    assert done.stderr.startswith("emt: "), done.stderr
    message, _, hint = done.stderr.partition("\n")
    assert len(message) > len("emt: ") and hint.startswith("     ") and hint.strip(), done.stderr
    for part in parts:
        assert part in done.stderr, done.stderr


def mentions(done: Done, *parts: str) -> bool:
    """Whether the summary says all of it, wherever its lines were broken."""
    assert "Traceback" not in done.stderr, done.stderr
    said = "".join(done.stderr.split())
    return all("".join(part.split()) in said for part in parts)


@pytest.fixture
def small_disk(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A file system of 256 KiB. In CI, as root, not to be able to make one is a failure."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k,mode=777", "tmpfs", str(place)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        reason = f"cannot mount a tmpfs: {mounted.stderr.strip()}"
        if os.environ.get("CI") == "true" and os.geteuid() == 0:
            pytest.fail(reason)
        pytest.skip(reason)
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(folder: pathlib.Path) -> None:
    """Leave no block free on a file system."""
    with open(folder / "filler", "ab", buffering=0) as filler:
        try:
            while True:
                filler.write(b"x" * 4096)
        except OSError as error:
            assert error.errno == errno.ENOSPC


FILLING = 'head -c 1m /dev/zero >> "$1/filler" 2>/dev/null'
"""The same as a line of shell; the folder is its first argument."""


@pytest.fixture
def the_record(environment: dict[str, str]) -> Callable[[], dict[str, Any]]:
    """`the_record()`: the run.json of the only run in the store."""

    def load() -> dict[str, Any]:
        [folder] = pathlib.Path(environment["EMT_STORE"]).iterdir()
        return dict(json.loads((folder / "run.json").read_text()))

    return load


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A store with one run of `true` in it, to be copied."""
    place = tmp_path_factory.mktemp("recorded")
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    environment = {**kept, "HOME": str(place), "EMT_STORE": str(place / "store"), "TMPDIR": str(place)}
    environment["PYTHONPATH"] = str(REPOSITORY)
    subprocess.run([*EMT, "run", "-q", "--", "true"], env=environment, cwd=place, check=True)
    return place / "store"


@pytest.fixture
def one_run(recorded: pathlib.Path, environment: dict[str, str]) -> None:
    """The store of this test holds one run, of `true`."""
    shutil.copytree(recorded, environment["EMT_STORE"])


def codes(record: dict[str, Any]) -> list[str]:
    return [str(warning["code"]) for warning in record["warnings"]]
