"""Idle power fitted from a run's own windows: right where power is a line, refused elsewhere."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from emt_cli.analysis import complete
from emt_cli.analysis.energy import account
from emt_cli.analysis.idle import Loads
from emt_cli.analysis.windows import Window, windows
from emt_cli.model import GapSpan, IdlePolicy, Run, Settings
from tests.analysis.examples import OfTime, channel, row_of, run_of

IDLE_W, PER_CPU_W, CPUS = 12.0, 9.0, 4


def busy(t_s: float) -> float:
    """Busy CPUs of a load that goes up and down between 0.2 and 3.4 of 4, another level every 2 s."""
    return 0.2 + 3.2 * (int(t_s / 2) * 7 % 11) / 10


def total(rate: Callable[[float], float], step_s: float = 0.1) -> OfTime:
    """What comes together of a rate that is constant for each tenth of a second."""
    sums = [0.0]

    def reach(t_s: float) -> float:
        whole = int(t_s / step_s + 1e-9)
        while len(sums) <= whole:
            sums.append(sums[-1] + rate((len(sums) - 0.5) * step_s) * step_s)
        return sums[whole] + rate((whole + 0.5) * step_s) * (t_s - whole * step_s)

    return reach


def noise(t_s: float) -> float:
    """Watts that look random, within half a watt of 0."""
    return math.sin(t_s * 12.9898) * 43758.5453 % 1.0 - 0.5


def linear(t_s: float) -> float:
    return IDLE_W + PER_CPU_W * busy(t_s) + noise(t_s)


def bent(t_s: float) -> float:
    """Clocks that fall under load: the first core costs most."""
    return float(IDLE_W + 30.0 * busy(t_s) ** 0.4)


def run(power: Callable[[float], float] = linear, duration_s: float = 120.0, **facts: Any) -> Run:
    facts.setdefault("machine", total(busy))
    facts.setdefault("tree", total(lambda t_s: 0.8 * busy(t_s)))
    return run_of(total(power), duration_s=duration_s, cpus=CPUS, **facts)


def idle_w(found: Run) -> float | None:
    idle_j = row_of(found).idle_j
    return None if idle_j is None else idle_j / found.duration_s


def source(found: Run) -> str:
    return account(found)[1].idle_source


def test_the_idle_power_of_a_linear_machine_is_found_within_5_percent() -> None:
    assert idle_w(run()) == pytest.approx(IDLE_W, rel=0.05)
    assert source(run()) == "fitted"
    assert "fitted from this run" in row_of(run()).note


def test_the_fit_changes_the_split_and_not_the_headline() -> None:
    fitted, unsplit = row_of(run()), row_of(run(duration_s=15.0))
    assert unsplit.active_j is None
    whole = run()
    assert fitted.attributed_j == pytest.approx(0.8 * fitted.machine_j)
    assert fitted.attributed_j is not None and fitted.active_j is not None
    assert fitted.idle_share_j is not None
    assert fitted.active_j + fitted.idle_share_j == pytest.approx(fitted.attributed_j)
    assert fitted.idle_share_j == pytest.approx(0.8 * IDLE_W * whole.duration_s, rel=0.05)


def test_the_interval_is_narrower_than_with_nothing_known_of_the_idle_power() -> None:
    fitted, blind = row_of(run()), row_of(run(bent))
    assert fitted.low_j is not None and fitted.attributed_j is not None
    assert blind.low_j is not None and blind.attributed_j is not None
    assert fitted.low_j > 0.95 * fitted.attributed_j
    assert blind.low_j < 0.8 * blind.attributed_j


@pytest.mark.parametrize(
    "unsound",
    [
        run(bent),
        run(duration_s=15.0),
        run(machine=total(lambda t_s: 2.0), tree=total(lambda t_s: 1.0)),
        run(lambda t_s: linear(t_s) + 60 * noise(t_s // 2)),
        run(machine=None),
        run(channels=[channel(provenance="estimated")]),
    ],
    ids=["bent", "short", "steady load", "other causes", "no machine time", "a model"],
)
def test_what_is_unsound_stays_unknown(unsound: Run) -> None:
    assert idle_w(unsound) is None
    assert source(unsound) == "unknown"
    assert row_of(unsound).note == ""


def test_an_idle_power_that_is_known_is_not_fitted() -> None:
    known = run(settings=Settings(idle_w={"cpu0/package": 5.0}))
    assert idle_w(known) == pytest.approx(5.0)
    assert source(known) == "configured"


def test_the_source_says_how_the_idle_power_came_to_be_known() -> None:
    settings = Settings(idle_w={"cpu0/package": 5.0}, idle_w_source="calibrated 2026-11-21")
    assert source(run(settings=settings)) == "calibrated 2026-11-21"


def test_a_model_knows_its_own_idle_power_better_than_a_calibration() -> None:
    model = [channel(provenance="estimated", kind="model", idle_w=7.0)]
    calibrated = Settings(idle_w={"cpu0/package": 5.0}, idle_w_source="calibrated 2026-11-21")
    assert source(run(channels=model, settings=calibrated)) == "model"
    assert idle_w(run(channels=model, settings=calibrated)) == pytest.approx(7.0)
    stated = Settings(idle_w={"cpu0/package": 5.0})
    assert idle_w(run(channels=model, settings=stated)) == pytest.approx(5.0)


def test_windows_with_a_gap_take_no_part_in_the_fit() -> None:
    def lost(t_s: float) -> float:
        return 0.0 if 40.0 <= t_s < 60.0 else linear(t_s)

    gap = GapSpan(channel="cpu0/package", start_s=40.0, end_s=60.0, reason="test")
    broken = row_of(run(lost, gaps=(gap,)))
    assert broken.idle_j == pytest.approx(100.0 * IDLE_W, rel=0.05)
    assert idle_w(run(lost)) is None


@pytest.mark.parametrize("policy", ["reserved", "none"])
def test_where_the_policy_moves_idle_energy_the_interval_has_the_fits_own_error(policy: IdlePolicy) -> None:
    settings = Settings(idle_policy=policy, reserved_cpus=2.0)
    fitted = row_of(run(settings=settings))
    stated = row_of(
        run(settings=Settings(idle_policy=policy, reserved_cpus=2.0, idle_w={"cpu0/package": IDLE_W}))
    )
    assert fitted.low_j is not None and stated.low_j is not None
    assert fitted.attributed_j is not None and stated.attributed_j is not None
    least = stated.attributed_j - stated.low_j
    assert 0 < fitted.attributed_j - fitted.low_j < 0.6 * least, "a fit is surer than what is told by hand"
    assert fitted.low_j < stated.attributed_j


def test_working_the_results_out_again_gives_the_same() -> None:
    once = complete(run())
    again = complete(once)
    assert (once.energy, once.attribution) == (again.energy, again.attribution)


def test_a_long_run_keeps_few_windows_and_loses_no_joule() -> None:
    long = run(duration_s=100.0)
    loads = Loads(most=10)
    passed = list(loads.watch(windows(long.samples, long.cpu_time)))
    kept = loads.windows()
    assert len(passed) > 40 and 10 <= len(kept) < 20

    def joules(found: list[Window] | tuple[Window, ...]) -> float:
        return sum(window.energy_j[0] or 0.0 for window in found)

    assert joules(tuple(kept)) == pytest.approx(joules(passed), rel=0.05)
    assert all(window.duration_s > 2 * passed[0].duration_s for window in kept)
