"""Every command explains itself: a sentence, an example, and no line beyond 80 columns."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import typer

from emt_cli.commands import app


def commands() -> Iterator[tuple[str, ...]]:
    """The path of every command that is not hidden."""

    def walk(command: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        yield path
        for name in command.list_commands(None) if hasattr(command, "list_commands") else ():
            inner = command.get_command(None, name)
            if not inner.hidden:
                yield from walk(inner, (*path, name))

    return walk(typer.main.get_command(app), ())


@pytest.mark.parametrize("path", list(commands()), ids=" ".join)
def test_help_has_an_example_and_fits_80_columns(
    path: tuple[str, ...], emt: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    done = emt(*path, "--help", env={"COLUMNS": "80"})
    assert done.returncode == 0
    assert "emt " + " ".join(path) in done.stdout
    assert not path or "Example: emt " in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.parametrize("path", list(commands()), ids=" ".join)
def test_every_option_has_a_help_text(path: tuple[str, ...]) -> None:
    command: Any = typer.main.get_command(app)
    for name in path:
        command = command.get_command(None, name)
    assert command.help
    for parameter in command.params:
        assert getattr(parameter, "help", None), parameter.name


def test_the_version_is_printed(emt: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    from emt_cli import __version__

    assert emt("--version").stdout == f"emt {__version__}\n"


def test_no_command_is_usage_and_shows_the_help(emt: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = emt()
    assert done.returncode == 2
    assert "Usage: emt" in done.stdout + done.stderr


def test_an_unknown_command_is_named_with_what_to_type(
    emt: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = emt("rnu", "--", "true")
    assert done.returncode == 2
    assert "rnu" in done.stderr
    assert "emt --help" in done.stderr
