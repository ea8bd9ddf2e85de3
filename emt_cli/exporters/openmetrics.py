"""OpenMetrics text, as GitLab's metrics reports and Prometheus' textfile collectors read it.

Every family is a gauge, since a run is a fact and not a process that goes on. Labels hold nothing that
changes from run to run (no id, no date): a merge request compares the values under the same labels.
Source: OpenMetrics 1.0 (prometheus.io/docs/specs/om/open_metrics_spec): families in one piece each, the
unit as the name's suffix, `# EOF` at the end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from emt_cli.exporters.figures import figures, title
from emt_cli.model import Run
from emt_cli.reports.phrases import finite
from emt_cli.reports.words import clean

Labels = tuple[tuple[str, str], ...]


class _Family(NamedTuple):
    name: str
    unit: str
    help: str


_ENERGY = _Family("emt_energy_joules", "joules", "Energy, by whose it is: the command's share, the machine's")
_LOW = _Family("emt_energy_low_joules", "joules", "Lower bound of the headline energy")
_HIGH = _Family("emt_energy_high_joules", "joules", "Upper bound of the headline energy")
_DEVICE = _Family("emt_device_energy_joules", "joules", "Energy of each counted channel")
_EACH = _Family("emt_execution_energy_joules", "joules", "Mean energy of one execution of a repeated run")
_UNIT = _Family("emt_unit_energy_joules", "joules", "Energy of one unit of work")
_POWER = _Family("emt_power_watts", "watts", "Mean power of the headline energy")
_TIME = _Family("emt_duration_seconds", "seconds", "How long the command took")
_CPU = _Family("emt_cpu_seconds", "seconds", "CPU time of the command and all that it started")
_CARBON = _Family("emt_co2e_grams", "grams", "Greenhouse gases of the headline energy, as CO2")
_EXIT = _Family(
    "emt_exit_code", "", "Exit code of the command, 128 and the signal's number where it was killed"
)
_SOURCE = _Family("emt_estimated", "", "1 where a part of the energy comes from a model, else 0")


def render(runs: Sequence[Run]) -> str:
    """The exposition of the runs. Those of one name are told apart by a number, in the order given."""
    found: dict[_Family, list[tuple[Labels, float]]] = {}
    for run, name in zip(runs, _names(runs), strict=True):
        for family, labels, value in _points(run, name):
            found.setdefault(family, []).append((labels, value))
    order = (_ENERGY, _LOW, _HIGH, _EACH, _UNIT, _DEVICE, _POWER, _TIME, _CPU, _CARBON, _EXIT, _SOURCE)
    lines = [line for family in order if family in found for line in _written(family, found[family])]
    return "".join(f"{line}\n" for line in [*lines, "# EOF"])


def _names(runs: Sequence[Run]) -> Iterator[str]:
    titles = [title(run) for run in runs]
    many = {name for name, count in Counter(titles).items() if count > 1}
    taken, seen = set(titles), Counter[str]()
    for name in titles:
        if name not in many:
            yield name
            continue
        numbered = name
        while numbered in taken:
            seen[name] += 1
            numbered = f"{name} #{seen[name]}"
        taken.add(numbered)
        yield numbered


def _points(run: Run, name: str) -> Iterator[tuple[_Family, Labels, float]]:
    said, by_run = figures(run), (("run", name),)
    values: Mapping[_Family, float | None] = {
        _LOW: said.low_j,
        _HIGH: said.high_j,
        _EACH: _mean_j(run),
        _POWER: said.power_w,
        _TIME: said.duration_s,
        _CPU: finite(run.cpu_time.tree_s),
        _CARBON: said.co2e_g,
        _EXIT: run.exit.code if run.exit.signal is None else 128 + run.exit.signal,
    }
    whose = (("command", said.attributed_j), ("machine", said.machine_j), ("platform", said.platform_j))
    for of, joules in whose:
        if joules is not None:
            yield _ENERGY, (*by_run, ("of", of)), joules
    for family, value in values.items():
        if value is not None:
            yield family, by_run, float(value)
    if run.work is not None and (each_j := finite(run.work.per_unit_j)) is not None:
        yield _UNIT, (*by_run, ("unit", clean(run.work.unit))), each_j
    if run.energy is None:
        return
    yield _SOURCE, by_run, float(said.provenance == "estimated")
    taken: set[str] = set()
    for channel in run.energy.channels:
        of, joules = (
            ("machine", channel.machine_j)
            if said.basis != "attributed"
            else ("command", channel.attributed_j)
        )
        id = clean(channel.id)
        if channel.is_counted and id not in taken and (known := finite(joules)) is not None:
            taken.add(id)
            yield _DEVICE, (*by_run, ("channel", id), ("of", of)), known


def _mean_j(run: Run) -> float | None:
    """Of the executions that succeeded, or of all where none did."""
    if run.repeat is None:
        return None
    spread = run.repeat.attributed_j if run.settings.scope == "tree" else run.repeat.machine_j
    return None if spread is None else finite(spread.mean)


def _written(family: _Family, points: Sequence[tuple[Labels, float]]) -> Iterator[str]:
    yield f"# TYPE {family.name} gauge"
    if family.unit:
        yield f"# UNIT {family.name} {family.unit}"
    yield f"# HELP {family.name} {family.help}."
    for labels, value in points:
        told = ",".join(f'{name}="{_escaped(text)}"' for name, text in labels)
        yield f"{family.name}{{{told}}} {value!r}"


def _escaped(text: str) -> str:
    """A label's value; `clean` has left no line break in it."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
