"""Settings resolved: flags beat EMT_* variables, these beat ./emt.toml, then the user's file, then /etc.

`config[keys.PUE]` is a value, `config.source(keys.PUE)` says where it came from. This stands apart from
`commands` so that programs resolve settings exactly as `emt run` does.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Literal, NamedTuple, TypeVar, cast

from emt_cli.config.keys import BY_NAME, KEYS, Key, literal
from emt_cli.errors import ConfigError, UsageError
from emt_cli.model import Notice
from emt_cli.values import Value

SYSTEM_FILE = "/etc/emt/config.toml"
PROJECT_FILE = "emt.toml"

_NOT_SETTINGS = ("EMT_RUN_ID",)
_NOT_SETTINGS_PREFIX = "EMT_FAKE_"
"""Variables that emt itself hands to the command, and those of its own tests: no settings, no typos."""
_QUOTE = '"'

T = TypeVar("T")
FileState = Literal["read", "absent", "ignored", "unreachable"]
"""`ignored` belongs to somebody else, `unreachable` lies in a folder that this user may not enter."""


class Setting(NamedTuple):
    """A value and where it came from: `default`, `flag`, `environment (EMT_PUE)` or the path of a file."""

    value: object
    source: str


class File(NamedTuple):
    """A place where settings may stand, and what was found there."""

    path: str
    state: FileState


class Config(Value):
    """Every setting, resolved."""

    settings: Mapping[str, Setting]
    files: tuple[File, ...] = ()
    """From the strongest to the weakest."""
    notices: tuple[Notice, ...] = ()

    def __getitem__(self, key: Key[T]) -> T:
        return cast(T, self.settings[key.name].value)

    def source(self, key: Key[object]) -> str:
        return self.settings[key.name].source


def load_here(flags: Mapping[str, object]) -> Config:
    """`load` with this process's environment, folder and user."""
    try:
        cwd = os.getcwd()
    except OSError:  # the folder was removed under us: no project, and no reason to fail
        cwd = ""
    home = os.path.expanduser("~")
    return load(flags, environ=os.environ, cwd=cwd, home=home, uid=_own_uid())


def _own_uid() -> int:
    """On Windows 0, as whose every file shows itself there."""
    return os.getuid() if hasattr(os, "getuid") else 0


def load(
    flags: Mapping[str, object],
    *,
    environ: Mapping[str, str],
    cwd: str,
    home: str,
    system: str = SYSTEM_FILE,
    uid: int,
) -> Config:
    """Resolve every setting.

    `flags` maps a key's name to its value, None where the flag was not given. A table (run.idle_w) comes
    whole from its strongest source. Paths may start with `~/`; relative ones start from the file's own
    folder, or from `cwd`. Raises ConfigError for a file or variable, UsageError for a flag that is wrong.
    """
    settings = {key.name: Setting(key.default, "default") for key in KEYS}
    notices: list[Notice] = []
    files: list[File] = []
    for path, is_project in _places(environ, cwd, home, system):
        state, found = _from_file(path, _trusted(uid, environ) if is_project else None)
        files.insert(0, File(path, state))
        if state == "ignored":
            notices.append(_notice("foreign_config", path=path))
        for key, value in found:
            settings[key.name] = Setting(_absolute(key, value, os.path.dirname(path), home), path)
    for key, value in _from_environment(environ):
        settings[key.name] = Setting(_absolute(key, value, cwd, home), f"environment ({key.variable})")
    for key, value in _from_flags(flags):
        settings[key.name] = Setting(_absolute(key, value, cwd, home), "flag")
    notices.extend(_unknown_variables(environ))
    return Config(settings=settings, files=tuple(files), notices=tuple(notices))


def user_file(environ: Mapping[str, str], home: str) -> str:
    """The user's own file; empty where neither $XDG_CONFIG_HOME nor a home folder says where.

    A relative $XDG_CONFIG_HOME counts as unset, as the XDG base directory specification demands.
    """
    folder = environ.get("XDG_CONFIG_HOME", "")
    if not os.path.isabs(folder):
        folder = os.path.join(home, ".config") if os.path.isabs(home) else ""
    return os.path.join(folder, "emt", "config.toml") if folder else ""


# --- where values come from -------------------------------------------------------------------------


def _places(environ: Mapping[str, str], cwd: str, home: str, system: str) -> Iterator[tuple[str, bool]]:
    """The files from the weakest to the strongest, each with whether it is a project's."""
    yield system, False
    if user := user_file(environ, home):
        yield user, False
    if cwd:
        yield os.path.join(cwd, PROJECT_FILE), True


def _trusted(uid: int, environ: Mapping[str, str]) -> frozenset[int]:
    """Whose project files count: the user's, root's and, under sudo, those of whoever called it."""
    caller = environ.get("SUDO_UID", "") if uid == 0 else ""
    return frozenset({0, uid, int(caller[:11])} if caller.isascii() and caller.isdigit() else {0, uid})


def _from_file(
    path: str, owners: frozenset[int] | None
) -> tuple[FileState, list[tuple[Key[object], object]]]:
    """What a file sets; `owners` are given for a project's file only."""
    try:
        os.stat(path)
    except PermissionError:  # `sudo -u nobody emt run ...` in a private folder must still run
        return "unreachable", []
    except OSError:  # mostly: there is none. A loop of links or a broken path sets nothing either
        return "absent", []
    from emt_cli.config import toml_file

    text = toml_file.read(path, owners)
    if text is None:
        return "ignored", []
    found = []
    for name, value in toml_file.flat(toml_file.parsed(path, text), _is_section):

        def place(name: str = name) -> str:
            line = toml_file.line_of(text, name, _is_section)
            return f"{path}, line {line}" if line else path

        found.append(_checked(name, value, place, is_project=owners is not None))
    return "read", found


def _from_environment(environ: Mapping[str, str]) -> Iterator[tuple[Key[object], object]]:
    for key in KEYS:
        text = environ.get(key.variable, "") if key.variable else ""
        if not text:  # set but empty is how a shell turns a variable off
            continue
        try:
            value = key.kind.check(key.kind.parse(text))
        except ValueError:
            raise ConfigError(
                f"{key.variable}={_shown(text)} is not {key.kind.expects}",
                hint=f"unset {key.variable}, or set it right; it stands for {key.name}",
            ) from None
        yield key, value


def _from_flags(flags: Mapping[str, object]) -> Iterator[tuple[Key[object], object]]:
    for name, value in flags.items():
        if value is None:
            continue
        key = BY_NAME[name]
        try:
            yield key, key.kind.check(value)
        except ValueError:
            option = key.flag or key.name
            raise UsageError(
                f"{option}: {_shown(value)} is not {key.kind.expects}",
                hint=f"for example {option} {(key.example or literal(key.default)).strip(_QUOTE)}",
            ) from None


def _unknown_variables(environ: Mapping[str, str]) -> Iterator[Notice]:
    known = {key.variable for key in KEYS if key.variable}
    for name in sorted(environ):
        if not name.startswith("EMT_") or name in known or name in _NOT_SETTINGS:
            continue
        if not name.startswith(_NOT_SETTINGS_PREFIX):
            import difflib

            near = difflib.get_close_matches(name[:80], known, n=1, cutoff=0.7)
            remedy = f"did you mean {near[0]}?" if near else "emt config lists every setting"
            yield _notice("unknown_variable", name=_named(name), remedy=remedy)


def _notice(code: str, **facts: object) -> Notice:
    from emt_cli.notices import notice

    return notice(code, **facts)


def _absolute(key: Key[object], value: object, base: str, home: str) -> object:
    """A path made independent of the folder that emt happens to be in later; any other value as it is."""
    if not key.kind.is_path or not isinstance(value, str):
        return value
    if value == "~" or value.startswith("~/"):
        return os.path.normpath(home + value[1:])
    return os.path.normpath(os.path.join(base, value))


# --- what may stand in a file, and saying what is wrong ---------------------------------------------


def _checked(
    name: str, value: object, place: Callable[[], str], *, is_project: bool
) -> tuple[Key[object], object]:
    key = BY_NAME.get(name)
    if key is None:
        raise _no_such_key(place(), name)
    if is_project and not key.in_project:
        raise ConfigError(
            f"{place()}: {name} may not stand in a project's {PROJECT_FILE}",
            hint=f"move it to ~/.config/emt/config.toml, or set {key.variable}",
        )
    try:
        return key, key.kind.check(value)
    except ValueError:
        section, _, last = name.rpartition(".")
        raise ConfigError(
            f"{place()}: {name} = {_shown(value)} is not {key.kind.expects}",
            hint=f"for example, under [{section}]: {last} = {key.example or literal(key.default)}",
        ) from None


def _no_such_key(place: str, name: str) -> ConfigError:
    if _is_section(name):
        hint = f"write [{name}] on a line of its own, and its keys below"
        return ConfigError(f"{place}: {name} is a section, not a value", hint=hint)
    hint = f"did you mean {_nearest(name)}? emt config lists every key"
    return ConfigError(f"{place}: unknown key {_named(name)}", hint=hint)


def _is_section(name: str) -> bool:
    return any(known.startswith(name + ".") for known in BY_NAME)


def _nearest(name: str) -> str:
    """The key that looks most like `name`, which may lack its section or stand in a wrong one."""
    import difflib

    def likeness(known: str) -> float:
        pairs = ((name[:80], known), (name[-80:].rpartition(".")[2], known.rpartition(".")[2]))
        return sum(difflib.SequenceMatcher(None, *pair).ratio() for pair in pairs)

    return max(BY_NAME, key=likeness)


def _shown(value: object) -> str:
    """A value from outside, safe and short enough to print."""
    text = repr(value) if isinstance(value, str) else literal(value)
    return text if len(text) <= 60 and text.isprintable() else ascii(text[:57]) + "..."


def _named(name: str) -> str:
    return name if len(name) <= 60 and name.isprintable() else _shown(name)
