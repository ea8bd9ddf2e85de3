"""macOS' own `powermetrics`: power of CPU, GPU and Neural Engine as a stream of property lists.

- Interface: `powermetrics --samplers cpu_power,gpu_power,ane_power -i 500 -f plist` writes one XML property
  list for each interval to stdout, NUL between them. `elapsed_ns` is how long the interval was.
- Fields of `processor`, Apple Silicon: `cpu_power`, `gpu_power`, `ane_power` (mW, mean of the interval) and
  `cpu_energy` and so on (mJ of the interval, whole numbers); up to macOS 12 `dram_energy` too. Intel:
  `package_joules` or `package_watts` (CPUs, GPU and system agent of the package). Power x time is preferred
  to whole millijoules. Added up here to counters of microjoules since the opening.
- Update period 0.5 s; SIGINFO makes it take a sample at once, which is done at the edges of a run.
- Rights: root. Cost: a process of its own, 1 to 3 % of a core.
- Containment: CPU, GPU, Neural Engine and DRAM stand side by side; Intel's package holds all of them.
- Known lies: estimates of a model inside the chip, to compare runs on one machine, not machines
  (powermetrics(1)). The figures of the GPU have been doubled on some M1 with macOS 12.

Where `zeus-apple-silicon` is installed that is read instead: the same figures, without root.
Source: powermetrics(1).
"""

from __future__ import annotations

import importlib.util
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any, Protocol

from emt_cli.model import Channel, Gap, Reading
from emt_cli.sensors.base import Absent, Denied, Machine
from emt_cli.sensors.powermetrics_samples import APPLE_PARTS, INTEL_PARTS, Part, energies, parse
from emt_cli.units import JOULES_PER_MICROJOULE

NAME = "powermetrics"
PROGRAM = "/usr/bin/powermetrics"
PERIOD_S = 0.5
_FIRST_SAMPLE_S = 4.0
_STALE_S = 10 * PERIOD_S
_LARGEST_PLIST = 1 << 22
_BLOCK = 1 << 16
_REMEDY = "pip install zeus-apple-silicon (Apple Silicon; no root needed), or: sudo emt run ..."


class Stream(Protocol):
    """The running program: `read` blocks for the next bytes and gives none at the end, `ask` wants a sample
    now, `close` ends it."""

    def read(self) -> bytes: ...

    def ask(self) -> None: ...

    def close(self) -> None: ...


def open_powermetrics(
    machine: Machine,
    *,
    program: str = PROGRAM,
    is_root: Callable[[], bool] | None = None,
    start: Callable[[str], Stream] | None = None,
) -> Powermetrics:
    """Starts the program and waits for its first sample. Raises Absent off macOS, without the program, and
    where zeus-apple-silicon reads the same; Denied without root, and where no sample comes."""
    if machine.platform != "darwin":
        raise Absent("no macOS")
    if not os.path.exists(program):
        raise Absent(f"there is no {program}")
    if importlib.util.find_spec("zeus_apple_silicon") is not None:
        raise Absent("zeus-apple-silicon reads the same without root")
    if not (is_root or _is_root)():
        raise Denied(f"{program} tells root only", hint=_REMEDY)
    try:
        stream = (start or Program)(program)
    except OSError as error:
        raise Denied(f"{program} cannot be started: {error.strerror}", hint=f"sudo {program} -n 1") from error
    sensor = Powermetrics(stream)
    if not sensor.wait_for_channels(_FIRST_SAMPLE_S):
        sensor.close()
        reason = sensor.ended or f"no sample within {_FIRST_SAMPLE_S:g} s"
        raise Denied(f"{program}: {reason}", hint=f"sudo {program} --samplers cpu_power -n 1 -f plist")
    return sensor


def _is_root() -> bool:
    return os.geteuid() == 0


class Powermetrics:
    """Counters that a thread adds up from the stream. A stream that ends or stands still gives gaps."""

    name = NAME
    min_period_s = PERIOD_S

    def __init__(self, stream: Stream) -> None:
        self.channels: Sequence[Channel] = ()
        self.ended = ""
        """Why nothing comes any more."""
        self._stream = stream
        self._news = threading.Condition()
        self._samples = 0
        self._last_s = monotonic()
        self._parts: tuple[Part, ...] = ()
        self._sums: list[float] = []
        self._missing: list[str] = []
        thread = threading.Thread(target=self._follow, name="emt-powermetrics-stream", daemon=True)
        thread.start()

    def wait_for_channels(self, limit_s: float) -> bool:
        """Until the first sample is there; False if it does not come."""
        with self._news:
            self._news.wait_for(lambda: bool(self._parts or self.ended), limit_s)
            return bool(self._parts)

    def read(self) -> Sequence[Reading | Gap]:
        with self._news:
            now = monotonic()
            reason = self.ended
            if not reason and now - self._last_s > _STALE_S:
                reason = f"powermetrics has told nothing for {now - self._last_s:.0f} s"
            if reason:
                return [Gap(now, reason) for _ in self._parts]
            return [
                Gap(now, why) if why else Reading(now, round(joules / JOULES_PER_MICROJOULE))
                for joules, why in zip(self._sums, self._missing, strict=True)
            ]

    def read_edge(self) -> Sequence[Reading | Gap]:
        """Ask for a sample, and wait for it no longer than for the next regular one."""
        with self._news:
            before = self._samples
            self._stream.ask()
            self._news.wait_for(lambda: self._samples > before or bool(self.ended), PERIOD_S)
        return self.read()

    def close(self) -> None:
        self._stream.close()

    def _follow(self) -> None:
        rest = b""
        while block := self._stream.read():
            *whole, rest = (rest + block).split(b"\0")
            for text in whole:
                self._take(text)
            if b"</plist>" in rest:  # the NUL comes with the next one only
                self._take(rest)
                rest = b""
            if len(rest) > _LARGEST_PLIST:
                break
        with self._news:
            self.ended = self.ended or "powermetrics has ended"
            self._news.notify_all()

    def _take(self, text: bytes) -> None:
        if not text.strip():
            return
        sample = parse(text)
        with self._news:
            if sample is None:
                self._missing = ["a sample that cannot be read"] * len(self._parts)
                return
            if not self._parts:
                self._begin(sample)
                return
            joules = energies(sample, self._parts)
            for at, value in enumerate(joules):
                self._sums[at] += value or 0.0
                self._missing[at] = f"not told: {self._parts[at].channel}" if value is None else ""
            self._samples += 1
            self._last_s = monotonic()
            self._news.notify_all()

    def _begin(self, sample: Mapping[str, Any]) -> None:
        """The first sample says what there is; what it counted was before us."""
        for parts in (INTEL_PARTS, APPLE_PARTS):
            joules = energies(sample, parts)
            told = tuple(part for part, value in zip(parts, joules, strict=True) if value is not None)
            if told:
                self._sums, self._missing = [0.0] * len(told), [""] * len(told)
                self.channels = tuple(_channel(part) for part in told)
                self._parts = told
                self._last_s = monotonic()
                self._news.notify_all()
                return


def _channel(part: Part) -> Channel:
    return Channel(
        id=part.channel,
        sensor=NAME,
        device=part.channel.partition("/")[0],
        domain=part.domain,
        kind="counter",
        provenance="measured",
        source=f"powermetrics, {part.fields[0][0]}",
        unit=JOULES_PER_MICROJOULE,
        resolution_j=1e-3,
        update_period_s=PERIOD_S,
        max_power_w=part.max_w,
        note="the chip's own energy model: to compare runs on one machine, not machines",
    )


class Program:
    """powermetrics at work, in a session of its own: Ctrl-C is for the measured command. Raises OSError.

    It ends at the latest when it writes and nobody reads: emt leaves without closing sensors.
    """

    def __init__(self, program: str) -> None:
        import subprocess

        samplers = "cpu_power,gpu_power,ane_power"
        words = [program, "--samplers", samplers, "-i", str(round(PERIOD_S * 1000)), "-f", "plist"]
        self._process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._is_closed = False

    def read(self) -> bytes:
        pipe = self._process.stdout
        assert pipe is not None, "it was asked for as a pipe"
        block = b"" if pipe.closed else os.read(pipe.fileno(), _BLOCK)
        if not block:  # closed by who reads it: nobody else knows that nobody reads
            pipe.close()
        return block

    def ask(self) -> None:
        import signal

        if (number := getattr(signal, "SIGINFO", None)) is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    def close(self) -> None:
        """End it; its reader sees the end of the stream then."""
        if not self._is_closed:
            self._is_closed = True
            self._process.terminate()
            self._process.wait()
