"""The runs that a reading command is about: found by name, tag or path, and with their results.

`report`, `compare` and `check` take the same words for a run because they find it here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emt_cli.model import Run

WAYS = "Runs by id, name or tag (KEY=VALUE), @latest, or paths of run folders, .json and .csv files."
"""What an argument's help says of it."""


def load_runs(wanted: Sequence[str], *, recompute: bool = False) -> list[Run]:
    """The runs behind the words, with results: a run that never ended gets them now.

    What the configuration has to say goes to stderr. Raises NotFoundError and RecordError.
    """
    from emt_cli.commands import complain
    from emt_cli.commands.keeping import store_of
    from emt_cli.config import load_here
    from emt_cli.store import select

    config = load_here({})
    for notice in config.notices:
        complain(notice.text, notice.hint)
    store = store_of(config)
    return [_completed(run, recompute=recompute) for one in wanted for run in select(store, one)]


def _completed(run: Run, *, recompute: bool) -> Run:
    """A row of a summary has no raw part, so its results stand as they are."""
    if not run.channels or (run.energy is not None and not recompute):
        return run
    from emt_cli.analysis import complete

    return complete(run)
