"""`emt export`: a run in another program's form, on standard output, in a file, or where GitHub wants it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import typer

from emt_cli.commands import stdout
from emt_cli.commands.finding import WAYS, load_runs
from emt_cli.errors import OutputError, UsageError
from emt_cli.model import Run

app = typer.Typer(add_completion=False)

Target = Literal["junit", "openmetrics", "badge", "share", "github"]
_TAKE_MANY = ("junit", "openmetrics")
_GITHUB_FILES = ("GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT")


@app.command()
def export(
    target: Annotated[
        Target,
        typer.Option(
            "--to",
            help="junit: XML of tests. openmetrics: text for GitLab and Prometheus. badge: SVG. "
            "share: a record without names. github: summary, annotations and outputs of a workflow's step.",
            show_default=False,
        ),
    ],
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN|PATH]...",
            help=WAYS,
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--output",
            metavar="PATH",
            help="Write here instead of standard output; with share, a folder keeps the samples too.",
            show_default=False,
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what -o names.")] = False,
) -> None:
    """Hand a run to another program: test reports, metrics, a badge, a bundle to share.

    With --to github, the summary and outputs go to the files that GitHub names.

    Example: emt export nightly --to junit -o emt.xml
    """
    found = load_runs(runs or ["@latest"])
    if target not in _TAKE_MANY and len(found) != 1:
        raise UsageError(
            f"--to {target} takes one run, and {len(found)} were named",
            hint=f"--to {' and --to '.join(_TAKE_MANY)} take many",
        )
    if target == "github":
        _tell_github(found[0], output)
    elif target == "share":
        _share(found[0], output, force=force)
    else:
        _put(_renderer(target)(found), output, force=force)


def _renderer(target: Target) -> Callable[[Sequence[Run]], str]:
    if target == "junit":
        from emt_cli.exporters import junit

        return junit.render
    if target == "openmetrics":
        from emt_cli.exporters import openmetrics

        return openmetrics.render
    from emt_cli.exporters import badge

    return lambda runs: badge.render(runs[0])


# --- where it goes ----------------------------------------------------------------------------------


def _share(run: Run, output: str | None, *, force: bool) -> None:
    """One file without the samples, or a run folder with them."""
    from emt_cli.exporters.share import anonymous
    from emt_cli.store import dump, encode, facts_of, plan

    bundle = anonymous(run)
    suffix = os.path.splitext(output or ".json")[1].lower()
    if suffix == ".csv":
        raise UsageError("--to share writes a .json file or a folder, no .csv", hint="-o bundle.json")
    if output is None or suffix == ".json" or output == ".json":
        _put(dump(encode(bundle)).decode("ascii"), output, force=force)
        return
    [folder] = plan([output], facts_of(bundle), force=force)
    folder.check()
    folder.write(bundle, None)


def _put(text: str, output: str | None, *, force: bool) -> None:
    if output is None:
        stdout.write(text)
        return
    try:
        _write_file(os.path.realpath(output), text.encode(), force=force)
    except FileExistsError:
        raise OutputError(f"-o {output} exists already", hint="choose another name, or --force") from None
    except FileNotFoundError:
        parent = os.path.dirname(output)
        raise OutputError(f"-o {output}: there is no folder {parent}", hint=f"mkdir -p {parent}") from None
    except OSError as error:
        raise OutputError(
            f"-o {output} cannot be written: {error.strerror}", hint="choose another name"
        ) from error


def _write_file(path: str, data: bytes, *, force: bool) -> None:
    """A new file with the rights that the umask leaves, since others shall read it: whole or not at all.
    Raises OSError."""
    if os.path.lexists(path) and not (force and os.path.isfile(path)):
        raise FileExistsError
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        with open(temporary, "xb") as file:
            file.write(data)
        os.replace(temporary, path)
    except OSError:
        if os.path.lexists(temporary):
            os.unlink(temporary)
        raise


def _tell_github(run: Run, output: str | None) -> None:
    from emt_cli.exporters import github

    if output is not None:
        raise UsageError(
            "--to github writes where GitHub says and has no -o", hint="emt report --format markdown > FILE"
        )
    paths = [os.environ.get(name, "") for name in _GITHUB_FILES]
    if missing := [name for name, path in zip(_GITHUB_FILES, paths, strict=True) if not path]:
        raise UsageError(
            f"--to github: ${missing[0]} is not set, so this is no step of a GitHub workflow",
            hint="emt report --format markdown prints the same summary",
        )
    for path, text in zip(paths, (github.summary(run), github.outputs(run)), strict=True):
        _append(path, text)
    stdout.write(github.commands(run))


def _append(path: str, text: str) -> None:
    """Add to a file of lines, whose last one may not have been ended. Raises OutputError."""
    try:
        with open(path, "a+b") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - 1, 0))
            ends_well = file.read(1) in (b"", b"\n")
            file.write((b"" if ends_well else b"\n") + text.encode())
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}", hint=f"ls -ld {path}") from error
