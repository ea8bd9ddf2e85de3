"""The small programs that the launch tests run, bare and under emt: `python -I -S programs.py NAME ARGS...`.

They stand in one file of the standard library alone, so that each starts fast and says what it saw in the
simplest way: bytes in a file.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import resource
import signal
import sys
import termios
import time
from collections.abc import Callable

LIMIT_S = 60.0
_STOPS = {signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGCHLD, signal.SIGKILL, signal.SIGSTOP}


def count(path: str, control: str, *words: str) -> None:
    """Append the number of each signal that arrives to `path`, as a byte, until `control` ends.

    Words: `setsid` first leaves the session; `group` sends SIGTERM to the group, `grandchild` has a
    grandchild do it; `parent` sends SIGTERM to the parent.
    """
    if "setsid" in words:
        os.setsid()
    _count_into(path)
    watched = os.open(control, os.O_RDONLY)
    if "grandchild" in words and not os.fork():
        signal.set_wakeup_fd(-1)
        if not os.fork():
            os.kill(0, signal.SIGTERM)
        _wait_for_end(watched)
        os._exit(0)
    if "group" in words:
        os.kill(0, signal.SIGTERM)
    if "parent" in words:
        os.kill(os.getppid(), signal.SIGTERM)
    _wait_for_end(watched)


def _count_into(path: str) -> None:
    """The wake-up descriptor is written to by the C handler: no arrival is merged with the one before."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK, 0o600)
    signal.set_wakeup_fd(file, warn_on_full_buffer=False)
    for number in signal.valid_signals() - _STOPS:
        signal.signal(number, lambda *_: None)


def _wait_for_end(fd: int) -> None:
    while os.read(fd, 1):
        pass


def facts(path: str, *_: str) -> None:
    """Write all that a process inherits to `path`, as JSON."""
    found = _facts()
    with open(path, "w", encoding="utf-8") as file:
        json.dump(found, file, indent=1, sort_keys=True)


def _facts() -> dict[str, object]:
    descriptors = {}
    for fd in range(0, 256):
        with contextlib.suppress(OSError):
            flags = fcntl.fcntl(fd, fcntl.F_GETFL)
            descriptors[fd] = (os.readlink(f"/proc/self/fd/{fd}"), flags, os.isatty(fd))
    limits = {
        name: resource.getrlimit(getattr(resource, name))
        for name in dir(resource)
        if name.startswith("RLIMIT_")
    }
    umask = os.umask(0)
    return {
        "descriptors": descriptors,
        "limits": limits,
        "umask": umask,
        "status": _status_lines(),
        "environment": _text("/proc/self/environ").split("\0"),
        "arguments": _text("/proc/self/cmdline").split("\0"),
        "name": _text("/proc/self/comm"),
        "oom": _text("/proc/self/oom_score_adj"),
        "slack": _text("/proc/self/timerslack_ns"),
        "core filter": _text("/proc/self/coredump_filter"),
        "personality": _text("/proc/self/personality"),
        "folder": os.getcwd(),
        "niceness": os.getpriority(os.PRIO_PROCESS, 0),
        "scheduler": os.sched_getscheduler(0),
        "affinity": sorted(os.sched_getaffinity(0)),
        "group": os.getpgrp(),
        "session": os.getsid(0),
        "timers": [signal.getitimer(which)[1] for which in (0, 1, 2)],
        "terminal": _terminal(),
    }


_STATUS = ("Umask", "Uid", "Gid", "Groups", "SigQ", "SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt")
_MORE_STATUS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Cpus_allowed")


def _status_lines() -> list[str]:
    wanted = tuple(f"{name}:" for name in (*_STATUS, *_MORE_STATUS) if name != "SigQ")
    return [line for line in _text("/proc/self/status").splitlines() if line.startswith(wanted)]


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError as error:
        return str(error)


def _terminal() -> object:
    """Where descriptor 0 is a terminal: its settings, and whether its foreground group is ours."""
    try:
        return [repr(termios.tcgetattr(0)), os.tcgetpgrp(0) == os.getpgrp(), os.ttyname(0)]
    except (OSError, termios.error) as error:
        return str(error.args[0])


def enter(*words: str) -> None:
    """Change what a process inherits, then become the command after `--`.

    Words: `close=FD`, `open=FD`, `ignore=SIG`, `block=SIG`, `umask=OCTAL`, `nice=N`, `alarm=S`,
    `limit=NAME:SOFT:HARD`, `unset=NAME`, `cwd=PATH`, `group`, `session`,
    `terminal` (takes the one on descriptor 0).
    """
    at = words.index("--")
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and ignored is inherited
        signal.signal(number, signal.SIG_DFL)
    for word in words[:at]:
        action, _, value = word.partition("=")
        _ENTER[action](value)
    os.execvp(words[at + 1], words[at + 1 :])


def _signal(name: str) -> int:
    return int(getattr(signal, f"SIG{name}"))


def _open(value: str) -> None:
    fd = os.open("/dev/zero", os.O_RDONLY)
    os.dup2(fd, int(value))
    os.close(fd)


def _limit(value: str) -> None:
    name, soft, hard = value.split(":")
    before = resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))
    resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (int(soft), int(hard) if hard else before[1]))


_ENTER: dict[str, Callable[[str], object]] = {
    "close": lambda value: os.close(int(value)),
    "open": _open,
    "ignore": lambda value: signal.signal(_signal(value), signal.SIG_IGN),
    "block": lambda value: signal.pthread_sigmask(signal.SIG_BLOCK, [_signal(value)]),
    "umask": lambda value: os.umask(int(value, 8)),
    "nice": lambda value: os.nice(int(value)),
    "alarm": lambda value: signal.setitimer(signal.ITIMER_REAL, float(value), 30.0),
    "limit": _limit,
    "unset": lambda value: os.environ.pop(value, None),
    "cwd": os.chdir,
    "group": lambda value: os.setpgid(0, 0),
    "session": lambda value: os.setsid(),
    "terminal": lambda value: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
}


def orphans(new_parent: str = "") -> None:
    """Make ten orphans; leave with 0 when `new_parent` (else ours) is theirs and has reaped them."""
    read, write = os.pipe()
    if not os.fork():
        parent = os.getpid()
        for _ in range(10):
            if not os.fork():
                while os.getppid() == parent:
                    time.sleep(0.001)
                os.write(write, f"{os.getpid()} {os.getppid()}\n".encode())
                os._exit(0)
        os._exit(0)
    os.close(write)
    os.wait()
    text = b""
    while block := os.read(read, 4096):
        text += block
    pairs = [line.split() for line in text.splitlines()]
    assert len(pairs) == 10
    assert {int(parent) for _, parent in pairs} == {int(new_parent or os.getppid())}
    _until(lambda: not any(os.path.exists(b"/proc/" + pid) for pid, _ in pairs))


def strangers(ended: str, *_: str) -> None:
    """Leave with 0 if the process of that number is a zombie, and still is after orphans were reaped."""
    _until(lambda: _state(ended) == "Z")
    orphans()
    sys.exit(0 if _state(ended) == "Z" else 3)


def _state(pid: str) -> str:
    stat = _text(f"/proc/{pid}/stat")
    return stat.rpartition(")")[2].split()[0] if ")" in stat else ""


def _until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not is_so():
        if time.monotonic() > deadline:
            sys.exit(4)
        time.sleep(0.005)


def die(name: str) -> None:
    """Die by a signal of that name, cores allowed."""
    if name != "KILL":
        signal.signal(_signal(name), signal.SIG_DFL)
    os.kill(os.getpid(), _signal(name))


def burdened(path: str, control: str, *command: str) -> None:
    """Become the command with two children that it never started, as after `helper & exec CMD` in a shell.

    One has ended: its number is added to the command's words. The other uses half a second of CPU time, then
    waits until `control` ends; its number is written to `path`. A shell cannot do it: it reaps who has ended.
    """
    ended = os.fork() or os._exit(0)
    burning = os.fork()
    if not burning:
        while time.process_time() < 0.5:
            pass
        _wait_for_end(os.open(control, os.O_RDONLY))
        os._exit(0)
    os.waitid(os.P_PID, ended, os.WEXITED | os.WNOWAIT)
    with open(path, "w", encoding="ascii") as file:
        file.write(str(burning))
    os.execvp(command[0], [*command, str(ended)])


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
