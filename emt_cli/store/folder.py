"""One run's folder while it is being written: the journal of samples, and the record at the end.

At any moment after `create` the folder is a readable record: `run.json` says `running`, `samples.csv`
holds every sample that was appended, and `finish` replaces `run.json` last.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from emt_cli.store import disk, native
from emt_cli.store.record import dump, encode
from emt_cli.store.samples import header, row_writer

if TYPE_CHECKING:
    from emt_cli.model import Process, Run, Sample

RECORD = "run.json"
SAMPLES = "samples.csv"
PROCESSES = "processes.csv"
MARKS = "marks.csv"
FILES = frozenset({RECORD, SAMPLES, PROCESSES, MARKS})
"""What a run folder may hold, beside hidden temporary files."""

COPY_PERIOD_S = 60.0
"""How often the journal of a run on a network file system is copied there."""

MOST_SAMPLES = 1_000_000


class RunFolder:
    """The writer of one run folder. Every method that writes raises OSError, and the run goes on without.

    A failed `append` leaves whole lines only. From `limit` rows on only every 2nd sample is written, after
    as many rows again every 4th, and so on; the very last one always is.
    """

    def __init__(
        self,
        path: str,
        folder: native.Folder,
        *,
        limit: int,
        owner: native.Owner | None,
        clock: Callable[[], float],
    ) -> None:
        self.path = path
        self.times_halved = 0
        self.rows = 0
        self._folder = folder
        self._owner = owner
        self._clock = clock
        self._limit = max(limit, 2)
        self._stage_rows = 0
        self._turn = 0
        self._held: Sample | None = None
        self._journal_path = ""
        self._journal_fd = -1
        self._copy_fd = -1
        self._size = 0
        self._copied = 0
        self._copied_at = clock()
        self._write_row = row_writer(())

    @classmethod
    def create(
        cls,
        path: str,
        run: Run,
        *,
        limit: int = MOST_SAMPLES,
        owner: native.Owner | None = None,
        is_network: Callable[[str], bool] = disk.is_network,
        clock: Callable[[], float] = time.monotonic,
    ) -> RunFolder:
        """Make the folder, private to the user, and in it a readable record of a run that has begun.

        All of it belongs to `owner` from the start; descriptors are handed over, never names. Raises
        FileExistsError where the path is taken, other OSErrors as they come, and then leaves nothing
        behind. On a network file system the journal lives in a local temporary folder.
        """
        os.mkdir(path, 0o700)
        try:
            opened = native.Folder(path)
        except OSError:
            os.rmdir(path)
            raise
        folder = cls(path, opened, limit=limit, owner=owner, clock=clock)
        try:
            opened.give_to(owner)
            folder._open_journal(is_network(path))
            folder.begin(run)
        except OSError:
            folder.discard()
            raise
        return folder

    def keep_journal(self) -> str:
        """A path at which this process finds the samples until it ends: by a descriptor of its own, since the
        command may have removed the folder, and `finish` removes a local journal."""
        path = self._journal_path or os.path.join(self.path, SAMPLES)
        if not (native.HAS_DESCRIPTORS and os.path.exists("/proc/self/fd")):
            return path
        try:
            kept = f"/proc/self/fd/{os.dup(self._journal_fd)}"
        except OSError:  # out of descriptors
            return path
        return kept if os.path.exists(kept) else path

    @property
    def is_there(self) -> bool:
        """Whether `path` still is this folder: a command may have removed it (`git clean`, `rm -r`)."""
        return self._folder.is_at_its_path()

    def begin(self, run: Run) -> None:
        """Take down what is known once the sensors are open: the channels become the journal's columns."""
        os.ftruncate(self._journal_fd, 0)
        self._size = self._copied = 0
        self._append(header(run.channels))
        self._write_row = row_writer(run.channels)
        if self._journal_path:
            os.ftruncate(self._copy_fd, 0)
            self._copy_out()
        self._write_record(run)  # last: its channels are always among the columns

    def append(self, samples: Sequence[Sample]) -> None:
        """Write the samples of one flush with one call, so that a kill leaves whole lines."""
        lines, rows_before = [], self.rows
        for sample in samples:
            if self._is_due():
                lines.append(self._write_row(sample))
                self._held = None
            else:
                self._held = sample
        if lines:
            try:
                self._append("".join(lines).encode("ascii"))
            except OSError:
                self.rows = rows_before
                raise
        if self._journal_path and self._clock() - self._copied_at >= COPY_PERIOD_S:
            self._copy_out()

    def write_processes(self, processes: Iterable[Process]) -> None:
        """Replace processes.csv, atomically."""
        from emt_cli.store.tables import dump_processes

        self._replace(PROCESSES, dump_processes(processes))

    def finish(self, run: Run) -> None:
        """Write the tables and then the record, each atomically, and close.

        A table that fails does not keep the record from being written; the first failure is raised
        after everything was tried. If the record itself fails, the folder still reads as `running`, and
        as `recovered` once this process is gone.
        """
        failure: OSError | None = None
        steps = (
            self._finish_journal,
            lambda: self.write_processes(run.processes),
            lambda: self._write_marks(run),
            lambda: self._write_record(run, is_synced=True),
        )
        for step in steps:
            try:
                step()
            except OSError as error:
                failure = failure or error
        self.close()
        if failure is not None:
            raise failure

    def close(self) -> None:
        """Let go of the folder as it stands. May be called twice."""
        self._close_journal()
        self._folder.close()

    def discard(self) -> None:
        """Remove the folder: the command never started."""
        self._close_journal()  # first: Windows deletes no file that is open
        for name in self._folder.names():
            if name in FILES or disk.is_temporary(name):
                self._folder.unlink(name)
        self._drop_local_journal()
        is_there = self.is_there
        self.close()
        if is_there:
            os.rmdir(self.path)

    # --- the journal ------------------------------------------------------------------------------------

    def _open_journal(self, is_network: bool) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND
        in_folder = self._folder.open(SAMPLES, flags)
        self._journal_fd = in_folder
        native.give(in_folder, self._owner)
        if is_network and (folder := _local_folder()):
            self._copy_fd = self._folder.open(SAMPLES, os.O_WRONLY)
            self._journal_path = os.path.join(folder, SAMPLES)
            self._journal_fd = os.open(self._journal_path, flags | native.NO_LINK | native.BINARY, 0o600)
            os.close(in_folder)

    def _close_journal(self) -> None:
        for fd in (self._journal_fd, self._copy_fd):
            if fd >= 0:
                os.close(fd)
        self._journal_fd = self._copy_fd = -1

    def _is_due(self) -> bool:
        """Whether the next sample is one that the thinned journal writes."""
        step = 1 << self.times_halved
        self._turn += 1
        if self._turn % step:
            return False
        if self._stage_rows >= self._limit:
            self.times_halved += 1
            self._stage_rows, self._turn = 0, step
            return False
        self._stage_rows += 1
        self.rows += 1
        return True

    def _append(self, data: bytes) -> None:
        """All of it or none: a row that was cut short would join with the next one to a false row."""
        try:
            disk.write_all(self._journal_fd, data)
        except OSError:
            os.ftruncate(self._journal_fd, self._size)
            raise
        self._size += len(data)

    def _finish_journal(self) -> None:
        try:
            if self._held is not None:
                self._append(self._write_row(self._held).encode("ascii"))
                self._held = None
        finally:
            if self._journal_path:
                self._copy_out()
                self._drop_local_journal()

    def _copy_out(self) -> None:
        """Bring the copy in the folder up to the local journal. Raises OSError; the next call goes on."""
        self._copied_at = self._clock()
        while data := native.read_at(self._journal_fd, 1 << 20, self._copied):
            self._copied += native.write_at(self._copy_fd, data, self._copied)

    def _drop_local_journal(self) -> None:
        if self._journal_path:
            if os.path.exists(self._journal_path):
                os.unlink(self._journal_path)
            os.rmdir(os.path.dirname(self._journal_path))
            self._journal_path = ""

    # --- the record -------------------------------------------------------------------------------------

    def _write_marks(self, run: Run) -> None:
        from emt_cli.store.tables import dump_marks

        self._replace(MARKS, dump_marks(run.marks))

    def _write_record(self, run: Run, *, is_synced: bool = False) -> None:
        files = {"samples": SAMPLES, "processes": PROCESSES, "marks": MARKS}
        if self._journal_path:
            files["journal"] = self._journal_path
        if run.state == "running" and run.recorder_pid and run.recorder_started_ticks is None:
            from dataclasses import replace

            from emt_cli.store.liveness import started_ticks

            run = replace(run, recorder_started_ticks=started_ticks(run.recorder_pid))
        self._replace(RECORD, dump(encode(run, files)), is_synced=is_synced)

    def _replace(self, name: str, data: bytes, *, is_synced: bool = False) -> None:
        disk.replace_file(self._folder, name, data, is_synced=is_synced, owner=self._owner)


def _local_folder() -> str:
    """A new private folder for temporary files; empty where there is none to be had."""
    import tempfile

    try:
        return tempfile.mkdtemp(prefix="emt-journal-")
    except OSError:
        return ""
