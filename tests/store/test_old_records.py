"""Records of earlier versions must always load, and mean what they meant."""

from __future__ import annotations

import json
import pathlib
import subprocess
from collections.abc import Callable

import pytest

from emt_cli.analysis import complete
from emt_cli.store import load

RECORDS = sorted((pathlib.Path(__file__).parent.parent / "data").glob("format-*"))


def test_there_is_a_record_of_every_format() -> None:
    assert [path.name for path in RECORDS] == ["format-1"]


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.name)
def test_an_old_record_loads_with_its_results(path: pathlib.Path) -> None:
    (run,) = load(str(path))
    written = json.loads((path / "run.json").read_text())
    assert run.energy is not None
    assert run.energy.attributed_j == written["energy"]["attributed_j"]
    assert run.carbon is not None
    assert run.carbon.co2e_g == written["carbon"]["co2e_g"]
    assert len(list(run.samples)) == len((path / "samples.csv").read_text().splitlines()) - 1


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.name)
def test_its_results_can_be_worked_out_again(path: pathlib.Path) -> None:
    (run,) = load(str(path))
    again = complete(run).energy
    assert run.energy is not None and again is not None
    assert again.machine_j == pytest.approx(run.energy.machine_j, rel=1e-9)
    assert again.attributed_j == pytest.approx(run.energy.attributed_j, rel=0.01)


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.name)
def test_it_is_reported(path: pathlib.Path, emt: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = emt("report", str(path))
    assert (done.returncode, done.stderr) == (0, "")
    assert "cpu0/package" in done.stdout or "package" in done.stdout
