"""Limits where there is no /proc and no held child: the command and what psutil finds below it are ended."""

from __future__ import annotations

import json
import pathlib
import signal
import sys
from typing import Any

from tests.launch import finished, until

RUN = (sys.executable, "-m", "tests.portable_emt", "darwin", "run", "-q", "--location", "FR")
STOP = ("--max-time", "1.5s", "--on-exceed", "stop")


def stopped(environment: dict[str, str], tmp_path: pathlib.Path, *words: str) -> dict[str, Any]:
    path = tmp_path / "record.json"
    done = finished([*RUN, "-o", str(path), *STOP, *words], environment)
    assert done.returncode == 124, done.stderr
    return dict(json.loads(path.read_text()))


def test_a_command_over_its_limit_is_stopped(environment: dict[str, str], tmp_path: pathlib.Path) -> None:
    record = stopped(environment, tmp_path, "--", "sleep", "60")
    assert record["exit"]["signal"] == signal.SIGTERM
    assert "limit_stopped" in [each["code"] for each in record["warnings"]]


def test_who_ignores_term_is_killed(environment: dict[str, str], tmp_path: pathlib.Path) -> None:
    words = ("--grace", "0.3s", "--", "sh", "-c", "trap '' TERM; while :; do sleep 0.05; done")
    assert stopped(environment, tmp_path, *words)["exit"]["signal"] == signal.SIGKILL


def test_what_it_has_started_ends_with_it(environment: dict[str, str], tmp_path: pathlib.Path) -> None:
    pid = tmp_path / "pid"
    stopped(environment, tmp_path, "--", "sh", "-c", f"sleep 98 & echo $! > {pid}; wait")
    place = pathlib.Path(f"/proc/{pid.read_text().strip()}/stat")
    until(lambda: not place.exists() or " Z " in place.read_text(), "the child to end")
