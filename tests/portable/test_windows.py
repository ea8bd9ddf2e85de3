"""Windows as far as it can be had on Linux: what its calls answer, as bytes, and the whole command with
Python's POSIX half taken away (`windows_like`)."""

from __future__ import annotations

import ctypes
import json
import pathlib
import pkgutil
import struct
import subprocess
import sys

import pytest

import emt_cli
from emt_cli.commands.run import as_c_int
from emt_cli.measure.portable.windows import breakaway_limits, cpu_seconds
from tests.conftest import REPOSITORY
from tests.launch import finished, only_record, records
from tests.machines.conftest import VALIDATOR

EMT = (sys.executable, "-m", "tests.portable.windows_like")
RUN = (*EMT, "run", "-q", "--location", "FR")
LINUX_ONLY = {
    f"emt_cli.measure.{name}"
    for name in ("cgroup", "cputime", "launch", "ledger", "linux", "on_linux", "own_tree", "signals", "tree")
}


# --- the job object ---------------------------------------------------------------------------------


def test_user_and_kernel_time_of_a_job_are_added() -> None:
    accounting = struct.pack("<qqqqIIII", 15_000_000, 5_000_000, 1, 1, 9, 3, 1, 0)
    assert len(accounting) == 48
    assert cpu_seconds(accounting) == pytest.approx(2.0)


def test_accounting_that_is_cut_short_is_an_error_not_zero() -> None:
    with pytest.raises(ValueError, match="7 bytes"):
        cpu_seconds(b"\0" * 7)


def test_leaving_the_job_stays_allowed_and_nothing_else_is_limited() -> None:
    """The structure as C lays it out (winnt.h), on a system with pointers of 64 bits."""

    class Basic(ctypes.Structure):
        _fields_ = (
            ("process_time", ctypes.c_int64),
            ("job_time", ctypes.c_int64),
            ("flags", ctypes.c_uint32),
            ("least", ctypes.c_size_t),
            ("most", ctypes.c_size_t),
            ("processes", ctypes.c_uint32),
            ("affinity", ctypes.c_size_t),
            ("priority", ctypes.c_uint32),
            ("scheduling", ctypes.c_uint32),
        )

    class Extended(ctypes.Structure):
        _fields_ = (("basic", Basic), ("io", ctypes.c_uint64 * 6), ("memory", ctypes.c_size_t * 4))

    limits = breakaway_limits(8)
    assert len(limits) == ctypes.sizeof(Extended) == 144
    assert Extended.from_buffer_copy(limits).basic.flags == 0x800
    assert limits.count(0) == 143
    assert len(breakaway_limits(4)) == 112


@pytest.mark.parametrize(("code", "status"), [(0, 0), (3, 3), (0xC0000005, -1073741819), (2**32 - 1, -1)])
def test_an_exit_code_of_32_bits_fits_into_an_int(code: int, status: int) -> None:
    assert as_c_int(code) == status
    assert ctypes.c_uint32(status).value == code


# --- without the POSIX half of Python ---------------------------------------------------------------


def test_every_module_but_those_of_linux_can_be_imported() -> None:
    found = pkgutil.walk_packages(emt_cli.__path__, "emt_cli.")
    names = [module.name for module in found if module.name not in LINUX_ONLY | {"emt_cli.__main__"}]
    assert len(names) > 60
    script = (
        "import sys, importlib; from tests.portable.windows_like import pretend; pretend()\n"
        "for name in sys.argv[1:]: importlib.import_module(name)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *names], capture_output=True, text=True, cwd=REPOSITORY, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("code", [0, 3])
def test_the_command_runs_and_is_recorded_everywhere(
    environment: dict[str, str], tmp_path: pathlib.Path, code: int
) -> None:
    targets = ["-o", "a.json", "-o", "b.csv", "-o", "c"]
    command = ["sh", "-c", f"echo mine; sleep 0.3; exit {code}"]
    done = finished([*RUN, *targets, "--", *command], environment, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (code, b"mine\n", b"")
    record = json.loads((tmp_path / "a.json").read_text())
    VALIDATOR.validate(record)
    assert record["exit"] == {"code": code, "signal": None}
    assert record["cpu_time"]["witnesses"]["job"] == record["cpu_time"]["tree_s"] == 1.25
    assert record["cpu_time"]["coverage"] == 1.0
    assert "coverage" not in [each["code"] for each in record["warnings"]]
    assert (tmp_path / "c" / "samples.csv").exists()
    assert len((tmp_path / "b.csv").read_bytes().splitlines()) == 2
    assert only_record(environment)["id"] == record["id"]
    assert list(tmp_path.glob(".*")) == [], "a temporary file was left"


def test_targets_that_are_taken_are_stepped_around_appended_to_or_replaced(
    environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    targets = ["-o", "a.json", "-o", "b.csv", "-o", "c"]
    for force in ([], ["--force"]):
        finished([*RUN, *targets, *force, "--", "true"], environment, cwd=tmp_path)
    assert len((tmp_path / "b.csv").read_bytes().splitlines()) == 3
    ids = [json.loads((tmp_path / name).read_text())["id"] for name in ("a.json", "c/run.json")]
    last = max(records(environment), key=lambda record: str(record["started_at"]))
    assert ids == [last["id"]] * 2


def test_a_command_that_does_not_exist_leaves_no_record(environment: dict[str, str]) -> None:
    done = finished([*RUN, "--", "no-such-command-anywhere"], environment)
    assert done.returncode == 127
    assert b"command not found" in done.stderr
    assert records(environment) == []


def test_a_run_that_nobody_wants_to_keep_leaves_nothing(
    environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    done = finished([*RUN, "--no-store", "--", "true"], environment)
    assert (done.returncode, done.stderr) == (0, b"")
    assert records(environment) == []
    assert list(tmp_path.glob("emt-*")) == []


@pytest.mark.parametrize(
    "words",
    [
        ["report"],
        ["report", "--format", "csv"],
        ["runs"],
        ["sensors"],
        ["config"],
        ["runs", "prune", "--keep", "0"],
    ],
)
def test_the_other_commands_work(environment: dict[str, str], words: list[str]) -> None:
    finished([*RUN, "--", "true"], environment)
    done = finished([*EMT, *words], environment)
    assert (done.returncode, done.stderr.count(b"Traceback")) == (0, 0), done.stderr.decode()
    assert done.stdout
