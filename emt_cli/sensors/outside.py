"""Sensors of other packages: found by the entry-point group `emt.sensors`.

It stands apart from the registry because a scan of all installed packages costs 15 ms with 400 of them, so
its result is remembered in `$XDG_CACHE_HOME/emt/`. What their code does is kept in bounds by `guarded`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from emt_cli.sensors.opening import Source

GROUP = "emt.sensors"
_FILE = "outside-sensors.json"
_REMEMBERED = 16
"""How many environments (lists of folders) one user's cache holds."""

Found = list[tuple[str, str, str]]


def find_outside(
    environ: Mapping[str, str],
    *,
    path: Sequence[str] | None = None,
    scan: Callable[[Sequence[str]], Found] | None = None,
) -> list[Source]:
    """The sensors that installed packages offer, by name. Never raises for a bad or missing cache.

    `path` is where packages lie: by default `sys.path` without the folder of the script or the working
    folder that Python puts first, where nothing is installed and every new file would undo the memory.
    A folder's time of change tells whether the remembered scan still holds.
    """
    folders = list(_installed_folders() if path is None else path)
    state = _state(folders)
    cache = _cache_file(environ)
    remembered = _load(cache)
    found = remembered.get(_key(state))
    if found is None:
        found = (scan or scan_entry_points)(folders)
        _save(cache, remembered, _key(state), found)
    return [Source(name, module, function, True) for name, module, function in found]


def _installed_folders() -> list[str]:
    folders = [folder for folder in sys.path if os.path.isabs(folder)]
    here = {os.path.dirname(sys.argv[0])}
    with suppress(OSError):  # a working folder that was removed is not in sys.path either
        here.add(os.getcwd())
    return folders[1:] if folders and folders[0] in here else folders


def scan_entry_points(folders: Sequence[str]) -> Found:
    """What the packages in these folders declare; the first of each name counts, as in an import."""
    from importlib.metadata import distributions

    found: dict[str, tuple[str, str, str]] = {}
    for distribution in distributions(path=list(folders)):
        for entry in distribution.entry_points:
            if entry.group == GROUP:
                module, _, function = entry.value.partition(":")
                found.setdefault(entry.name, (entry.name, module.strip(), function.strip()))
    return sorted(found.values())


def _state(folders: Sequence[str]) -> list[tuple[str, int]]:
    """Each folder that exists with its time of change: installing or removing a package touches it."""
    state = []
    for folder in folders:
        try:
            state.append((folder, os.stat(folder).st_mtime_ns))
        except OSError:
            continue
    return state


def _key(state: list[tuple[str, int]]) -> str:
    return "\n".join(f"{changed} {folder}" for folder, changed in state)


def _cache_file(environ: Mapping[str, str]) -> str | None:
    """The cache's path, or None where the folder is not this user's own: `sudo emt` neither believes a
    file that somebody else can write nor leaves root's files in somebody's home."""
    base = environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):
        home = environ.get("HOME", "")
        base = os.path.join(home, ".cache") if os.path.isabs(home) else ""
    if not base or not hasattr(os, "geteuid"):
        return None
    owned = base if os.path.isdir(base) else os.path.dirname(base)
    try:
        is_own = os.stat(owned).st_uid == os.geteuid()
    except OSError:
        return None
    return os.path.join(base, "emt", _FILE) if is_own else None


def _load(cache: str | None) -> dict[str, Found]:
    """What is remembered; nothing where the file is missing, damaged or another user's."""
    import json

    if cache is None:
        return {}
    try:
        with open(cache, encoding="utf-8") as file:
            if os.fstat(file.fileno()).st_uid != os.geteuid():
                return {}
            raw: Any = json.load(file)
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(raw, dict) or not all(_is_found(found) for found in raw.values()):
        return {}
    return {key: [(name, module, function) for name, module, function in raw[key]] for key in raw}


def _is_found(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(entry, list) and len(entry) == 3 and all(isinstance(word, str) for word in entry)
        for entry in value
    )


def _save(cache: str | None, remembered: dict[str, Found], key: str, found: Found) -> None:
    """Remember a scan, the newest last and older states of the same folders forgotten; or not, in silence:
    a full disk or a read-only home only costs the next run a scan."""
    import json

    if cache is None:
        return
    folders = _folders(key)
    kept = [(old, value) for old, value in remembered.items() if _folders(old) != folders]
    content = json.dumps(dict([*kept, (key, found)][-_REMEMBERED:]))
    temporary = f"{cache}.{os.getpid()}"
    try:
        os.makedirs(os.path.dirname(cache), mode=0o700, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
        os.replace(temporary, cache)
    except OSError:
        return


def _folders(key: str) -> list[str]:
    return [line.partition(" ")[2] for line in key.split("\n")]
