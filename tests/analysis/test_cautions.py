"""The warnings that follow from a record."""

from __future__ import annotations

import ast
import pathlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from emt_cli.analysis import complete
from emt_cli.analysis.cautions import DERIVED, merge
from emt_cli.model import DeviceUse, GapSpan, Grid, Notice, Observed, Process, Run, Sampling, Settings
from emt_cli.notices import CODES, notice
from tests.analysis.examples import gpu_run, run_of, steady, with_cpu, with_observed

PACKAGE = pathlib.Path(__file__).parents[2] / "emt_cli"


def notices_of(run: Run) -> tuple[Notice, ...]:
    return complete(run).notices


def codes_of(run: Run) -> list[str]:
    return [each.code for each in notices_of(run)]


def run_with(**facts: Any) -> Run:
    return replace(run_of(), **facts)


WORLD = Grid(
    intensity_g_per_kwh=473.0,
    location="WORLD",
    location_name="World",
    location_source="world average",
    intensity_source="table",
    dataset="test",
)
CAUSES: dict[str, Run] = {
    "short_run": run_of(duration_s=0.2),
    "suspended": run_with(suspended_s=3600.0),
    "paused": run_with(paused_s=12.0),
    "late_ticks": run_with(sampling=Sampling(frequency_hz=1000.0, ticks=900, late=100)),
    "location_unknown": run_with(grid=WORLD),
    "coverage": with_cpu(run_of(), blind_spot="a parent ignores SIGCHLD", coverage=None),
    "left_running": run_with(processes=(Process(pid=7, ppid=1, name="sleep", is_left_running=True),)),
    "stolen_time": with_cpu(run_of(), stolen_s=3.0),
    "work_elsewhere": run_of(command=("docker", "run", "image", "make"), tree=steady(0.01)),
    "sensor_gap": with_observed(run_of(), gap_s=1.5),
    "counter_reset": with_observed(run_of(), resets=1),
    "clamped": run_of(tree=steady(1.2), machine=steady(1.0)),
    "gpu_whole_device": gpu_run(None),
    "gpu_shared": gpu_run(DeviceUse(device="gpu0", tree_pids=(1,), other_pids=(2,))),
    "gpu_sliced": gpu_run(DeviceUse(device="gpu0", tree_pids=(1,), other_pids=(0, 2), slice_share=0.4)),
}


def test_a_run_without_trouble_carries_no_warning() -> None:
    assert codes_of(run_of()) == []


@pytest.mark.parametrize("code", sorted(DERIVED))
def test_each_cause_is_told_once_and_nothing_else_with_it(code: str) -> None:
    assert codes_of(CAUSES[code]) == [code]


@pytest.mark.parametrize("code", sorted(DERIVED))
def test_telling_again_adds_nothing(code: str) -> None:
    once = complete(CAUSES[code])
    assert complete(once).notices == once.notices


def test_what_no_longer_follows_from_the_record_goes() -> None:
    run = run_with(notices=(notice("short_run", duration_s=0.1), notice("clock_changed", seconds=2.0)))
    assert codes_of(run) == ["clock_changed"]


def test_who_is_unknown_is_not_told_by_a_number() -> None:
    (told,) = notices_of(gpu_run(DeviceUse(device="gpu0", tree_pids=(1,), other_pids=(0,))))
    assert "(of unknown PID)" in told.text


def test_two_causes_of_one_code_are_two_warnings() -> None:
    run = with_observed(run_of({"cpu0/package": steady(1.0), "cpu1/package": steady(1.0)}), gap_s=1.0)
    texts = [each.text for each in notices_of(run)]
    assert len(texts) == len(set(texts)) == 2


def test_a_gap_is_told_with_its_reason() -> None:
    gap = GapSpan(channel="cpu0/package", start_s=1.0, end_s=2.0, reason="EIO")
    (told,) = notices_of(with_observed(run_with(gaps=(gap,)), gap_s=1.0))
    assert "EIO" in told.text


def test_a_channel_that_could_never_be_read_is_told_apart_from_one_with_a_gap() -> None:
    gap = GapSpan(channel="cpu0/dram", start_s=0.0, end_s=10.0, reason="EACCES")
    run = run_of({"cpu0/package": steady(1.0), "cpu0/dram": steady(0.0)}, gaps=(gap,))
    dead = Observed(channel="cpu0/dram", readings=0, failed=100, gap_s=10.0)
    (told,) = notices_of(replace(run, observed=(run.observed[0], dead)))
    assert told.code == "sensor_denied"
    assert "EACCES" in told.text and "only the upper bound" in told.text


def test_ticks_that_came_late_because_emt_was_stopped_are_not_told_twice() -> None:
    late = Sampling(frequency_hz=10.0, ticks=100, late=100)
    assert codes_of(run_with(sampling=late, paused_s=10.0)) == ["paused"]


def test_a_broken_off_run_is_not_told_to_be_short() -> None:
    assert "short_run" not in codes_of(replace(run_of(duration_s=0.2), state="recovered"))


def test_an_idle_power_that_was_given_too_high_is_told() -> None:
    settings = Settings(idle_w={"cpu0/package": 40.0}, idle_policy="none")
    assert codes_of(run_of(settings=settings)) == ["clamped"]


def test_a_given_intensity_needs_no_location() -> None:
    assert codes_of(run_with(grid=replace(WORLD, location_source="unknown"))) == []


# --- work elsewhere ---------------------------------------------------------------------------------


def tells_work_elsewhere(*command: str, tree: float = 0.01, **facts: Any) -> bool:
    return "work_elsewhere" in codes_of(run_of(command=command, tree=steady(tree), **facts))


@pytest.mark.parametrize(
    "line",
    [
        "docker run -it image make",
        "/usr/bin/docker compose up run",
        "podman exec box make",
        "ssh host make",
        "ssh -p 2222 host",
        "sbatch job.sh",
        "sbatch",
        "srun -n 4 ./solver",
        "systemd-run --user make",
        "kubectl apply -f job.yaml",
        "ray submit cluster.yaml job.py",
    ],
)
def test_launchers_of_work_elsewhere_are_recognised(line: str) -> None:
    assert tells_work_elsewhere(*line.split())


@pytest.mark.parametrize(
    "line",
    [
        "docker --version",
        "docker ps",
        "podman images",
        "kubectl get pods",
        "ssh -V",
        "sbatch --help",
        "python run.py docker run",
        "./docker.sh run",
        "echo ssh host make",
    ],
)
def test_commands_that_only_look_like_them_are_not(line: str) -> None:
    assert not tells_work_elsewhere(*line.split())


def test_a_launcher_inside_a_script_is_recognised() -> None:
    child = Process(pid=9, ppid=8, name="docker", command="docker run image make", cpu_s=0.02)
    assert tells_work_elsewhere("sh", "build.sh", processes=(child,))


def test_a_tree_that_works_itself_is_not_suspected() -> None:
    assert not tells_work_elsewhere("docker", "run", "image", tree=0.9)


def test_a_submission_that_is_over_at_once_is_recognised_although_the_run_is_short() -> None:
    assert tells_work_elsewhere("sbatch", "job.sh", tree=0.8, duration_s=0.05)


# --- the catalogue ----------------------------------------------------------------------------------


def raised() -> Iterator[str]:
    """First arguments of all calls in the package whose name says that they make a notice."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                if name.strip("_") in ("notice", "note", "warn"):
                    yield str(node.args[0].value)


def test_every_code_of_the_catalogue_is_raised_somewhere_and_no_other() -> None:
    assert set(raised()) == CODES


def test_what_is_derived_here_is_raised_nowhere_else() -> None:
    elsewhere = Counter(raised()) - Counter(dict.fromkeys(DERIVED, 1))
    assert not set(elsewhere) & DERIVED
    assert set(CAUSES) == DERIVED


def test_merging_keeps_what_came_first_and_in_order() -> None:
    came = (notice("clock_changed", seconds=2.0), notice("journal_failed", t_s=1.0, reason="full"))
    assert merge(run_with(notices=came + came)) == came
