"""`emt config` and `emt config init`, through the command itself."""

from __future__ import annotations

import json
import os
import pty
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from emt_cli.commands.config import starter
from emt_cli.config import keys, load

PROJECT = Path(__file__).parent.parent.parent


class Shell:
    """Runs `emt` in a folder and home of its own."""

    def __init__(self, base: Path) -> None:
        self.home = base / "home"
        self.cwd = base / "work"
        self.user_file = self.home / ".config/emt/config.toml"
        self.home.mkdir()
        self.cwd.mkdir()
        self.environ = {"PATH": os.environ["PATH"], "HOME": str(self.home), "PYTHONPATH": str(PROJECT)}

    def emt(self, *words: str, status: int = 0, **environ: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "emt_cli", *words],
            cwd=self.cwd,
            env=self.environ | environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == status, done.stderr
        assert "Traceback" not in done.stderr
        return done

    def on_a_terminal(self, *words: str, **environ: str) -> str:
        ours, theirs = pty.openpty()
        subprocess.run(
            [sys.executable, "-m", "emt_cli", *words],
            cwd=self.cwd,
            env=self.environ | {"TERM": "xterm", "COLUMNS": "120"} | environ,
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            check=True,
        )
        os.close(theirs)
        shown = b""
        try:
            while chunk := os.read(ours, 65536):
                shown += chunk
        except OSError:  # how Linux says that the other side is closed
            pass
        os.close(ours)
        return shown.decode()


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def test_it_shows_every_setting_its_value_and_where_that_came_from(shell: Shell) -> None:
    (shell.cwd / "emt.toml").write_text("[carbon]\npue = 1.4\n")
    done = shell.emt("config", EMT_FREQUENCY="50")
    rows = {
        line.split()[0]: line.split(maxsplit=2)[1:] for line in done.stdout.partition("\n\n")[0].splitlines()
    }
    assert list(rows)[1:] == [key.name for key in keys.KEYS]
    assert rows["carbon.pue"] == ["1.4", str(shell.cwd / "emt.toml")]
    assert rows["run.frequency_hz"] == ["50.0", "environment (EMT_FREQUENCY)"]
    assert rows["run.idle_policy"] == ["unset", "default"]
    assert f"  {shell.cwd}/emt.toml: read\n  {shell.user_file}: not there\n" in done.stdout
    assert done.stderr == ""


def test_json_holds_the_same_for_programs(shell: Shell) -> None:
    shell.user_file.parent.mkdir(parents=True)
    shell.user_file.write_text('[run.idle_w]\n"cpu0/package" = 12.5\n')
    answer = json.loads(shell.emt("config", "--format", "json", EMT_PEU="2").stdout)
    assert list(answer["settings"]) == [key.name for key in keys.KEYS]
    assert answer["settings"]["run.idle_w"] == {
        "value": {"cpu0/package": 12.5},
        "source": str(shell.user_file),
        "variable": None,
    }
    assert answer["settings"]["carbon.pue"] == {"value": 1.0, "source": "default", "variable": "EMT_PUE"}
    assert answer["files"][1] == {"path": str(shell.user_file), "state": "read"}
    assert answer["notices"][0]["code"] == "unknown_variable"


def test_an_unknown_variable_warns_on_standard_error_only(shell: Shell) -> None:
    done = shell.emt("config", EMT_PEU="2")
    assert "EMT_PEU" in done.stderr and "did you mean EMT_PUE?" in done.stderr
    assert "EMT_PEU" not in done.stdout


def test_a_wrong_file_is_explained_in_two_lines_and_exits_with_2(shell: Shell) -> None:
    (shell.cwd / "emt.toml").write_text("[carbon]\npeu = 1.4\n")
    done = shell.emt("config", status=2)
    assert done.stdout == ""
    assert f"{shell.cwd}/emt.toml, line 2: unknown key carbon.peu" in done.stderr
    assert "did you mean carbon.pue?" in done.stderr


def test_a_terminal_gets_colour_unless_it_asks_for_none(shell: Shell) -> None:
    colored = shell.on_a_terminal("config", EMT_PUE="1.4")
    assert "\x1b[" in colored
    assert "environment (EMT_PUE)" in colored
    plain = shell.on_a_terminal("config", EMT_PUE="1.4", NO_COLOR="1")
    assert "\x1b[" not in plain
    without = re.sub(r"\x1b\[[0-9;]*m", "", colored)
    assert [line.split() for line in without.splitlines()] == [line.split() for line in plain.splitlines()]


# --- emt config init ----------------------------------------------------------------------------------


def test_init_writes_a_private_starter_file_that_sets_nothing(shell: Shell) -> None:
    done = shell.emt("config", "init")
    assert done.stdout == f"wrote {shell.user_file}\n"
    assert stat.S_IMODE(shell.user_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(shell.user_file.parent.stat().st_mode) == 0o700
    settings = json.loads(shell.emt("config", "--format", "json").stdout)["settings"]
    assert {setting["source"] for setting in settings.values()} == {"default"}


@pytest.mark.parametrize("is_project", [True, False])
def test_every_line_of_the_starter_file_is_valid_without_its_hash(tmp_path: Path, is_project: bool) -> None:
    text = re.sub(r"(?m)^#(?=\w)", "", starter(is_project=is_project))
    (tmp_path / "emt").mkdir()
    path = tmp_path / "emt.toml" if is_project else tmp_path / "emt/config.toml"
    path.write_text(text)
    environ = {"XDG_CONFIG_HOME": str(tmp_path)}
    config = load({}, environ=environ, cwd=str(tmp_path), home="", system="/nowhere", uid=os.getuid())
    left = {key.name for key in keys.KEYS if config.source(key) == "default"}
    assert left == ({key.name for key in keys.KEYS if not key.in_project} if is_project else set())


def test_init_for_a_project_leaves_out_what_may_not_stand_there(shell: Shell) -> None:
    shell.emt("config", "init", "--project")
    text = (shell.cwd / "emt.toml").read_text()
    assert "#pue = 1.0" in text
    assert "path" not in text and "replay" not in text


def test_init_never_overwrites_unless_forced(shell: Shell) -> None:
    target = shell.cwd / "mine.toml"
    target.write_text("mine")
    done = shell.emt("config", "init", "mine.toml", status=1)
    assert "is there already" in done.stderr and "--force" in done.stderr
    assert target.read_text() == "mine"
    target.chmod(0o644)
    shell.emt("config", "init", "mine.toml", "--force")
    assert target.read_text() == starter(is_project=False)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert [path.name for path in shell.cwd.iterdir()] == ["mine.toml"]


def test_a_forced_init_writes_through_a_link_and_an_unforced_one_does_not(shell: Shell) -> None:
    dotfiles = shell.cwd / "dotfiles.toml"
    (shell.cwd / "link.toml").symlink_to(dotfiles)
    shell.emt("config", "init", "link.toml", status=1)
    assert not dotfiles.exists()
    dotfiles.write_text("old")
    shell.emt("config", "init", "link.toml", "--force")
    assert (shell.cwd / "link.toml").is_symlink()
    assert dotfiles.read_text() == starter(is_project=False)


def test_init_where_nothing_can_be_written_says_so(shell: Shell) -> None:
    (shell.cwd / "file").write_text("")
    done = shell.emt("config", "init", "file/config.toml", status=1)
    assert "file/config.toml cannot be written" in done.stderr
