"""The IPMI sensor with an ipmitool that is a small script: its answers, its refusals, and that it ends."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from emt_cli.model import Gap, Reading
from emt_cli.sensors import open_available
from emt_cli.sensors.base import Absent, Denied, Machine, StartsProcesses
from emt_cli.sensors.ipmi import Ipmi, open_ipmi
from emt_cli.sensors.wishes import Wishes
from tests.sensors.contract import SensorContract

ANSWER = """
    Instantaneous power reading:                   {watts} Watts
    Minimum during sampling period:                  6 Watts
    Maximum during sampling period:                611 Watts
    Average power reading over sample period:      221 Watts
    IPMI timestamp:                           11/21/26 18:00:00 UTC    Sampling period:                          00000001 Seconds.
    Power reading state is:                   {state}


"""  # noqa: E501 - ipmitool prints it so
LOCKED = (
    "Could not open device at /dev/ipmi0 or /dev/ipmi/0 or /dev/ipmidev/0: Permission denied",
    1,
)
LIMIT_S = 20.0


def says(text: str, status: int = 0) -> str:
    return f"cat <<'END'\n{text}\nEND\nexit {status}\n"


def reading(watts: int = 228, state: str = "activated") -> str:
    return says(ANSWER.format(watts=watts, state=state))


def server(folder: Path, script: str | None) -> Machine:
    """A root with a BMC; `script` is what ipmitool does, None for none."""
    (folder / "dev").mkdir(parents=True, exist_ok=True)
    (folder / "dev/ipmi0").touch()
    if script is not None:
        install(folder, script)
    return Machine(str(folder))


def install(folder: Path, script: str) -> None:
    program = folder / "usr/bin/ipmitool"
    program.parent.mkdir(parents=True, exist_ok=True)
    draft = program.with_suffix(".new")
    draft.write_text("#!/bin/sh\n" + script)
    draft.chmod(0o755)
    draft.replace(program)


@contextmanager
def opened(folder: Path, script: str) -> Iterator[Ipmi]:
    sensor = open_ipmi(server(folder, script))
    try:
        yield sensor
    finally:
        sensor.close()


def until(sensor: Ipmi, is_wanted: Callable[[Reading | Gap], bool]) -> Reading | Gap:
    """Read on until something comes that is wanted."""
    give_up_s = time.monotonic() + LIMIT_S
    while not is_wanted(found := sensor.read()[0]):
        assert time.monotonic() < give_up_s, found
        time.sleep(0.01)
    return found


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


class TestIpmi(SensorContract):
    def open(self, folder: Path) -> Ipmi:
        return open_ipmi(server(folder, reading()))

    def open_absent(self, folder: Path) -> Ipmi:
        return open_ipmi(Machine(str(folder)))

    def open_locked(self, folder: Path) -> Ipmi:
        return open_ipmi(server(folder, says(*LOCKED)))

    def open_vanishing(self, folder: Path) -> tuple[Ipmi, Callable[[], None]]:
        sensor = open_ipmi(server(folder, reading()))

        def vanish() -> None:
            install(folder, says("Could not open device at /dev/ipmi0: No such device", 1))
            until(sensor, lambda found: isinstance(found, Gap))

        return sensor, vanish


# --- what it tells ------------------------------------------------------------------------------------


def test_it_is_the_whole_node_in_watts(tmp_path: Path) -> None:
    with opened(tmp_path, reading(228)) as sensor:
        (channel,) = sensor.channels
        assert (channel.id, channel.domain, channel.kind) == ("node/ipmi", "node", "gauge")
        assert (channel.provenance, channel.is_platform) == ("integrated", True)
        (first,) = sensor.read()
        assert isinstance(first, Reading)
        assert first.value * channel.unit == 228


def test_a_new_power_comes_with_a_later_reading(tmp_path: Path) -> None:
    with opened(tmp_path, reading(228)) as sensor:
        install(tmp_path, reading(431))
        until(sensor, lambda found: isinstance(found, Reading) and found.value == 431)


def test_no_reading_waits_for_a_slow_bmc(tmp_path: Path) -> None:
    """The script waits for a word that never comes: the last value stands in, until it is too old."""
    with opened(tmp_path, reading()) as sensor:
        os.mkfifo(tmp_path / "word")
        install(tmp_path, f"read -r _ <'{tmp_path}/word'\n")
        until(sensor, lambda _: not is_idle(sensor))
        began_s = time.process_time()
        for _ in range(100):
            assert isinstance(sensor.read()[0], Reading)
        assert time.process_time() - began_s < 1


def is_idle(sensor: Ipmi) -> bool:
    """Whether the shell has nothing to do but to wait for a question."""
    try:
        children = Path(f"/proc/{sensor.process_ids[0]}/task/{sensor.process_ids[0]}/children").read_text()
    except FileNotFoundError:
        pytest.skip("this kernel lists no children")
    return not children.split()


def test_a_bmc_that_answers_no_more_is_a_gap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(tmp_path, reading()) as sensor:
        os.mkfifo(tmp_path / "word")
        install(tmp_path, f"read -r _ <'{tmp_path}/word'\n")
        until(sensor, lambda _: not is_idle(sensor))
        now_s = time.monotonic()
        monkeypatch.setattr("emt_cli.sensors.ipmi.monotonic", lambda: now_s + 7)
        (gap,) = sensor.read()
        assert isinstance(gap, Gap)
        assert gap.reason.startswith("the BMC has not answered for ")


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (says("DCMI request failed because: Node busy (C0)", 1), "Node busy"),
        (reading(0), "0 W"),
        (reading(200, "deactivated"), "deactivated"),
        (says("Instantaneous power reading: many Watts"), "many"),
        (says(""), "status 0"),
        ("kill -9 $$\n", "was not asked"),
    ],
)
def test_a_bad_answer_is_a_gap_with_its_words_and_the_next_one_is_tried(
    tmp_path: Path, script: str, reason: str
) -> None:
    with opened(tmp_path, reading()) as sensor:
        install(tmp_path, script)
        gap = until(sensor, lambda found: isinstance(found, Gap))
        assert isinstance(gap, Gap)
        assert reason in gap.reason
        install(tmp_path, reading(99))
        until(sensor, lambda found: isinstance(found, Reading) and found.value == 99)


def test_an_ipmitool_that_is_removed_on_the_way_is_a_gap(tmp_path: Path) -> None:
    with opened(tmp_path, reading()) as sensor:
        (tmp_path / "usr/bin/ipmitool").unlink()
        gap = until(sensor, lambda found: isinstance(found, Gap))
        assert isinstance(gap, Gap)
        assert "not found" in gap.reason


# --- whom it refuses ----------------------------------------------------------------------------------


def test_without_ipmitool_it_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(Denied) as caught:
        open_ipmi(server(tmp_path, None))
    assert "install ipmitool" in caught.value.hint


def test_a_user_is_told_to_use_sudo_and_never_to_open_the_bmc_to_all(tmp_path: Path) -> None:
    with pytest.raises(Denied) as caught:
        open_ipmi(server(tmp_path, says(*LOCKED)))
    assert "sudo emt run --with ipmi" in caught.value.hint
    assert "chmod" not in caught.value.hint


@pytest.mark.parametrize("script", [reading(0), reading(120, "deactivated")])
def test_a_bmc_that_does_not_measure_is_denied(tmp_path: Path, script: str) -> None:
    with pytest.raises(Denied, match="does not measure power"):
        open_ipmi(server(tmp_path, script))


def test_a_bmc_without_dcmi_is_absent(tmp_path: Path) -> None:
    with pytest.raises(Absent, match="Invalid command"):
        open_ipmi(server(tmp_path, says("DCMI request failed because: Invalid command (C1)", 1)))


def test_a_bmc_that_never_answers_is_denied_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emt_cli.sensors.ipmi._FIRST_ANSWER_S", 0.2)
    os.mkfifo(tmp_path / "word")
    with pytest.raises(Denied, match="did not answer within"):
        open_ipmi(server(tmp_path, f"echo $PPID >'{tmp_path}/shell'\nread -r _ <'{tmp_path}/word'\n"))
    if (tmp_path / "shell").exists():
        assert is_gone(int((tmp_path / "shell").read_text()))


def test_it_is_opened_only_where_it_is_asked_for(tmp_path: Path) -> None:
    machine = server(tmp_path, f"touch '{tmp_path}/asked'\n" + reading())
    names = [sensor.name for sensor in open_available(machine).sensors]
    assert "ipmi" not in names
    assert not (tmp_path / "asked").exists()
    opened = open_available(machine, wishes=Wishes(opt_in=("ipmi",)))
    assert "ipmi" in [sensor.name for sensor in opened.sensors]
    for sensor in opened.sensors:
        sensor.close()


# --- its process ----------------------------------------------------------------------------------------


def test_its_one_process_is_named_and_ends_when_it_is_closed(tmp_path: Path) -> None:
    with opened(tmp_path, reading()) as sensor:
        assert isinstance(sensor, StartsProcesses)
        (shell,) = sensor.process_ids
        assert os.getpgid(shell) == shell  # a Ctrl-C of the terminal does not reach it
        assert not is_gone(shell)
    assert is_gone(shell)


def test_what_ipmitool_is_doing_ends_with_it(tmp_path: Path) -> None:
    with opened(tmp_path, reading()) as sensor:
        os.mkfifo(tmp_path / "word")
        install(tmp_path, f"echo $$ >'{tmp_path}/pid'\nread -r _ <'{tmp_path}/word'\n")
        until(sensor, lambda _: (tmp_path / "pid").exists() and bool((tmp_path / "pid").read_text()))
        tool = int((tmp_path / "pid").read_text())
        watch = os.pidfd_open(tool) if hasattr(os, "pidfd_open") else None
    if watch is None:
        pytest.skip("no pidfd to wait for a process that is not ours")
    ended, _, _ = select.select([watch], [], [], LIMIT_S)
    os.close(watch)
    assert ended


def test_the_shell_ends_when_its_master_is_gone(tmp_path: Path) -> None:
    """emt was killed: nobody closes anything, but the pipe ends."""
    script = (
        "import os, sys\n"
        "from emt_cli.sensors.base import Machine\n"
        "from emt_cli.sensors.ipmi import open_ipmi\n"
        "sensor = open_ipmi(Machine(sys.argv[1]))\n"
        "print(sensor.process_ids[0], flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    server(tmp_path, reading())
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False
    )
    shell = int(done.stdout)
    give_up_s = time.monotonic() + LIMIT_S
    while not has_ended(shell):
        assert time.monotonic() < give_up_s
        time.sleep(0.01)


def has_ended(pid: int) -> bool:
    """Dead; whether its new parent has noticed is not our concern."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True
