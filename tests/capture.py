"""`python -m tests.capture`: runs the README's showpiece in a real terminal and puts what it shows there.

The command stands in the README's marker, the output comes from a pseudo-terminal of 80 columns.
"""

from __future__ import annotations

import os
import pathlib
import pty
import re
import sys
import tempfile

REPOSITORY = pathlib.Path(__file__).parent.parent
README = REPOSITORY / "README.md"
BLOCK = re.compile(r"<!-- capture: (?P<command>.*?) -->\n```console\n(?P<shown>.*?)```\n", re.DOTALL)


def in_terminal(command: str, home: str) -> str:
    """What the command shows on a terminal of 80 columns, `emt` and `python` being this environment's."""
    shown = bytearray()
    os.environ.update(
        COLUMNS="80",
        EMT_STORE=f"{home}/.local/state/emt/runs",
        HOME=home,
        PATH=f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    )

    def read(fd: int) -> bytes:
        data = os.read(fd, 4096)
        shown.extend(data)
        return data

    pty.spawn(["sh", "-c", f"stty cols 80; {command}"], read)
    return shown.decode().replace("\r\n", "\n").replace(home, "~")


def main() -> None:
    text = README.read_text()
    match = BLOCK.search(text)
    if match is None:
        raise SystemExit("README.md has no capture block")
    command = match["command"]
    with tempfile.TemporaryDirectory() as home:
        os.chdir(REPOSITORY / "tests" / "workloads")
        shown = f"$ {command}\n" + in_terminal(command, home)
    README.write_text(text[: match.start("shown")] + shown.rstrip() + "\n" + text[match.end("shown") :])


if __name__ == "__main__":
    main()
