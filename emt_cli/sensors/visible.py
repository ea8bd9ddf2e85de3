"""Which devices a program is allowed to use, by the variables that its runtime reads.

Pure: a variable's value and the machine's devices in, positions out. It stands apart from the drivers,
since the rules are the runtimes' and have to be tested in all their spellings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence


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


def mig_visible(setting: str | None, uuid: str) -> bool:
    """Whether CUDA_VISIBLE_DEVICES lets a program use the MIG instance of that UUID.

    Where it names instances, only those. The older names (`MIG-GPU-<uuid>/<gi>/<ci>`) hold no UUID of an
    instance: they may mean any.
    """
    entries = [entry.strip().lower() for entry in (setting or "").split(",")]
    named = [entry for entry in entries if entry.startswith("mig-")]
    fits = (entry.startswith("mig-gpu-") or uuid.lower().startswith(entry) for entry in named)
    return not named or any(fits)


def is_index(entry: str) -> bool:
    """Whether an entry is a plain device number."""
    return entry.isascii() and entry.isdigit() and len(entry) <= 9


def rocr_visible(setting: str | None, uuids: Sequence[str]) -> list[int]:
    """The positions in `uuids` that ROCR_VISIBLE_DEVICES lets a ROCm program use, in the program's order.

    `uuids` are `GPU-` and the 16 digits of the card's unique id ("" where it has none), in the order of the
    kernel's topology. Unset: all; empty: none. An entry is an index or a UUID's beginning that fits only one
    card. The list ends at the first entry that names nothing or repeats one (ROCr
    runtime, amd_filter_device.cpp).
    """
    if setting is None:
        return list(range(len(uuids)))
    chosen: list[int] = []
    for entry in setting.split(","):
        position = _rocr_position(entry.strip().lower(), uuids)
        if position is None or position in chosen:
            break
        chosen.append(position)
    return chosen


def _rocr_position(entry: str, uuids: Sequence[str]) -> int | None:
    if entry.startswith("g"):
        found = [at for at, uuid in enumerate(uuids) if uuid.lower().startswith(entry)]
        return found[0] if len(found) == 1 and len(entry) > len("gpu-") else None
    if not is_index(entry):
        return None
    return int(entry) if int(entry) < len(uuids) else None


def hip_visible(setting: str | None, count: int) -> list[int]:
    """The positions among `count` GPUs that HIP_VISIBLE_DEVICES lets a HIP program use.

    Unset: all; empty and -1: none. The entries are indices, and the list ends at the first that is none, a
    space before it included (ROCclr, device lists of paldevice.cpp and rocdevice.cpp).
    """
    if setting is None:
        return list(range(count))
    chosen: list[int] = []
    for entry in setting.split(","):
        if not is_index(entry) or int(entry) >= count:
            break
        chosen.append(int(entry))
    return chosen


def amd_visible(environ: Mapping[str, str], uuids: Sequence[str]) -> list[int]:
    """The positions in `uuids` of the GPUs that a ROCm program may use, ascending.

    HIP_VISIBLE_DEVICES, or CUDA_VISIBLE_DEVICES where that one is unset, counts among those that
    ROCR_VISIBLE_DEVICES leaves, in the order in which that names them ("GPU isolation techniques" of the
    ROCm documentation). GPU_DEVICE_ORDINAL is OpenCL's alone and left out.
    """
    left = rocr_visible(environ.get("ROCR_VISIBLE_DEVICES"), uuids)
    setting = environ.get("HIP_VISIBLE_DEVICES", environ.get("CUDA_VISIBLE_DEVICES"))
    return sorted({left[at] for at in hip_visible(setting, len(left))})


def level_zero_visible(environ: Mapping[str, str], tiles: Sequence[int]) -> list[int]:
    """The positions of the Intel cards that a Level Zero program may use, ascending.

    `tiles` are the numbers of tiles of each card, in the order of the PCI bus (which is the program's own
    with ZE_ENABLE_PCI_ID_DEVICE_ORDER=1). ZE_AFFINITY_MASK unset or empty: all. With
    ZE_FLAT_DEVICE_HIERARCHY=COMPOSITE an entry is a card or, after a point, a tile of it; else (FLAT, the
    default, and COMBINED) it is a tile, counted over all cards. Entries that name nothing are passed over
    (Level Zero specification, "Affinity Mask"; compute-runtime, execution_environment.cpp).
    """
    mask = environ.get("ZE_AFFINITY_MASK", "").strip()
    if not mask:
        return list(range(len(tiles)))
    cards = [card for card, count in enumerate(tiles) for _ in range(max(count, 1))]
    is_composite = environ.get("ZE_FLAT_DEVICE_HIERARCHY", "").strip().upper() == "COMPOSITE"
    chosen: set[int] = set()
    for entry in mask.split(","):
        name, point, tile = entry.strip().partition(".")
        if not is_index(name):
            continue
        if is_composite:
            if int(name) < len(tiles) and _has_tile(tile, tiles[int(name)]):
                chosen.add(int(name))
        elif not point and int(name) < len(cards):
            chosen.add(cards[int(name)])
    return sorted(chosen)


def _has_tile(tile: str, count: int) -> bool:
    number = tile.partition(".")[0]
    return not tile or (is_index(number) and int(number) < max(count, 1))
