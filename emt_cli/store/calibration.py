"""Idle power that was measured on a machine, kept for its later runs until it is stale.

A small private file for each machine in the state folder, `emt/calibration/<machine>.json`: nodes of a
cluster that share a home may all calibrate at once. It stands apart from the records, since it belongs to a
machine and no run, and is read by every `emt run` there: what is damaged or stale is not used, and says why.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import field, replace
from typing import TYPE_CHECKING

from emt_cli.errors import NotFoundError, OutputError, RecordError
from emt_cli.model import Host, Run
from emt_cli.values import Value

if TYPE_CHECKING:
    from datetime import datetime

    from emt_cli.store.native import Owner

FORMAT = 1
STALE_AFTER_DAYS = 90
"""A choice: firmware, fans and what is plugged in change with the seasons, not with the week."""
_LARGEST = 1 << 20
_APPLICATION = b"emt calibration 1"

Read = Callable[[str], str]


class Fingerprint(Value):
    """What idle power depends on and can be read without rights: another machine, or another way to boot this
    one, needs another calibration."""

    machine: str
    """A name of the machine that tells nobody its machine id."""
    kernel: str = ""
    cpu_model: str = ""
    cpu_count: int = 1
    boot_options: str = ""
    """A digest of the kernel's command line, which may limit idle states."""


class Calibration(Value):
    """Idle watts of one machine's channels. `busy_share` is the part of its CPUs that was busy meanwhile."""

    format: int = FORMAT
    fingerprint: Fingerprint
    node: str = ""
    measured_at: str
    """RFC 3339, UTC."""
    duration_s: float
    busy_share: float = 0.0
    is_forced: bool = False
    """Kept although the machine was not idle."""
    idle_w: dict[str, float]
    error_w: dict[str, float]
    """Half-widths, by the sensors' own uncertainty."""
    sensors: dict[str, str]


def fingerprint(host: Host, read: Read) -> Fingerprint:
    """Of this machine; `read(path)` gives a kernel file's text or raises OSError.

    /etc/machine-id is confidential: only a keyed hash of it may leave the machine (machine-id(5)), which is
    what stands here. Where there is none, the node's name has to do.
    """
    import hashlib
    import hmac

    identity = _text(read, "/etc/machine-id") or f"node {host.node}"
    options = _text(read, "/proc/cmdline")
    return Fingerprint(
        machine=hmac.new(identity.encode(), _APPLICATION, hashlib.sha256).hexdigest()[:32],
        kernel=host.kernel,
        cpu_model=host.cpu_model,
        cpu_count=host.cpu_count,
        boot_options=hashlib.sha256(options.encode()).hexdigest()[:16] if options else "",
    )


def _text(read: Read, path: str) -> str:
    try:
        return read(path).strip()
    except OSError:
        return ""


# --- the files --------------------------------------------------------------------------------------


def folder(environ: Mapping[str, str], home: str) -> str:
    """Where calibrations are kept: beside the store's usual place, wherever the store itself is set to."""
    state = environ.get("XDG_STATE_HOME", "")
    state = state if os.path.isabs(state) else os.path.join(home, ".local/state")
    return os.path.join(state, "emt", "calibration")


def path_of(place: str, machine: str) -> str:
    return os.path.join(place, f"{machine}.json")


def load(place: str, machine: str) -> Calibration | None:
    """That machine's; None where there is none. Raises RecordError for a file that cannot be read."""
    from emt_cli.store.disk import read_limited

    path = path_of(place, machine)
    if not os.path.lexists(path):
        return None
    return _decoded(path, read_limited(path, _LARGEST))


def _decoded(path: str, data: bytes) -> Calibration:
    import json

    from emt_cli.store.decoding import Wrong, decoder

    hint = "emt calibrate writes it anew"
    try:
        found: Calibration = decoder(Calibration)(json.loads(data))
    except Wrong as wrong:
        where = f"{wrong.path} " if wrong.path else ""
        raise RecordError(f"{path} is no calibration: {where}{wrong.text}", hint=hint) from None
    except (ValueError, RecursionError):
        raise RecordError(f"{path} is no calibration: it is not JSON", hint=hint) from None
    if found.format > FORMAT:
        raise RecordError(f"{path} was written by a newer emt", hint="update emt, or " + hint)
    if any(not 0 <= watts <= 100_000 for watts in found.idle_w.values()):
        raise RecordError(f"{path} holds watts that cannot be", hint=hint)
    return found


def save(place: str, calibration: Calibration, owner: Owner | None = None) -> str:
    """Write it, private and at once; returns the path. Raises OutputError."""
    from emt_cli.store import disk
    from emt_cli.store.native import Folder
    from emt_cli.store.record import dump, plain

    path = path_of(place, calibration.fingerprint.machine)
    document = plain(calibration)
    assert isinstance(document, dict), "a value is an object in JSON"
    try:
        disk.make_folders(place, owner)
        inside = Folder(place)
        try:
            disk.replace_file(inside, os.path.basename(path), dump(document), owner=owner)
        finally:
            inside.close()
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written: {error.strerror or error}", hint=f"ls -ld {place}"
        ) from error
    return path


def forget(place: str, machine: str) -> str:
    """Delete that machine's; returns the path. Raises NotFoundError, OutputError."""
    path = path_of(place, machine)
    try:
        os.unlink(path)
    except FileNotFoundError:
        raise NotFoundError("this machine has no calibration", hint="emt calibrate measures one") from None
    except OSError as error:
        raise OutputError(f"{path} cannot be deleted: {error.strerror}", hint=f"ls -l {path}") from error
    return path


# --- using it ---------------------------------------------------------------------------------------


def why_stale(calibration: Calibration, now: Fingerprint, moment: datetime) -> str:
    """Why it says nothing about this machine any more; empty where it still holds."""
    then = calibration.fingerprint
    for what, before, after in (
        ("kernel", then.kernel, now.kernel),
        ("CPU", then.cpu_model, now.cpu_model),
        ("number of CPUs", str(then.cpu_count), str(now.cpu_count)),
    ):
        if before != after:
            return f"the {what} is another one ({before or 'unknown'}, now {after or 'unknown'})"
    if then.boot_options != now.boot_options:
        return "the kernel was started with other options"
    age_days = _age_days(calibration, moment)
    if age_days is None or age_days < -1:
        return "its date cannot be"
    return f"it is older than {STALE_AFTER_DAYS} days" if age_days > STALE_AFTER_DAYS else ""


def _age_days(calibration: Calibration, moment: datetime) -> float | None:
    from datetime import datetime, timedelta

    try:
        measured = datetime.fromisoformat(calibration.measured_at.replace("Z", "+00:00"))
        return (moment - measured) / timedelta(days=1)
    except (ValueError, TypeError):
        return None


class Known(Value):
    """What a calibration tells of the idle power here, and where that comes from: `calibrated 2026-11-21`, or
    why it is not used; empty where there is none."""

    idle_w: dict[str, float] = field(default_factory=dict)
    source: str = ""


def known(host: Host, place: str, read: Read, moment: datetime) -> Known:
    """Raises nothing: a calibration that cannot be read is not used, and says why."""
    if not os.path.isdir(place):
        return Known()
    now = fingerprint(host, read)
    try:
        found = load(place, now.machine)
    except RecordError as error:
        return Known(source=f"calibration not used: {error}")
    if found is None:
        return Known()
    day = found.measured_at[:10]
    if stale := why_stale(found, now, moment):
        return Known(source=f"calibration of {day} not used: {stale}")
    forced = ", while the machine was busy" if found.is_forced else ""
    return Known(idle_w=dict(found.idle_w), source=f"calibrated {day}{forced}")


def calibrated(run: Run, place: str, read: Read) -> Run:
    """A draft with the idle power that this machine was calibrated with, if the user has stated none.

    Where a calibration is there and not used, `settings.idle_w_source` says why, beside empty `idle_w`.
    """
    if run.settings.idle_w or not os.path.isdir(place):
        return run
    from datetime import datetime

    moment = datetime.fromisoformat(run.started_at.replace("Z", "+00:00"))
    found = known(run.host, place, read, moment)
    if not found.source:
        return run
    return replace(run, settings=replace(run.settings, idle_w=found.idle_w, idle_w_source=found.source))
