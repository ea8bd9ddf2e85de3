"""What a run took of the battery, in shares and in words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from emt_cli.analysis.battery import drain
from emt_cli.model import ChannelEnergy, Energy, Host, Run, Sampling
from emt_cli.reports import summary, text
from emt_cli.reports.facts import battery
from emt_cli.reports.markdown import as_markdown
from tests.analysis.examples import channel


def row(joules: float, sure: float = 0.05, **facts: Any) -> ChannelEnergy:
    return ChannelEnergy(
        id="node/battery",
        device="node",
        domain="battery",
        is_counted=False,
        provenance="integrated",
        rule="cpu_share",
        machine_j=joules,
        machine_low_j=joules * (1 - sure),
        machine_high_j=joules * (1 + sure),
        attributed_j=None,
        low_j=None,
        high_j=None,
        **facts,
    )


def laptop(energy: ChannelEnergy | None = None, **facts: Any) -> Run:
    """50 Wh, of which 40 are left; 540 J in 30 s: 18 W."""
    known = {"full_j": 180_000.0, "left_j": 144_540.0, "kind": "gauge", "provenance": "integrated", **facts}
    rows = (energy or row(540.0),)
    return Run(
        id="run",
        command=("true",),
        started_at="2026-01-01T00:00:00Z",
        host=Host(),
        sampling=Sampling(frequency_hz=10),
        channels=(channel("node/battery", **known),),
        state="complete",
        duration_s=30.0,
        energy=Energy(machine_j=400.0, attributed_j=300.0, channels=rows),
    )


def test_the_share_is_that_of_a_full_charge_and_the_rest_lasts_at_this_power() -> None:
    taken = drain(laptop())
    assert taken is not None
    assert taken.share == pytest.approx(0.003)
    assert (taken.low_share, taken.high_share) == (pytest.approx(0.00285), pytest.approx(0.00315))
    assert taken.lasts_s == pytest.approx(144_000 / 18)


def test_a_gap_is_no_time_in_which_the_battery_was_spared() -> None:
    taken = drain(laptop(row(270.0, gap_s=15.0)))
    assert taken is not None
    assert taken.lasts_s == pytest.approx((144_540 - 270) / 18)


def test_an_empty_battery_lasts_no_time_and_never_less() -> None:
    taken = drain(laptop(left_j=100.0))
    assert taken is not None
    assert taken.lasts_s == 0.0


@pytest.mark.parametrize(
    "run",
    [
        laptop(full_j=None),
        laptop(full_j=0.0),
        laptop(dropped="excluded"),
        laptop(row(0.0)),
        replace(laptop(), energy=None),
        replace(laptop(), channels=()),
        replace(laptop(), energy=Energy(machine_j=1.0)),
    ],
)
def test_what_the_battery_does_not_tell_is_not_made_up(run: Run) -> None:
    assert drain(run) is None
    assert battery(run) == ""
    assert not any("battery" in line for line in summary.lines(run, stored=None) if "full charge" in line)


def test_without_the_charge_of_the_moment_only_the_share_is_told() -> None:
    assert battery(laptop(left_j=None)) == "0.30 % of a full charge (50.0 Wh)"


def test_it_stands_in_summary_report_and_markdown() -> None:
    said = "0.30 % of a full charge (50.0 Wh); 2 h 13 min left at this power"
    assert f"  battery   {said}" in summary.lines(laptop(), stored=None)
    assert said in text.render(laptop(), width=100)
    assert "battery: 0.30 % of a full charge (50.0 Wh)" in as_markdown([laptop()]).replace("\\", "")


def test_a_run_too_short_for_the_battery_is_told_as_about_so_much() -> None:
    assert battery(laptop(row(540.0, sure=0.9))).startswith("about 0.3 % of a full charge")


@pytest.mark.parametrize("width", [40, 80, 120])
def test_the_line_keeps_within_the_width(width: int) -> None:
    assert all(len(line) <= width for line in summary.lines(laptop(), stored=None, width=width))
