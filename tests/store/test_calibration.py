"""Calibrations on disk: whole, private, of one machine, and not used when they no longer hold."""

from __future__ import annotations

import json
import os
import pathlib
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from emt_cli.errors import NotFoundError, OutputError, RecordError
from emt_cli.model import Host, Run, Sampling, Settings
from emt_cli.store import calibration as kept
from emt_cli.store.calibration import Calibration, fingerprint

MOMENT = datetime(2026, 11, 21, 12, 0, tzinfo=timezone.utc)
HOST = Host(node="node1", kernel="6.1.0", cpu_model="AMD EPYC 7543", cpu_count=64)
FILES = {"/etc/machine-id": "0123456789abcdef0123456789abcdef\n", "/proc/cmdline": "root=/dev/sda1 quiet\n"}


def read(path: str, files: dict[str, str] | None = None) -> str:
    try:
        return (FILES if files is None else files)[path]
    except KeyError:
        raise FileNotFoundError(path) from None


def a_calibration(machine_id: str = FILES["/etc/machine-id"], watts: float = 12.5) -> Calibration:
    files = {**FILES, "/etc/machine-id": machine_id}
    return Calibration(
        fingerprint=fingerprint(HOST, lambda path: read(path, files)),
        node="node1",
        measured_at="2026-11-20T10:00:00Z",
        duration_s=30.0,
        idle_w={"cpu0/package": watts},
        error_w={"cpu0/package": 0.1},
        sensors={"cpu0/package": "powercap"},
    )


def a_draft(host: Host = HOST, settings: Settings | None = None) -> Run:
    return Run(
        id="x",
        command=("true",),
        started_at=MOMENT.isoformat().replace("+00:00", "Z"),
        host=host,
        sampling=Sampling(frequency_hz=10.0),
        settings=settings or Settings(),
    )


@pytest.fixture
def place(tmp_path: pathlib.Path) -> str:
    return str(tmp_path / "state" / "calibration")


def test_what_was_saved_is_loaded_and_private(place: str) -> None:
    path = kept.save(place, a_calibration())
    assert kept.load(place, a_calibration().fingerprint.machine) == a_calibration()
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert os.stat(place).st_mode & 0o777 == 0o700
    assert os.listdir(place) == [os.path.basename(path)], "no temporary file stays behind"


def test_the_machine_id_stands_nowhere_in_the_file(place: str) -> None:
    path = kept.save(place, a_calibration())
    assert FILES["/etc/machine-id"].strip() not in path + pathlib.Path(path).read_text()


def test_two_machines_that_share_a_home_do_not_mix(place: str) -> None:
    kept.save(place, a_calibration(watts=12.5))
    kept.save(place, a_calibration("fedcba\n", watts=80.0))
    assert len(os.listdir(place)) == 2
    assert kept.calibrated(a_draft(), place, read).settings.idle_w == {"cpu0/package": 12.5}


def test_a_machine_without_an_id_goes_by_its_name() -> None:
    names = {fingerprint(Host(node=node), lambda path: read(path, {})).machine for node in ("a", "b")}
    assert len(names) == 2


def test_a_run_uses_it_and_says_from_when_it_is(place: str) -> None:
    kept.save(place, a_calibration())
    settings = kept.calibrated(a_draft(), place, read).settings
    assert settings.idle_w_source == "calibrated 2026-11-20"
    kept.save(place, replace(a_calibration(), is_forced=True))
    settings = kept.calibrated(a_draft(), place, read).settings
    assert settings.idle_w_source == "calibrated 2026-11-20, while the machine was busy"


def test_what_the_user_stated_beats_it(place: str) -> None:
    kept.save(place, a_calibration())
    stated = a_draft(settings=Settings(idle_w={"cpu0/package": 3.0}))
    assert kept.calibrated(stated, place, read) == stated


def test_without_one_nothing_changes(place: str) -> None:
    assert kept.calibrated(a_draft(), place, read) == a_draft()
    kept.save(place, a_calibration("another\n"))
    assert kept.calibrated(a_draft(), place, read) == a_draft()


@pytest.mark.parametrize(
    ("host", "cmdline", "age", "reason"),
    [
        (replace(HOST, kernel="6.2.0"), "", timedelta(), "the kernel is another one (6.1.0, now 6.2.0)"),
        (replace(HOST, cpu_model="Xeon"), "", timedelta(), "the CPU is another one"),
        (replace(HOST, cpu_count=32), "", timedelta(), "the number of CPUs is another one (64, now 32)"),
        (HOST, "intel_idle.max_cstate=0", timedelta(), "the kernel was started with other options"),
        (HOST, "", timedelta(days=91), "it is older than 90 days"),
        (HOST, "", timedelta(days=-2), "its date cannot be"),
    ],
)
def test_a_stale_one_is_not_used_and_says_why(
    place: str, host: Host, cmdline: str, age: timedelta, reason: str
) -> None:
    measured = (MOMENT - age).isoformat().replace("+00:00", "Z")
    kept.save(place, replace(a_calibration(), measured_at=measured))
    files = {**FILES, "/proc/cmdline": cmdline or FILES["/proc/cmdline"]}
    settings = kept.calibrated(a_draft(host), place, lambda path: read(path, files)).settings
    assert settings.idle_w == {}
    assert reason in settings.idle_w_source and "not used" in settings.idle_w_source


def test_it_holds_for_ninety_days() -> None:
    found = replace(a_calibration(), measured_at="2026-08-24T12:00:00Z")
    assert kept.why_stale(found, found.fingerprint, MOMENT) == ""


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "\0\0",
        '{"format": 2}',
        "[" * 100_000,
        json.dumps({"idle_w": {"cpu0/package": "many"}}),
    ],
)
def test_a_damaged_one_is_not_used_and_stops_nothing(place: str, text: str) -> None:
    path = kept.save(place, a_calibration())
    pathlib.Path(path).write_text(text)
    with pytest.raises(RecordError, match="calibration"):
        kept.load(place, a_calibration().fingerprint.machine)
    settings = kept.calibrated(a_draft(), place, read).settings
    assert settings.idle_w == {}
    assert "not used" in settings.idle_w_source


@pytest.mark.parametrize("watts", [-1.0, 1e6])
def test_watts_that_cannot_be_are_refused(place: str, watts: float) -> None:
    kept.save(place, a_calibration(watts=watts))
    with pytest.raises(RecordError, match="watts that cannot be"):
        kept.load(place, a_calibration().fingerprint.machine)


def test_one_of_a_newer_emt_is_refused(place: str) -> None:
    kept.save(place, replace(a_calibration(), format=2))
    with pytest.raises(RecordError, match="newer emt"):
        kept.load(place, a_calibration().fingerprint.machine)


def test_what_is_forgotten_is_gone(place: str) -> None:
    machine = a_calibration().fingerprint.machine
    kept.save(place, a_calibration())
    kept.forget(place, machine)
    assert kept.load(place, machine) is None
    with pytest.raises(NotFoundError, match="no calibration"):
        kept.forget(place, machine)


def test_a_place_that_cannot_be_written_is_an_error_that_names_it(tmp_path: pathlib.Path) -> None:
    (tmp_path / "state").write_text("a file")
    with pytest.raises(OutputError, match=r"cannot be written"):
        kept.save(str(tmp_path / "state" / "calibration"), a_calibration())


def test_the_place_follows_the_state_folder() -> None:
    assert kept.folder({}, "/home/u") == "/home/u/.local/state/emt/calibration"
    assert kept.folder({"XDG_STATE_HOME": "/state"}, "/home/u") == "/state/emt/calibration"
    assert kept.folder({"XDG_STATE_HOME": "rel"}, "/home/u") == "/home/u/.local/state/emt/calibration"
