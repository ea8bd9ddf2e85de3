"""What the openers brought, sorted: sensors, refusals, absences, and the warnings that follow from them.

A refusal is a warning only where nothing else stands in for what it would have told.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from emt_cli.errors import EmtError, SensorError
from emt_cli.model import DEVICE_DOMAINS, Channel, Notice
from emt_cli.sensors.base import Absent, Sensor

if TYPE_CHECKING:
    from emt_cli.sensors.opening import Outcome
    from emt_cli.sensors.wishes import Wishes

_NO_COUNTER = (
    "on bare-metal Linux the RAPL counters would be read; a virtual machine, a container and WSL2 have none "
    "as a rule"
)
_NODE_DOMAINS = frozenset({"node", "psys"})
_NO_GPU_COUNTER = "a newer driver may tell the GPU's power; a virtual GPU is measured on its host"


class _Refusal(NamedTuple):
    """A sensor, or a part of one, that may not be read."""

    name: str
    reason: str
    covers: frozenset[str]
    is_of_part: bool = False


class Gathered:
    """What the openers brought, sorted into sensors, notices and absences."""

    def __init__(self, limit_s: float) -> None:
        self.sensors: list[Sensor] = []
        self.notices: list[Notice] = []
        self.absent: list[tuple[str, str]] = []
        self.remedies: dict[str, str] = {}
        self.excluded: list[Channel] = []
        self.left_out: list[str] = []
        self._unwanted: list[Channel] = []
        self._refusals: list[_Refusal] = []
        self._complete: list[tuple[Sensor, frozenset[str]]] = []
        self._limit_s = limit_s

    def add(self, name: str, outcome: Outcome | None, covers: frozenset[str] = frozenset()) -> None:
        if outcome is None:
            self.remedies[name] = f"{name} did not answer in time: check its driver (dmesg)"
            self._note("sensor_stuck", sensor=name, limit_s=self._limit_s)
        elif isinstance(outcome, Absent):
            self.absent.append((name, str(outcome)))
        elif isinstance(outcome, SensorError):
            self.remedies[name] = outcome.hint
            self._refuse(_Refusal(name, str(outcome), covers))
        else:
            self.sensors.append(outcome)
            locked = getattr(outcome, "unreadable", ())
            if locked:
                self.remedies[name] = getattr(outcome, "remedy", "") or "emt sensors shows what is read"
                self._refuse(
                    _Refusal(name, f"left out, cannot be read: {', '.join(locked)}", covers, is_of_part=True)
                )
            else:
                self._complete.append((outcome, covers))

    def compare(self) -> None:
        """Let what several sensors see count once, by the first of them that is believed."""
        from emt_cli.sensors.overlaps import drop_overlaps

        if len(self.sensors) > 1:
            self._cross_check()
        drop_overlaps(self.sensors)

    def _cross_check(self) -> None:
        from emt_cli.sensors.cross_check import cross_check

        for sensor, believed, channel, share in cross_check(self.sensors):
            self._note(
                "cross_check",
                channel=f"{channel.id} of {sensor.name}",
                check=f"that of {believed.name}",
                share=share,
                remedy=f"{believed.name} is used; --exclude {sensor.name} leaves the other one out",
            )

    def tell_refusals(self) -> None:
        """Warn of what may not be read, unless it is covered all the same: a part by a whole sensor for the
        same domains, a sensor by any. Of several sensors for the same domains the last speaks: the registry
        has those that ask for less at the end."""
        whole = {covers for sensor, covers in self._complete if any(not c.dropped for c in sensor.channels)}
        last = {each.covers: each.name for each in self._refusals}
        for each in self._refusals:
            if each.is_of_part:
                is_covered = each.covers in whole
            else:
                is_covered = last[each.covers] != each.name or self.covers(each.covers)
            if is_covered:
                self.absent.append((each.name, each.reason))
            else:
                self._warn(each)
        self._refusals.clear()

    def _refuse(self, refusal: _Refusal) -> None:
        if refusal.covers:
            self._refusals.append(refusal)
        else:
            self._warn(refusal)

    def _warn(self, refusal: _Refusal) -> None:
        name, reason = refusal.name, refusal.reason
        self._note("sensor_denied", sensor=name, reason=reason, remedy=self.remedies[name])

    def choose(self, wishes: Wishes) -> None:
        """Take out the channels that the user does not want."""
        if wishes.only or wishes.exclude:
            from emt_cli.sensors.choice import choose

            self._unwanted += choose(self.sensors, wishes)

    def finish_choice(self, wishes: Wishes) -> None:
        """Close the sensors of which nothing is wanted. Raises UsageError for a choice of nothing."""
        if not (wishes.only or wishes.exclude):
            return
        from emt_cli.sensors.choice import check_only, unknown_words

        channels = [channel for sensor in self.sensors for channel in sensor.channels]
        unwanted = {channel.id for channel in self._unwanted}
        useless = [s for s in self.sensors if all(c.dropped for c in s.channels)]
        for sensor in [s for s in useless if any(c.id in unwanted for c in s.channels)]:
            self.sensors.remove(sensor)
            self.excluded += sensor.channels
            sensor.close()
        try:
            check_only(wishes, channels)
        except EmtError:
            for sensor in self.sensors:
                sensor.close()
            raise
        names = [*self.left_out, *(name for name, _ in self.absent)]
        for word in unknown_words(wishes.exclude, channels, names):
            self._note("nothing_excluded", name=word)

    def covers(self, domains: frozenset[str]) -> bool:
        """Whether a channel stands for one of these domains: one that counts, or that is not wanted."""
        channels = [c for s in self.sensors for c in s.channels if not c.dropped]
        return any(channel.domain in domains for channel in [*channels, *self._unwanted])

    def has_only_the_node(self) -> bool:
        """Whether all that is measured is the whole node, by its meter: then that is what counts. A battery
        is no such meter: it tells seconds late, and nothing on mains power."""
        channels = [c for s in self.sensors for c in s.channels if not c.dropped]
        is_node = [channel.domain in _NODE_DOMAINS for channel in channels if channel.domain != "battery"]
        return bool(is_node) and all(is_node) and not self._unwanted

    def tell_missing(self, wanted: Iterable[str]) -> None:
        """Warn of sensors that were asked for by name and are not here."""
        reasons = dict(self.absent)
        for name in wanted:
            if name in reasons:
                self._note("not_here", name=name, reason=reasons[name])

    def note_estimated_devices(self) -> None:
        """A GPU whose driver tells nothing is estimated by its own sensor."""
        channels = [c for s in self.sensors for c in s.channels if c.kind == "model" and not c.dropped]
        for channel in channels:
            if channel.domain in DEVICE_DOMAINS and channel.provenance == "estimated":
                self._note("estimated", what=f"{channel.id} energy", remedy=_NO_GPU_COUNTER)

    def watts_unused(self, setting: str, domains: frozenset[str]) -> None:
        """Say that watts by hand were not needed; only what nothing else tells is taken from them."""
        channels = [c for s in self.sensors for c in s.channels if not c.dropped]
        teller = next((c for c in channels if c.domain in domains), None)
        if teller is not None:
            remedy = f"--exclude {teller.sensor} takes the stated watts instead"
            self._note("watts_unused", setting=setting, reason=f"{teller.sensor} reads it", remedy=remedy)
        else:
            is_excluded = any(c.domain in domains for c in self._unwanted)
            reason = "it is excluded" if is_excluded else "the CPU's estimate holds it already"
            self._note("watts_unused", setting=setting, reason=reason, remedy="leave the setting out")

    def estimated(self, what: str) -> None:
        remedy = self.remedies.get("powercap") or self.remedies.get("perf") or _NO_COUNTER
        self._note("estimated", what=what, remedy=remedy)

    def _note(self, code: str, **facts: object) -> None:
        from emt_cli.notices import notice

        self.notices.append(notice(code, **facts))
