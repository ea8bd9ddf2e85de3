"""The thread that hands samples to the observer, at least once a second, and survives what happens to it.

It stands between the tick loops and the disk: a slow disk delays rows, a full one ends the journal with a
notice, and neither reaches a tick, a signal or the exit.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from emt_cli.errors import FAULTS
from emt_cli.measure.sampler import LAST_TICK, Collector
from emt_cli.model import Notice, Process, Run, Sample
from emt_cli.notices import notice

_FLUSH_S = 0.5
_GRACE_S = 0.05
"""A tick counts as over this long after it was due; a part that comes later is a sample of its own."""
_TABLE_PERIOD_S = 5.0


class Observer(Protocol):
    """A reader of the run while it goes on; the journal is one. An OSError ends its part, not the run."""

    def begin(self, run: Run) -> None: ...

    def append(self, samples: Sequence[Sample]) -> None: ...

    def write_processes(self, processes: Sequence[Process]) -> None: ...


class Writer:
    """Takes samples from the collector to the observer until `stop`."""

    def __init__(
        self,
        observer: Observer,
        collector: Collector,
        base_s: float,
        listen: Callable[[Sequence[Sample]], None] | None = None,
    ) -> None:
        """`listen` is handed every batch too, whatever becomes of the observer; it returns at once."""
        self.notices: list[Notice] = []
        self.is_done = threading.Event()
        self._observer = observer
        self._collector = collector
        self._base_s = base_s
        self._listen = listen
        self._stopped = threading.Event()
        self._failed = False

    @property
    def edges(self) -> tuple[Sample, ...]:
        """The first and the last sample: they are known whatever became of the journal."""
        first, last = self._collector.first, self._collector.last
        return tuple(sample for sample in (first, last) if sample is not None)

    @property
    def has_failed(self) -> bool:
        return self._failed

    def start(self, origin_s: float, processes: Callable[[], tuple[Process, ...]]) -> None:
        thread = threading.Thread(
            target=self._live, args=(origin_s, processes), name="emt-writer", daemon=True
        )
        thread.start()

    def stop(self) -> None:
        """Write what is left and be done; `is_done` tells when."""
        self._stopped.set()

    def _live(self, origin_s: float, processes: Callable[[], tuple[Process, ...]]) -> None:
        try:
            self._write_until_stopped(origin_s, processes)
        finally:  # the exit must not wait for a thread that a fault has ended
            self.is_done.set()

    def _write_until_stopped(self, origin_s: float, processes: Callable[[], tuple[Process, ...]]) -> None:
        next_table_s = origin_s + _TABLE_PERIOD_S
        while not self._stopped.wait(_FLUSH_S):
            now = time.monotonic()
            self._write(self._collector.take(int((now - origin_s - _GRACE_S) / self._base_s), origin_s))
            if now >= next_table_s and not self._failed:
                next_table_s = now + _TABLE_PERIOD_S
                self._guard(lambda: self._observer.write_processes(processes()))
        self._write(self._collector.take(LAST_TICK, origin_s))

    def _write(self, samples: list[Sample]) -> None:
        if samples and self._listen is not None:
            self._listen(samples)
        if samples and not self._failed:
            self._guard(lambda: self._observer.append(samples))

    def _guard(self, write: Callable[[], None]) -> None:
        try:
            write()
        except OSError as error:
            self._give_up(error.strerror or str(error))
        except FAULTS as fault:  # it ends the observer, not the measuring
            self._give_up(f"{type(fault).__name__}: {fault}")

    def _give_up(self, reason: str) -> None:
        self._failed = True
        last = self._collector.last
        since_s = 0.0 if last is None else last.t_s
        self.notices.append(notice("journal_failed", t_s=since_s, reason=reason))
