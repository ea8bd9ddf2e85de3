"""The store: a `Run` as files, and a folder full of runs.

This is the face. Each name is imported when it is first used, since `emt run` needs a small part of it
(writing) and every other command needs the rest (reading, finding, deleting).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emt_cli.store.folder import RunFolder
    from emt_cli.store.library import create, new_id, root
    from emt_cli.store.listing import Entry, entries, find
    from emt_cli.store.loading import load, recover
    from emt_cli.store.outputs import Output, facts_of, plan
    from emt_cli.store.reading import decode
    from emt_cli.store.record import FORMAT, dump, encode
    from emt_cli.store.removal import prunable, remove
    from emt_cli.store.samples import SampleFile
    from emt_cli.store.selecting import select

_HOMES = {
    "Entry": "listing",
    "FORMAT": "record",
    "Output": "outputs",
    "RunFolder": "folder",
    "SampleFile": "samples",
    "create": "library",
    "decode": "reading",
    "dump": "record",
    "encode": "record",
    "entries": "listing",
    "facts_of": "outputs",
    "find": "listing",
    "load": "loading",
    "new_id": "library",
    "plan": "outputs",
    "prunable": "removal",
    "recover": "loading",
    "remove": "removal",
    "root": "library",
    "select": "selecting",
}

__all__ = [
    "FORMAT",
    "Entry",
    "Output",
    "RunFolder",
    "SampleFile",
    "create",
    "decode",
    "dump",
    "encode",
    "entries",
    "facts_of",
    "find",
    "load",
    "new_id",
    "plan",
    "prunable",
    "recover",
    "remove",
    "root",
    "select",
]


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
