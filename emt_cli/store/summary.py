"""The summary CSV: a run a row, the same columns whatever the machine. The row of a repeated run tells the
mean of its executions, and how many they were.

It stands apart from `outputs` since it is both written and read: `emt report` takes such a file, as far
as its columns tell.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from emt_cli.errors import RecordError
from emt_cli.store.record import FORMAT
from emt_cli.store.tables import rows_of, text_of, to_bytes

if TYPE_CHECKING:
    from emt_cli.model import Run


def _joined(command: tuple[str, ...]) -> str:
    from shlex import join

    return join(command)


def _tags(run: Run) -> str:
    from json import dumps

    return dumps(run.tags) if run.tags else ""


_READERS: tuple[tuple[str, Callable[[Run], object]], ...] = (
    ("format", lambda run: FORMAT),
    ("id", lambda run: run.id),
    ("name", lambda run: run.name),
    ("started_at", lambda run: run.started_at),
    ("state", lambda run: run.state),
    ("duration_s", lambda run: run.duration_s),
    ("exit_code", lambda run: run.exit.code),
    ("exit_signal", lambda run: None if run.exit.signal is None else int(run.exit.signal)),
    ("command", lambda run: _joined(run.command)),
    ("node", lambda run: run.host.node),
    ("cpu_model", lambda run: run.host.cpu_model),
    ("cpu_count", lambda run: run.host.cpu_count),
    ("job_scheduler", lambda run: run.job and run.job.scheduler),
    ("job_id", lambda run: run.job and run.job.id),
    ("job_rank", lambda run: run.job and run.job.rank),
    ("frequency_hz", lambda run: run.sampling.frequency_hz),
    ("machine_j", lambda run: run.energy and run.energy.machine_j),
    ("machine_low_j", lambda run: run.energy and run.energy.machine_low_j),
    ("machine_high_j", lambda run: run.energy and run.energy.machine_high_j),
    ("platform_j", lambda run: run.energy and run.energy.platform_j),
    ("attributed_j", lambda run: run.energy and run.energy.attributed_j),
    ("active_j", lambda run: run.energy and run.energy.active_j),
    ("idle_share_j", lambda run: run.energy and run.energy.idle_share_j),
    ("idle_j", lambda run: run.energy and run.energy.idle_j),
    ("low_j", lambda run: run.energy and run.energy.low_j),
    ("high_j", lambda run: run.energy and run.energy.high_j),
    ("uncertainty_j", lambda run: run.energy and run.energy.uncertainty_j),
    ("provenance", lambda run: run.energy and run.energy.provenance),
    ("cpu_tree_s", lambda run: run.cpu_time.tree_s),
    ("cpu_machine_s", lambda run: run.cpu_time.machine_s),
    ("cpu_coverage", lambda run: run.cpu_time.coverage),
    ("rule", lambda run: run.attribution and run.attribution.rule),
    ("idle_policy", lambda run: run.attribution and run.attribution.idle_policy),
    ("scope", lambda run: run.settings.scope),
    ("total", lambda run: run.settings.total),
    ("co2e_g", lambda run: run.carbon and run.carbon.co2e_g),
    ("co2e_low_g", lambda run: run.carbon and run.carbon.low_g),
    ("co2e_high_g", lambda run: run.carbon and run.carbon.high_g),
    ("co2e_basis", lambda run: run.carbon and run.carbon.basis),
    ("intensity_g_per_kwh", lambda run: run.carbon and run.carbon.intensity_g_per_kwh),
    ("location", lambda run: run.carbon and run.carbon.location),
    ("location_source", lambda run: run.carbon and run.carbon.location_source),
    ("dataset", lambda run: run.carbon and run.carbon.dataset),
    ("year", lambda run: run.carbon and run.carbon.year),
    ("pue", lambda run: run.carbon and run.carbon.pue),
    ("suspended_s", lambda run: run.suspended_s),
    ("warnings", lambda run: " ".join(notice.code for notice in run.notices)),
    ("tags", _tags),
    ("emt_version", lambda run: run.host.emt_version),
    ("executions", lambda run: max(1, len(run.executions))),
)

COLUMNS = tuple(name for name, _ in _READERS)
_LATER = frozenset({"executions"})
"""Columns that the first files of this format do not have."""
_SUMS = frozenset(
    {"duration_s", "cpu_tree_s", "cpu_machine_s", "co2e_g", "co2e_low_g", "co2e_high_g", "suspended_s"}
    | {name for name in COLUMNS if name.endswith("_j")}
)
"""What a repeated run has N times as much of as an execution."""


def header() -> bytes:
    return to_bytes(",".join(COLUMNS) + "\n")


def row(run: Run) -> bytes:
    """One line; an unknown is an empty cell."""
    return to_bytes(",".join(text_of(_cell(run, name, read)) for name, read in _READERS) + "\n")


def _cell(run: Run, name: str, read: Callable[[Run], object]) -> object:
    value = read(run)
    if run.executions and name in _SUMS and isinstance(value, float):
        return value / len(run.executions)
    return value


def read_summary(path: str) -> list[Run]:
    """The runs of a summary file. Raises RecordError, naming file and line."""
    runs, places, width = [], {}, 0
    for line, cells in rows_of(path):
        if line == 1:
            if cells[:2] != ["format", "id"] or (
                missing := [name for name in COLUMNS if name not in cells and name not in _LATER]
            ):
                what = (
                    f"it has no column {missing[0]}"
                    if cells[:2] == ["format", "id"]
                    else "its header differs"
                )
                raise RecordError(f"{path} is no summary of emt: {what}", hint=_hint(cells))
            places, width = {name: cells.index(name) for name in COLUMNS if name in cells}, len(cells)
        elif len(cells) != width:
            raise RecordError(
                f"{path}: line {line} has {len(cells)} cells, expected {width}", hint=_hint(cells)
            )
        else:
            runs.append(_run({name: cells[at] for name, at in places.items()}, f"{path}: line {line}"))
    return runs


def _run(cells: dict[str, str], source: str) -> Run:
    """A row as a document of the record, so that the one decoder judges it."""
    from emt_cli.store.reading import decode

    number = {name: _number(text) for name, text in cells.items()}
    energy = {name: number[name] for name in COLUMNS if name.endswith("_j")}
    has_energy = any(value is not None for value in energy.values()) or cells["provenance"]
    carbon = {
        **{name: number[name] for name in ("co2e_g", "intensity_g_per_kwh", "pue", "year")},
        **{name: cells[name] for name in ("location", "location_source", "dataset")},
        "low_g": number["co2e_low_g"],
        "high_g": number["co2e_high_g"],
        "basis": cells["co2e_basis"],
        "energy_j": 0.0 if not cells["co2e_g"] else _carbon_energy_j(number),
        "pue_source": "",
        "location_name": cells["location"],
        "intensity_source": cells["dataset"],
    }
    rule = {name: cells[name] for name in ("rule", "idle_policy", "scope", "total")}
    document = {
        "format": number["format"],
        "command": _split(cells["command"]),
        "exit": {"code": number["exit_code"], "signal": number["exit_signal"]},
        "host": {
            **{name: cells[name] for name in ("node", "cpu_model", "emt_version")},
            "cpu_count": number["cpu_count"],
        },
        "job": {"scheduler": cells["job_scheduler"], "id": cells["job_id"], "rank": number["job_rank"]}
        if cells["job_id"]
        else None,
        "sampling": {"frequency_hz": number["frequency_hz"]},
        "energy": {**energy, "provenance": cells["provenance"] or None} if has_energy else None,
        "cpu_time": {
            "tree_s": number["cpu_tree_s"],
            "machine_s": number["cpu_machine_s"],
            "coverage": number["cpu_coverage"],
            "logical_cpus": number["cpu_count"],
        },
        "attribution": {**rule, "idle_source": ""} if cells["rule"] else None,
        "settings": {"scope": cells["scope"], "total": cells["total"]},
        "carbon": carbon if cells["co2e_g"] else None,
        "warnings": [{"code": code, "text": ""} for code in cells["warnings"].split()],
        "tags": _read_tags(cells["tags"], source),
        **{name: cells[name] for name in ("id", "name", "started_at", "state")},
        **{name: number[name] for name in ("duration_s", "suspended_s")},
    }
    return decode(document, source)


def _carbon_energy_j(number: dict[str, object]) -> object:
    """The joules that the grams stand for: grams / intensity / PUE."""
    from emt_cli.units import JOULES_PER_KWH

    grams, intensity, pue = (number[name] for name in ("co2e_g", "intensity_g_per_kwh", "pue"))
    if (
        isinstance(grams, (int, float))
        and isinstance(intensity, (int, float))
        and isinstance(pue, (int, float))
    ):
        return grams / (intensity * pue) * JOULES_PER_KWH if intensity * pue else 0.0
    return None


def _split(text: str) -> list[str]:
    from shlex import split

    try:
        return split(text)
    except ValueError:  # cut short
        return [text]


def _read_tags(text: str, source: str) -> object:
    from emt_cli.store.reading import parse

    return parse(text.encode("utf-8", "replace"), f"{source}: tags") if text else {}


def _number(text: str) -> object:
    """A cell as a number where it is one; the decoder says whether that is what it should be."""
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return text


def _hint(cells: list[str]) -> str:
    if cells and cells[0] == "t_s":
        return "these are the samples of a run: give its folder instead"
    return "the file is damaged or was not written by emt run -o NAME.csv"
