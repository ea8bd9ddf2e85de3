"""IPMI DCMI: the power of the whole server as its management controller (BMC) reads it. Opt-in.

- Interface: `ipmitool dcmi power reading`, through the kernel's `/dev/ipmi0`; the line
  `Instantaneous power reading: 228 Watts`, and `Power reading state is: activated`.
- Whole watts. BMCs renew the value about once a second; asking takes 0.1 to 2 s of a slow bus that fan
  control and the site's monitoring share. Hence only on request, and once a second at most.
- Rights: `/dev/ipmi0` is root's, and must stay so: who may write to it can switch the machine off and make
  himself a user of the BMC.
- Containment: everything behind the power supplies, which lose 5 to 15 % on their own.
- Known lies: some BMCs answer 0 W, or `deactivated`: they offer the command and do not measure. The minimum,
  maximum and average of the answer are of a period of the BMC's own, mostly since its start.

`ipmitool` is started for every question, by a shell that is started once and does nothing else: so there is
one child of emt, known by its number, and its CPU time and its end are not taken for the command's. The
answer to one reading's question is given by the next reading, so that neither edge of a run waits for a BMC:
a value is one period old, which its update period allows for. The shell ends when emt does, however that is.

Sources: DCMI 1.5, 6.6.1 (Get Power Reading); ipmitool lib/ipmi_dcmi.c; Linux
Documentation/driver-api/ipmi.rst.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from time import monotonic, sleep
from typing import TYPE_CHECKING

from emt_cli.errors import SensorError
from emt_cli.model import Channel, Gap, Reading
from emt_cli.sensors.base import Absent, Denied, Machine

if TYPE_CHECKING:
    import subprocess

NAME = "ipmi"
DEVICES = ("/dev/ipmi0", "/dev/ipmi/0", "/dev/ipmidev/0")
MIN_PERIOD_S = 1.0
UPDATE_PERIOD_S = 2 * MIN_PERIOD_S
"""The BMC's own, and ours: a value was asked for at the reading before."""

_FIRST_ANSWER_S = 4.0
"""All openers together have five seconds."""
_OLDEST_S = 5.0
"""A value that is older, because the BMC does not answer, is none."""
_END_S = 0.5
_MOST_W = 20_000.0
_COMMAND = "ipmitool dcmi power reading"
_LOOP = 'while read -r _; do "$0" dcmi power reading </dev/null 2>&1; printf "\\nemt %d\\n" $? || exit; done'
_ANSWER = re.compile(rb"(.*?)\nemt (\d+)\n", re.DOTALL)
_WATTS = re.compile(r"Instantaneous power reading:\s*(\d+)\s*Watts")


class Ipmi:
    """The node's power as a gauge. `process_ids` names the shell that runs ipmitool."""

    name = NAME
    min_period_s = MIN_PERIOD_S

    def __init__(self, channel: Channel, tool: _Tool, watts: int) -> None:
        self.channels: Sequence[Channel] = (channel,)
        self.process_ids: Sequence[int] = (tool.pid,)
        self._tool = tool
        self._latest: int | str = watts
        """Watts, or why the last answer told none."""
        self._answered_s = monotonic()
        self._is_asked = False

    def read(self) -> list[Reading | Gap]:
        try:
            self._listen()
        except OSError as error:
            return [Gap(monotonic(), f"ipmitool's shell has ended: {error.strerror or error}")]
        now_s = monotonic()
        if isinstance(self._latest, str):
            return [Gap(now_s, self._latest)]
        if now_s - self._answered_s > _OLDEST_S:
            return [Gap(now_s, f"the BMC has not answered for {now_s - self._answered_s:.0f} s")]
        return [Reading(now_s, self._latest)]

    def _listen(self) -> None:
        """Take the answer if it is there, and ask again."""
        if self._is_asked:
            answer = self._tool.answer(0.0)
            if answer is None:
                return
            self._answered_s = monotonic()
            try:
                self._latest = _watts(*answer)
            except SensorError as refusal:
                self._latest = str(refusal)
        self._is_asked = False
        self._tool.ask()
        self._is_asked = True

    def close(self) -> None:
        self._tool.close()


def open_ipmi(machine: Machine) -> Ipmi:
    """The BMC's power reading. Raises Absent where there is no BMC or none that measures power, Denied where
    it may not be asked."""
    device = next((path for path in DEVICES if _is_there(machine, path)), None)
    if device is None:
        raise Absent(f"no BMC: there is no {DEVICES[0]} (is the kernel module ipmi_devintf loaded?)")
    program = _find(machine)
    if program is None:
        raise Denied(
            f"there is a BMC ({device}) but no ipmitool to ask it",
            hint="install it: sudo apt install ipmitool, or sudo dnf install ipmitool",
        )
    tool = _Tool(program, machine.environ)
    try:
        tool.ask()
        answer = tool.answer(_FIRST_ANSWER_S)
        if answer is None:
            raise Denied(f"the BMC did not answer within {_FIRST_ANSWER_S:g} s", hint=f"try: sudo {_COMMAND}")
        return Ipmi(_channel(device), tool, _watts(*answer))
    except SensorError:
        tool.close()
        raise
    except OSError as error:
        tool.close()
        raise Denied(f"ipmitool cannot be run: {error}", hint=f"try: sudo {_COMMAND}") from error


def _is_there(machine: Machine, path: str) -> bool:
    folder, _, name = path.rpartition("/")
    return name in machine.names(folder)


def _find(machine: Machine) -> str | None:
    if machine.is_simulated:
        return machine.path("/usr/bin/ipmitool") if _is_there(machine, "/usr/bin/ipmitool") else None
    import shutil

    return shutil.which("ipmitool", path=machine.environ.get("PATH", os.defpath))


def _channel(device: str) -> Channel:
    return Channel(
        id="node/ipmi",
        sensor=NAME,
        device="node",
        domain="node",
        kind="gauge",
        provenance="integrated",
        source=f"{_COMMAND} ({device})",
        update_period_s=UPDATE_PERIOD_S,
        max_power_w=_MOST_W,
    )


def _watts(status: int, text: str) -> int:
    """The power in an answer. Raises Denied where the BMC may not be asked, or does not measure; Absent where
    it knows no such command."""
    found = _WATTS.search(text)
    if status == 0 and found is not None:
        watts = int(found[1])
        if "deactivated" in text or watts == 0:
            state = "deactivated" if "deactivated" in text else "0 W"
            raise Denied(
                f"the BMC does not measure power ({state})",
                hint=f"switch power monitoring on in the BMC's settings; see: sudo {_COMMAND}",
            )
        return watts
    said = " ".join(text.split())[:200] or f"status {status}"
    if "Invalid command" in text or "not supported" in text.lower():
        raise Absent(f"the BMC knows no DCMI power reading: {said}")
    hint = f"try: sudo {_COMMAND}"
    if "open device" in text or "ermission denied" in text:
        hint = "the BMC is root's alone, for good reason: sudo emt run --with ipmi -- COMMAND"
    raise Denied(f"the BMC was not asked: {said}", hint=hint)


class _Tool:
    """A shell that runs ipmitool once for every line that it is given, and says how that ended."""

    def __init__(self, program: str, environ: Mapping[str, str]) -> None:
        import subprocess

        self._process: subprocess.Popen[bytes] = subprocess.Popen(
            ["/bin/sh", "-c", _LOOP, program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={**environ, "LC_ALL": "C"},
            bufsize=0,
            start_new_session=True,  # a Ctrl-C is meant for the command
        )
        self.pid = self._process.pid
        self._said = b""

    def ask(self) -> None:
        """Raises OSError where the shell has ended."""
        if self._process.stdin is not None:
            self._process.stdin.write(b"\n")

    def answer(self, limit_s: float) -> tuple[int, str] | None:
        """Status and text of the next answer; None if it does not come in time. Raises OSError where the
        shell has ended."""
        import select

        until_s = monotonic() + limit_s
        stream = self._process.stdout
        while stream is not None and (end := _ANSWER.match(self._said)) is None:
            ready, _, _ = select.select([stream], [], [], max(0.0, until_s - monotonic()))
            if not ready:
                return None
            block = os.read(stream.fileno(), 1 << 16)
            if not block:
                raise BrokenPipeError("it gave no answer")
            self._said += block
        if stream is None or end is None:
            return None
        self._said = self._said[end.end() :]
        return int(end[2]), end[1].decode("utf-8", "replace")

    def close(self) -> None:
        """End the shell and what it runs, and leave no zombie of either. May be called twice."""
        if self._process.returncode is not None:
            return
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        with suppress(ProcessLookupError):
            os.killpg(self.pid, 9)
        self._process.wait()
        until_s = monotonic() + _END_S
        with suppress(ChildProcessError):  # ipmitool is ours by now, if we take orphans in
            while os.waitpid(-self.pid, os.WNOHANG) == (0, 0) and monotonic() < until_s:
                sleep(0.01)
