"""Shapes under emt: `measure("b500", "--no-perf")` is a `Measured`."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.tree.shapes import Measured, Stage, compile_c


@pytest.fixture(scope="session")
def stage() -> Iterator[Stage]:
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler")
    # Not below pytest's own folder, which other users may not enter.
    folder = Path(tempfile.mkdtemp(prefix="emt-tree-"))
    folder.chmod(0o777)
    yield Stage(folder)
    shutil.rmtree(folder)


@pytest.fixture
def measure(stage: Stage, environment: dict[str, str]) -> Callable[..., Measured]:
    return partial(stage.measure, environment=environment)


@pytest.fixture(scope="session")
def refuse_perf(stage: Stage) -> str:
    """A command before emt for which perf is refused."""
    return str(compile_c("refuse_perf", stage.folder))


@pytest.fixture
def root() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to arrange what an ordinary user would meet")
