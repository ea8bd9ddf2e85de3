"""The phases of a run: what each named stretch used, all its times together.

A phase is divided by itself (see `stretches`): one that lies within another counts in both, so the phases
need not add up to the run.
"""

from __future__ import annotations

from emt_cli.analysis.stretches import Division, Stretch
from emt_cli.analysis.sums import known_sum
from emt_cli.model import Phase, PhaseSpan, Run


def account(run: Run) -> tuple[Phase, ...]:
    """The phases of a run that has its results, in the order in which they were first gone through."""
    by_name: dict[str, list[PhaseSpan]] = {}
    for span in run.spans:
        by_name.setdefault(span.name, []).append(span)
    division = Division(run)
    return tuple(_phase(name, spans, division) for name, spans in by_name.items())


def _phase(name: str, spans: list[PhaseSpan], division: Division) -> Phase:
    shares = division.among([Stretch(span.start_s, span.end_s, span.cpu_s) for span in spans])
    return Phase(
        name=name,
        count=len(spans),
        duration_s=sum(span.end_s - span.start_s for span in spans),
        cpu_s=sum(span.cpu_s for span in spans),
        attributed_j=known_sum(share.energy_j for share in shares),
        low_j=known_sum(share.low_j for share in shares),
        high_j=known_sum(share.high_j for share in shares),
    )
