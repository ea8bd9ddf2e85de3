"""What all tests share: the real command as a subprocess, in a home of its own."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

import pytest

REPOSITORY = pathlib.Path(__file__).parent.parent
EMT = (sys.executable, "-m", "emt_cli")


@pytest.fixture
def environment(tmp_path: pathlib.Path) -> dict[str, str]:
    """An environment in which emt finds nothing of the tester's: own home, own store, UTC."""
    home = tmp_path / "home"
    home.mkdir()
    kept = {key: os.environ[key] for key in ("PATH", "LANG", "LD_LIBRARY_PATH", "CI") if key in os.environ}
    return {
        **kept,
        "HOME": str(home),
        "EMT_STORE": str(tmp_path / "store"),
        "TZ": "UTC",
        "PYTHONPATH": str(REPOSITORY),
        "TMPDIR": str(tmp_path),
    }


@pytest.fixture
def emt(
    environment: dict[str, str], tmp_path: pathlib.Path
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`emt("run", "--", "true")`: the finished command, its output as text; options go to subprocess.run."""

    def run(
        *arguments: str, env: Mapping[str, str] | None = None, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        options.setdefault("timeout", 120)
        options.setdefault("cwd", tmp_path)
        options.setdefault("check", False)
        variables = {**environment, **(env or {})}
        return subprocess.run(  # noqa: PLW1510 - among the options
            [*EMT, *arguments], env=variables, capture_output=True, text=True, **options
        )

    return run


@pytest.fixture
def record(
    emt: Callable[..., subprocess.CompletedProcess[str]], tmp_path: pathlib.Path
) -> Callable[..., dict[str, Any]]:
    """`record("--", "true")`: the run.json of `emt run -q -o ... -- true`, whatever its status."""

    def run(*arguments: str, **options: Any) -> dict[str, Any]:
        path = tmp_path / "record.json"
        path.unlink(missing_ok=True)
        done = emt("run", "-q", "-o", str(path), *arguments, **options)
        assert path.exists(), done.stderr
        return dict(json.loads(path.read_text()))

    return run
