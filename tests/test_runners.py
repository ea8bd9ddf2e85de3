"""CI runners: whose they are, what they are taken to draw, and how a run tells its CI job."""

from __future__ import annotations

import pytest

from emt_cli import data, host
from emt_cli.data.processors import Processor, read_cpuinfo
from emt_cli.data.runners import Runner, read_runner, runner_power
from emt_cli.model import Job
from tests import cpuinfo
from tests.cpuinfo import AMD

MILAN = ("AMD EPYC 7763 64-Core Processor", (AMD, 25, 1, 1))
GITHUB = {"GITHUB_ACTIONS": "true", "RUNNER_ENVIRONMENT": "github-hosted"}
GITLAB = {"GITLAB_CI": "true", "CI_SERVER_HOST": "gitlab.com", "CI_RUNNER_TAGS": '["saas-linux-small-amd64"]'}
AZURE = {"TF_BUILD": "True", "AGENT_NAME": "Azure Pipelines 3"}


def milan(*, guest: bool = True) -> Processor:
    return read_cpuinfo(cpuinfo.x86(*MILAN, guest=guest))


# --- whose ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "service"),
    [
        (GITHUB, "github"),
        ({"GITHUB_ACTIONS": "true", "ImageOS": "ubuntu22"}, "github"),
        (GITLAB, "gitlab"),
        (
            {**GITLAB, "CI_RUNNER_TAGS": "", "CI_RUNNER_DESCRIPTION": "1-green.saas-linux-small-amd64.x"},
            "gitlab",
        ),
        (AZURE, "azure"),
    ],
)
def test_a_hosted_runner_is_known_by_its_variables(environ: dict[str, str], service: str) -> None:
    assert read_runner(environ).service == service


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"CI": "true"},
        {"RUNNER_ENVIRONMENT": "github-hosted"},
        {"GITHUB_ACTIONS": "true"},
        {**GITHUB, "RUNNER_ENVIRONMENT": "self-hosted", "ImageOS": "ubuntu22"},
        {**GITHUB, "ACT": "true"},
        {**GITLAB, "CI_SERVER_HOST": "gitlab.acme.example"},
        {**GITLAB, "CI_RUNNER_TAGS": '["docker"]'},
        {**AZURE, "AGENT_NAME": "our-build-box"},
    ],
)
def test_every_other_machine_is_none(environ: dict[str, str]) -> None:
    assert read_runner(environ) == Runner()


# --- what it draws ----------------------------------------------------------------------------------


def test_githubs_runner_follows_its_published_curve() -> None:
    power = runner_power(read_runner(GITHUB), milan(), 4)
    assert power is not None
    assert (round(power.idle_w, 1), round(power.full_w, 1)) == (1.8, 8.2)
    at_40_percent = power.idle_w + power.curve[3] * (power.full_w - power.idle_w)
    assert at_40_percent == pytest.approx(4.66, abs=0.01)
    assert power.note.startswith("GitHub-hosted runner, 4 vCPU: curve by Eco CI")
    assert power.includes_memory


def test_a_curve_is_for_one_size_of_one_processor() -> None:
    runner = read_runner(GITHUB)
    assert runner_power(runner, milan(), 2) is None
    genoa = read_cpuinfo(cpuinfo.x86("AMD EPYC 9V74 80-Core Processor", (AMD, 25, 17, 1), guest=True))
    assert runner_power(runner, genoa, 4) is None
    assert runner_power(read_runner(AZURE), milan(), 4) is None


def test_bare_metal_follows_no_guests_curve() -> None:
    assert runner_power(read_runner(GITHUB), milan(guest=False), 4) is None


def test_curves_rise() -> None:
    for row in data.rows("ci_runner"):
        watts = [float(word) for word in row["watts"].split()]
        assert len(watts) == 11
        assert watts == sorted(watts)
        assert row["key"].endswith(f" {row['vcpus']}")


# --- the job ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        (
            {"GITHUB_ACTIONS": "true", "GITHUB_RUN_ID": "1658821493", "GITHUB_JOB": "tests"},
            Job(scheduler="github", id="1658821493", step="tests"),
        ),
        (
            {"GITLAB_CI": "true", "CI_JOB_ID": "77", "CI_JOB_NAME": "lint"},
            Job(scheduler="gitlab", id="77", step="lint"),
        ),
        ({"TF_BUILD": "True", "BUILD_BUILDID": "12"}, Job(scheduler="azure", id="12")),
        (
            {"CIRCLECI": "true", "CIRCLE_BUILD_NUM": "9", "CIRCLE_JOB": "build"},
            Job(scheduler="circleci", id="9", step="build"),
        ),
        ({"BITBUCKET_BUILD_NUMBER": "4"}, Job(scheduler="bitbucket", id="4")),
        ({"TRAVIS": "true", "TRAVIS_JOB_ID": "5"}, Job(scheduler="travis", id="5")),
        ({"BUILDKITE": "true", "BUILDKITE_JOB_ID": "u-u"}, Job(scheduler="buildkite", id="u-u")),
        (
            {"JENKINS_URL": "https://ci", "BUILD_TAG": "jenkins-app-7", "STAGE_NAME": "Test"},
            Job(scheduler="jenkins", id="jenkins-app-7", step="Test"),
        ),
    ],
)
def test_a_ci_job_is_told(environ: dict[str, str], expected: Job) -> None:
    assert host.job(environ) == expected


def test_a_batch_job_tells_more_than_the_ci_that_sent_it() -> None:
    environ = {"GITLAB_CI": "true", "CI_JOB_ID": "77", "SLURM_JOB_ID": "4711"}
    found = host.job(environ)
    assert found is not None
    assert found.scheduler == "slurm"


def test_a_service_that_tells_no_number_is_no_job() -> None:
    assert host.job({"GITHUB_ACTIONS": "true"}) is None
