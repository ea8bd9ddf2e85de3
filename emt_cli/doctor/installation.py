"""Examinations of emt itself: its libraries, its store and its settings."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from emt_cli.doctor.facts import Facts
from emt_cli.doctor.findings import Finding, ok

_MAKER_OF = {"pynvml": "nvidia", "pyrsmi": "amd"}


def libraries(facts: Facts) -> Iterator[Finding]:
    """Python packages that emt reads hardware with."""
    makers = {gpu.maker for gpu in facts.gpus} | ({"nvidia"} if facts.nvidia_version else set())
    packages = [package for module, package in facts.missing.items()]
    is_needed = any(_MAKER_OF.get(module, "") in (*makers, "") for module in facts.missing)
    if packages:
        yield Finding(
            code="library_missing",
            state="problem" if is_needed else "note",
            text=f"not installed: {', '.join(packages)}",
            remedy=(f"{shlex.quote(facts.python)} -m pip install {' '.join(packages)}",),
            why="They come with emt-cli; something has taken them away."
            if is_needed
            else "They come with emt-cli, and no hardware here needs them.",
        )


def store(facts: Facts) -> Iterator[Finding]:
    """Whether runs can be kept."""
    setup = facts.setup
    if setup.store_fault:
        yield Finding(
            code="store_unwritable",
            state="problem",
            text=f"runs cannot be stored in {setup.store}: {setup.store_fault}",
            remedy=('export EMT_STORE="$HOME/emt-runs"',),
            advice="any folder that you may write to; for good: store.path in ~/.config/emt/config.toml",
        )
    elif setup.store:
        yield ok("store", f"runs are stored in {setup.store}")


def location(facts: Facts) -> Iterator[Finding]:
    """Whose grid the carbon figure is about."""
    setup = facts.setup
    if setup.location_source == "world average":
        yield Finding(
            code="location_unknown",
            state="note",
            text="nothing tells where this machine is: CO2e is told with the world's mean intensity",
            remedy=("export EMT_LOCATION=FR",),
            advice="with your country's code; for good: carbon.location in ~/.config/emt/config.toml "
            "(emt config init writes that file)",
        )
    elif setup.location:
        yield ok("location", f"CO2e is told for {setup.location} (from: {setup.location_source})")


def calibration(facts: Facts) -> Iterator[Finding]:
    """Whether what was measured of the idle power still holds."""
    told = facts.setup.calibration
    if told.startswith("calibrated"):
        yield ok("calibration", f"idle power: {told}")
    elif told:
        yield Finding(
            code="calibration_unused",
            state="note",
            text=f"idle power: {told}",
            remedy=("emt calibrate",),
            advice="on an idle machine; emt calibrate --forget deletes the old one",
        )


def settings(facts: Facts) -> Iterator[Finding]:
    """Settings that were ignored."""
    for notice in facts.setup.notices:
        yield Finding(code=notice.code, state="note", text=notice.text, advice=notice.hint)
