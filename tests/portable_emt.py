"""`python -m tests.portable_emt PLATFORM ARGS...`: the whole `emt` command as on that platform (`darwin`): no
/proc, no held child, psutil instead. The test switch; users have none."""

from __future__ import annotations

import sys

from emt_cli.commands import main as emt
from emt_cli.sensors.base import Machine


def main() -> None:
    platform, *arguments = sys.argv[1:]
    sys.argv[1:] = arguments
    emt(machine=Machine(platform=platform))


if __name__ == "__main__":
    main()
