"""`emt doctor`: whether energy will be measured here, what keeps it from being so, and what to type."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from emt_cli.commands import stdout
from emt_cli.config import Config, keys, load_here
from emt_cli.reports.words import clean, encodable, wrap

if TYPE_CHECKING:
    from emt_cli.commands.stdout import Terminal
    from emt_cli.doctor.facts import Facts, Judged, Setup
    from emt_cli.doctor.findings import Finding
    from emt_cli.model import Channel
    from emt_cli.sensors.base import Machine

app = typer.Typer(add_completion=False)

_ESTIMATED = 3
"""The status that says no: energy would be estimated, wholly or in part."""
_OPENING_S = 2.0
_LOOK_S = 0.02
_TOTAL_LOOK_S = 0.2
_DEADLINE_S = 2.4
"""An examination takes less than three seconds, whatever hangs: what opening leaves of that, a sensor that
blocks may use up (IPMI takes a second for a reading)."""
_MOST_LINES = 40
_TITLES = {"problem": ("Problems", "!", "yellow"), "note": ("Notes", "-", ""), "ok": ("In order", "+", "dim")}

_FIX = "emt doctor --fix prints the repairs as a script; nothing is changed until you run it."

Line = tuple[str, str]
"""A line and its style."""


@app.command()
def doctor(
    context: typer.Context,
    fix: Annotated[bool, typer.Option("--fix", help="Print a shell script that mends what can be.")] = False,
    form: Annotated[
        Literal["table", "json"], typer.Option("--format", help="Lines for people, or JSON for programs.")
    ] = "table",
) -> None:
    """Say whether energy will be measured here, and what to type if not.

    Status 0: it will be measured (a memory without a counter may be
    estimated). Status 3: it would be estimated. Nothing is ever changed:
    --fix only prints a script, to read and to run.

    Example: emt doctor --fix > emt-fix.sh
    """
    from emt_cli.commands.sensors import machine_of
    from emt_cli.doctor import examine
    from emt_cli.doctor.gathering import gather
    from emt_cli.doctor.script import script

    config = load_here({})
    machine = machine_of(context)
    facts = gather(
        machine, _judge(machine, config), _setup(config, machine), user=_user(), is_root=_is_root()
    )
    findings = examine(facts)
    if fix:
        stdout.write(script(facts, findings))
        return
    stdout.write(_json(facts, findings) if form == "json" else _page(facts, findings, stdout.terminal()))
    if not facts.judged.is_measured:
        raise typer.Exit(_ESTIMATED)


# --- what is known here and nowhere below -----------------------------------------------------------


def _judge(machine: Machine, config: Config) -> Judged:
    """What a run would read, and whether it reads."""
    from emt_cli.analysis.cover import counted, is_measured
    from emt_cli.commands.choosing import wishes_of
    from emt_cli.doctor.facts import Judged
    from emt_cli.model import Gap
    from emt_cli.sensors import open_available
    from emt_cli.sensors.probing import probe_all

    began_s = time.monotonic()
    opened = open_available(machine, replay=config[keys.REPLAY], wishes=wishes_of(config), limit_s=_OPENING_S)
    channels: list[Channel] = []
    faults: dict[str, str] = {}
    left_s = began_s + _DEADLINE_S - _TOTAL_LOOK_S - time.monotonic()
    probes = probe_all(opened.sensors, _LOOK_S, total_s=_TOTAL_LOOK_S, patience_s=2 * max(left_s, 0.1))
    for sensor, probe in zip(opened.sensors, probes, strict=True):
        channels += sensor.channels
        if not probe.looks:
            faults |= {channel.id: "it does not answer" for channel in sensor.channels}
            continue
        sensor.close()
        for channel, look in zip(sensor.channels, probe.looks, strict=True):
            if isinstance(last := look.readings[-1], Gap):
                faults[channel.id] = last.reason
    ids = counted(channels, config[keys.TOTAL])
    return Judged(
        channels=tuple(channels),
        counted=ids,
        is_measured=is_measured(channels, config[keys.TOTAL]) and not ids & faults.keys(),
        notices=opened.notices,
        absent=dict(opened.absent),
        faults=faults,
    )


def _setup(config: Config, machine: Machine) -> Setup:
    from emt_cli.analysis.carbon import find_grid
    from emt_cli.commands.keeping import store_of
    from emt_cli.doctor.facts import Setup
    from emt_cli.errors import EmtError
    from emt_cli.host import timezone
    from emt_cli.model import Notice

    notices = list(config.notices)
    place, source = "", ""
    try:
        grid = find_grid(
            location=config[keys.LOCATION],
            location_source=config.source(keys.LOCATION),
            intensity=config[keys.INTENSITY],
            intensity_source=config.source(keys.INTENSITY),
            timezone=timezone(machine.environ),
        )
        place, source = grid.location_name, grid.location_source
    except EmtError as error:
        notices.append(Notice(code="bad_location", text=str(error), hint=error.hint))
    store = store_of(config) if config[keys.STORE_ENABLED] else ""
    return Setup(
        store=store,
        store_fault=store_fault(store) if store else "",
        location=place,
        location_source=source,
        calibration=_calibration(machine),
        notices=tuple(notices),
    )


def _calibration(machine: Machine) -> str:
    from datetime import datetime, timezone

    from emt_cli import host
    from emt_cli.commands.keeping import home
    from emt_cli.store.calibration import folder, known

    here = host.facts(machine.text, machine.environ)
    return known(here, folder(os.environ, home()), machine.text, datetime.now(timezone.utc)).source


def store_fault(store: str) -> str:
    """Why no run could be kept in this folder, which need not be there yet; empty where nothing is known."""
    folder = store
    while not os.path.lexists(folder) and os.path.dirname(folder) != folder:
        folder = os.path.dirname(folder)
    if not os.path.isdir(folder):
        return f"{folder} is no folder"
    if os.access(folder, os.W_OK | os.X_OK):
        return ""
    return "there is no right to write" if folder == store else f"there is no right to write in {folder}"


def _is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0


def _user() -> str:
    """Who should join a group; under sudo, whoever called it. Empty for root itself."""
    if _is_root():
        return os.environ.get("SUDO_USER", "")
    try:
        import pwd

        return pwd.getpwuid(os.getuid()).pw_name
    except (ImportError, KeyError):  # not Unix; a number without a name, as in a container
        return ""


# --- saying it --------------------------------------------------------------------------------------


def _page(facts: Facts, findings: Sequence[Finding], to: Terminal) -> str:
    from emt_cli.doctor import verdict
    from emt_cli.doctor.script import is_empty

    style = "bold green" if facts.judged.is_measured else "bold yellow"
    lines = [(line, style) for line in wrap(clean(verdict(facts)), to.width, _MOST_LINES)]
    for state, (title, mark, color) in _TITLES.items():
        named = [finding for finding in findings if finding.state == state]
        if named:
            lines += [("", ""), (title, "bold")]
        for finding in named:
            lines += _said(finding, mark, color, to.width)
    if not is_empty(facts, findings):
        lines += [("", ""), *((line, "") for line in wrap(_FIX, to.width, _MOST_LINES))]
    return encodable(_colored(lines, to.width) if to.color else _plain(lines), to.encoding)


def _said(finding: Finding, mark: str, color: str, width: int) -> Iterator[Line]:
    """The finding, the lines to type as they are (never broken), then what words can say."""
    for index, line in enumerate(wrap(clean(finding.text), width - 4, _MOST_LINES)):
        yield f"  {' ' if index else mark} {line}", color
    for line in finding.remedy:
        yield f"      {clean(line)}", "cyan"
    sentences = [_sentence(text) for text in (finding.advice, finding.why) if text]
    for line in wrap(" ".join(sentences), width - 4, _MOST_LINES) if sentences else ():
        yield f"    {line}", "dim"


def _sentence(text: str) -> str:
    said = clean(text)
    return f"{said[:1].upper()}{said[1:]}" + ("" if said.endswith((".", "!", "?")) else ".")


def _plain(lines: Sequence[Line]) -> str:
    return "".join(f"{line}\n" for line, _ in lines)


def _colored(lines: Sequence[Line], width: int) -> str:
    from rich.console import Console
    from rich.text import Text

    console = Console(width=width, force_terminal=True, highlight=False)
    with console.capture() as capture:
        for line, style in lines:
            console.print(Text(line, style=style), soft_wrap=True)
    return capture.get()


def _json(facts: Facts, findings: Sequence[Finding]) -> str:
    from emt_cli.doctor import verdict
    from emt_cli.reports.data import as_json

    judged = facts.judged
    channels = [
        {
            "id": channel.id,
            "sensor": channel.sensor,
            "provenance": channel.provenance,
            "counted": channel.id in judged.counted,
            "fault": judged.faults.get(channel.id),
        }
        for channel in judged.channels
    ]
    found = [
        {
            "code": finding.code,
            "state": finding.state,
            "text": finding.text,
            "remedy": list(finding.remedy),
            "advice": finding.advice or None,
            "why": finding.why or None,
        }
        for finding in findings
    ]
    document = {"measured": judged.is_measured, "verdict": verdict(facts), "channels": channels}
    return as_json([{**document, "findings": found}])
