"""The command line: which commands there are, and the one place where errors become words and statuses.

Each command is a module of this package that is imported when it is called, so that `emt run` pays for
nothing but itself. Only here and in those modules does emt print, exit or know typer.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from emt_cli.errors import EmtError, LaunchError

if TYPE_CHECKING:
    from emt_cli.sensors.base import Machine

_PANELS = {
    "run": "Measure",
    "report": "Read",
    "export": "Read",
    "runs": "Read",
    "compare": "Decide",
    "check": "Decide",
    "bench": "Decide",
    "sensors": "Machine",
    "doctor": "Machine",
    "calibrate": "Machine",
    "config": "Machine",
}
_HIDDEN = ("generate",)
_BEFORE_START = 125
_INTERRUPTED = 130
"""What typer returns after Ctrl-C; older ones raise Abort."""
_ClickException: type[Exception] = next(
    each for each in typer.BadParameter.__mro__ if each.__name__ == "ClickException"
)
"""The base of typer's usage errors; newer typers carry their own copy of click."""


class _LazyGroup(TyperGroup):
    """The top level: a command's module is imported when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [*_PANELS, *_HIDDEN]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in _PANELS and cmd_name not in _HIDDEN:
            return None
        from importlib import import_module

        command = typer.main.get_command(import_module(f"{__name__}.{cmd_name}").app)
        command.name = cmd_name
        command.hidden = cmd_name in _HIDDEN
        command.rich_help_panel = _PANELS.get(cmd_name)  # type: ignore[attr-defined]
        return command


app = typer.Typer(
    cls=_LazyGroup,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        from emt_cli import __version__

        print(f"emt {__version__}")
        raise typer.Exit


@app.callback()
def emt(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """The `time` command for energy: put `emt run --` before any command.

    [bold]emt run -- python train.py[/bold] measures it, [bold]emt report[/bold] shows the last run.
    """


def main(machine: Machine | None = None) -> None:
    """Run the command line of this process and exit; `machine` is where kernel files are read from."""
    arguments = sys.argv[1:]
    status = _guarded(arguments, machine)
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # `emt report | head`: nobody is there to be told
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    except (OSError, AttributeError):
        status = status or 1
    sys.exit(status)


def _guarded(arguments: list[str], machine: Machine | None) -> int:
    """The status of a command line; everything that a user can cause ends here as a message."""
    is_run = next((each for each in arguments if not each.startswith("-")), "") == "run"
    try:
        result = typer.main.get_command(app).main(arguments, "emt", standalone_mode=False, obj=machine)
        if result == _INTERRUPTED:
            _die_interrupted()
        return result if isinstance(result, int) else 0
    except EmtError as error:
        complain(str(error), error.hint)
        return _BEFORE_START if is_run and not isinstance(error, LaunchError) else error.exit_code
    except _ClickException as error:
        context = getattr(error, "ctx", None)
        path = context.command_path if context is not None else "emt run" if is_run else "emt"
        if message := error.format_message():  # type: ignore[attr-defined]
            complain(message, f"{path} --help")  # nothing to say where the help itself was printed
        return _BEFORE_START if is_run else 2
    except (typer.Abort, KeyboardInterrupt):
        _die_interrupted()
    except Exception as fault:
        if not is_run:
            raise
        show_traceback(fault)
        return _BEFORE_START


def _die_interrupted() -> NoReturn:
    """A shell's loop around us ends only if it sees that Ctrl-C ended us."""
    from emt_cli.measure.here import this_system

    this_system().die_by(signal.SIGINT)


def complain(message: str, hint: str = "") -> None:
    """Say on stderr what went wrong and what to type; silent where there is no stderr, or nobody reads it."""
    from emt_cli.reports.words import clean

    _say(f"emt: {clean(message)}" + (f"\n     {clean(hint)}" if hint else ""))


def show_traceback(fault: BaseException) -> None:
    """For a fault of emt's own; on stderr or, unlike the traceback module's functions, nowhere."""
    import traceback

    _say("".join(traceback.format_exception(fault)).rstrip())


def _say(text: str) -> None:
    if sys.stderr is None:
        return
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:  # a full disk, a closed pipe: nor may the flush at exit change the status
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
