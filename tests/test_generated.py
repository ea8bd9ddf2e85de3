"""Man pages and completions: the committed ones are what the app generates, and they work in real shells."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated, Literal

import pytest
import typer

from emt_cli.commands import generate
from emt_cli.commands.generate.tree import Command, tree

PROJECT = Path(__file__).parent.parent
SHELLS = {"bash": "emt.bash", "zsh": "_emt", "fish": "emt.fish"}


# --- a stand-in of the same shape as the app ---------------------------------------------------------


class Total(Enum):
    COMPONENTS = "components"
    PLATFORM = "platform"


def stand_in() -> typer.Typer:
    emt = typer.Typer(name="emt", help="The time command for energy. More of it.", add_completion=False)
    runs = typer.Typer(help="Keep records in order.")

    @emt.callback()
    def top(
        version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    ) -> None: ...

    @emt.command(
        context_settings={"allow_interspersed_args": False, "ignore_unknown_options": False},
        rich_help_panel="Measure",
    )
    def run(
        command: Annotated[
            list[str], typer.Argument(metavar="[--] COMMAND [ARGS]...", help="What to measure.")
        ],
        frequency: Annotated[
            float | None,
            typer.Option("-F", "--frequency", metavar="HZ", min=0.1, max=1000, help="Samples per second."),
        ] = None,
        output: Annotated[
            str | None, typer.Option("-o", "--output", metavar="FILE", help="Write here.")
        ] = None,
        quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Say nothing. Ever.")] = False,
        perf: Annotated[bool | None, typer.Option("--perf/--no-perf", help="Use perf.")] = None,
        total: Annotated[
            Total | None, typer.Option("--total", help="It's \\[the] [bold]headline[/bold]: 1.")
        ] = None,
        tag: Annotated[list[str] | None, typer.Option("-t", "--tag", metavar="K=V", help="A tag.")] = None,
        secret: Annotated[bool, typer.Option("--secret", hidden=True)] = False,
    ) -> None:
        """Measure the energy of a command.

        Its own words come first; -q says nothing.

        \b
        emt run -- make
        .dotted line
        """

    @emt.command(rich_help_panel="Measure")
    def phase(name: str, command: list[str]) -> None:
        """Measure a part of a run."""

    @emt.command(rich_help_panel="Read")
    def report(
        run: Annotated[list[str] | None, typer.Argument(metavar="[RUN]...", help="Which ones.")] = None,
        form: Annotated[
            Literal["table", "json", "csv"], typer.Option("--format", help="How to show it.")
        ] = "table",
    ) -> None:
        """Show a record."""

    @runs.command("list")
    def list_(limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most.")] = 20) -> None:
        """List the records."""

    @runs.command()
    def push(to: Annotated[str, typer.Argument(metavar="DIR", help="Where to.")]) -> None:
        """Copy records to a folder."""

    @emt.command(hidden=True)
    def internal() -> None:
        """Not for people."""

    from emt_cli.commands import config

    emt.add_typer(runs, name="runs", rich_help_panel="Read")
    emt.add_typer(config.app, name="config")
    phase_info = next(info for info in emt.registered_commands if info.callback is phase)
    phase_info.context_settings = {"allow_interspersed_args": False}
    return emt


@pytest.fixture(scope="module")
def root() -> Command:
    return tree(stand_in())


@pytest.fixture(scope="module")
def files() -> dict[str, str]:
    return generate.files(stand_in())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, files: dict[str, str]) -> Path:
    """The generated files on disk, beside a few files to be completed."""
    base = tmp_path_factory.mktemp("generated")
    for path, text in files.items():
        (base / path).parent.mkdir(exist_ok=True)
        (base / path).write_text(text)
    (base / "home").mkdir()
    (base / "there").mkdir()
    (base / "there" / "some folder").mkdir()
    (base / "there" / "some file.json").write_text("")
    (base / "there" / "bin").mkdir()
    program = base / "there" / "bin" / "emtestprogram"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    return base


def need(*programs: str) -> None:
    """Skip without one of the programs; a CI that lost one must not look green."""
    for program in programs:
        if shutil.which(program) is None:
            assert os.environ.get("CI") != "true", f"{program} is not installed"
            pytest.skip(f"{program} is not installed")


# --- the committed files -----------------------------------------------------------------------------


def test_the_committed_pages_and_scripts_are_what_the_app_generates() -> None:
    from emt_cli.commands import app

    assert generate.differing(str(PROJECT), generate.files(app)) == []


def test_every_command_of_the_app_has_a_summary_and_every_option_a_help() -> None:
    from emt_cli.commands import app

    silent = [command.name for command in tree(app).walk() if not command.summary]
    silent += [
        f"{command.name} {option.names[0]}"
        for command in tree(app).walk()
        for option in command.options
        if not option.help
    ]
    assert silent == []


@pytest.mark.parametrize("shell", SHELLS)
def test_the_committed_scripts_parse(shell: str) -> None:
    need(shell)
    done = subprocess.run(
        [shell, "-n", PROJECT / "completions" / SHELLS[shell]], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_committed_pages_lint() -> None:
    pages = sorted((PROJECT / "man").glob("*.1"))
    assert pages
    for page in pages:
        assert lint(page) == "", page


def lint(page: Path) -> str:
    """What groff has to say about a page. Not `man`: it refuses quietly where documentation was stripped."""
    need("groff")
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", "-z", page],
        capture_output=True,
        check=False,
        text=True,
        env={"PATH": os.environ["PATH"]},
    )
    return done.stderr


def rendered(page: Path) -> str:
    need("groff")
    done = subprocess.run(
        ["groff", "-man", "-Tascii", "-P-cbou", "-rLL=200n", page], capture_output=True, text=True, check=True
    )
    return done.stdout


# --- the tree ----------------------------------------------------------------------------------------


def found(root: Command, name: str) -> Command:
    return next(command for command in root.walk() if command.name == name)


def test_the_tree_has_every_visible_command_and_nothing_hidden(root: Command) -> None:
    names = {command.name for command in root.walk()}
    assert {"emt", "emt run", "emt runs list", "emt config", "emt config init"} <= names
    assert not any("internal" in name for name in names)
    assert "--secret" not in found(root, "emt run").flag_names


def test_only_a_command_whose_options_end_at_the_first_word_wraps_another(root: Command) -> None:
    wraps = {command.name: command.words_before_wrapped for command in root.walk() if command.is_wrapper}
    assert wraps == {"emt run": 0, "emt phase": 1}


def test_an_option_tells_its_value_limits_and_choices(root: Command) -> None:
    options = {option.names[-1]: option for option in found(root, "emt run").options}
    assert (options["--frequency"].metavar, options["--frequency"].limits) == ("HZ", "0.1 to 1000")
    assert (options["--total"].takes, options["--total"].choices) == ("choice", ("components", "platform"))
    assert options["--output"].takes == "file"
    assert options["--perf"].off_names == ("--no-perf",)
    assert options["--tag"].is_repeatable and not options["--output"].is_repeatable
    assert found(root, "emt runs list").options[0].default == "20"


def test_the_same_app_gives_the_same_bytes_at_any_width(
    files: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("HOME", "/somewhere/else")
    assert generate.files(stand_in()) == files


def test_the_same_app_gives_the_same_bytes_in_every_process() -> None:
    code = (
        "import hashlib; from emt_cli.commands import app, generate;"
        "print(hashlib.sha256(repr(generate.files(app)).encode()).hexdigest())"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=PROJECT,
            env={"PATH": os.environ["PATH"], "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            check=True,
        ).stdout
        for seed in range(3)
    }
    assert len(seen) == 1


def test_the_check_names_files_that_are_missing_changed_or_left_over(
    tmp_path: Path, files: dict[str, str]
) -> None:
    generate._write(str(tmp_path), files)
    assert generate.differing(str(tmp_path), files) == []
    (tmp_path / "man/emt.1").write_text("old")
    (tmp_path / "man/emt-run.1").unlink()
    (tmp_path / "man/emt-gone.1").write_text("")
    (tmp_path / "man/other.1").write_text("not ours")
    assert generate.differing(str(tmp_path), files) == [
        "man/emt.1: differs",
        "man/emt-run.1: missing",
        "man/emt-gone.1: no longer generated",
    ]
    generate._write(str(tmp_path), files)
    assert generate.differing(str(tmp_path), files) == []
    assert (tmp_path / "man/other.1").exists()


# --- man pages ---------------------------------------------------------------------------------------


def test_every_generated_page_lints(folder: Path) -> None:
    for page in sorted((folder / "man").glob("*.1")):
        assert lint(page) == "", page


def test_a_page_shows_what_the_help_shows(folder: Path) -> None:
    text = rendered(folder / "man/emt-run.1")
    assert "emt-run - measure the energy of a command" in text
    assert "emt run [OPTIONS] [--] COMMAND [ARGS]...\n" in text
    assert re.search(r"-F, --frequency HZ\s+Samples per second. \[0.1 to 1000\]", text)
    assert "--perf, --no-perf" in text
    assert "emt run -- make\n" in text
    assert "\n       .dotted line\n" in text
    assert "EMT_FREQUENCY" in text
    assert re.search(r"125 +emt itself failed", text)


def test_the_first_page_lists_the_commands_by_panel(folder: Path) -> None:
    text = rendered(folder / "man/emt.1")
    assert (
        text.index("\n   Measure")
        < text.index("emt-run(1)")
        < text.index("\n   Read")
        < text.index("emt-report(1)")
    )


def test_a_line_that_begins_with_a_dot_is_no_request() -> None:
    from emt_cli.commands.generate import man

    assert man._wrapped(".so /etc/passwd") == ["\\&.so /etc/passwd"]
    assert man._prose(" .so x\n 'y") == [".nf", "\\&.so x", "\\&'y", ".fi"]


# --- completions in real shells ----------------------------------------------------------------------


@pytest.mark.parametrize("shell", SHELLS)
def test_the_generated_scripts_parse(shell: str, folder: Path) -> None:
    need(shell)
    done = subprocess.run(
        [shell, "-n", folder / "completions" / SHELLS[shell]], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def bash(folder: Path, *words: str, with_library: bool = False) -> set[str]:
    """What bash offers for the last word. Words are split as bash splits them, at `=` too."""
    library = "/usr/share/bash-completion/bash_completion"
    if with_library and not Path(library).exists():
        need("bash-completion")
    script = f"""
    {f"source {library}" if with_library else ""}
    source "$1"; shift
    COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_LINE="$*" COMP_POINT=${{#COMP_LINE}}
    compopt() {{ :; }}
    _emt
    printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    return offered(["bash", "--norc", "-c", script, "bash", folder / "completions/emt.bash", *words], folder)


def fish(folder: Path, *words: str) -> set[str]:
    need("fish")
    script = 'source $argv[1]; complete -C (string join " " -- $argv[2..])'
    lines = offered(["fish", "-c", script, "--", folder / "completions/emt.fish", *words], folder)
    return {line.partition("\t")[0].replace("\\ ", " ") for line in lines}


ZSH_ASK = r"""
zmodload zsh/zpty
wait_for() {
  local got; REPLY=
  while zpty -r shell got; do REPLY+=$got; [[ $REPLY == *$1* ]] && return; done
}
zpty shell zsh -f -i
zpty -w shell "source $1; echo REA''DY"  # in two parts, since the terminal echoes what is typed
wait_for READY
zpty -w -n shell "$2"$'\t'
wait_for THE-END
print -r -- "$REPLY"
zpty -d shell
"""

ZSH_TELL = r"""
PS1= fpath=(%s $fpath)
cd %s
autoload -Uz compinit && compinit -D -u
compadd() {  # tell what is offered; a call that only fills arrays (-O, -A, -D) offers nothing
  local -a hits
  if [[ ${@[1,(i)(-|--)][(I)-[OAD]]} -eq 0 ]]; then
    builtin compadd -O hits "$@"
    print -rl -- HIT:${^hits}
  fi
  builtin compadd "$@"
}
tell() { _main_complete; print THE-END; }
zle -C tell complete-word tell
bindkey "^I" tell
"""


def zsh(folder: Path, *words: str) -> set[str]:
    need("zsh")
    tell = folder / "tell.zsh"
    tell.write_text(ZSH_TELL % (folder / "completions", folder / "there"))
    lines = offered(["zsh", "-f", "-c", ZSH_ASK, "zsh", tell, " ".join(words)], folder)
    return {line.partition("HIT:")[2].strip().replace("\\ ", " ") for line in lines if "HIT:" in line}


def offered(argv: list[object], folder: Path) -> set[str]:
    there = folder / "there"
    environment = {
        "PATH": f"{there / 'bin'}:/usr/bin:/bin",
        "HOME": str(folder / "home"),
        "LC_ALL": "C",
        "TERM": "dumb",
    }
    done = subprocess.run(
        [str(word) for word in argv],
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
        cwd=there,
        env=environment,
        stdin=subprocess.DEVNULL,
    )
    assert done.stderr == ""
    return {line for line in done.stdout.splitlines() if line}


COMPLETE = {"bash": bash, "zsh": zsh, "fish": fish}

COMMANDS = {"run", "phase", "report", "runs", "config"}
OFFERS = {
    "commands": (("emt", ""), COMMANDS),
    "commands-begun": (("emt", "r"), {"run", "report", "runs"}),
    "sub-commands": (("emt", "runs", ""), {"list", "push"}),
    "choices": (("emt", "run", "--total", ""), {"components", "platform"}),
    "choices-begun": (("emt", "report", "--format", "j"), {"json"}),
    "choices-after-an-argument": (("emt", "report", "x", "--format", "c"), {"csv"}),
    "folders": (("emt", "runs", "push", "some"), {"some folder"}),
    "wrapped-command": (("emt", "run", "emtestp"), {"emtestprogram"}),
    "wrapped-command-after-dashes": (("emt", "run", "-F", "20", "--", "emtestp"), {"emtestprogram"}),
    "wrapped-command-after-a-cluster": (("emt", "run", "-qF", "20", "emtestp"), {"emtestprogram"}),
    "wrapped-command-after-a-name": (("emt", "phase", "epoch", "--", "emtestp"), {"emtestprogram"}),
}


@pytest.mark.parametrize("offer", OFFERS)
@pytest.mark.parametrize("shell", COMPLETE)
def test_tab_offers_exactly_what_may_stand_there(shell: str, offer: str, folder: Path) -> None:
    words, wanted = OFFERS[offer]
    assert {word.rstrip("/") for word in COMPLETE[shell](folder, *words)} == wanted


@pytest.mark.parametrize("shell", COMPLETE)
def test_tab_offers_the_options_of_the_command(shell: str, folder: Path) -> None:
    options = COMPLETE[shell](folder, "emt", "run", "--")
    assert {"--frequency", "--quiet", "--perf", "--no-perf", "--total"} <= {
        word.rstrip("=") for word in options
    }
    assert not {"--secret", "--version", "--format"} & options


@pytest.mark.parametrize("shell", COMPLETE)
def test_tab_offers_files_for_a_path_and_for_a_run(shell: str, folder: Path) -> None:
    for words in (("emt", "run", "-o", "some"), ("emt", "report", "some")):
        assert {word.rstrip("/") for word in COMPLETE[shell](folder, *words)} == {
            "some file.json",
            "some folder",
        }


@pytest.mark.parametrize("shell", COMPLETE)
def test_inside_the_wrapped_command_options_of_emt_are_over(shell: str, folder: Path) -> None:
    assert "--frequency" not in COMPLETE[shell](folder, "emt", "run", "emtestprogram", "--fr")
    assert COMPLETE[shell](folder, "emt", "run", "--", "emtestprogram", "some") >= {"some file.json"}


def test_dashes_before_a_command_change_nothing_in_bash(folder: Path) -> None:
    """Nor do they when emt parses them; zsh and fish offer less than could be after such dashes."""
    assert bash(folder, "emt", "--", "runs", "") == {"list", "push"}
    assert bash(folder, "emt", "--", "runs", "list", "--l") == {"--limit"}


@pytest.mark.parametrize("shell", COMPLETE)
def test_options_of_a_wrapper_end_at_its_first_word(shell: str, folder: Path) -> None:
    assert COMPLETE[shell](folder, "emt", "phase", "--h") == {"--help"}
    assert "--help" not in COMPLETE[shell](folder, "emt", "phase", "epoch", "--h")


def test_bash_completes_the_value_of_an_option_joined_by_an_equals_sign(folder: Path) -> None:
    assert bash(folder, "emt", "report", "--format", "=", "j") == {"json"}
    assert bash(folder, "emt", "report", "--format", "=") == {"table", "json", "csv"}
    assert bash(folder, "emt", "report", "--format=j") == {"--format=json"}
    assert bash(folder, "emt", "report", "--format", "=", "json", "some") == {"some file.json", "some folder"}


def test_bash_hands_over_to_the_wrapped_command_s_own_completion(folder: Path) -> None:
    assert "--all" in bash(folder, "emt", "run", "-F", "20", "--", "ls", "--al", with_library=True)


def test_fish_hands_over_to_the_wrapped_command_s_own_completion(folder: Path) -> None:
    assert "--all" in fish(folder, "emt", "run", "-F", "20", "--", "ls", "--al")
    assert "--all" in fish(folder, "emt", "run", "ls", "--al")


def test_zsh_hands_over_to_the_wrapped_command_s_own_completion(folder: Path) -> None:
    assert "--all" in zsh(folder, "emt", "run", "-F", "20", "--", "ls", "--al")
    assert "--all" in zsh(folder, "emt", "phase", "epoch", "--", "ls", "--al")
