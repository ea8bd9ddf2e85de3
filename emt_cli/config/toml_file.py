"""Reading one settings file that anybody may have put there: never hangs, never loads more than a settings
file can be, and says on which line a key stands. It knows nothing of the keys, and is imported only where a
file exists.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection, Iterator, Mapping

from emt_cli.errors import ConfigError

_READING = os.O_RDONLY
for _flag in ("O_NONBLOCK", "O_CLOEXEC", "O_NOCTTY", "O_BINARY"):  # Windows has the last one alone
    _READING |= getattr(os, _flag, 0)
MAX_BYTES = 2**20
"""No honest settings file is larger; a mistaken path (a log, a core dump) is."""


def read(path: str, owners: Collection[int] | None) -> str | None:
    """The text of a settings file; None if `owners` are given and the file belongs to nobody of them.

    Opened without waiting, so that a FIFO cannot hang the command that is to be run. Raises ConfigError.
    """
    try:
        descriptor = os.open(path, _READING)
    except OSError as error:
        if owners is not None and _owner(path) not in owners:
            return None
        raise ConfigError(f"{path} cannot be read: {error.strerror}", hint=f"ls -l {path}") from error
    try:
        facts = os.fstat(descriptor)
        if owners is not None and facts.st_uid not in owners:
            return None
        if not stat.S_ISREG(facts.st_mode):
            what = "a folder" if stat.S_ISDIR(facts.st_mode) else "not a regular file"
            raise ConfigError(f"{path} is {what}: no settings can be read from it", hint=_MOVE)
        with open(descriptor, "rb", closefd=False) as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    finally:
        os.close(descriptor)
    if len(content) > MAX_BYTES:
        raise ConfigError(f"{path} is larger than 1 MiB: that is no settings file", hint=_MOVE)
    return _decoded(path, content)


_MOVE = "move it out of the way; emt config init writes a proper one"


def parsed(path: str, text: str) -> dict[str, object]:
    """The tables of a file's text. Raises ConfigError with the line and column of what is not TOML."""
    try:
        return _toml(text)
    except RecursionError:
        raise ConfigError(f"{path}: nested too deeply", hint=_MOVE) from None
    except ValueError as error:  # the parser's own error is one, and tells line and column
        raise ConfigError(
            f"{path} is not valid TOML: {error}", hint='a text needs quotes, as in location = "FR"'
        ) from None


def flat(
    table: Mapping[str, object], is_section: Callable[[str], bool], prefix: str = ""
) -> Iterator[tuple[str, object]]:
    """Full names (`run.perf`) and values, opening only the tables that `is_section` says are sections."""
    for name, value in table.items():
        full = prefix + name
        if isinstance(value, Mapping) and is_section(full):
            yield from flat(value, is_section, full + ".")
        else:
            yield full, value


def line_of(text: str, name: str, is_section: Callable[[str], bool]) -> int | None:
    """The line on which key `name` stands, or None: the first one up to which the parser finds the key.

    The parser keeps no lines, so this parses again and again; only an error message asks.
    """
    if len(text) > 2**16:  # that would take seconds
        return None
    lines = text.split("\n")
    last = name.rpartition(".")[2]
    for number in [number for number, line in enumerate(lines, 1) if last in line][:10]:
        for end in range(number, min(number + 10, len(lines)) + 1):  # a value may span lines
            try:
                found = dict(flat(_toml("\n".join(lines[:end])), is_section))
            except ValueError:
                continue
            if name in found:
                return number
            break
    return None


def _owner(path: str) -> int | None:
    try:
        return os.stat(path).st_uid
    except OSError:
        return None


def _decoded(path: str, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")  # editors on other systems write a byte order mark
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"{path}, line {line}: byte 0x{content[error.start]:02x} is not UTF-8",
            hint="save the file as UTF-8",
        ) from None


def _toml(text: str) -> dict[str, object]:
    """Parse TOML; raises ValueError, or RecursionError for thousands of brackets."""
    try:
        import tomllib  # type: ignore[import-not-found,unused-ignore]  # Python 3.11 and later
    except ModuleNotFoundError:
        import tomli as tomllib
    tables: dict[str, object] = tomllib.loads(text)
    return tables
