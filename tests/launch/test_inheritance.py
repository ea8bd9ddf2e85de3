"""What the command finds when it starts is what it would find without emt: bare and wrapped, side by side."""

from __future__ import annotations

import json
import os
import pathlib
import pwd
import select
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from tests.launch import (
    LIMIT_S,
    RUN,
    entering,
    finished,
    need,
    need_root,
    only_record,
    program,
    records,
    started,
    until,
)


def facts(before: Sequence[str], environment: dict[str, str], folder: pathlib.Path) -> dict[str, Any]:
    """What a process started like that inherits; its descriptors are files of this folder."""
    path = folder / "facts.json"
    path.unlink(missing_ok=True)
    with open(folder / "stdout", "ab") as out, open(folder / "stderr", "ab") as err:
        done = subprocess.run(
            [*before, *program("facts", path)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env=environment,
            cwd=folder,
            timeout=60,
            check=False,
        )
    assert done.returncode == 0, (folder / "stderr").read_text()
    assert (folder / "stdout").stat().st_size == 0
    return dict(json.loads(path.read_text()))


CONDITIONS = {
    "nothing special": [],
    "hang-up ignored, as by nohup": ["ignore=HUP"],
    "interrupts ignored, as in the background": ["ignore=INT", "ignore=QUIT"],
    "children ignored": ["ignore=CHLD"],
    "stops and a real-time signal ignored": ["ignore=TSTP", "ignore=TTOU", "ignore=RTMAX"],
    "signals blocked": ["block=USR1", "block=TERM", "block=RTMIN", "block=CHLD"],
    "stdin closed": ["close=0"],
    "stdout closed": ["close=1"],
    "stderr closed": ["close=2"],
    "all three closed": ["close=0", "close=1", "close=2"],
    "descriptors handed down": ["open=3", "open=4", "open=63"],
    "limits and habits": [
        *("umask=027", "nice=3", "cwd=/", "limit=NOFILE:64:", "limit=CORE:0:", "limit=STACK:4194304:"),
        *("limit=CPU:1000:1000", "limit=NPROC:3000:"),
    ],
    "an alarm is set": ["alarm=1000"],
}


@pytest.mark.parametrize("condition", CONDITIONS)
def test_the_command_inherits_what_it_would_inherit_without_emt(
    environment: dict[str, str], tmp_path: pathlib.Path, condition: str
) -> None:
    before = entering(*CONDITIONS[condition])
    bare = facts(before, environment, tmp_path)
    wrapped = facts([*before, *RUN, "--"], environment, tmp_path)
    assert wrapped == bare
    assert only_record(environment)["exit"]["code"] == 0


@pytest.mark.parametrize("locale", [{}, {"LC_ALL": "C"}, {"LANG": "C"}, {"LC_CTYPE": "C.UTF-8"}])
def test_no_variable_is_added_whatever_the_locale(
    environment: dict[str, str], locale: dict[str, str]
) -> None:
    environment = {key: value for key, value in environment.items() if key != "LANG"} | locale
    assert finished([*RUN, "--", "env"], environment).stdout == finished(["env"], environment).stdout


def test_signals_that_python_ignores_for_itself_are_at_their_default(environment: dict[str, str]) -> None:
    """Python ignores SIGPIPE and SIGXFSZ at its own start; the command must not inherit that."""
    lines = ["grep", "-E", "^Sig(Blk|Ign|Cgt)", "/proc/self/status"]
    bare = finished([*entering(), *lines], environment)
    wrapped = finished([*entering(), *RUN, "--", *lines], environment)
    assert wrapped.stdout == bare.stdout
    assert b"SigIgn:\t0000000000000000" in wrapped.stdout


def test_an_alarm_that_was_set_rings_in_the_command(environment: dict[str, str]) -> None:
    """`alarm` survives an exec: `perl -e 'alarm 60; exec @ARGV' CMD` is an old way to set a time limit."""
    counting_down = [*entering("alarm=2"), *RUN, "--", "sleep", "60"]
    assert finished(counting_down, environment).returncode == -14
    assert only_record(environment)["exit"]["signal"] == 14


def test_a_low_soft_limit_of_descriptors_is_raised_for_emt_alone(environment: dict[str, str]) -> None:
    low = [*entering("limit=NOFILE:12:"), *RUN, "--", "sh", "-c", "ulimit -Sn"]
    done = finished(low, environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"12\n", b"")


@pytest.mark.parametrize("limit", ["NOFILE:7:7", "NOFILE:10:10", "FSIZE:0:0", "NPROC:0:0", "AS:300000000:"])
def test_too_little_of_anything_ends_with_the_commands_status_or_125_and_a_message(
    environment: dict[str, str], tmp_path: pathlib.Path, limit: str
) -> None:
    done = finished([*entering(f"limit={limit}"), *RUN, "--", "sh", "-c", "exit 7"], environment)
    assert done.returncode in (7, 125)
    assert done.stdout == b""
    assert b"Traceback" not in done.stderr
    assert done.returncode == 7 or done.stderr.startswith(b"emt: ")


def test_the_command_reads_what_process_substitution_hands_to_it(environment: dict[str, str]) -> None:
    line = '"$@" cat <(echo one) <(echo two)'
    done = finished(["bash", "-c", line, "bash", *RUN, "--"], environment)
    assert (done.returncode, done.stdout) == (0, b"one\ntwo\n")


def test_a_pipe_ends_when_the_command_closes_it_not_when_emt_leaves(
    environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    """A reader of the command's output, or of a descriptor that says `ready`, must not wait for emt."""
    ready, tell = os.pipe()
    read, feed = os.pipe()
    over = tmp_path / "over"  # bash, since dash knows no descriptor of two digits
    lines = f'echo up; exec <&- {tell}>&- >&-; until [ -e "$1" ]; do sleep 0.05; done'
    with started(
        [*RUN, "--", "bash", "-c", lines, "bash", str(over)],
        env=environment,
        stdin=read,
        stdout=subprocess.PIPE,
        pass_fds=[tell],
    ) as emt:
        os.close(tell)
        os.close(read)
        assert emt.stdout is not None
        assert read_to_end(emt.stdout.fileno()) == b"up\n"
        assert read_to_end(ready) == b""
        until(lambda: is_broken(feed), "the last reader to be gone")
        assert emt.poll() is None
        over.touch()
        assert emt.wait(60) == 0
    os.close(ready)
    os.close(feed)


def is_broken(fd: int) -> bool:
    """Whether nobody reads this pipe any more."""
    try:
        os.write(fd, b".")
    except BrokenPipeError:
        return True
    return False


def read_to_end(fd: int) -> bytes:
    """All that comes until the last writer has closed; fails where one keeps it open."""
    text = b""
    while True:
        assert select.select([fd], [], [], LIMIT_S)[0], f"still open after {text!r}"
        if not (block := os.read(fd, 4096)):
            return text
        text += block


def test_no_file_of_emts_comes_to_lie_on_a_closed_standard_descriptor(environment: dict[str, str]) -> None:
    """What a library prints to a closed stderr must not end up in the journal."""
    line = "for fd in 0 1 2; do readlink /proc/$PPID/fd/$fd; done"
    done = finished([*entering("close=0", "close=2"), *RUN, "--", "sh", "-c", line], environment)
    assert done.stdout.split() == [b"/"] * 3


# --- who the command is -----------------------------------------------------------------------------


def test_user_gives_the_command_that_users_ids_groups_and_home(environment: dict[str, str]) -> None:
    need_root()
    line = 'id -u; id -g; id -G; echo "$HOME $USER $LOGNAME"; grep -E "^(Uid|Gid|CapEff)" /proc/self/status'
    done = finished([*RUN, "--user", "nobody", "--", "sh", "-c", line], environment)
    nobody = pwd.getpwnam("nobody")
    groups = " ".join(map(str, os.getgrouplist("nobody", nobody.pw_gid)))
    uids, gids = "\t".join([str(nobody.pw_uid)] * 4), "\t".join([str(nobody.pw_gid)] * 4)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode().splitlines() == [
        *(str(nobody.pw_uid), str(nobody.pw_gid), groups, f"{nobody.pw_dir} nobody nobody"),
        *(f"Uid:\t{uids}", f"Gid:\t{gids}", "CapEff:\t0000000000000000"),
    ]


def test_root_stays_root_under_sudo_unless_told_otherwise(environment: dict[str, str]) -> None:
    need_root()
    sudo = {**environment, "SUDO_UID": "65534", "SUDO_GID": "65534", "SUDO_USER": "nobody"}
    done = finished([*RUN, "--", "id", "-u"], sudo)
    assert (done.returncode, done.stdout) == (0, b"0\n")


def test_root_without_the_right_to_change_users_says_so(environment: dict[str, str]) -> None:
    need_root()
    without = ["setpriv", "--bounding-set", "-setuid,-setgid", "--inh-caps", "-setuid,-setgid"]
    need([*without, "true"], "setpriv cannot drop capabilities here")
    done = finished([*without, *RUN, "--user", "nobody", "--", "id"], environment)
    assert (done.returncode, done.stdout) == (125, b"")
    assert b"cannot become user 'nobody'" in done.stderr


@pytest.fixture
def somebody(environment: dict[str, str]) -> Iterator[dict[str, str]]:
    """The environment of an ordinary user with a home and a store of its own."""
    home = tempfile.mkdtemp(prefix="emt-somebody-", dir="/tmp")
    os.chown(home, 65534, 65534)
    yield {**environment, "HOME": home, "EMT_STORE": f"{home}/store", "TMPDIR": home}
    shutil.rmtree(home)


def test_an_ordinary_user_measures_into_a_store_of_its_own(
    as_nobody: tuple[str, ...], somebody: dict[str, str]
) -> None:
    done = finished([*as_nobody, *RUN, "--", "sh", "-c", "id -u; exit 7"], somebody, cwd=somebody["HOME"])
    assert (done.returncode, done.stdout, done.stderr) == (7, b"65534\n", b"")
    assert only_record(somebody)["exit"]["code"] == 7


def test_an_ordinary_user_may_not_become_another(
    as_nobody: tuple[str, ...], somebody: dict[str, str]
) -> None:
    done = finished([*as_nobody, *RUN, "--user", "daemon", "--", "id"], somebody, cwd=somebody["HOME"])
    assert (done.returncode, done.stdout) == (125, b"")
    assert b"only root may run a command as 'daemon'" in done.stderr
    assert records(somebody) == []
