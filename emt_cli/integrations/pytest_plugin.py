"""The options of `pytest --emt`, and nothing else: every pytest of everybody who has emt loads this module.

What measures stands in `pytest_energy` and is imported only where it was asked for. The module is entered in
pyproject.toml under `pytest11`; `-p no:emt` keeps it out.
"""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("emt", "energy of tests (emt)")
    group.addoption("--emt", action="store_true", help="Measure the session and tell what each test used.")
    group.addoption(
        "--emt-top", type=int, default=10, metavar="N", help="Show the N tests that used most (default: 10)."
    )
    group.addoption("--emt-json", metavar="FILE", help="Write what every test used to FILE, as JSON.")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--emt"):
        from emt_cli.integrations import pytest_energy

        pytest_energy.register(config)
    elif config.getoption("--emt-json"):
        raise pytest.UsageError("--emt-json needs --emt")
