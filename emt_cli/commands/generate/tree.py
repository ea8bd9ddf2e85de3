"""The live command tree as plain values, so that man pages and completions know nothing of typer.

Newer versions of typer carry their command library inside, older ones borrow `click`: both are met here by
what their commands share (`get_params`, `list_commands`), never by their classes.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal

import typer

Takes = Literal["nothing", "choice", "file", "folder", "text"]

_PATHS: dict[str, Takes] = {
    "FILE": "file",
    "PATH": "file",
    "RUN": "file",
    "DIR": "folder",
    "FOLDER": "folder",
}
"""What a metavar says about a value whose type is only text; a RUN may be given as a file or folder."""
_TYPES: dict[str, Takes] = {"path": "file", "file": "file", "filename": "file", "directory": "folder"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """`names` set it, `off_names` (--no-perf) unset it; `metavar` is empty for one that takes no value."""

    names: tuple[str, ...]
    off_names: tuple[str, ...] = ()
    metavar: str = ""
    takes: Takes = "nothing"
    choices: tuple[str, ...] = ()
    help: str = ""
    default: str = ""
    variable: str = ""
    limits: str = ""
    panel: str = ""
    is_repeatable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """`metavar` is one word; `usage` is what the author wrote where that is more than a word."""

    metavar: str
    usage: str = ""
    takes: Takes = "text"
    choices: tuple[str, ...] = ()
    help: str = ""
    is_required: bool = True
    is_many: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One page. `path` is ("emt", "runs", "list"); the last argument of a wrapper is a foreign command."""

    path: tuple[str, ...]
    help: str = ""
    panel: str = ""
    options: tuple[Option, ...] = ()
    arguments: tuple[Argument, ...] = ()
    commands: tuple[Command, ...] = ()
    is_wrapper: bool = False
    needs_command: bool = False

    @property
    def name(self) -> str:
        return " ".join(self.path)

    @property
    def page(self) -> str:
        return "-".join(self.path)

    @property
    def summary(self) -> str:
        """The first sentence of the help, without its full stop."""
        return first_sentence(self.help)

    @property
    def flag_names(self) -> list[str]:
        plain = (option for option in self.options if not option.metavar)
        return [name for option in plain for name in (*option.names, *option.off_names)]

    @property
    def valued_names(self) -> list[str]:
        return [name for option in self.options if option.metavar for name in option.names]

    @property
    def words_before_wrapped(self) -> int:
        """How many arguments stand before the foreign command; -1 where there is none."""
        return len(self.arguments) - 1 if self.is_wrapper else -1

    def walk(self) -> Iterator[Command]:
        """This command and everything below it, parents first."""
        yield self
        for command in self.commands:
            yield from command.walk()


def tree(app: typer.Typer, name: str = "emt") -> Command:
    """The visible commands of an app; lazy groups are loaded on the way."""
    return _command(typer.main.get_command(app), (name,), None)


def first_sentence(text: str) -> str:
    """For a line of its own: without the full stop."""
    paragraph = " ".join(text.split("\n\n", maxsplit=1)[0].split())
    return paragraph.split(". ", maxsplit=1)[0].removesuffix(".")


def _command(command: Any, path: tuple[str, ...], parent: typer.Context | None) -> Command:
    context = typer.Context(command, info_name=path[-1], parent=parent, **command.context_settings)
    params = [param for param in command.get_params(context) if not getattr(param, "hidden", False)]
    is_group = hasattr(command, "list_commands")
    text = _unmarked if getattr(command, "rich_markup_mode", None) == "rich" else _cleaned
    arguments = tuple(_argument(param, text) for param in params if param.param_type_name == "argument")
    return Command(
        path=path,
        help=text(command.help),
        panel=_cleaned(getattr(command, "rich_help_panel", None)),
        options=tuple(_option(param, text) for param in params if param.param_type_name == "option"),
        arguments=arguments,
        commands=tuple(_below(command, path, context)) if is_group else (),
        is_wrapper=not is_group and bool(arguments) and not context.allow_interspersed_args,
        needs_command=is_group and not command.invoke_without_command,
    )


def _below(group: Any, path: tuple[str, ...], context: typer.Context) -> Iterator[Command]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is not None and not command.hidden:
            yield _command(command, (*path, name), context)


def _option(param: Any, text: Callable[[object], str]) -> Option:
    is_flag = bool(getattr(param, "is_flag", False) or getattr(param, "count", False))
    choices = _choices(param)
    metavar = "" if is_flag else _metavar(param, choices)
    return Option(
        names=tuple(sorted(param.opts, key=_short_first)),
        off_names=tuple(param.secondary_opts),
        metavar=metavar,
        takes="nothing" if is_flag else _takes(param, choices, metavar),
        choices=choices,
        help=text(param.help),
        default=_default(param, is_flag=is_flag),
        variable=param.envvar if isinstance(param.envvar, str) else "",
        limits="" if is_flag else _limits(param),
        panel=_cleaned(getattr(param, "rich_help_panel", None)),
        is_repeatable=bool(param.multiple or getattr(param, "count", False)),
    )


def _short_first(name: str) -> tuple[bool, str]:
    """An order of our own: the library keeps the names of --help in a set, whose order changes."""
    return name.startswith("--"), name


def _argument(param: Any, text: Callable[[object], str]) -> Argument:
    choices = _choices(param)
    written = param.metavar or param.name.upper()
    words = re.findall(r"[A-Z|]+", written)
    metavar = words[0] if words else written
    return Argument(
        metavar=metavar,
        usage="" if written == metavar else written,
        takes=_takes(param, choices, metavar),
        choices=choices,
        help=text(param.help),
        is_required=bool(param.required),
        is_many=param.nargs == -1,
    )


def _choices(param: Any) -> tuple[str, ...]:
    choices = getattr(param.type, "choices", ())
    return tuple(str(choice.value if isinstance(choice, Enum) else choice) for choice in choices)


def _takes(param: Any, choices: tuple[str, ...], metavar: str) -> Takes:
    if choices:
        return "choice"
    by_type = _TYPES.get(str(param.type.name), "text")
    by_word = (_PATHS[word] for word in metavar.split("|") if word in _PATHS)
    return by_type if by_type != "text" else next(by_word, "text")


def _metavar(param: Any, choices: tuple[str, ...]) -> str:
    if param.metavar:
        return str(param.metavar)
    return "|".join(choices) if choices else str(param.type.name).removesuffix(" range").upper()


def _limits(param: Any) -> str:
    low, high = getattr(param.type, "min", None), getattr(param.type, "max", None)
    if low is None:
        return "" if high is None else f"at most {high:g}"
    return f"at least {low:g}" if high is None else f"{low:g} to {high:g}"


def _default(param: Any, *, is_flag: bool) -> str:
    """What the help may show: never a computed default, which could name this machine or user."""
    if isinstance(param.show_default, str):
        return param.show_default
    value = param.default.value if isinstance(param.default, Enum) else param.default
    if not param.show_default or is_flag or isinstance(value, bool):
        return ""
    return str(value) if isinstance(value, str | int | float) else ""


def _cleaned(value: object) -> str:
    """A help text as the terminal shows it: cleaned of indentation, and nothing after a form feed."""
    return inspect.cleandoc(value).partition("\f")[0].strip() if isinstance(value, str) else ""


def _unmarked(value: object) -> str:
    """`_cleaned`, without rich's own tags ([bold]); click's \\b, which rich would drop, stays."""
    from rich.markup import render

    stand_in = "\ue000"
    return render(_cleaned(value).replace("\b", stand_in)).plain.replace(stand_in, "\b")
