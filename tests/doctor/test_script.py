"""The script of `emt doctor --fix`: what stands in it, and what a real shell does with it."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from emt_cli.doctor import examine
from emt_cli.doctor.counters import UDEV_RULE
from emt_cli.doctor.facts import Facts, Judged
from emt_cli.doctor.script import is_empty, script
from tests.analysis.examples import channel

ZONE = "/sys/class/powercap/intel-rapl:0/energy_uj"
MODEL = channel("cpu", domain="cpu", provenance="estimated", sensor="model")
ESTIMATED = Judged(channels=(MODEL,), counted=frozenset({"cpu"}))
LOCKED = Facts(
    judged=ESTIMATED,
    user="me",
    vendor="GenuineIntel",
    zones=(ZONE,),
    locked=(ZONE,),
    paranoid=4,
    governors=("powersave",),
    is_turbo_on=True,
    turbo_file="/sys/devices/system/cpu/cpufreq/boost",
)
NO_MODULE = Facts(judged=ESTIMATED, user="me", vendor="AuthenticAMD")
HEALTHY = Facts(
    judged=Judged(channels=(channel("cpu0/package"),), is_measured=True), zones=(ZONE,), paranoid=2
)
CHECKS = {
    "sh": ["sh", "-n"],
    "dash": ["dash", "-n"],
    "bash": ["bash", "--posix", "-n"],
    "busybox": ["busybox", "sh", "-n"],
    "shellcheck": ["shellcheck", "-s", "sh"],
}
SHELLS = [name for name in CHECKS if shutil.which(name)]
MACHINES = {"locked": LOCKED, "no module": NO_MODULE, "healthy": HEALTHY}


def fix(facts: Facts) -> str:
    return script(facts, examine(facts))


def commands(text: str) -> str:
    """The script without its comments."""
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))


@pytest.mark.parametrize("name", MACHINES)
@pytest.mark.parametrize("shell", SHELLS)
def test_shells_take_it(name: str, shell: str, tmp_path: Path) -> None:
    path = tmp_path / "fix.sh"
    path.write_text(fix(MACHINES[name]))
    words = [*CHECKS[shell], str(path)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_counters_go_to_a_group_and_to_nobody_else() -> None:
    text = fix(LOCKED)
    assert "chgrp emt" in text and "chmod 0440" in text and "PLATYPUS" in text
    for opened in ("a+r", "o+r", "444", "0666", "chmod 0644"):
        assert opened not in commands(text).replace("0440", "")


def test_every_part_says_how_it_is_undone() -> None:
    text = fix(LOCKED)
    assert text.count("# --- ") == text.count("# Undo: ") == 4


def test_only_what_applies_stands_in_it() -> None:
    assert "modprobe" not in fix(LOCKED) and "paranoid" in fix(LOCKED)
    assert "paranoid" not in fix(NO_MODULE)
    assert commands(fix(HEALTHY)).strip() == ""
    assert is_empty(HEALTHY, examine(HEALTHY)) and not is_empty(LOCKED, examine(LOCKED))


def test_what_only_helps_comparing_is_commented_out() -> None:
    text = fix(LOCKED)
    assert "scaling_governor" in text and "cpufreq/boost" in text
    assert "scaling_governor" not in commands(text) and "cpufreq/boost" not in commands(text)


def test_a_module_brings_counters_that_are_roots_alone() -> None:
    assert "modprobe intel_rapl_msr" in fix(NO_MODULE) and "chgrp emt" in fix(NO_MODULE)
    assert "chgrp emt" not in fix(Facts(judged=ESTIMATED, vendor="GenuineIntel", is_root=True))
    assert fix(NO_MODULE).index("modprobe intel") < fix(NO_MODULE).index("chgrp emt")


def test_in_a_container_nothing_is_mended() -> None:
    contained = Facts(judged=ESTIMATED, zones=(ZONE,), locked=(ZONE,), paranoid=4, container="docker")
    assert commands(fix(contained)).strip() == ""


def test_a_name_cannot_run_anything(tmp_path: Path) -> None:
    facts = Facts(judged=ESTIMATED, zones=(ZONE,), locked=(ZONE,), user=f"$(touch {tmp_path}/ran);'\"x")
    (tmp_path / "id").write_text("#!/bin/sh\necho 0\n")
    run(fix(facts), tmp_path)
    assert not (tmp_path / "ran").exists()


# --- run by a real shell on a machine of folders ----------------------------------------------------


def run(text: str, root: Path, *tools: str, uid: int = 0, **environ: str) -> tuple[str, list[str]]:
    """Run a script whose /etc and /sys lie under `root` and whose tools only write down how they were
    called; what it says, and the calls."""
    bin, calls = root / "bin", root / "calls"
    shutil.rmtree(bin, ignore_errors=True)
    bin.mkdir()
    calls.write_text("")
    for name in ("groupadd", "usermod", "chgrp", "chmod", "modprobe", "sysctl", *tools):
        (bin / name).write_text(f'#!/bin/sh\necho {name} "$@" >>{calls}\n')
    (bin / "id").write_text(f"#!/bin/sh\necho {uid}\n")
    for tool in bin.iterdir():
        tool.chmod(0o755)
    for name in ("cat", "grep", "mkdir"):
        (bin / name).symlink_to(str(shutil.which(name)))
    (root / "etc").mkdir(exist_ok=True)
    (root / "etc" / "group").write_text(
        (root / "etc" / "group").read_text() if (root / "etc/group").exists() else "root:x:0:\n"
    )
    path = root / "fix.sh"
    path.write_text(text.replace("/etc/", f"{root}/etc/").replace("in /sys/class", f"in {root}/sys/class"))
    done = subprocess.run(
        [str(shutil.which("sh")), str(path)],
        env={"PATH": str(bin), **environ},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == (0 if uid == 0 else 1), done.stderr
    return done.stdout + done.stderr, calls.read_text().splitlines()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder without blanks in its path, with one counter in it."""
    counter = tmp_path / ZONE.lstrip("/")
    counter.parent.mkdir(parents=True)
    counter.write_text("1\n")
    return tmp_path


def test_with_udev_a_rule_keeps_the_rights(root: Path) -> None:
    said, calls = run(fix(LOCKED), root, "udevadm", "systemd-tmpfiles", SUDO_USER="alice")
    assert "groupadd -r emt" in calls and "usermod -aG emt alice" in calls
    assert f"chgrp emt {root}{ZONE}" in calls and f"chmod 0440 {root}{ZONE}" in calls
    assert (root / "etc/udev/rules.d/70-emt.rules").read_text() == UDEV_RULE + "\n"
    assert not (root / "etc/tmpfiles.d").exists()
    assert "alice" in said
    assert (root / "etc/sysctl.d/70-emt.conf").read_text() == "kernel.perf_event_paranoid = 2\n"


def test_without_udev_systemd_keeps_them(root: Path) -> None:
    run(fix(LOCKED), root, "systemd-tmpfiles")
    rule = (root / "etc/tmpfiles.d/emt.conf").read_text().split()
    assert (rule[0], *rule[2:]) == ("z", "0440", "root", "emt")


def test_without_both_it_says_that_a_boot_undoes_it(root: Path) -> None:
    said, calls = run(fix(LOCKED), root)
    assert "after every boot" in said and f"chmod 0440 {root}{ZONE}" in calls


def test_without_sudo_the_one_who_asked_joins_the_group(root: Path) -> None:
    assert "usermod -aG emt me" in run(fix(LOCKED), root)[1]


def test_root_joins_no_group(root: Path) -> None:
    as_root = Facts(judged=ESTIMATED, zones=(ZONE,), locked=(ZONE,))
    assert not [call for call in run(fix(as_root), root)[1] if call.startswith("usermod")]


def test_a_second_time_changes_nothing(root: Path) -> None:
    run(fix(LOCKED), root, "udevadm")
    with (root / "etc/group").open("a") as group:
        group.write("emt:x:999:me\n")
    before = {path: path.read_text() for path in (root / "etc").rglob("*") if path.is_file()}
    _, calls = run(fix(LOCKED), root, "udevadm")
    assert not [call for call in calls if call.startswith("groupadd")]
    assert {path: path.read_text() for path in (root / "etc").rglob("*") if path.is_file()} == before


def test_it_refuses_to_run_without_rights(root: Path) -> None:
    said, calls = run(fix(LOCKED), root, uid=1000)
    assert "sudo sh" in said and calls == []


def test_the_rule_that_udev_runs_gives_one_counter_to_the_group(root: Path) -> None:
    """The command of the rule, as udev would run it: %p filled in, by /bin/sh."""
    command = UDEV_RULE.split("-c '")[1].rstrip("'\"").replace("/sys%p", str(root / "device"))
    (root / "device").mkdir()
    counter = root / "device" / "energy_uj"
    counter.write_text("1")
    own_group = str(os.getgid())
    done = subprocess.run(["/bin/sh", "-c", command.replace("chgrp emt", f"chgrp {own_group}")], check=False)
    assert done.returncode == 0
    assert stat.S_IMODE(counter.stat().st_mode) == 0o440
