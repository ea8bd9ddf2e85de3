"""From a path to runs: a run folder, a single `.json`, a summary `.csv`; and what a killed emt left behind.

Loading never writes: a run whose recorder is gone is read as `recovered`, the files stay as they are.
"""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from typing import TYPE_CHECKING

from emt_cli.errors import RecordError
from emt_cli.model import Observed, Run
from emt_cli.store import folder as names
from emt_cli.store import liveness
from emt_cli.store.samples import SampleFile

if TYPE_CHECKING:
    from emt_cli.model import Sample


def load(path: str) -> list[Run]:
    """The runs at a path: one, or one for each row of a summary. Raises RecordError."""
    if os.path.basename(path) == names.RECORD and os.path.exists(_beside(path, names.SAMPLES)):
        path = os.path.dirname(path) or "."
    if os.path.isdir(path):
        return [load_folder(path)]
    if path.lower().endswith(".csv"):
        from emt_cli.store.summary import read_summary

        return read_summary(path)
    from emt_cli.store.reading import read

    run = read(path)
    return [replace(run, state="recovered") if run.state == "running" else run]


def load_folder(path: str) -> Run:
    """The run in a folder, its samples a stream over samples.csv. Raises RecordError."""
    from emt_cli.store.reading import read

    record = os.path.join(path, names.RECORD)
    if not os.path.lexists(record):
        raise _no_record(path)
    run = read(record)
    journal = _local_journal(record) if run.state == "running" else ""
    run = _with_tables(run, path, journal)
    return recover(run, path) if run.state == "running" else run


def recover(run: Run, folder: str) -> Run:
    """What the journal tells of a run that has no end yet.

    `recovered` where its recorder is gone, otherwise still `running`; duration, joules by channel and CPU
    time stand as of the last sample, and cover what the samples cover.
    """
    is_going_on = liveness.is_alive(
        run.recorder_pid,
        run.recorder_started_ticks,
        node=run.host.node,
        boot_id=run.host.boot_id,
        changed_at=changed_at(folder),
    )
    run = replace(run, state="running" if is_going_on else "recovered")
    last, observed = _observe(run)
    if last is None:
        return run
    cpu_time = replace(
        run.cpu_time,
        tree_s=last.cpu_tree_s,
        machine_s=last.cpu_machine_s,
        winner="samples",
        logical_cpus=max(run.cpu_time.logical_cpus, run.host.cpu_count),
    )
    return replace(run, duration_s=max(last.t_s, 0.0), observed=observed, cpu_time=cpu_time)


def changed_at(folder: str) -> float:
    """When the journal of a folder last changed, in seconds since the epoch; 0 if it cannot be told."""
    for name in (names.SAMPLES, ""):
        try:
            return os.stat(os.path.join(folder, name)).st_mtime
        except OSError:
            continue
    return 0.0


def _with_tables(run: Run, path: str, journal: str) -> Run:
    from emt_cli.store.tables import read_marks, read_processes

    samples = journal or os.path.join(path, names.SAMPLES)
    processes = os.path.join(path, names.PROCESSES)
    marks = os.path.join(path, names.MARKS)
    return replace(
        run,
        samples=SampleFile(samples, run.channels) if os.path.exists(samples) else (),
        processes=read_processes(processes) if os.path.exists(processes) else run.processes,
        marks=read_marks(marks) if os.path.exists(marks) else run.marks,
    )


def _observe(run: Run) -> tuple[Sample | None, tuple[Observed, ...]]:
    """The last sample, and of each channel the joules up to its last reading and its largest power."""
    count = len(run.channels)
    energy: list[float | None] = [None] * count
    since, power, readings = [0.0] * count, [0.0] * count, [0] * count
    last = None
    for last in run.samples:
        for at, now in enumerate(last.energy_j):
            if now is None:
                continue
            readings[at] += 1
            if now == energy[at]:
                continue  # a repeat: the power since the last change is told by the next one
            before, watts = energy[at], last.power_w[at]
            if watts is None and before is not None and last.t_s > since[at]:
                watts = (now - before) / (last.t_s - since[at])
            energy[at], since[at] = now, last.t_s
            power[at] = max(power[at], watts or 0.0)
    observed = tuple(
        Observed(channel=channel.id, energy_j=energy[at] or 0.0, readings=readings[at], max_power_w=power[at])
        for at, channel in enumerate(run.channels)
        if readings[at]
    )
    return last, observed


def _local_journal(record: str) -> str:
    """The journal of a run on a network file system whose emt was killed before the last copy, if it is
    still on this node; else nothing. Only a private regular file of this user is believed."""
    from emt_cli.store.disk import read_limited
    from emt_cli.store.reading import LARGEST_FILE, parse

    document = parse(read_limited(record, LARGEST_FILE), record)
    files = document.get("files") if isinstance(document, dict) else None
    journal = files.get("journal") if isinstance(files, dict) else None
    if not isinstance(journal, str) or "\0" in journal:
        return ""
    try:
        facts = os.lstat(journal)
    except (OSError, UnicodeEncodeError):
        return ""
    if not hasattr(os, "geteuid"):  # Windows: no owner, no mode, and no local journal either
        return ""
    is_ours = stat.S_ISREG(facts.st_mode) and facts.st_uid == os.geteuid() and not facts.st_mode & 0o077
    return journal if is_ours else ""


def _beside(path: str, name: str) -> str:
    return os.path.join(os.path.dirname(path), name)


def _no_record(path: str) -> RecordError:
    if os.path.exists(os.path.join(path, names.SAMPLES)):
        return RecordError(
            f"{path} holds samples but no {names.RECORD}: without it nobody knows what was measured",
            hint=f"the raw joules are in {os.path.join(path, names.SAMPLES)}; emt runs rm {path} removes it",
        )
    return RecordError(
        f"{path} is no run: it holds no {names.RECORD}", hint="emt runs lists what the store holds"
    )
