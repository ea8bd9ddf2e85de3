"""`emt doctor`, through the whole command on simulated machines."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emt_cli.commands.doctor import store_fault
from tests.simulation import Fault, SimulatedMachine, Zone

LOCKED = (Fault(kind="EACCES"),)
HOST = {"/proc/cpuinfo": "processor: 0\nvendor_id: GenuineIntel\nmodel name: Simulated CPU @ 2.00GHz\n"}

Doctor = Callable[..., subprocess.CompletedProcess[str]]
Build = Callable[..., SimulatedMachine]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    def make(*zones: Zone, **options: Any) -> SimulatedMachine:
        folder = tmp_path / "machine"
        folder.mkdir()
        return SimulatedMachine(folder, zones=zones, **options)

    return make


@pytest.fixture
def doctor(environment: dict[str, str], tmp_path: Path) -> Doctor:
    """`doctor(machine, "--format", "json")`: the finished command."""

    def run(
        machine: SimulatedMachine, *options: str, status: int, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "tests.simulated_emt", machine.root, "doctor", *options],
            cwd=tmp_path,
            env={**environment, **variables},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert (done.returncode, done.stderr) == (status, "")
        return done

    return run


def codes(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    return {finding["code"]: finding["state"] for finding in json.loads(done.stdout)["findings"]}


def test_a_healthy_machine_is_measured(doctor: Doctor, build: Build) -> None:
    machine = build(Zone(), Zone(folder="intel-rapl:0:0", name="dram"))
    done = doctor(machine, status=0, EMT_LOCATION="FR")
    assert done.stdout.startswith("Energy will be measured: cpu0/package, cpu0/dram.\n")
    assert "Problems" not in done.stdout


def test_a_memory_by_its_size_does_not_spoil_the_verdict(doctor: Doctor, build: Build) -> None:
    assert "Estimated: ram." in doctor(build(Zone()), status=0).stdout


def test_locked_counters_are_status_3_and_the_remedy_is_shown(doctor: Doctor, build: Build) -> None:
    machine = build(
        Zone(faults=LOCKED), Zone(folder="intel-rapl:0:0", name="core", faults=LOCKED), files=HOST
    )
    page = doctor(machine, status=3).stdout
    assert page.startswith("Energy will not be measured.")
    assert page.index("Problems") < page.index("sudo groupadd -f emt") < page.index("PLATYPUS")
    assert page.count("groupadd") == 1, "the sensor's own remedy is not told a second time"
    assert "--fix" in page


def test_a_machine_with_nothing_is_status_3(doctor: Doctor, build: Build) -> None:
    found = doctor(build(files=HOST), "--format", "json", status=3)
    document = json.loads(found.stdout)
    assert document["measured"] is False and document["verdict"]
    assert codes(found)["rapl_module"] == "problem"
    assert [each["provenance"] for each in document["channels"] if each["counted"]] == ["estimated"]


def test_a_counter_that_opens_and_does_not_read_is_no_measurement(doctor: Doctor, build: Build) -> None:
    done = doctor(build(Zone(faults=(Fault(kind="EIO", first_read=1),))), "--format", "json", status=3)
    assert codes(done)["unread"] == "problem"
    assert "Not read: cpu0/package" in json.loads(done.stdout)["verdict"]


def test_a_counter_that_hangs_does_not_hold_the_doctor_up(doctor: Doctor, build: Build) -> None:
    machine = build(Zone(faults=(Fault(kind="block", first_read=1, value=3600),)))
    began_s = time.monotonic()
    assert codes(doctor(machine, "--format", "json", status=3))["unread"] == "problem"
    assert time.monotonic() - began_s < 60


def test_what_the_user_leaves_out_is_not_asked_for(doctor: Doctor, build: Build) -> None:
    machine = build(Zone(), Zone(folder="intel-rapl:0:0", name="dram"))
    page = doctor(machine, status=0, EMT_EXCLUDE="dram").stdout
    assert page.startswith("Energy will be measured: cpu0/package.\n")


@pytest.mark.parametrize("width", ["40", "80", "200"])
def test_words_fit_and_lines_to_type_are_never_broken(doctor: Doctor, build: Build, width: str) -> None:
    page = doctor(build(Zone(faults=LOCKED), files=HOST), status=3, COLUMNS=width).stdout
    lines = page.splitlines()
    assert "      sudo chmod 0440 /sys/class/powercap/intel-rapl*/energy_uj" in lines
    assert all(len(line) <= int(width) for line in lines if not line.startswith("      "))


def test_the_page_is_plain_in_an_ascii_world(doctor: Doctor, build: Build) -> None:
    done = doctor(build(Zone(faults=LOCKED)), status=3, PYTHONIOENCODING="ascii")
    assert done.stdout.isascii() and "\x1b" not in done.stdout


def test_a_terminal_gets_colour_unless_it_is_not_wanted(
    environment: dict[str, str], build: Build, tmp_path: Path
) -> None:
    machine = build(Zone())
    for variables, is_colored in (({}, True), ({"NO_COLOR": "1"}, False)):
        ours, theirs = pty.openpty()
        subprocess.run(
            [sys.executable, "-m", "tests.simulated_emt", machine.root, "doctor"],
            cwd=tmp_path,
            env={**environment, "TERM": "xterm", "COLUMNS": "100", **variables},
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            check=True,
            timeout=120,
        )
        os.close(theirs)
        shown = b""
        try:
            while chunk := os.read(ours, 65536):
                shown += chunk
        except OSError:  # how Linux says that the other end is closed
            pass
        os.close(ours)
        assert (b"\x1b[1;32m" in shown) is is_colored
        assert b"Energy will be measured" in shown


# --- --fix ------------------------------------------------------------------------------------------


def test_the_fix_is_a_script_and_nothing_else(doctor: Doctor, build: Build, tmp_path: Path) -> None:
    machine = build(Zone(faults=LOCKED), files=HOST)

    def files() -> list[Path]:
        """All but the memory of which packages bring sensors."""
        return sorted(path for path in tmp_path.rglob("*") if ".cache" not in path.parts)

    before = files()
    done = doctor(machine, "--fix", status=0)
    assert done.stdout.startswith("#!/bin/sh\n") and "chgrp emt" in done.stdout
    assert files() == before, "the doctor changed something"
    checked = subprocess.run(["sh", "-n"], input=done.stdout, text=True, capture_output=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_where_nothing_is_to_be_mended_the_script_does_nothing(doctor: Doctor, build: Build) -> None:
    files = {"/proc/sys/kernel/perf_event_paranoid": "2"}
    text = doctor(build(Zone(), files=files), "--fix", status=0).stdout
    assert [line for line in text.splitlines() if line and not line.startswith("#")] == []


# --- the store --------------------------------------------------------------------------------------


def test_a_store_that_is_not_there_yet_is_judged_by_the_folder_it_will_be_in(tmp_path: Path) -> None:
    assert store_fault(str(tmp_path / "a" / "b")) == ""
    (tmp_path / "file").write_text("")
    assert "no folder" in store_fault(str(tmp_path / "file" / "runs"))


def test_a_store_that_cannot_be_is_told(doctor: Doctor, build: Build, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = doctor(build(Zone()), "--format", "json", status=0, EMT_STORE=str(tmp_path / "file"))
    assert codes(done)["store_unwritable"] == "problem"


def test_a_location_that_nobody_knows_is_told(doctor: Doctor, build: Build) -> None:
    done = doctor(build(Zone()), "--format", "json", status=0, EMT_LOCATION="Atlantis")
    assert codes(done)["bad_location"] == "note"


def test_settings_that_were_ignored_are_told(doctor: Doctor, build: Build) -> None:
    assert (
        codes(doctor(build(Zone()), "--format", "json", status=0, EMT_TYPO="1"))["unknown_variable"] == "note"
    )
