"""`emt export`, through the command line: every target, where it goes, and what it refuses."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.exporters.test_openmetrics import parse, value
from tests.machines.conftest import VALIDATOR

Emt = Callable[..., subprocess.CompletedProcess[str]]

SECRETS = ("alice", "hunter2", "thesis", "pinky", "projectx", "nightshift")
"""Parts of what is planted below: a user, a word of the command, a folder, a host, a tag, a name."""


@pytest.fixture
def ran(emt: Emt) -> Emt:
    """`emt` after one run that is in the store."""
    done = emt("run", "-q", "-n", "build", "--", "sh", "-c", "exit 0")
    assert done.returncode == 0, done.stderr
    return emt


def export(emt: Emt, *arguments: str, **options: Any) -> str:
    done = emt("export", *arguments, **options)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


# --- the targets ------------------------------------------------------------------------------------


def test_the_newest_run_becomes_a_test_report(ran: Emt) -> None:
    root = ElementTree.fromstring(export(ran, "--to", "junit"))
    assert root.attrib["tests"] == "1"
    case = root.find("testsuite/testcase")
    assert case is not None and case.attrib["name"] == "build"
    names = {one.attrib["name"] for one in root.iter("property")}
    assert {"energy_j", "co2e_g", "provenance"} <= names


def test_a_repeated_run_becomes_a_case_for_each_execution(emt: Emt) -> None:
    assert emt("run", "-q", "-r", "3", "--", "true").returncode == 0
    root = ElementTree.fromstring(export(emt, "--to", "junit"))
    assert [case.attrib["name"] for case in root.iter("testcase")] == ["true [1]", "true [2]", "true [3]"]


def test_several_runs_become_one_exposition(ran: Emt) -> None:
    ran("run", "-q", "-n", "test", "--", "sh", "-c", "exit 4")
    values = parse(export(ran, "build", "test", "--to", "openmetrics"))
    assert value(values, "emt_exit_code", run="build") == 0
    assert value(values, "emt_exit_code", run="test") == 4
    known = json.loads(ran("report", "test", "--get", "energy.attributed_j", "--format", "json").stdout)
    assert value(values, "emt_energy_joules", run="test", of="command") == known


def test_a_badge_is_a_picture(ran: Emt, tmp_path: Path) -> None:
    assert export(ran, "--to", "badge", "-o", "badge.svg") == ""
    assert ElementTree.parse(tmp_path / "badge.svg").getroot().tag.endswith("svg")


# --- github -----------------------------------------------------------------------------------------


@pytest.fixture
def step(tmp_path: Path) -> dict[str, str]:
    """The environment of a step of a workflow."""
    files = {"GITHUB_STEP_SUMMARY": "summary.md", "GITHUB_OUTPUT": "output"}
    for name in files.values():
        (tmp_path / name).touch()
    return {
        "GITHUB_ACTIONS": "true",
        "RUNNER_TEMP": str(tmp_path),
        **{name: str(tmp_path / file) for name, file in files.items()},
    }


def test_a_step_gets_its_summary_annotations_and_outputs(
    ran: Emt, step: dict[str, str], tmp_path: Path
) -> None:
    told = export(ran, "--to", "github", env=step)
    assert told.startswith("::notice title=Energy::build: ")
    assert "::notice title=emt estimated::" in told or "::warning" in told
    assert "**Energy: " in (tmp_path / "summary.md").read_text()
    outputs = dict(line.split("=") for line in (tmp_path / "output").read_text().splitlines())
    assert float(outputs["energy_j"]) >= 0
    assert {"co2e_g", "machine_j", "duration_s"} <= outputs.keys()


def test_what_other_tools_left_there_stays(ran: Emt, step: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "output").write_text("their=value")
    export(ran, "--to", "github", env=step)
    export(ran, "--to", "github", env=step)
    lines = (tmp_path / "output").read_text().splitlines()
    assert lines[0] == "their=value"
    assert sum(line.startswith("energy_j=") for line in lines) == 2
    assert (tmp_path / "summary.md").read_text().count("### ") == 2


def test_outside_of_a_workflow_it_says_what_to_type(ran: Emt) -> None:
    done = ran("export", "--to", "github")
    assert done.returncode == 2
    assert "GITHUB_STEP_SUMMARY" in done.stderr
    assert "emt report --format markdown" in done.stderr


def test_a_step_whose_files_cannot_be_written_is_told(ran: Emt, step: dict[str, str], tmp_path: Path) -> None:
    done = ran("export", "--to", "github", env={**step, "GITHUB_OUTPUT": str(tmp_path / "no" / "where")})
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_github_has_no_file_of_ours(ran: Emt, step: dict[str, str]) -> None:
    assert ran("export", "--to", "github", "-o", "x", env=step).returncode == 2


# --- the composite action ---------------------------------------------------------------------------

STEP = re.compile(r"    - id: (?P<id>\w+)\n(?P<body>.*?)(?=    - id: |\Z)", re.DOTALL)


def steps_of_the_action() -> dict[str, str]:
    """The scripts of action.yml by the id of their step."""
    text = (resources.files("emt_cli.exporters") / "action.yml").read_text("utf-8")
    return {
        match["id"]: "".join(
            line[8:] for line in match["body"].partition("run: |\n")[2].splitlines(keepends=True)
        )
        for match in STEP.finditer(text)
    }


@pytest.mark.parametrize("code", [0, 3])
def test_the_action_measures_a_step_and_ends_as_it_ended(
    environment: dict[str, str], step: dict[str, str], tmp_path: Path, code: int
) -> None:
    script = tmp_path / "bin" / "emt"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m emt_cli "$@"\n')
    script.chmod(0o755)
    variables = {
        **environment,
        **step,
        "PATH": f"{script.parent}{os.pathsep}{environment['PATH']}",
        "EMT_ACTION_RUN": f'echo "it\'s $((6 * 7))"; exit {code}',
        "EMT_ACTION_NAME": "unit tests",
        "EMT_ACTION_OPTIONS": "--location FR",
    }
    scripts = steps_of_the_action()
    assert list(scripts) == ["measure", "energy"]

    def run(name: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", "-e", "-c", scripts[name]],
            env={**variables, **more},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    measured = run("measure")
    assert (measured.returncode, measured.stdout) == (code, "it's 42\n"), measured.stderr
    [record] = [line for line in (tmp_path / "output").read_text().splitlines() if line.startswith("record=")]
    told = run("energy", EMT_RECORD=record.removeprefix("record="))
    assert told.returncode == 0, told.stderr
    assert told.stdout.startswith("::notice title=Energy::unit tests: ")
    assert "FR France" in (tmp_path / "summary.md").read_text()
    assert "energy_j=" in (tmp_path / "output").read_text()


# --- share ------------------------------------------------------------------------------------------


@pytest.fixture
def secret(emt: Emt, environment: dict[str, str], tmp_path: Path) -> Emt:
    """`emt` after a run that tells who, where and what in every way that a command line has."""
    home = tmp_path / "alice"
    (home / ".config" / "emt").mkdir(parents=True)
    config = '[carbon]\npue = 1.2\n[sensors]\ndevices = { alicefpga = "20:45" }\n'
    (home / ".config" / "emt" / "config.toml").write_text(config)
    work = home / "thesis"
    work.mkdir()
    (work / "train.sh").write_text("#!/bin/sh\nsleep 0.3\n")
    (work / "train.sh").chmod(0o755)
    variables = {
        "HOME": str(home),
        "GITHUB_ACTIONS": "true",
        "GITHUB_RUN_ID": "projectx-1",
        "GITHUB_JOB": "projectx",
        "TZ": "Europe/Vaduz",
    }
    done = emt(
        *("run", "-q", "-F", "50", "-n", "nightshift", "-t", "team=projectx", "--location", "FR", "--"),
        *(str(work / "train.sh"), "--password=hunter2"),
        env=variables,
    )
    assert done.returncode == 0, done.stderr
    _rename_host(tmp_path / "store")
    return emt


def _rename_host(store: Path) -> None:
    """The record as it would have been written on a host of that name."""
    [path] = store.glob("*/run.json")
    document = json.loads(path.read_text())
    document["host"].update(node="pinky.acme.example", os="Linux for Pinky", kernel="6.1.0-pinky")
    document["warnings"].append({"code": "left_running", "text": "thesis on pinky", "hint": "/home/alice"})
    path.write_text(json.dumps(document))


def bytes_under(path: Path) -> bytes:
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    return b"\n".join(each.name.encode() + b"\n" + each.read_bytes() for each in files)


@pytest.mark.parametrize("name", ["bundle.json", "bundle"])
def test_a_bundle_has_no_name_in_any_byte(secret: Emt, tmp_path: Path, name: str) -> None:
    record = json.loads(next((tmp_path / "store").glob("*/run.json")).read_text())
    assert all(word in json.dumps(record).lower() for word in SECRETS), "planted"
    export(secret, "--to", "share", "-o", name)
    data = bytes_under(tmp_path / name).decode().lower()
    assert [word for word in (*SECRETS, "train.sh", "vaduz", str(tmp_path)) if word in data] == []


def test_a_bundle_is_a_record_that_report_reads(secret: Emt, tmp_path: Path) -> None:
    export(secret, "--to", "share", "-o", "bundle")
    VALIDATOR.validate(json.loads((tmp_path / "bundle" / "run.json").read_text()))
    for field in ("energy.attributed_j", "energy.machine_j", "carbon.co2e_g", "duration_s"):
        ours = float(secret("report", "--get", field).stdout)
        assert float(secret("report", "bundle", "--get", field).stdout) == ours
        anew = float(secret("report", "bundle", "--recompute", "--get", field).stdout)
        assert anew == pytest.approx(ours)
    shown = secret("report", "bundle")
    assert shown.returncode == 0
    assert "not-shared" in shown.stdout


def test_a_folder_keeps_the_samples_and_a_file_does_not(secret: Emt, tmp_path: Path) -> None:
    export(secret, "--to", "share", "-o", "bundle")
    assert len((tmp_path / "bundle" / "samples.csv").read_text().splitlines()) > 5
    assert (
        json.loads(export(secret, "--to", "share"))["id"]
        == json.loads((tmp_path / "bundle" / "run.json").read_text())["id"]
    )


def test_a_bundle_is_no_summary(ran: Emt) -> None:
    done = ran("export", "--to", "share", "-o", "x.csv")
    assert done.returncode == 2
    assert ".json" in done.stderr


# --- files and mistakes -----------------------------------------------------------------------------


@pytest.mark.parametrize(("target", "name"), [("junit", "emt.xml"), ("share", "x.json"), ("share", "x")])
def test_what_is_there_is_replaced_only_by_force(ran: Emt, tmp_path: Path, target: str, name: str) -> None:
    words = ("export", "--to", target, "-o", name)
    assert ran(*words).returncode == 0
    before = bytes_under(tmp_path / name)
    ran("run", "-q", "--", "true")
    again = ran(*words)
    assert again.returncode == 1
    assert "--force" in again.stderr
    assert bytes_under(tmp_path / name) == before
    assert ran(*words, "--force").returncode == 0
    assert bytes_under(tmp_path / name) != before


def test_force_replaces_no_folder_by_a_file(ran: Emt, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    done = ran("export", "--to", "badge", "-o", "folder", "--force")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert (tmp_path / "folder").is_dir()


def test_others_may_read_what_was_made_for_them(ran: Emt, tmp_path: Path) -> None:
    export(ran, "--to", "junit", "-o", "emt.xml", umask=0o022)
    assert stat.S_IMODE((tmp_path / "emt.xml").stat().st_mode) == 0o644


def test_a_folder_that_is_not_there_is_named(ran: Emt) -> None:
    done = ran("export", "--to", "badge", "-o", "no/where.svg")
    assert done.returncode == 1
    assert "mkdir -p no" in done.stderr


def test_a_target_that_is_none_gets_the_list(ran: Emt) -> None:
    done = ran("export", "--to", "junitx")
    assert done.returncode == 2
    for name in ("junit", "openmetrics", "badge", "share", "github"):
        assert name in done.stderr


def test_no_target_gets_the_list_too(ran: Emt) -> None:
    done = ran("export")
    assert done.returncode == 2
    assert "openmetrics" in done.stderr


@pytest.mark.parametrize("target", ["badge", "share", "github"])
def test_one_run_is_not_two(ran: Emt, target: str) -> None:
    done = ran("export", "build", "build", "--to", target)
    assert done.returncode == 2
    assert "2" in done.stderr


def test_a_run_that_is_not_there_is_said(ran: Emt) -> None:
    done = ran("export", "nowhere", "--to", "badge")
    assert done.returncode == 1
    assert "nowhere" in done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
def test_a_full_disk_is_said(ran: Emt, environment: dict[str, str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "emt_cli", "export", "--to", "badge"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env=environment,
            timeout=60,
        )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
