"""Where a run's record goes: the store, the -o targets, or for a moment a temporary folder.

Every target is tried before the command starts, so that a bad path costs nothing; what fails afterwards
is a warning, since the command has run and its status stands.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from emt_cli.config import Config
from emt_cli.errors import OutputError
from emt_cli.model import Notice, Process, Run, Sample
from emt_cli.notices import notice
from emt_cli.store.folder import RunFolder
from emt_cli.store.library import create
from emt_cli.store.outputs import facts_of, plan

_LARGEST_ID = 2**32 - 2
"""The one above means "leave it as it is" to chown(2)."""


class Keeping:
    """The journal of a run while it goes on, and everything that is written when it is over.

    It is the session's first observer. `open` raises OutputError and UsageError for targets that cannot be
    written, and has left nothing behind then.
    """

    def __init__(
        self, draft: Run, specs: Sequence[str], *, store: str | None, force: bool, max_samples: int
    ) -> None:
        self.notices: list[Notice] = []
        self.shown: str | None = None
        """What to tell the user: where the record is; None if it was not kept."""
        self.failure: OutputError | None = None
        """Why the first of the -o targets could not be written."""
        self._draft = draft
        self._store = store
        self._owner = invoking_user()
        self._limit = max_samples
        self._is_temporary = False
        self._folders: list[RunFolder] = []
        """Where the journal is written."""
        self._failed: list[RunFolder] = []
        """Those that did not take a sample; at the end the record is tried there all the same."""
        self._outputs = plan(specs, facts_of(draft), force=force)

    def open(self) -> Keeping:
        for output in self._outputs:
            output.check()
        try:
            self._open_in_store()
            self._open_outputs()
            if not self._folders:
                self._open_temporary()
        except OutputError:
            self.discard()
            raise
        return self

    # --- while the run goes on: the observer --------------------------------------------------------

    def begin(self, run: Run) -> None:
        run = replace(run, id=self._draft.id)
        self._each(lambda folder: folder.begin(run))

    def append(self, samples: Sequence[Sample]) -> None:
        self._each(lambda folder: folder.append(samples))

    def write_processes(self, processes: Sequence[Process]) -> None:
        self._each(lambda folder: folder.write_processes(processes))

    def _each(self, write: Callable[[RunFolder], None]) -> None:
        """Write to every folder that still takes it; an OSError only if none is left."""
        for folder in [one for one in self._folders if one not in self._failed]:
            try:
                write(folder)
            except OSError as error:
                if len(self._failed) + 1 == len(self._folders):
                    raise
                self._failed.append(folder)
                self._note_failure(folder, error)

    # --- afterwards ---------------------------------------------------------------------------------

    def samples(self, run: Run) -> Iterable[Sample]:
        """The journal, then the edges: they are known even where the journal broke off, or never was."""
        from emt_cli.store.samples import SampleFile

        if not self._folders:
            return _Journal((), run.samples)
        whole = next((one for one in self._folders if one not in self._failed), self._folders[0])
        return _Journal(SampleFile(whole.keep_journal(), run.channels), run.samples)

    def keep(self, run: Run) -> Run:
        """Write the finished run everywhere; returns it with the id and the notices that this brought.

        What cannot be written is a notice or, where -o asked for it, the `failure`; the rest is written.
        """
        if self._folders and (times := self._folders[0].times_halved):
            self.notices.append(notice("samples_thinned", limit=self._limit, times=times))
        run = replace(run, id=self._draft.id, notices=(*self.notices, *run.notices))
        if self._is_temporary:
            self._write_outputs(run)
            self.discard()
        else:
            self._finish_folders(run)
            self._write_outputs(run)
        return replace(run, notices=(*(n for n in self.notices if n not in run.notices), *run.notices))

    def discard(self) -> None:
        """Leave nothing behind: the command never started, or nobody wants the samples."""
        while self._folders:
            self._folders.pop().discard()

    def _finish_folders(self, run: Run) -> None:
        for folder in self._folders:
            try:
                if folder.is_there:
                    folder.finish(run)
                else:
                    self._put_back(folder, run)
            except OSError as error:
                self._note_failure(folder, error)

    def _put_back(self, folder: RunFolder, run: Run) -> None:
        """The command has removed the folder, and perhaps those above it: write it anew."""
        from emt_cli.store.disk import make_folders
        from emt_cli.store.placing import put_folder

        make_folders(os.path.dirname(folder.path), self._owner)
        path = put_folder(folder.path, run, None, force=False, owner=self._owner)
        self.shown = path if self.shown == folder.path else self.shown
        folder.close()

    def _write_outputs(self, run: Run) -> None:
        for output in self._outputs:
            own = next((folder for folder in self._folders if folder.path == output.path), None)
            try:
                path = str(output.write(run, own, owner=self._owner))
            except OutputError as error:
                self.failure = self.failure or error
                continue
            if path != output.path:
                self.notices.append(notice("output_moved", path=output.path, moved=path))
            self.shown = self.shown or path

    def _note_failure(self, folder: RunFolder, error: OSError) -> None:
        failure = notice("store_unwritable", path=folder.path, reason=error.strerror or str(error))
        if failure not in self.notices:
            self.notices.append(failure)

    # --- where the journal lies ---------------------------------------------------------------------

    def _open_in_store(self) -> None:
        if self._store is None:
            return
        try:
            self._draft, folder = create(self._store, self._draft, owner=self._owner, limit=self._limit)
        except OutputError as error:
            cause = error.__cause__
            reason = (cause.strerror if isinstance(cause, OSError) else "") or str(error)
            self.notices.append(notice("store_unwritable", path=self._store, reason=reason))
            return
        self.shown = folder.path
        self._folders.append(folder)

    def _open_outputs(self) -> None:
        """Folders named by -o are journals too: they are readable when emt is killed."""
        for output in self._outputs:
            folder = output.open(self._draft, limit=self._limit, owner=self._owner)
            if folder is not None:
                self.shown = self.shown or folder.path
                self._folders.append(folder)

    def _open_temporary(self) -> None:
        """Somewhere for the samples until the end. Where there is no room for them the run goes on without:
        nobody has asked for this folder, so it is no reason not to start."""
        parent = os.environ.get("TMPDIR") or "/tmp"
        path = os.path.join(parent, f"emt-{self._draft.id}-{os.getpid()}")
        self._is_temporary = True
        try:
            self._folders.append(RunFolder.create(path, self._draft, limit=self._limit))
        except OSError as error:
            reason = f"{parent}: {error.strerror or error}"
            self.notices.append(notice("journal_failed", t_s=0.0, reason=reason))


class _Journal:
    """Samples on disk, then those that are known in memory; can be iterated again and again."""

    def __init__(self, on_disk: Iterable[Sample], edges: Iterable[Sample]) -> None:
        self._on_disk = on_disk
        self._edges = tuple(edges)

    def __iter__(self) -> Iterator[Sample]:
        latest_s = -1.0
        for sample in self._on_disk:
            latest_s = sample.t_s
            yield sample
        for sample in self._edges:
            if sample.t_s > latest_s:
                yield sample


def invoking_user() -> tuple[int, int] | None:
    """Whom the record belongs to when root runs emt through sudo."""
    ids = [os.environ.get(name, "") for name in ("SUDO_UID", "SUDO_GID")]
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return None
    if not all(text.isascii() and text.isdigit() for text in ids):
        return None
    user, group = (int(text[:11]) for text in ids)
    return (user, group) if max(user, group) <= _LARGEST_ID else None


def home() -> str:
    """The home folder of the user that the record belongs to."""
    owner = invoking_user()
    if owner is not None:
        import pwd

        try:
            return pwd.getpwuid(owner[0]).pw_dir
        except KeyError:  # a user that only a container's host knows
            pass
    return os.path.expanduser("~")


def store_of(config: Config) -> str:
    """The folder of the store, as every command finds it."""
    from emt_cli.config.keys import STORE
    from emt_cli.store.library import root

    return root(os.environ, home(), config[STORE])
