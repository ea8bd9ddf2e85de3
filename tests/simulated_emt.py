"""`python -m tests.simulated_emt ROOT ARGS...`: the whole `emt` command on a simulated machine."""

from __future__ import annotations

import sys

from emt_cli.commands import main as emt
from tests.simulation import simulated


def main() -> None:
    root, *arguments = sys.argv[1:]
    sys.argv[1:] = arguments
    emt(machine=simulated(root))


if __name__ == "__main__":
    main()
