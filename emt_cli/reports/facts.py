"""The parts of a report that are labelled lines rather than tables: what ran, carbon, method.

Pairs of a label and a text, clean and ready to be laid out; a terminal and Markdown show the same ones.
"""

from __future__ import annotations

from emt_cli import units
from emt_cli.model import Carbon, Run
from emt_cli.reports.phrases import (
    command_line,
    cpu_seconds,
    energy_with_bounds,
    finite,
    outcome,
    started,
)
from emt_cli.reports.words import clean, cut

STATES = {
    "recovered": "RECOVERED: emt was stopped before the end; this is everything up to its last flush",
    "running": "RUNNING: the record of a run that has not ended, or that nobody closed",
}


def setting(run: Run) -> list[str]:
    """Where it ran, the job it belongs to and its tags, a line each."""
    host, job = run.host, run.job
    cpus = f"{host.cpu_count} CPU{'' if host.cpu_count == 1 else 's'}"
    lines = [
        ", ".join(
            cut(clean(fact), 60)
            for fact in (host.node, host.cpu_model, cpus, host.hypervisor, host.container)
            if fact
        )
    ]
    if job is not None:
        rank = "" if job.rank is None else f", rank {job.rank}"
        lines.append(clean(f"{job.scheduler} job {job.id} {job.step}").rstrip() + rank)
    if run.tags:
        lines.append(
            "tags: " + ", ".join(cut(clean(f"{key}={value}"), 60) for key, value in run.tags.items())
        )
    return lines


def carbon_facts(carbon: Carbon) -> list[tuple[str, str]]:
    """What the figure is made of, and what it is like; every factor with its source."""
    year = "" if carbon.year is None else f", {carbon.year}"
    code, name = cut(clean(carbon.location), 40), cut(clean(carbon.location_name), 40)
    place = name if code.lower() == name.lower() else f"{code} {name}".strip()
    intensity = f"{units.significant(carbon.intensity_g_per_kwh, 3)} g/kWh {clean(carbon.scope)}"
    facts = [
        ("of", f"{units.energy(carbon.energy_j)} {clean(carbon.basis)} energy"),
        ("location", f"{place} ({clean(carbon.location_source)})"),
        ("intensity", f"{intensity} ({clean(carbon.intensity_source)}: {clean(carbon.dataset)}{year})"),
        ("PUE", f"{carbon.pue:g} ({clean(carbon.pue_source)})"),
    ]
    return facts + [
        ("like", f"{clean(same.text).removeprefix('like ')} ({clean(same.source)})")
        for same in carbon.equivalents
    ]


def method_facts(run: Run) -> list[tuple[str, str]]:
    """How the figures came about: rule, witnesses, sampling, what emt itself cost."""
    facts: list[tuple[str, str]] = []
    if (rule := run.attribution) is not None:
        idle = f"idle policy {rule.idle_policy}, idle power {rule.idle_source or 'unknown'}"
        facts.append(("shared by", f"{rule.rule}; {idle}; scope {rule.scope}; total of {rule.total}"))
    if run.cpu_time.witnesses:
        seen = ", ".join(f"{name} {cpu_seconds(value)} s" for name, value in run.cpu_time.witnesses.items())
        facts.append(("CPU time", f"{seen}; taken: {run.cpu_time.winner}"))
    sampling = run.sampling
    ticks = f", {sampling.ticks} ticks, {sampling.late} late" if sampling.ticks else ""
    facts.append(("sampled", f"at {sampling.frequency_hz:g} Hz{ticks}"))
    if own := own_cost(run):
        facts.append(("emt itself", own))
    facts.append(("run", run.id))
    return [(label, clean(text)) for label, text in facts]


def battery(run: Run) -> str:
    """`0.36 % of a full charge (41.2 Wh); 3 h 10 min left at this power`; empty without a battery."""
    if not any(channel.domain == "battery" for channel in run.channels):
        return ""
    from emt_cli.analysis.battery import drain

    taken = drain(run)
    if taken is None:
        return ""
    is_sharp = taken.high_share - taken.low_share <= taken.share
    share = units.significant(100 * taken.share, 2 if is_sharp else 1)
    said = f"{'' if is_sharp else 'about '}{share} % of a full charge"
    said += f" ({units.significant(taken.full_j / units.JOULES_PER_WATT_HOUR, 3)} Wh)"
    return said + (f"; {units.duration(taken.lasts_s)} left at this power" if taken.lasts_s else "")


def work(run: Run) -> str:
    """`50,000 images: 0.42 mJ ± 0.02 and 51.2 ng CO2e each, 1,230 a second`; empty where nobody counted."""
    done = run.work
    if done is None or finite(done.amount) is None:
        return ""
    each = energy_with_bounds(done.per_unit_j, None, done.per_unit_low_j, done.per_unit_high_j)
    if each and (grams := finite(done.per_unit_co2e_g)) is not None:
        each += f" and {units.mass(grams)} CO2e"
    facts = [f"{each} each"] if each else []
    if rate := finite(done.per_second):
        facts.append(f"{_count(rate)} a second" if rate >= 1 else f"{_count(1 / rate)} s for one")
    amount = f"{_count(done.amount)} {cut(clean(done.unit), 40)}"
    return f"{amount}: {', '.join(facts)}" if facts else amount


def _count(value: float) -> str:
    """`50,000`, `1.25`: whole numbers in full, others as far as they are worth it."""
    if value == round(value) or value >= 1000:
        return f"{round(value):,}"
    return units.significant(value, 3)


def warning_texts(run: Run) -> list[tuple[str, str]]:
    """What happened and what to do, clean; a summary row knows only the code. A remedy is told once."""
    told: set[str] = set()
    found = []
    for notice in run.notices:
        hint = clean(notice.hint)
        found.append((clean(notice.text) or clean(notice.code), "" if hint in told else hint))
        told.add(hint)
    return found


def own_cost(run: Run) -> str:
    """`0.12 CPU s in all, 0.02 CPU s while the command ran (41 mJ)`; empty if unknown."""
    joules = finite(run.energy.own_j) if run.energy is not None else None
    total_s, own_s = run.sampling.own_total_cpu_s, run.sampling.own_cpu_s
    costs = [f"{cpu_seconds(total_s)} CPU s in all"] if total_s else []
    costs += [f"{cpu_seconds(own_s)} CPU s while the command ran"] if own_s else []
    return ", ".join(costs) + (f" ({units.energy(joules)})" if own_s and joules is not None else "")


def row_cells(run: Run) -> dict[str, str]:
    """A run as one row of a table, by head of column; unknown is empty."""
    energy, took = run.energy, finite(run.duration_s)
    joules = finite(energy.attributed_j) if energy is not None else None
    machine = finite(energy.machine_j) if energy is not None else None
    grams = finite(run.carbon.co2e_g) if run.carbon is not None else None
    return {
        "started": started(run).removesuffix(" UTC")[5:16],
        "command": clean(run.name) or command_line(run.command) or "(no command)",
        "end": outcome(run),
        "time": units.duration(took) if took else "",
        "energy": "" if joules is None else units.energy(joules),
        "provenance": clean(energy.provenance) if energy is not None else "",
        "machine": "" if machine is None else units.energy(machine),
        "CO2e": "" if grams is None else units.mass(grams),
        "run": clean(run.id),
    }
