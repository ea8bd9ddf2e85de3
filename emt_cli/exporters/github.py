"""What a step of a GitHub workflow leaves behind: a summary, annotations and outputs.

Pure text; the command appends it to the files that GitHub names. The texts come from a record and stand in
a protocol of lines, so that a line break in one of them must not become a command of its own.
Source: GitHub Docs, "Workflow commands for GitHub Actions"; the escapes are those of actions/toolkit
(packages/core/src/command.ts).
"""

from __future__ import annotations

from emt_cli import units
from emt_cli.exporters.figures import figures, title
from emt_cli.model import Run
from emt_cli.reports.facts import warning_texts
from emt_cli.reports.markdown import as_markdown
from emt_cli.reports.phrases import energy_with_bounds, outcome, provenance
from emt_cli.reports.words import clean, cut

_MOST = 9
"""GitHub shows ten annotations of a kind for each step; the energy is one of the notices."""
_LONGEST = 1_000
_EXPECTED = frozenset({"estimated", "location_unknown"})
"""True of every run on a virtual machine: worth a note, not a warning in every pull request."""


def summary(run: Run) -> str:
    """GitHub's Markdown, for $GITHUB_STEP_SUMMARY."""
    return as_markdown([run]) + "\n"


def outputs(run: Run) -> str:
    """Lines of `name=value` for $GITHUB_OUTPUT; what is unknown has none."""
    said = figures(run)
    values = {
        "energy_j": said.energy_j,
        "energy_low_j": said.low_j,
        "energy_high_j": said.high_j,
        "machine_j": said.machine_j,
        "power_w": said.power_w,
        "co2e_g": said.co2e_g,
        "duration_s": said.duration_s,
    }
    lines = [f"{name}={value!r}\n" for name, value in values.items() if value is not None]
    return "".join(lines) + (f"provenance={said.provenance}\n" if said.provenance.isalpha() else "")


def commands(run: Run) -> str:
    """Workflow commands for standard output: the energy as a notice, and what a reader should know."""
    lines = [_command("notice", "Energy", _headline(run))]
    told = {"notice": 0, "warning": 0}
    for notice, (text, remedy) in zip(run.notices, warning_texts(run), strict=True):
        kind = "notice" if notice.code in _EXPECTED else "warning"
        told[kind] += 1
        if told[kind] <= _MOST:
            lines.append(
                _command(kind, clean(f"emt {notice.code}"), f"{text} -> {remedy}" if remedy else text)
            )
    return "".join(f"{line}\n" for line in lines)


def _headline(run: Run) -> str:
    said = figures(run)
    if run.energy is None or said.energy_j is None:
        return f"{title(run)}: energy unknown"
    facts = [
        energy_with_bounds(said.energy_j, None, said.low_j, said.high_j),
        provenance(run.energy),
        "" if said.co2e_g is None else f"{units.mass(said.co2e_g)} CO2e",
        f"in {units.duration(said.duration_s)}",
        "" if outcome(run) == "0" else f"end: {outcome(run)}",
    ]
    return f"{title(run)}: " + ", ".join(fact for fact in facts if fact)


def _command(kind: str, name: str, text: str) -> str:
    return f"::{kind} title={_property(cut(name, 80))}::{_data(cut(text, _LONGEST))}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
