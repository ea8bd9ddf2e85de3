"""`python -m tests.benchmarks`: one table with a row for every budget that emt has set itself.

Every figure is a ratio, or a share, within one run of this program: the machine's own speed drops out.
Runs that are compared alternate, and medians are shown. Pass names to run only those rows. A benchmark is
no test: it prints, it never fails.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

REPOSITORY = Path(__file__).parent.parent.parent
EMT = [sys.executable, "-m", "emt_cli"]
ON_FILES = (
    "import sys; root = sys.argv.pop(1); from emt_cli.commands import main; "
    "from emt_cli.sensors.base import Machine; main(machine=Machine(root))"
)
"""emt on a machine of plain files: the sensors cost what they cost, and nothing computes their values."""


class Row(NamedTuple):
    """One line of the table."""

    what: str
    budget: str
    found: str


class Cost(NamedTuple):
    """What a process and all it waited for used."""

    cpu_s: float
    wall_s: float
    peak_mb: float


def cost(words: list[str], **variables: str) -> Cost:
    """Run a command to its end, its output thrown away."""
    began = time.monotonic()
    process = subprocess.Popen(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment(**variables)
    )
    _, _, usage = os.wait4(process.pid, 0)
    process.returncode = 0
    return Cost(usage.ru_utime + usage.ru_stime, time.monotonic() - began, usage.ru_maxrss / 1024)


def environment(**variables: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "EMT_STORE": str(SCRATCH / "store"), **variables}


def record(*words: str, prefix: list[str] | None = None) -> dict[str, Any]:
    """The record of `emt run -q -o ... WORDS`."""
    path = SCRATCH / "record.json"
    command = [*(prefix or EMT), "run", "-q", "--no-store", "--force", "-o", str(path), *words]
    subprocess.run(command, check=False, stdout=subprocess.DEVNULL, env=environment())
    return dict(json.loads(path.read_text()))


def alternating(times: int, *commands: Callable[[], float]) -> list[list[float]]:
    """Call each in turn, so that a drift of the machine meets all alike."""
    found: list[list[float]] = [[] for _ in commands]
    for _ in range(times):
        for results, command in zip(found, commands, strict=True):
            results.append(command())
    return found


def ratio(ours: list[float], theirs: list[float]) -> float:
    """The median of the ratios of neighbours."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def plain_machine(channels: int) -> Path:
    """A folder of powercap zones: one package and as many others; the values stand still."""
    root = SCRATCH / f"machine-{channels}"
    for number in range(channels):
        zone = root / "sys/class/powercap" / f"intel-rapl:{number}"
        zone.mkdir(parents=True, exist_ok=True)
        (zone / "name").write_text(f"package-{number}\n")
        (zone / "energy_uj").write_text("123456789\n")
        (zone / "max_energy_range_uj").write_text("262143328850\n")
    (root / "proc").mkdir(exist_ok=True)
    for name in ("stat", "cpuinfo", "meminfo"):
        shutil.copy(f"/proc/{name}", root / "proc" / name)
    return root


# --- the rows ---------------------------------------------------------------------------------------


def start_up() -> Iterator[Row]:
    peaks = []

    def ours() -> float:
        spent = cost([*EMT, "run", "-q", "--", "true"])
        peaks.append(spent.peak_mb)
        return spent.cpu_s

    passing = [sys.executable, "-c", "pass"]
    emt, bare, typer = alternating(
        15,
        ours,
        lambda: cost(passing).cpu_s,
        lambda: cost([sys.executable, "-c", "import typer"]).cpu_s,
    )
    found = f"{ratio(emt, bare):.1f} times (typer alone {ratio(typer, bare):.1f})"
    yield Row("emt run -q -- true: CPU time against python -c pass", "<= 11 times", found)
    yield Row("its peak memory", "<= 40 MB", f"{max(peaks):.0f} MB")


def sampling() -> Iterator[Row]:
    budgets = {(12, 10): 0.3, (12, 100): 3.0, (12, 1000): 10.0, (6, 1000): 5.0}
    for (channels, hertz), budget in budgets.items():
        prefix = [sys.executable, "-c", ON_FILES, str(plain_machine(channels))]
        run = record("-F", str(hertz), "--", "sleep", "20", prefix=prefix)
        share = 100 * run["sampling"]["own_cpu_s"] / run["duration_s"]
        yield Row(f"{channels} channels at {hertz} Hz, of one core", f"<= {budget:g} %", f"{share:.2f} %")
        if hertz == 1000:
            reached = 100 * run["sampling"]["ticks"] / (hertz * run["duration_s"])
            yield Row(f"... and 1 kHz was reached ({channels} channels)", ">= 98 %", f"{reached:.1f} %")


def slowdown() -> Iterator[Row]:
    storm = (
        "import subprocess,time; t=time.monotonic()\n"
        "for _ in range(1000): subprocess.call(['/bin/true'])\nprint(time.monotonic()-t)"
    )
    spin = "import time; t=time.process_time()\nfor _ in range(9_000_000): pass\nprint(time.process_time()-t)"
    for name, script, budget in (("fork storm", storm, 2.0), ("CPU-bound work", spin, 0.5)):

        def told(prefix: list[str], script: str = script) -> float:
            words = [*prefix, sys.executable, "-c", script]
            return float(subprocess.run(words, capture_output=True, env=environment(), check=True).stdout)

        emt = [*EMT, "run", "-q", "--no-store"]
        prefixes = [[*emt, "--"], [*emt, "--no-perf", "--"], [], []]
        if shutil.which("perf"):
            prefixes.append(["perf", "stat"])
        results = alternating(9, *(lambda words=words, told=told: told(words) for words in prefixes))
        slower = [100 * (ratio(each, results[2]) - 1) for each in results]
        found = f"{slower[0]:+.1f} %, --no-perf {slower[1]:+.1f} %, bare against bare {slower[3]:+.1f} %"
        found += f", perf stat {slower[4]:+.1f} %" if len(slower) > 4 else ""
        yield Row(f"the child's own speed: {name}", f"<= {budget:g} % slower", found)


def large_tree() -> Iterator[Row]:
    script = "import subprocess; [p.wait() for p in [subprocess.Popen(['sleep', '8']) for _ in range(1000)]]"
    run = record("--", sys.executable, "-c", script)
    idle = record("--", "sleep", "8")
    extra = (run["sampling"]["own_cpu_s"] / run["duration_s"]) * 100
    base = (idle["sampling"]["own_cpu_s"] / idle["duration_s"]) * 100
    seen = run["cpu_time"]["processes_seen"]
    yield Row(
        f"a tree of {seen} processes at 10 Hz, of one core", "<= 2 %", f"{extra:.2f} % ({base:.2f} % alone)"
    )
    strangers = [subprocess.Popen(["sleep", "60"]) for _ in range(1000)]
    crowded = record("--", "sleep", "8")
    for stranger in strangers:
        stranger.kill()
        stranger.wait()
    found = f"{100 * crowded['sampling']['own_cpu_s'] / crowded['duration_s']:.2f} % ({base:.2f} % without)"
    yield Row("a tree of one beside 1,000 other processes", "the same", found)


def coverage() -> Iterator[Row]:
    from tests.tree.shapes import Stage

    stage = Stage(SCRATCH)
    shapes = {
        "spin": ("b1000", ">= 99 %"),
        "loop of tiny children": ("250<[b1]w>", ">= 99 %"),
        "parallel jobs": ("4(b250)w", ">= 99 %"),
        "double fork": ("{b1000}u2", ">= 99 %"),
        "SIGCHLD ignored": ("i4(b250)w", ">= 99 % with perf"),
    }
    for name, (script, budget) in shapes.items():
        found = []
        for label, options in (("with perf", ()), ("without", ("--no-perf",))):
            run = stage.measure(script, *options, environment=environment())
            claimed = "" if run.cpu["coverage"] is not None else ", no coverage claimed"
            found.append(f"{label} {100 * run.coverage:.1f} % ({run.cpu['winner']}{claimed})")
        yield Row(f"CPU time seen: {name}", budget, "; ".join(found))


def same_joules() -> Iterator[Row]:
    from tests.simulation import SimulatedMachine, Zone, constant

    errors = []
    for hertz, seconds in ((0.1, 3), (1, 3), (10, 3), (100, 3), (1000, 3), (10, 10), (10, 0.3)):
        root = SCRATCH / f"simulated-{hertz}-{seconds}"
        SimulatedMachine(root, zones=[Zone(power=constant(50.0))])
        prefix = [sys.executable, "-m", "tests.simulated_emt", str(root)]
        run = record("-F", str(hertz), "--", "sleep", str(seconds), prefix=prefix)
        package = next(row for row in run["energy"]["channels"] if row["id"] == "cpu0/package")
        error = 100 * (package["machine_j"] / (50.0 * run["duration_s"]) - 1)
        errors.append((hertz, seconds, error))
    found = ", ".join(f"{hertz:g} Hz {error:+.3f} %" for hertz, seconds, error in errors if seconds == 3)
    yield Row("the same work at five frequencies: joules against truth", "within 0.5 %", found)
    for hertz, seconds, error in errors[-2:]:
        budget = "<= 0.5 %" if seconds == 10 else "<= 2 %"
        yield Row(f"counter energy over {seconds:g} s at {hertz:g} Hz", budget, f"{error:+.3f} %")


def memory() -> Iterator[Row]:
    peaks = {}
    for seconds in (5, 40):
        prefix = [sys.executable, "-c", ON_FILES, str(plain_machine(12))]
        run = record("-F", "1000", "--max-samples", "5000", "--", "sleep", str(seconds), prefix=prefix)
        peaks[seconds] = run["sampling"]["peak_memory_bytes"] / 2**20
    found = f"{peaks[5]:.1f} MiB after 5,000 ticks, {peaks[40]:.1f} MiB after 40,000"
    yield Row("memory of emt run", "flat", found)


def long_run(folder: Path, rows: int) -> Path:
    """A finished run with so many samples."""
    from emt_cli.model import Sample
    from emt_cli.store import RunFolder
    from tests.store import examples

    run = examples.finished()
    width = len(run.channels)
    written = RunFolder.create(str(folder), run, limit=2 * rows)
    for start in range(0, rows, 10_000):
        written.append(
            [
                Sample(at / 10, (at * 1.5,) * width, (None,) * width, at / 20, at / 10)
                for at in range(start, start + 10_000)
            ]
        )
    written.finish(run)
    return folder


def many_runs(store: Path, count: int) -> Path:
    """A store of so many finished runs."""
    from dataclasses import replace

    from emt_cli.store import create
    from tests.store import examples

    for at in range(count):
        run = replace(examples.finished(), id=f"20261121-000000-run-{at:05d}", samples=())
        create(str(store), run)[1].finish(run)
    return store


def reading() -> Iterator[Row]:
    report = long_run(SCRATCH / "long", 1_000_000)
    spent = cost([*EMT, "report", str(report)])
    yield Row("emt report of 1,000,000 samples", "<= 2 s", f"{spent.wall_s:.2f} s, {spent.peak_mb:.0f} MB")
    store = many_runs(SCRATCH / "many", 10_000)
    spent = cost([*EMT, "runs"], EMT_STORE=str(store))
    yield Row("emt runs over 10,000 runs", "<= 5 s", f"{spent.wall_s:.2f} s")
    spent = cost([*EMT, "report"], EMT_STORE=str(store))
    yield Row("emt report of the newest of 10,000", "<= 5 s", f"{spent.wall_s:.2f} s")


def perf_stat() -> Iterator[Row]:
    if shutil.which("perf") is None:
        return
    emt, perf, bare = alternating(
        9,
        lambda: cost([*EMT, "run", "-q", "--no-store", "--", "sleep", "0.2"]).wall_s,
        lambda: cost(["perf", "stat", "sleep", "0.2"]).wall_s,
        lambda: cost(["sleep", "0.2"]).wall_s,
    )
    added = [1000 * statistics.median(a - b for a, b in zip(each, bare, strict=True)) for each in (emt, perf)]
    yield Row("time added to sleep 0.2", "-", f"{added[0]:.0f} ms (perf stat {added[1]:.0f} ms)")


def decisions() -> Iterator[Row]:
    """What `emt bench` says of a real pair, and how often it sees a difference where there is none."""
    blob = SCRATCH / "blob"
    blob.write_bytes(b"".join(b"%d of %d\n" % (n * n % 9973, n) for n in range(150_000)))
    commands = [f"gzip -kc {blob}", f"zstd -19 -qc {blob}"] if shutil.which("zstd") else []
    if commands:
        rows = benched("-r", "8", *commands)
        best, worst = sorted(rows, key=lambda row: int(row["place"]))
        low, high = 1 + worst["relative_low"], 1 + worst["relative_high"]
        found = f"{worst['name'].split()[0]} x {1 + worst['relative']:.2f} ({low:.2f} to {high:.2f}) of "
        yield Row("emt bench: gzip against zstd -19", "a ranking", found + best["name"].split()[0])
    pair = [f"gzip -kc {blob}", f"gzip -c -k {blob}"]
    wrong = sum(any(row["verdict"] == "more" for row in benched("-r", "8", *pair)) for _ in range(10))
    yield Row("a pair without a difference, ten times: false verdicts", "<= 5 % of many", f"{wrong} of 10")


def benched(*words: str) -> list[dict[str, Any]]:
    """The rows of `emt bench`."""
    done = subprocess.run(
        [*EMT, "bench", "--format", "json", *words],
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment(),
    )
    return list(json.loads(done.stdout)["commands"])


ROWS: tuple[Callable[[], Iterator[Row]], ...] = (
    start_up,
    sampling,
    slowdown,
    large_tree,
    coverage,
    same_joules,
    memory,
    reading,
    perf_stat,
    decisions,
)


def main() -> None:
    wanted = sys.argv[1:] or [each.__name__ for each in ROWS]
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    print("| what | budget | found |\n|---|---|---|")
    for each in ROWS:
        if each.__name__ in wanted:
            for row in each():
                print(f"| {row.what} | {row.budget} | {row.found} |", flush=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="emt-benchmarks-") as folder:
        SCRATCH = Path(folder)
        main()
