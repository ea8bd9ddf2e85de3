"""`emt config`: every setting with its value and where that came from, and a starter file to change them."""

from __future__ import annotations

import os
from typing import Annotated, Literal

import typer

from emt_cli.commands import complain, stdout
from emt_cli.config import PROJECT_FILE, Config, load_here, user_file
from emt_cli.config.keys import BY_NAME, KEYS, Key, literal
from emt_cli.errors import OutputError, UsageError

app = typer.Typer(add_completion=False, invoke_without_command=True)

_STATES = {
    "read": "read",
    "absent": "not there",
    "ignored": "ignored: it belongs to another user",
    "unreachable": "ignored: its folder is closed to this user",
}


@app.callback()
def show(
    context: typer.Context,
    form: Annotated[
        Literal["table", "json"], typer.Option("--format", help="A table for people, or JSON for programs.")
    ] = "table",
) -> None:
    """Show every setting and where its value comes from.

    The strongest source wins: flags of the command, EMT_* variables,
    ./emt.toml, the user's file, the system's file.

    Example: emt config init --project
    """
    if context.invoked_subcommand is not None:
        return
    config = load_here({})
    for notice in config.notices:
        complain(notice.text, notice.hint)
    terminal = stdout.terminal()
    if form == "json":
        text = _json(config)
    elif terminal.color:
        text = _colored(config, terminal.width)
    else:
        text = _plain(config)
    stdout.write(text)


@app.command()
def init(
    path: Annotated[
        str | None, typer.Argument(metavar="FILE", help="Where to write it.", show_default=False)
    ] = None,
    project: Annotated[
        bool, typer.Option("--project", help="Write ./emt.toml: settings for one project.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Write a settings file to start from, every key explained and commented out.

    Without FILE it goes to ~/.config/emt/config.toml, or with --project to
    ./emt.toml.

    Example: emt config init --project
    """
    target = path or (PROJECT_FILE if project else user_file(os.environ, os.path.expanduser("~")))
    if not target:
        raise UsageError("there is no home folder to write to", hint="emt config init FILE")
    _write(target, starter(is_project=project), is_forced=force)
    stdout.write(f"wrote {target}\n")


def starter(*, is_project: bool) -> str:
    """The starter file: valid TOML that sets nothing; a project's leaves out what may not stand there."""
    whose = "this project" if is_project else "emt"
    lines = [
        f"# Settings of {whose}: take away a # to set one; what follows it is the default or an example.",
        "# emt config shows what is in force, and why.",
    ]
    section = ""
    for key in KEYS:
        if is_project and not key.in_project:
            continue
        head, _, name = key.name.rpartition(".")
        lines += [""] if head == section else ["", f"[{head}]"]
        lines += [f"# {key.help}", f"# {_facts(key)}", f"#{name} = {key.example or literal(key.default)}"]
        section = head
    return "\n".join(lines) + "\n"


def _facts(key: Key[object]) -> str:
    facts = [f"{key.kind.expects[0].upper()}{key.kind.expects[1:]}"]
    if key.variable:
        facts.append(f"variable {key.variable}")
    facts.append("no default" if key.example else f"default {literal(key.default)}")
    return "; ".join(facts) + "."


def _write(path: str, text: str, *, is_forced: bool) -> None:
    """Write a private file in one piece. Raises OutputError, also where one is there and not `is_forced`."""
    target = os.path.realpath(path) if is_forced else path  # a link into a dotfiles folder stays a link
    name = f"{target}.{os.getpid()}.new" if is_forced else target
    try:
        os.makedirs(os.path.dirname(os.path.abspath(target)), mode=0o700, exist_ok=True)
        descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        if os.path.lexists(name):
            raise OutputError(f"{path} is there already", hint="--force replaces it") from None
        raise _unwritable(path, error) from error
    try:
        with open(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
        if is_forced:
            os.replace(name, target)
    except OSError as error:
        os.unlink(name)  # half a file would be in the way of the next attempt
        raise _unwritable(path, error) from error


def _unwritable(path: str, error: OSError) -> OutputError:
    where = f"{error.filename}: " if error.filename and error.filename != path else ""
    return OutputError(f"{path} cannot be written: {where}{error.strerror}", hint="emt config init FILE")


# --- showing ----------------------------------------------------------------------------------------


def _rows(config: Config) -> list[tuple[str, str, str]]:
    return [(name, literal(value), source) for name, (value, source) in config.settings.items()]


def _file_lines(config: Config) -> list[str]:
    return [f"  {path}: {_STATES[state]}" for path, state in config.files]


def _plain(config: Config) -> str:
    rows = [("setting", "value", "source"), *_rows(config)]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    lines = [f"{name:{widths[0]}}  {value:{widths[1]}}  {source}" for name, value, source in rows]
    lines += ["", "Files, the strongest first:", *_file_lines(config)]
    return "\n".join(lines) + "\n"


def _colored(config: Config, width: int) -> str:
    """The same, with what somebody has set standing out."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("setting", "value", "source", box=None, pad_edge=False, header_style="bold")
    for name, value, source in _rows(config):
        style = "dim" if source == "default" else ""
        table.add_row(Text(name), Text(value, style=style, overflow="fold"), Text(source, style=style))
    console = Console(width=width, force_terminal=True, highlight=False)
    with console.capture() as capture:
        console.print(table)
        console.print("\nFiles, the strongest first:")
        console.print(Text("\n".join(_file_lines(config))))
    return capture.get()


def _json(config: Config) -> str:
    import json

    settings = {
        name: {"value": value, "source": source, "variable": BY_NAME[name].variable or None}
        for name, (value, source) in config.settings.items()
    }
    files = [{"path": path, "state": state} for path, state in config.files]
    notices = [{"code": notice.code, "text": notice.text, "hint": notice.hint} for notice in config.notices]
    return json.dumps({"settings": settings, "files": files, "notices": notices}, indent=2) + "\n"
