"""`emt generate`: man pages and completions, written from the live app so that they cannot lie.

Hidden, for those who work on emt: the files are committed and shipped, and a test holds them equal.
"""

from __future__ import annotations

import os
from typing import Annotated

import typer

from emt_cli.errors import OutputError

app = typer.Typer(add_completion=False)


@app.command(hidden=True)
def command(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="Where man/ and completions/ are.")],
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; name the files that differ and exit with 1.")
    ] = False,
) -> None:
    """Write the man pages and the completions for bash, zsh and fish."""
    from emt_cli.commands import app as emt

    wanted = files(emt)
    if not check:
        _write(folder, wanted)
        return
    wrong = differing(folder, wanted)
    for line in wrong:
        print(line)
    if wrong:
        raise typer.Exit(1)


def files(emt: typer.Typer) -> dict[str, str]:
    """Path below the project's folder -> text, for every man page and completion script of an app."""
    from emt_cli.commands.generate import bash, fish, man, zsh
    from emt_cli.commands.generate.tree import tree

    root = tree(emt)
    pages = {f"man/{name}": text for name, text in man.pages(root).items()}
    return pages | {
        "completions/emt.bash": bash.script(root),
        "completions/_emt": zsh.script(root),
        "completions/emt.fish": fish.script(root),
    }


def differing(folder: str, wanted: dict[str, str]) -> list[str]:
    """A line for each file below `folder` that is not as it should be: missing, different or left over."""
    lines = []
    for path, text in wanted.items():
        try:
            with open(os.path.join(folder, path), encoding="utf-8") as stream:
                lines += [] if stream.read() == text else [f"{path}: differs"]
        except FileNotFoundError:
            lines.append(f"{path}: missing")
    return lines + [f"{path}: no longer generated" for path in _left_over(folder, wanted)]


def _left_over(folder: str, wanted: dict[str, str]) -> list[str]:
    """Pages of commands that are gone; nothing but emt's own pages, whatever the folder is."""
    try:
        names = sorted(os.listdir(os.path.join(folder, "man")))
    except FileNotFoundError:
        return []
    pages = [f"man/{name}" for name in names if name.startswith("emt") and name.endswith(".1")]
    return [page for page in pages if page not in wanted]


def _write(folder: str, wanted: dict[str, str]) -> None:
    """Write every file and remove what is no longer generated. Raises OutputError."""
    try:
        for path, text in wanted.items():
            target = os.path.join(folder, path)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with open(target, "w", encoding="utf-8") as stream:
                stream.write(text)
        for path in _left_over(folder, wanted):
            os.unlink(os.path.join(folder, path))
    except OSError as error:
        reason = f"{error.filename} cannot be written: {error.strerror}"
        raise OutputError(reason, hint="emt generate . in the project's folder") from error
