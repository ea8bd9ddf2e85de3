"""What `-o` names: a single `.json`, a row in a `.csv`, or a run folder; checked before the command starts.

Nothing is overwritten without `--force`, nothing is left half-written, and a file that came into being
during the run is stepped around, not replaced.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from emt_cli.errors import OutputError, UsageError
from emt_cli.store import disk, placing
from emt_cli.store.folder import RunFolder
from emt_cli.store.native import Owner

if TYPE_CHECKING:
    from pathlib import Path

    from emt_cli.model import Run

PLACEHOLDERS = ("host", "node", "pid", "date", "name", "job", "rank")
Kind = Literal["json", "csv", "folder"]

_PATTERN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}")


def plan(specs: Sequence[str], facts: Mapping[str, str], *, force: bool = False) -> list[Output]:
    """Every `-o` of a command line. Raises UsageError, also where two of them name the same file."""
    outputs = [Output.plan(spec, facts, force) for spec in specs]
    seen: set[str] = set()
    for output in outputs:
        if output.path in seen:
            raise UsageError(f"-o {output.path} is given twice", hint="give each output its own name")
        seen.add(output.path)
    return outputs


def facts_of(run: Run) -> dict[str, str]:
    """The values of the placeholders. `{name}` falls back to the command's, `{node}` to the host's."""
    job = run.job
    return {
        "host": run.host.node,
        "node": (job.node if job else "") or run.host.node,
        "pid": str(run.recorder_pid or os.getpid()),
        "date": run.started_at[:19].replace("-", "").replace(":", "").replace("T", "-"),
        "name": run.name or os.path.basename(run.command[0] if run.command else ""),
        "job": job.id if job else "",
        "rank": "" if job is None or job.rank is None else str(job.rank),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """One target. `path` is absolute."""

    path: str
    kind: Kind
    force: bool = False

    @classmethod
    def plan(cls, spec: str, facts: Mapping[str, str], force: bool) -> Output:
        """Fill in the placeholders; the suffix says the kind. Raises UsageError and OutputError."""
        text = _fill(spec, facts)
        if not text.strip() or "\0" in text:
            raise UsageError("-o needs a name", hint="for example -o run.json, -o runs.csv or -o folder")
        kinds: dict[str, Kind] = {".json": "json", ".csv": "csv"}
        kind = kinds.get(os.path.splitext(text)[1].lower(), "folder")  # "x.json/" has none
        return cls(path=disk.absolute(text), kind=kind, force=force)

    def check(self) -> None:
        """Make sure, before the command starts, that the target can be written. Raises OutputError."""
        parent = os.path.dirname(self.path)
        if not os.path.isdir(parent):
            raise OutputError(f"-o {self.path}: there is no folder {parent}", hint=f"mkdir -p {parent}")
        try:
            if _is_taken(self.path):
                self._check_taken()
            placing.probe(parent)
        except OSError as error:
            raise _failed(self.path, error) from error

    def open(self, run: Run, **options: Any) -> RunFolder | None:
        """For a folder: make it now, as a journal that a kill leaves readable; for a file: None.

        `options` are those of RunFolder.create. Raises OutputError.
        """
        if self.kind != "folder":
            return None
        try:
            if self.force and os.path.lexists(self.path):
                self._check_taken()
                placing.clear(self.path)
            return RunFolder.create(self.path, run, **options)
        except OSError as error:
            raise _failed(self.path, error) from error

    def write(self, run: Run, folder: RunFolder | None, *, owner: Owner | None = None) -> Path:
        """Write a finished run; returns where it went, which is beside `path` if that came into being.

        `folder` is a finished run folder to copy from, or the one that `open` made; without one, a folder
        is written from the run's samples. Raises OutputError.
        """
        from pathlib import Path

        from emt_cli.store.record import dump, encode

        if self.kind == "folder" and folder is not None and folder.path == self.path:
            return Path(self.path)
        try:
            disk.make_folders(os.path.dirname(self.path), owner)  # the command may have removed it
            if self.kind == "folder":
                return Path(placing.put_folder(self.path, run, folder, force=self.force, owner=owner))
            if self.kind == "csv":
                return Path(placing.put_row(self.path, run, force=self.force, owner=owner))
            return Path(placing.put_file(self.path, dump(encode(run)), force=self.force, owner=owner))
        except OSError as error:
            raise _failed(self.path, error) from error

    def _check_taken(self) -> None:
        """What stands at the target may stand there, or may be replaced. Raises OutputError."""
        is_folder = os.path.isdir(self.path) and not os.path.islink(self.path)
        if is_folder and self.kind != "folder":
            raise OutputError(f"-o {self.path} is a folder", hint=f"choose another name than {self.path}")
        if self.kind == "csv" and os.path.isfile(self.path) and (self.force or placing.takes_rows(self.path)):
            return
        if self.kind == "csv" and os.path.isfile(self.path):
            raise OutputError(
                f"-o {self.path} has other columns than a summary of emt",
                hint="choose another name, or --force to replace the file",
            )
        if not self.force:
            raise OutputError(f"-o {self.path} exists already", hint="choose another name, or --force")
        if self.kind == "folder" and not (is_folder and placing.is_ours(self.path)):
            raise OutputError(
                f"-o {self.path} is not a run folder, and --force replaces only those",
                hint="choose another name",
            )
        if self.kind != "folder" and not os.path.isfile(self.path) and os.path.exists(self.path):
            raise OutputError(f"-o {self.path} is no regular file", hint="choose a file name")


def _is_taken(path: str) -> bool:
    """As os.path.lexists, but a name that cannot be is no free one. Raises OSError."""
    try:
        os.lstat(path)
    except FileNotFoundError:
        return False
    return True


def _fill(spec: str, facts: Mapping[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        if match[1] is None:
            return match[0][0]  # {{ and }} are the braces themselves
        if match[1] not in PLACEHOLDERS:
            valid = " ".join(f"{{{name}}}" for name in PLACEHOLDERS)
            raise UsageError(
                f"-o {spec}: {match[0]} is no placeholder",
                hint=f"there are {valid}; {{{{ and }}}} stand for braces",
            )
        return safe_name(facts.get(match[1], "")) or "none"

    return _PATTERN.sub(value, spec)


def safe_name(text: str) -> str:
    """A text as a part of a file name: letters, digits and `._+-`, not hidden, not long."""
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", text).strip(".-")[:100]


def _failed(path: str, error: OSError) -> OutputError:
    remedies = {
        errno.EACCES: f"ls -ld {os.path.dirname(path)}; choose a folder that you may write",
        errno.EROFS: "the file system is read-only; choose another folder",
        errno.ENOSPC: "the disk is full: free space, or choose another folder",
        errno.EDQUOT: "your quota is used up: free space, or choose another folder",
        errno.EEXIST: "choose another name, or --force",
        errno.ENAMETOOLONG: "choose a shorter name",
    }
    return OutputError(
        f"{path} cannot be written: {error.strerror}",
        hint=remedies.get(error.errno or 0, "choose another name"),
    )
