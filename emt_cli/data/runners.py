"""Whose CI runner is this, and what does it draw: from the environment to rows of ci_runner.csv.

Apart from `clouds`, since a runner is known by what its service says of itself, not by its hardware: the
clouds that such runners live in hide the kind of machine. A published curve holds for one size of one
processor, so both must fit; a runner's own processor is never guessed from its service.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from emt_cli import data
from emt_cli.data.cpu_power import CpuPower
from emt_cli.data.processors import Processor


class Runner(NamedTuple):
    """A machine of a CI service's own fleet. `service` is empty on every other machine, self-hosted runners
    included: about those, their service knows nothing."""

    service: str = ""
    name: str = ""


def read_runner(environ: Mapping[str, str]) -> Runner:
    """Which service's hosted runner this is, by the variables that the services document.

    GitHub: RUNNER_ENVIRONMENT, before 2023 only ImageOS; `act`, which plays GitHub on a desk, sets ACT.
    GitLab: the runner's tags or description name the machine type (`saas-linux-small-amd64`). Azure
    Pipelines: Microsoft's agents are called `Azure Pipelines 2` or `Hosted Agent`.
    """
    if environ.get("GITHUB_ACTIONS") == "true" and not environ.get("ACT"):
        hosted = environ.get("RUNNER_ENVIRONMENT") or ("github-hosted" if environ.get("ImageOS") else "")
        return Runner("github", "GitHub-hosted runner") if hosted == "github-hosted" else Runner()
    if environ.get("GITLAB_CI") and environ.get("CI_SERVER_HOST") == "gitlab.com":
        words = environ.get("CI_RUNNER_TAGS", "") + environ.get("CI_RUNNER_DESCRIPTION", "")
        return Runner("gitlab", "GitLab-hosted runner") if "saas-linux-" in words else Runner()
    if environ.get("TF_BUILD") and environ.get("AGENT_NAME", "").startswith(
        ("Azure Pipelines", "Hosted Agent")
    ):
        return Runner("azure", "Microsoft-hosted agent")
    return Runner()


def runner_power(runner: Runner, processor: Processor, cpus: int) -> CpuPower | None:
    """What a hosted runner of so many vCPUs draws by its service's published curve; None where there is
    none for this size of this processor, or where this is no guest."""
    if not runner.service or not processor.is_guest:
        return None
    row = data.find("ci_runner", f"{runner.service} {processor.key} {cpus}")
    if row is None:
        return None
    watts = [float(word) for word in row["watts"].split()]
    idle_w, full_w = watts[0], watts[-1]
    return CpuPower(
        idle_w=idle_w,
        full_w=full_w,
        includes_memory=True,
        source=row["source"],
        note=f"{row['name']}, {cpus} vCPU: curve by Eco CI, {idle_w:.3g} W idle to {full_w:.3g} W at full "
        "load; a share of the whole server's power, with memory, board, fans and power supply, as if its "
        "other guests were as busy",
        curve=tuple((each - idle_w) / (full_w - idle_w) for each in watts[1:-1]),
    )
