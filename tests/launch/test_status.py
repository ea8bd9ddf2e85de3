"""With which status emt leaves: the command's own, or one that says why it never started."""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import IO

import pytest

from tests.launch import RUN, entering, finished, need_root, only_record, program, records

Emt = Callable[..., "subprocess.CompletedProcess[str]"]


# --- the command's own ------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [0, 7, 255])
def test_the_status_is_the_commands_own(emt: Emt, environment: dict[str, str], code: int) -> None:
    done = emt("run", "-q", "--", "sh", "-c", f"exit {code}")
    assert done.returncode == code
    assert (done.stdout, done.stderr) == ("", "")
    assert only_record(environment)["exit"] == {"code": code, "signal": None}


@pytest.mark.parametrize("name", ["INT", "TERM", "KILL", "SEGV", "PIPE", "USR1", "ALRM", "QUIT", "RTMIN"])
def test_a_signal_that_kills_the_command_kills_emt(emt: Emt, environment: dict[str, str], name: str) -> None:
    done = emt("run", "-q", "--", *program("die", name))
    assert done.returncode == -getattr(signal, f"SIG{name}")
    assert (done.stdout, done.stderr) == ("", "")
    assert only_record(environment)["exit"]["signal"] == getattr(signal, f"SIG{name}")


def test_only_the_command_dumps_a_core(environment: dict[str, str], tmp_path: pathlib.Path) -> None:
    pattern = pathlib.Path("/proc/sys/kernel/core_pattern").read_text().strip()
    if pattern.startswith(("|", "/")):
        pytest.skip(f"cores go to {pattern}")
    folder = tmp_path / "cores"
    folder.mkdir()
    core_allowed = entering("limit=CORE:-1:")
    if finished([*core_allowed, "sh", "-c", "ulimit -c"], environment).stdout != b"unlimited\n":
        pytest.skip("cores are limited to nothing")

    def cores_of(command: Sequence[str]) -> tuple[int, int]:
        done = finished([*core_allowed, *command], environment, cwd=folder)
        found = [file for file in folder.iterdir() if file.name.startswith("core")]
        for file in found:
            file.unlink()
        return done.returncode, len(found)

    assert cores_of([*RUN, "--", *program("die", "SEGV")]) == cores_of(program("die", "SEGV")) == (-11, 1)
    by_hand = "echo x > core.child; kill -SEGV $$"  # a core of emt's own would now stand beside it
    only_emt = [*RUN, "--", *entering("limit=CORE:0:"), "sh", "-c", by_hand]
    assert cores_of(only_emt) == (-11, 1)


@pytest.mark.slow
def test_sixty_commands_of_a_millisecond_all_end_well(
    environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    def run(number: int) -> int:
        return finished([*RUN, "-n", str(number), "--", "true"], environment).returncode

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        assert set(pool.map(run, range(60))) == {0}
    found = records(environment)
    assert {record["name"] for record in found} == {str(number) for number in range(60)}
    assert {record["state"] for record in found} == {"complete"}
    assert all(record["duration_s"] > 0 for record in found)


def test_interrupted_before_the_start_emt_dies_by_the_interrupt(
    environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    fault = tmp_path / "interrupted"
    fault.mkdir()
    lines = ["import os, signal", "import emt_cli.config as c", "def load_here(_):"]
    lines += ["    os.kill(os.getpid(), signal.SIGINT)", "c.load_here = load_here"]
    (fault / "sitecustomize.py").write_text("\n".join(lines))
    path = f"{fault}:{environment['PYTHONPATH']}"
    done = finished([*RUN, "--", "true"], {**environment, "PYTHONPATH": path})
    assert done.returncode == -signal.SIGINT
    assert b"Traceback" not in done.stderr


# --- it never started -------------------------------------------------------------------------------


@pytest.fixture
def scripts(tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder of things that can or cannot be executed."""
    folder = tmp_path / "scripts"
    folder.mkdir()
    for name, text, mode in (
        ("no-shebang", "echo by $0 with $1; exit 9\n", 0o755),
        ("no-interpreter", "#!/nowhere/interpreter\n", 0o755),
        ("not-executable", "#!/bin/sh\n", 0o644),
        ("empty", "", 0o755),
        ("garbage", "\x7fELF garbage", 0o755),
    ):
        (folder / name).write_text(text)
        (folder / name).chmod(mode)
    (folder / "folder").mkdir()
    return folder


@pytest.mark.parametrize(
    ("command", "status", "says"),
    [
        (["no-such-command-anywhere"], 127, "command not found"),
        (["./nothing-here"], 127, "command not found"),
        ([""], 127, "the command is empty"),
        (["./no-interpreter"], 127, "the interpreter named in its first line does not exist"),
        (["no-interpreter"], 127, "the interpreter named in its first line does not exist"),
        (["not-executable"], 126, "permission denied"),
        (["./not-executable"], 126, "permission denied"),
        (["./folder"], 126, "is a directory"),
        (["/"], 126, "is a directory"),
        (["sh -c true"], 127, "separate words"),
    ],
)
def test_what_cannot_be_executed_leaves_with_126_or_127_and_no_record(
    emt: Emt,
    environment: dict[str, str],
    scripts: pathlib.Path,
    command: list[str],
    status: int,
    says: str,
) -> None:
    environment["PATH"] += f":{scripts}"
    done = emt("run", "--", *command, cwd=scripts)
    assert done.returncode == status
    assert says in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert records(environment) == []


def test_a_file_beside_us_is_not_taken_for_the_command_that_was_not_found(
    emt: Emt, scripts: pathlib.Path
) -> None:
    (scripts / "tool").touch()
    done = emt("run", "--", "tool", cwd=scripts)
    assert done.returncode == 127
    assert "tool: command not found" in done.stderr


def test_a_command_without_permission_leaves_with_126_for_a_user(environment: dict[str, str]) -> None:
    need_root()
    done = finished([*RUN, "--user", "nobody", "--", "/proc/1/exe"], environment)
    assert done.returncode == 126
    assert b"permission denied" in done.stderr


@pytest.mark.parametrize(
    "options",
    [
        ["--no-such-option"],
        ["-F", "0"],
        ["-F", "-1"],
        ["-F", "nan"],
        ["-F", "1e9"],
        ["-F", "ten"],
        ["-t", "no-equals-sign"],
        ["-o", "/nowhere/at/all/run.json"],
        ["--user", "no-such-user-anywhere"],
    ],
)
def test_a_wrong_option_leaves_with_125_before_anything_has_started(
    emt: Emt, environment: dict[str, str], tmp_path: pathlib.Path, options: list[str]
) -> None:
    done = emt("run", *options, "--", "touch", str(tmp_path / "started"))
    assert done.returncode == 125
    assert done.stderr.startswith("emt: ")
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert not (tmp_path / "started").exists()
    assert records(environment) == []


def test_no_command_at_all_leaves_with_125(emt: Emt) -> None:
    assert emt("run").returncode == 125


def test_a_broken_config_leaves_with_125_and_names_the_file(emt: Emt, tmp_path: pathlib.Path) -> None:
    (tmp_path / "emt.toml").write_text("frequency = [")
    done = emt("run", "--", "true")
    assert done.returncode == 125
    assert "emt.toml" in done.stderr


def test_an_unreadable_config_leaves_with_125(emt: Emt, tmp_path: pathlib.Path) -> None:
    (tmp_path / "emt.toml").mkdir()
    done = emt("run", "--", "true")
    assert done.returncode == 125
    assert "emt.toml" in done.stderr


# --- what is executed -------------------------------------------------------------------------------


def test_a_script_without_a_first_line_is_run_by_sh(emt: Emt, scripts: pathlib.Path) -> None:
    done = emt("run", "-q", "--", "./no-shebang", "word", cwd=scripts)
    assert (done.returncode, done.stdout) == (9, "by ./no-shebang with word\n")
    assert emt("run", "-q", "--", "./empty", cwd=scripts).returncode == 0


def test_a_line_for_the_shell_is_run_by_the_shell(emt: Emt) -> None:
    done = emt("run", "-q", "--shell", "echo a | tr a b; exit 5")
    assert (done.returncode, done.stdout) == (5, "b\n")


@pytest.mark.parametrize("dashes", [["--"], []])
def test_options_after_the_command_are_the_commands(emt: Emt, dashes: list[str]) -> None:
    words = ["-q", "--", "-o", "x", "--help", "-F", "0", "--version"]
    done = emt("run", "-q", *dashes, "printf", "%s\\n", *words)
    assert done.stdout.splitlines() == words


def test_bytes_that_are_no_utf_8_reach_the_command_unchanged(
    environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    words = [b"\xff\xfe", b"caf\xe9", "ζ".encode(), b"\x1b[31m", b"a\nb", b""]
    for locale in ("C", "C.UTF-8", "en_US.ISO-8859-1"):
        shutil.rmtree(environment["EMT_STORE"], ignore_errors=True)
        done = finished(
            [*RUN[:-1], "--", "printf", r"%s\0", *words], {**environment, "LC_ALL": locale, "BYTES": "x"}
        )
        assert (done.returncode, done.stdout) == (0, b"".join(word + b"\0" for word in words))
        assert b"\x1b[31m" not in done.stderr
        assert only_record(environment)["command"][0] == "printf"


def test_quiet_prints_nothing_and_the_summary_goes_to_stderr(emt: Emt) -> None:
    quiet = emt("run", "-q", "--", "true")
    assert (quiet.stdout, quiet.stderr) == ("", "")
    loud = emt("run", "-v", "--", "echo", "mine")
    assert loud.stdout == "mine\n"
    assert re.search(r"energy +\S", loud.stderr)


def test_standard_input_is_the_commands(environment: dict[str, str]) -> None:
    data = bytes(range(256)) * 4096
    done = finished([*RUN, "--", "cat"], environment, input=data)
    assert done.stdout == data


# --- stderr that cannot take a word -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["--", "sh", "-c", "exit 7"], 7),
        (["--", "no-such-command-anywhere"], 127),
        (["-F", "0", "--", "true"], 125),
    ],
)
def test_a_stderr_that_takes_nothing_changes_no_status(
    environment: dict[str, str], words: list[str], status: int
) -> None:
    run = [*RUN[:-1], *words]

    def leaves(command: Sequence[str], stderr: IO[bytes] | int | None = None) -> None:
        out = subprocess.PIPE
        done = subprocess.run(command, env=environment, stdout=out, stderr=stderr, timeout=60, check=False)
        assert (done.returncode, done.stdout) == (status, b"")

    with open("/dev/full", "wb") as full:
        leaves(run, full)
    read, write = os.pipe()
    os.close(read)
    leaves(run, write)
    os.close(write)
    leaves([*entering("close=2"), *run])
