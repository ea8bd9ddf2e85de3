"""The doctor: what keeps this machine from being measured, and what to type.

`gathering` reads the facts, an examination is a pure function from facts to findings, and all of them stand
in one table. Nothing here changes anything: `script` writes down what would.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from emt_cli.doctor import conditions, counters, gpus, installation
from emt_cli.doctor.facts import Facts
from emt_cli.doctor.findings import Finding

EXAMINATIONS: tuple[Callable[[Facts], Iterable[Finding]], ...] = (
    counters.unread,
    counters.rapl_rights,
    counters.cpu_without_counter,
    counters.whole_node,
    gpus.nvidia,
    gpus.amd,
    counters.refused,
    installation.libraries,
    installation.store,
    conditions.perf,
    conditions.hidden_processes,
    installation.settings,
    installation.location,
    installation.calibration,
    counters.memory,
    conditions.power_supply,
    conditions.governor,
    conditions.turbo,
    conditions.smt,
    conditions.clock,
)
"""The most important first."""

_STATES = ("problem", "note", "ok")


def examine(facts: Facts) -> list[Finding]:
    """Every finding: problems, then notes, then what is in order, each in the order of importance."""
    found = [finding for examination in EXAMINATIONS for finding in examination(facts)]
    return sorted(found, key=lambda finding: _STATES.index(finding.state))


def verdict(facts: Facts) -> str:
    """One sentence: what is measured, and what is only estimated or stated."""
    judged = facts.judged
    by_provenance: dict[str, list[str]] = {}
    for channel in judged.channels:
        if channel.id in judged.counted:
            kind: str = "measured" if channel.provenance == "integrated" else channel.provenance
            kind = "unread" if channel.id in judged.faults else kind
            by_provenance.setdefault(kind, []).append(channel.id)
    measured, words = by_provenance.pop("measured", []), {"configured": "as you stated", "unread": "not read"}
    rest = "; ".join(f"{words.get(kind, kind)}: {', '.join(ids)}" for kind, ids in by_provenance.items())
    if judged.is_measured:
        said = f"Energy will be measured: {', '.join(measured)}."
    elif measured:
        said = f"Energy will be measured in part: {', '.join(measured)}."
    elif judged.counted:
        said = "Energy will not be measured."
    else:
        return "There is nothing to measure here, and nothing to estimate from."
    return f"{said} {rest[0].upper()}{rest[1:]}." if rest else said
