"""Facts about the machine and the job that make two runs comparable. Nothing here takes part in a number,
except the CPUs that are reserved for the job.

Kernel files are read by the function that is passed in (`read(path)` gives the stripped text or raises
OSError), so that a simulated machine can stand behind it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping

from emt_cli import __version__
from emt_cli.model import Host, Job
from emt_cli.proc_stat import counted_cpus

Read = Callable[[str], str]

_SCHEDULERS = (
    ("slurm", "SLURM_JOB_ID", "SLURMD_NODENAME", "SLURM_PROCID", "SLURM_STEP_ID", "SLURM_ARRAY_TASK_ID"),
    ("pbs", "PBS_JOBID", "PBS_NODENUM", "PMI_RANK", "", "PBS_ARRAY_INDEX"),
    ("lsf", "LSB_JOBID", "LSB_HOSTS", "LSF_PM_TASKID", "", "LSB_JOBINDEX"),
    ("flux", "FLUX_JOB_ID", "", "FLUX_TASK_RANK", "", ""),
)
_SERVICES = (
    ("github", "GITHUB_ACTIONS", "GITHUB_RUN_ID", "GITHUB_JOB"),
    ("gitlab", "GITLAB_CI", "CI_JOB_ID", "CI_JOB_NAME"),
    ("azure", "TF_BUILD", "BUILD_BUILDID", "AGENT_JOBNAME"),
    ("circleci", "CIRCLECI", "CIRCLE_BUILD_NUM", "CIRCLE_JOB"),
    ("bitbucket", "BITBUCKET_BUILD_NUMBER", "BITBUCKET_BUILD_NUMBER", ""),
    ("travis", "TRAVIS", "TRAVIS_JOB_ID", "TRAVIS_JOB_NAME"),
    ("buildkite", "BUILDKITE", "BUILDKITE_JOB_ID", "BUILDKITE_LABEL"),
    ("jenkins", "JENKINS_URL", "BUILD_TAG", "STAGE_NAME"),
)
"""CI services: the variable that tells them, the job's number and its name."""
_RANKS = ("OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "MPI_LOCALRANKID")


def facts(read: Read, environ: Mapping[str, str]) -> Host:
    """What there is to know without asking anybody; a fact that cannot be read is empty."""
    node, system, release, architecture = _system()
    processor = _processor(read)
    return Host(
        node=node,
        os=_pretty_name(read) or system,
        kernel=release,
        architecture=architecture,
        cpu_model=processor.get("model name") or processor.get("cpu model") or processor.get("hardware", ""),
        cpu_count=_cpus(read),
        cpu_packages=_packages(read),
        memory_bytes=_memory(read),
        hypervisor=_hypervisor(read, processor),
        container=_container(read, environ),
        pid_namespace=_pid_namespace(),
        governor=_text(read, "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        boot_id=_text(read, "/proc/sys/kernel/random/boot_id"),
        timezone=timezone(environ),
        python=".".join(map(str, sys.version_info[:3])),
        emt_version=__version__,
    )


def _system() -> tuple[str, str, str, str]:
    """Node, name, release and architecture of the system that runs here."""
    if hasattr(os, "uname"):
        here = os.uname()
        return here.nodename, here.sysname, here.release, here.machine
    import platform

    told = platform.uname()
    return told.node, told.system, told.release, told.machine


def timezone(environ: Mapping[str, str]) -> str:
    """The IANA name of the local time zone; empty where the machine does not say."""
    if name := environ.get("TZ", "").lstrip(":"):
        return name.partition("zoneinfo/")[2] or name
    try:
        with open("/etc/timezone", encoding="utf-8") as file:
            if name := file.readline().strip():
                return name
    except (OSError, UnicodeDecodeError):
        pass
    try:
        return os.readlink("/etc/localtime").partition("zoneinfo/")[2]
    except OSError:
        return ""


def job(environ: Mapping[str, str]) -> Job | None:
    """The batch job, or else the CI job, that this process is part of, from its environment alone."""
    ranks = [environ[name] for name in _RANKS if environ.get(name)]
    for scheduler, job_id, node, rank, step, task in _SCHEDULERS:
        if environ.get(job_id):
            number = environ.get(rank) or next(iter(ranks), "")
            return Job(
                scheduler=scheduler,
                id=environ[job_id],
                node=environ.get(node, ""),
                rank=_whole(number),
                step=environ.get(step, ""),
                task=environ.get(task, ""),
            )
    for service, mark, job_id, step in _SERVICES:
        if environ.get(mark) and environ.get(job_id):
            return Job(scheduler=service, id=environ[job_id], step=environ.get(step, ""))
    return None


def _whole(text: str) -> int | None:
    """A number of a variable, which may hold anything."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 9 else None


def reserved_cpus(read: Read, environ: Mapping[str, str], cpus: int) -> float | None:
    """CPUs that belong to this job alone, by Slurm, a cpuset or a CPU quota; None: nothing is reserved."""
    found = [float(max(1, cpus))]
    if environ.get("SLURM_JOB_ID") and (granted := _whole(environ.get("SLURM_CPUS_ON_NODE", ""))) is not None:
        found.append(float(granted))
    for path in _own_cgroups(read):
        found.extend(_limits(read, path))
    for path in _own_cgroups_v1(read, "cpu"):
        found.extend(_quota_v1(read, path))
    for path in _own_cgroups_v1(read, "cpuset"):
        found.append(float(_count(_text(read, f"{path}/cpuset.cpus"))))
    least = min(each for each in found if each > 0)
    return least if least < cpus else None


def _own_cgroups(read: Read) -> list[str]:
    """The folders, under /sys/fs/cgroup, of this process' cgroup v2 and of all that contain it."""
    for line in _text(read, "/proc/self/cgroup").splitlines():
        if line.startswith("0::/"):
            return _with_parents("/sys/fs/cgroup", line[4:])
    return []


def _own_cgroups_v1(read: Read, controller: str) -> list[str]:
    """The same for a controller of cgroup v1, each of which has a tree of its own: `4:cpu,cpuacct:/docker/1`.

    In a container the path is mostly the host's, and only the folder at the top is there: its own.
    """
    for line in _text(read, "/proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if controller in names.split(","):
            return _with_parents(f"/sys/fs/cgroup/{names}", path)
    return []


def _with_parents(top: str, path: str) -> list[str]:
    parts = [part for part in path.split("/") if part and part != ".."]
    return ["/".join([top, *parts[:depth]]) for depth in range(len(parts) + 1)]


def _quota_v1(read: Read, folder: str) -> list[float]:
    """The CPUs of a quota; none where it is -1, which means no limit."""
    quota, period = (_text(read, f"{folder}/cpu.cfs_{name}_us") for name in ("quota", "period"))
    return [int(quota) / int(period)] if quota.isdigit() and period.isdigit() and int(period) > 0 else []


def _limits(read: Read, folder: str) -> list[float]:
    found = []
    quota, _, period = _text(read, f"{folder}/cpu.max").partition(" ")
    if quota.isdigit() and period.isdigit() and int(period) > 0:
        found.append(int(quota) / int(period))
    if cpuset := _text(read, f"{folder}/cpuset.cpus"):
        found.append(float(_count(cpuset)))
    return found


def _count(cpuset: str) -> int:
    """How many CPUs `0-3,8` names; 0 where it is no such list."""
    total = 0
    for part in cpuset.split(","):
        first, _, last = part.strip().partition("-")
        if not first.isdigit() or (last and not last.isdigit()):
            return 0
        total += int(last or first) - int(first) + 1
    return total


def _text(read: Read, path: str) -> str:
    try:
        return read(path)
    except OSError:
        return ""


def _processor(read: Read) -> dict[str, str]:
    """The first processor's lines of /proc/cpuinfo."""
    found: dict[str, str] = {}
    for line in _text(read, "/proc/cpuinfo").split("\n\n")[0].splitlines():
        key, _, value = line.partition(":")
        found[key.strip().lower()] = value.strip()
    return found


def _cpus(read: Read) -> int:
    """The CPUs that /proc/stat counts: by those the machine's CPU time, and a share of it, is reckoned."""
    try:
        return counted_cpus(read("/proc/stat"), read)
    except OSError:
        return os.cpu_count() or 1


def _packages(read: Read) -> int:
    folder = "/sys/devices/system/cpu/cpu{}/topology/physical_package_id"
    return max(1, len({_text(read, folder.format(cpu)) for cpu in range(os.cpu_count() or 1)} - {""}))


def _memory(read: Read) -> int | None:
    for line in _text(read, "/proc/meminfo").splitlines():
        if line.startswith("MemTotal:"):
            kibibytes = line.split()[1]
            return int(kibibytes) * 1024 if kibibytes.isdigit() else None
    return None


def _pretty_name(read: Read) -> str:
    for line in _text(read, "/etc/os-release").splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip('"')
    return ""


def _hypervisor(read: Read, processor: Mapping[str, str]) -> str:
    if "microsoft" in _text(read, "/proc/sys/kernel/osrelease").lower():
        return "WSL2"
    if "hypervisor" not in processor.get("flags", "").split():
        return ""
    return _text(read, "/sys/class/dmi/id/sys_vendor") or "virtual machine"


def _pid_namespace() -> str:
    """By the first namespace's inode, which is a constant of the kernel (include/linux/proc_ns.h)."""
    try:
        return "host" if os.readlink("/proc/self/ns/pid") == "pid:[4026531836]" else "own"
    except OSError:
        return ""


def _container(read: Read, environ: Mapping[str, str]) -> str:
    if environ.get("KUBERNETES_SERVICE_HOST"):
        return "kubernetes"
    for name, path in (("docker", "/.dockerenv"), ("podman", "/run/.containerenv")):
        try:
            read(path)
        except FileNotFoundError:
            continue
        except OSError:  # there, and closed to this user
            pass
        return name
    return "apptainer" if environ.get("APPTAINER_CONTAINER") or environ.get("SINGULARITY_CONTAINER") else ""
