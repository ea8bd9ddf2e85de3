"""What this process has spent so far, by its own clocks: finer than anything that /proc tells of others."""

from __future__ import annotations

import time


def spent_s() -> float:
    """CPU seconds of this process so far, and of the children that it has waited for; to the microsecond."""
    return time.process_time() + reaped_s()


def reaped_s() -> float:
    """CPU seconds of the children that were waited for; 0 on Windows, which keeps no such sum."""
    try:
        import resource
    except ImportError:
        return 0.0
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
