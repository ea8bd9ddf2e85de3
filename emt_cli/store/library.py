"""The store: one folder that holds a folder for each run. Where it is, and how a new run gets its place.

The little that `emt run` needs of it; listing and finding are in `listing`, deleting in `removal`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from emt_cli.errors import OutputError
from emt_cli.store import disk
from emt_cli.store.folder import RunFolder
from emt_cli.store.native import Owner

if TYPE_CHECKING:
    from datetime import datetime

    from emt_cli.model import Run

_ATTEMPTS = 100


def root(environ: Mapping[str, str], home: str, configured: str | None) -> str:
    """Where runs are kept: $EMT_STORE, else the configured folder, else the XDG state folder.

    XDG_STATE_HOME that is not absolute is ignored, as its specification says.
    """
    if chosen := environ.get("EMT_STORE") or configured:
        return disk.absolute(home + chosen[1:] if chosen == "~" or chosen.startswith("~/") else chosen)
    state = environ.get("XDG_STATE_HOME", "")
    return os.path.join(state if state.startswith("/") else os.path.join(home, ".local/state"), "emt", "runs")


def new_id(started: datetime, command: Sequence[str]) -> str:
    """`20261121-144849-python-7f3a`: sorts by time, tells the command, and is unique but for a mishap."""
    program = os.path.basename(command[0]) if command else ""
    word = re.sub(r"[^A-Za-z0-9._+]+", "-", program).strip(".-")[:20] or "run"
    return f"{started:%Y%m%d-%H%M%S}-{word}-{os.urandom(2).hex()}"


def create(store: str, run: Run, *, owner: Owner | None = None, **options: Any) -> tuple[Run, RunFolder]:
    """Give a run its place in the store. Returns it with the id that it has there, and its folder.

    Another run may have taken the id: then it gets a new one. `options` are those of RunFolder.create.
    Raises OutputError.
    """
    from dataclasses import replace
    from datetime import datetime

    try:
        disk.make_folders(store, owner)
        for _ in range(_ATTEMPTS):
            try:
                return run, RunFolder.create(os.path.join(store, run.id), run, owner=owner, **options)
            except FileExistsError:
                started = datetime.fromisoformat(run.started_at[:19])
                run = replace(run, id=new_id(started, run.command))
    except OSError as error:
        raise OutputError(
            f"the store {store} cannot be written: {error.strerror}",
            hint="set EMT_STORE to a folder that can be written, or use --no-store",
        ) from error
    raise OutputError(f"the store {store} has no free name for this run", hint="emt runs prune --keep 1000")
