"""Cray and HPE Cray EX nodes: the counters that the blade's controller keeps, shown in sysfs.

- Interface: `/sys/cray/pm_counters/<part>energy`, text such as `12044825101 J 7810213855886 us`: whole joules
  and when they were read (microseconds of the controller's clock, which is not taken). Parts: none (the
  node), `cpu_` (all sockets) or `cpu0_`..., `memory_`, `accel0_`...; `accel_` on the XC line.
- Refresh 10 Hz (`raw_scan_hz`); `freshness` counts the scans. The counters do not wrap; `startup` changes
  when the controller begins anew, and the counters with it: a step back, so a gap.
- Rights: readable by everybody. Measured outside of the processors, so RAPL's lock does not matter.
- Containment: node > cpu, memory, accelerators. An accelerator is a whole module: both halves of an MI250X.
  Where there are accelerators and no CPU counter (EX255a, MI300A: its 23 files are known) they are APUs, the
  CPU and its memory inside. Where both are counted by socket (EX254n, GH200) nobody has published whether
  the accelerator's counter has the CPU in it; NVML's does, and comes first there.
- Not taken: `capped_energy`, `overshoot_energy` (what a power cap was about), `generation` (how often a cap
  was changed). A counter that is 0 stands for a part that is not there.
- Known lies: when the link to the controller hangs, all files stay readable and stand still, `freshness` too.

Sources: HPE "User Access to Compute Node Power Data" (docs-csm); Martin et al., CUG 2016 (XC40); a dump of an
EX255a node (HLRS Hunter, version 3) in the tests of hardware_sampling; omnistat #190, CEEMS #239 (EX235a).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from time import monotonic, sleep
from typing import NamedTuple

from emt_cli.model import Channel, Gap, Reading
from emt_cli.sensors.base import Absent, Denied, File, Machine

NAME = "cray"
FOLDER = "/sys/cray/pm_counters"
NODE = "node/energy"
RESOLUTION_J = 1.0

_SCAN_HZ = 10.0
_STALLED_S = 0.5
"""Five scans without a new one."""
_LOOK_S = 0.005
_COUNTER = re.compile(r"(?:(?P<part>cpu|memory|accel)(?P<number>\d*)_)?energy")
_MAX_W = {"node": 20_000.0, "package": 5_000.0, "dram": 2_000.0, "accelerator": 2_500.0, "module": 2_500.0}
_REMEDY = f"everybody may read them as a rule; see: ls -l {FOLDER}, and ask the site's support"


class _Part(NamedTuple):
    """What a counter's file covers."""

    file: str
    id: str
    device: str
    domain: str


class PmCounters:
    """The node's counters. `unreadable` names those that are there but cannot be read."""

    name = NAME

    def __init__(
        self,
        channels: Sequence[Channel],
        files: Sequence[File],
        freshness: File | None,
        period_s: float,
        unreadable: tuple[str, ...] = (),
    ) -> None:
        self.channels: Sequence[Channel] = tuple(channels)
        self.min_period_s = period_s
        self.unreadable = unreadable
        self.remedy = _REMEDY
        self._files = tuple(files)
        self._freshness = freshness
        self._scan = b""
        self._scanned_s = monotonic()

    def read(self) -> list[Reading | Gap]:
        stall = self._stall()
        if stall:
            return [Gap(monotonic(), stall)] * len(self._files)
        return [_reading(file) for file in self._files]

    def read_edge(self) -> list[Reading | Gap]:
        """The readings just after a scan, if one comes within a scan's time."""
        until_s = monotonic() + self.min_period_s
        before = self._look()
        while self._look() == before and monotonic() < until_s:
            sleep(_LOOK_S)
        return self.read()

    def close(self) -> None:
        for file in (*self._files, *((self._freshness,) if self._freshness is not None else ())):
            file.close()

    def _stall(self) -> str:
        """Why the counters tell nothing now, though they can be read; empty if nothing speaks against it."""
        scan, now_s = self._look(), monotonic()
        if not scan or scan != self._scan:
            self._scan, self._scanned_s = scan, now_s
        still_s = now_s - self._scanned_s
        return f"the counters have stood still for {still_s:.1f} s" if still_s > _STALLED_S else ""

    def _look(self) -> bytes:
        try:
            return b"" if self._freshness is None else self._freshness.read()
        except OSError:  # the counters will say so themselves
            return b""


def open_cray(machine: Machine) -> PmCounters:
    """The node's energy counters. Raises Absent where there are none, Denied where none may be read."""
    parts = list(_parts(machine.names(FOLDER)))
    if not parts:
        raise Absent(f"no energy counter under {FOLDER}")
    files: dict[_Part, File] = {}
    locked: list[str] = []
    for part in parts:
        path = f"{FOLDER}/{part.file}"
        try:
            files[part] = machine.keep(path)
        except OSError as error:
            locked.append(f"{path}: {error.strerror or error}")
    if not files:
        raise Denied(locked[0], hint=_REMEDY)
    _leave_out_the_missing(files)
    ids = {part.id for part in files}
    period_s = _period_s(machine)
    channels = [_channel(part, ids, period_s) for part in files]
    return PmCounters(channels, list(files.values()), _freshness(machine), period_s, tuple(locked))


def _parts(names: Sequence[str]) -> Iterator[_Part]:
    """The counters by what they cover, the node first."""
    found = {name: match for name in names if (match := _COUNTER.fullmatch(name))}
    has_cpu = any(match["part"] in ("cpu", "memory") for match in found.values())
    for name, match in sorted(found.items(), key=lambda each: each[1]["part"] or ""):
        part, number = match["part"], match["number"]
        if part is None:
            yield _Part(name, NODE, "node", "node")
        elif part == "cpu" and number:
            yield _Part(name, f"cpu{number}/package", f"cpu{number}", "package")
        elif part == "cpu":
            yield _Part(name, "cpu", "cpu", "package")
        elif part == "memory":
            yield _Part(name, f"ram{number}", f"ram{number}", "dram")
        else:
            domain = "accelerator" if has_cpu or not number else "module"
            yield _Part(name, f"accel{number}", f"accel{number}", domain)


def _leave_out_the_missing(files: dict[_Part, File]) -> None:
    """A counter that has never counted is that of a part which is not there."""
    for part, file in list(files.items()):
        try:
            is_missing = part.id != NODE and _joules(file.read()) == 0
        except (OSError, ValueError):
            continue
        if is_missing:
            files.pop(part).close()


def _channel(part: _Part, ids: set[str], period_s: float) -> Channel:
    by_socket = part.id == "cpu" and any(other.startswith("cpu") and other != "cpu" for other in ids)
    return Channel(
        id=part.id,
        sensor=NAME,
        device=part.device,
        domain=part.domain,
        kind="counter",
        provenance="measured",
        source=f"{FOLDER}/{part.file}",
        within=NODE if NODE in ids and part.id != NODE else None,
        resolution_j=RESOLUTION_J,
        update_period_s=period_s,
        max_power_w=_MAX_W[part.domain],
        note="an APU: CPU, GPU and memory" if part.domain == "module" else "",
        dropped="the sum of its sockets, which count apart" if by_socket else "",
    )


def _period_s(machine: Machine) -> float:
    scans = machine.number(f"{FOLDER}/raw_scan_hz") or 0
    return 1.0 / scans if 1 <= scans <= 1000 else 1.0 / _SCAN_HZ


def _freshness(machine: Machine) -> File | None:
    try:
        return machine.keep(f"{FOLDER}/freshness")
    except OSError:
        return None


def _reading(file: File) -> Reading | Gap:
    text = b""
    try:
        text = file.read()
        joules = _joules(text)
    except OSError as error:
        return Gap(monotonic(), error.strerror or str(error))
    except ValueError:
        return Gap(monotonic(), f"not joules: {text[:20]!r}" if text.strip() else "empty")
    return Reading(monotonic(), joules)


def _joules(text: bytes) -> int:
    """`12345 J 7810213855886 us` as 12345. Raises ValueError for anything else, negative ones included."""
    number, unit, *_ = [*text.split(), b"", b""]
    if unit != b"J" or not number.isdigit():
        raise ValueError(text)
    return int(number)
