"""Opening one sensor: in a thread of its own, since a driver may hang, and with whatever it raises named.

It stands apart from the registry so that a command can open a single sensor in the same safe way.
"""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from emt_cli.errors import SensorError
from emt_cli.sensors.base import Denied, Machine, Sensor

Outcome = Sensor | SensorError


class Source(NamedTuple):
    """Where an opener is found: `function(machine) -> Sensor` in `module`.

    `is_opt_in`: slow or costly, and opened only where the user asks for it by name. `covers`: the domains
    that others can cover in its place; where they do, its refusal is no warning.
    """

    name: str
    module: str
    function: str
    is_outside: bool = False
    is_opt_in: bool = False
    covers: frozenset[str] = frozenset()
    platform: str = ""
    """A value of `sys.platform`, where it is of use there alone: elsewhere it is not even imported."""


class Opening:
    """One opener at work in a daemon thread. A sensor that comes after it was given up closes itself."""

    def __init__(self, source: Source, machine: Machine) -> None:
        self.source = source
        self._lock = threading.Lock()
        self._outcome: Outcome | None = None
        self._is_given_up = False
        self._thread = threading.Thread(
            target=self._work, args=(machine,), name=f"emt-open-{source.name}", daemon=True
        )
        self._thread.start()

    def result(self, deadline_s: float) -> Outcome | None:
        """The sensor, or why there is none; None if neither came by the deadline."""
        self._thread.join(max(deadline_s - time.monotonic(), 0.0))
        with self._lock:
            self._is_given_up = self._outcome is None
            return self._outcome

    def _work(self, machine: Machine) -> None:
        outcome = open_source(self.source, machine)
        with self._lock:
            self._outcome = outcome
            is_late = self._is_given_up
        if is_late and not isinstance(outcome, SensorError):
            outcome.close()


def open_source(source: Source, machine: Machine) -> Outcome:
    """Open one sensor. Whatever goes wrong in there comes back as a refusal with its text."""

    def opened(machine: Machine) -> Sensor:
        sensor: Sensor = getattr(importlib.import_module(source.module), source.function)(machine)
        if not isinstance(sensor, Sensor):
            raise Denied(f"{source.module}:{source.function} gave no sensor but a {type(sensor).__name__}")
        if source.is_outside:
            from emt_cli.sensors.guarded import Guarded

            return Guarded(sensor)
        return sensor

    return attempt(opened, machine, source.module)


def attempt(opener: Callable[[Machine], Sensor], machine: Machine, module: str = "emt") -> Outcome:
    try:
        return opener(machine)
    except SensorError as refusal:
        return refusal
    except (Exception, SystemExit) as error:  # noqa: BLE001 - drivers' and other packages' code: named, not lost
        return Denied(
            f"broken: {type(error).__name__}: {error}",
            hint=f"a fault of {module}, not of this machine; please report it there",
        )
