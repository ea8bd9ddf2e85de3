"""Which devices a program is allowed to use, by the variables that its runtime reads.

Pure: a variable's value and the machine's devices in, positions out. It stands apart from the drivers,
since the rules are the runtimes' and have to be tested in all their spellings.
"""

from __future__ import annotations

from collections.abc import Sequence


def cuda_visible(
    setting: str | None, uuids: Sequence[str], instances: Sequence[Sequence[str]] = ()
) -> list[int]:
    """The positions in `uuids` of the GPUs that CUDA_VISIBLE_DEVICES lets a program use, ascending.

    `instances` are the UUIDs of each GPU's MIG instances. Unset: all. An entry is an index, `GPU-<uuid>`,
    `MIG-<uuid>` (both also as a prefix that fits only one) or the older `MIG-GPU-<uuid>/<gi>/<ci>`; an
    instance stands for its GPU. As in CUDA the list ends at the first entry that names nothing ("CUDA C++
    Programming Guide", environment variables).
    """
    if setting is None:
        return list(range(len(uuids)))
    chosen: set[int] = set()
    for entry in setting.split(","):
        position = _position(entry.strip(), uuids, instances)
        if position is None:
            break
        chosen.add(position)
    return sorted(chosen)


def _position(entry: str, uuids: Sequence[str], instances: Sequence[Sequence[str]]) -> int | None:
    if is_index(entry):
        return int(entry) if int(entry) < len(uuids) else None
    if entry.startswith("MIG-GPU-"):
        entry = entry.removeprefix("MIG-").split("/")[0]
    wanted = entry.lower()
    if entry.startswith("GPU-"):
        found = [at for at, uuid in enumerate(uuids) if uuid.lower().startswith(wanted)]
    elif entry.startswith("MIG-"):
        found = [
            at for at, names in enumerate(instances) for name in names if name.lower().startswith(wanted)
        ]
    else:
        return None
    return found[0] if len(found) == 1 else None


def is_index(entry: str) -> bool:
    """Whether an entry is a plain device number."""
    return entry.isascii() and entry.isdigit() and len(entry) <= 9
