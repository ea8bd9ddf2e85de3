"""What all tests share: the real command as a subprocess, in a home of its own."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
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


PURE_PACKAGES = ("typer", "shellingham", "annotated_doc", "rich", "pygments", "markdown_it", "mdurl")
"""What the command line imports; all of them pure Python, so that any interpreter can use a copy."""
AS_NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


@pytest.fixture(scope="session")
def as_nobody() -> Iterator[tuple[str, ...]]:
    """A command before emt that makes it an ordinary user's: `[*as_nobody, *EMT, "run", ...]`.

    That user may neither enter this clone nor, as a rule, root's Python: emt is copied to where everybody
    may read it, and run by an interpreter that everybody may run. Where that cannot be arranged the test
    skips; under CI=true it fails.
    """
    import rich

    public = pathlib.Path(tempfile.mkdtemp(prefix="emt-public-", dir="/tmp"))
    public.chmod(0o755)
    shutil.copytree(REPOSITORY / "emt_cli", public / "emt_cli")
    packages = pathlib.Path(rich.__file__).parent.parent
    for name in PURE_PACKAGES:
        if (packages / name).is_dir():
            shutil.copytree(packages / name, public / name)
    shutil.copy(packages / "typing_extensions.py", public)
    script = public / "instead-of-python"
    try:
        for python in (os.path.realpath(sys.executable), "/usr/bin/python3"):
            script.write_text(f'#!/bin/sh\nshift\nPYTHONPATH={public} exec {python} "$@"\n')
            script.chmod(0o755)
            words = [*AS_NOBODY, str(script), *EMT, "--version"]
            if (
                shutil.which("setpriv")
                and not subprocess.run(words, capture_output=True, check=False).returncode
            ):
                yield (*AS_NOBODY, str(script))
                return
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(
            "no Python that an ordinary user may run"
        )
    finally:
        shutil.rmtree(public)
