"""The three files of /proc that are facts of every machine, rendered from psutil where there is no /proc.

macOS and Windows tell CPU times, memory and the processor's name in ways of their own. In the form of
`/proc/stat`, `/proc/meminfo` and `/proc/cpuinfo` the model and the host's facts read them without knowing.
Every other path is missing, so that no sensor of Linux finds anything.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any

TICKS_PER_S = 100
"""Steps in which the rendered /proc/stat counts, as Linux does (USER_HZ)."""


class RenderedFile:
    """Renders its text anew at each read, as the kernel does."""

    def __init__(self, render: Callable[[], str]) -> None:
        self._render = render

    def read(self) -> bytes:
        return self._render().encode("utf-8", "replace")

    def close(self) -> None:
        """Nothing is kept open."""


def open_file(path: str) -> RenderedFile:
    """Raises FileNotFoundError for every file but the three."""
    render = _RENDERED.get(path)
    if render is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    return RenderedFile(render)


def stat_text(total: Any, cpus: int) -> str:
    """`/proc/stat` from psutil.cpu_times(), seconds by column; and a line for each CPU, to be counted.

    Windows' interrupt and dpc times are inside its system time already.
    """
    columns = [getattr(total, name, 0.0) for name in ("user", "nice", "system", "idle", "iowait")]
    line = " ".join(str(round(seconds * TICKS_PER_S)) for seconds in columns)
    each = "".join(f"cpu{number} 0 0 0 0 0 0 0 0\n" for number in range(cpus))
    return f"cpu  {line} 0 0 0\n{each}intr 0\n"


def _stat() -> str:
    import psutil

    return stat_text(psutil.cpu_times(), psutil.cpu_count() or 1)


def _meminfo() -> str:
    import psutil

    return f"MemTotal: {psutil.virtual_memory().total // 1024} kB\n"


def _cpuinfo() -> str:
    return f"model name\t: {_processor_name()}\n"


def _processor_name() -> str:
    """`sysctl machdep.cpu.brand_string` on macOS, the registry on Windows; empty where neither tells."""
    if os.name == "nt":
        return _name_in_registry()
    import subprocess

    try:
        done = subprocess.run(
            ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=2,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode("utf-8", "replace").strip()


def _name_in_registry() -> str:
    import winreg  # type: ignore[import-not-found,unused-ignore]

    registry: Any = winreg
    try:
        with registry.OpenKey(
            registry.HKEY_LOCAL_MACHINE, r"HARDWARE\DESCRIPTION\System\CentralProcessor\0"
        ) as key:
            return str(registry.QueryValueEx(key, "ProcessorNameString")[0]).strip()
    except OSError:
        return ""


_RENDERED: dict[str, Callable[[], str]] = {
    "/proc/stat": _stat,
    "/proc/meminfo": _meminfo,
    "/proc/cpuinfo": _cpuinfo,
}
