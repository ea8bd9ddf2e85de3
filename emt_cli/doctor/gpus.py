"""Examinations of GPUs: those on the bus that nothing measures, and what their maker's library lacks."""

from __future__ import annotations

from collections.abc import Iterator

from emt_cli.doctor.facts import Facts
from emt_cli.doctor.findings import Finding, ok

_LIBRARY = "libnvidia-ml.so.1"


def nvidia(facts: Facts) -> Iterator[Finding]:
    """NVIDIA GPUs and the library that reads them (NVML)."""
    cards = [gpu for gpu in facts.gpus if gpu.maker == "nvidia"]
    refusal = next((n for n in facts.judged.notices if n.text.startswith("nvml: ")), None)
    measured = [c for c in facts.judged.channels if c.sensor == "nvml"]
    if refusal is not None:
        yield Finding(code="nvml_refused", state="problem", text=refusal.text, advice=refusal.hint)
    elif measured:
        yield ok("nvml", f"NVIDIA: {', '.join(dict.fromkeys(c.device for c in measured))} read through NVML")
    elif cards or facts.nvidia_version:
        yield _unread(facts, "nvidia" in [card.driver for card in cards] or bool(facts.nvidia_version))


def _unread(facts: Facts, has_driver: bool) -> Finding:
    reason = facts.judged.absent.get("nvml", "")
    if "CUDA_VISIBLE_DEVICES" in reason:
        return Finding(
            code="gpu_hidden", state="note", text=f"NVIDIA GPU not read: {reason}", advice="unset it, or not"
        )
    if facts.container:
        return Finding(
            code="nvml_container",
            state="problem",
            text=f"the host has an NVIDIA GPU and this container ({facts.container}) does not: not measured",
            remedy=("docker run --gpus all IMAGE ...",) if facts.container == "docker" else (),
            advice=_container_advice(facts.container),
        )
    if has_driver:
        return _without_library(facts)
    return Finding(
        code="nvidia_driver",
        state="problem",
        text="there is an NVIDIA GPU without NVIDIA's driver: it is not measured",
        advice="install the driver: sudo ubuntu-drivers install on Ubuntu, the package nvidia-driver on "
        "Debian; then reboot",
        why="The free driver (nouveau) tells no energy.",
    )


def _without_library(facts: Facts) -> Finding:
    major = facts.nvidia_version.partition(".")[0]
    package = f"libnvidia-compute-{major}" if major else "libnvidia-compute-VERSION"
    return Finding(
        code="nvml_missing",
        state="problem",
        text=f"NVIDIA's driver {facts.nvidia_version} is loaded, but its library {_LIBRARY} is not to be "
        "found".replace("  ", " "),
        advice=f"install it in the driver's version: {package} on Ubuntu, libnvidia-ml1 on Debian; "
        "if it lies elsewhere, name its folder in LD_LIBRARY_PATH",
        why="The library reads the GPU's energy; it must be of the same version as the driver.",
    )


def _container_advice(container: str) -> str:
    if container == "kubernetes":
        return "ask for the GPU in the pod: resources: {limits: {nvidia.com/gpu: 1}}"
    if container == "podman":
        return "podman run --device nvidia.com/gpu=all, with the NVIDIA Container Toolkit on the host"
    if container == "apptainer":
        return "apptainer exec --nv"
    return "the host needs the NVIDIA Container Toolkit"


def amd(facts: Facts) -> Iterator[Finding]:
    """AMD GPUs, and whether ROCm's library or the kernel alone reads them."""
    cards = [gpu for gpu in facts.gpus if gpu.maker == "amd"]
    is_refused = any(notice.text.startswith("amd: ") for notice in facts.judged.notices)
    if not cards or is_refused:
        return
    measured = [
        channel
        for channel in facts.judged.channels
        if channel.sensor == "amd" or any(card.address in channel.source for card in cards)
    ]
    if not measured:
        yield Finding(
            code="amd_unread",
            state="problem",
            text="there is an AMD GPU that nothing measures",
            remedy=() if any(card.driver for card in cards) else ("sudo modprobe amdgpu",),
            advice=_devices(facts.container),
        )
    elif not facts.has_rocm:
        yield Finding(
            code="rocm_missing",
            state="note",
            text="AMD GPU read through the kernel (hwmon): ROCm's library libamd_smi.so is not here",
            advice="fine as it is; with ROCm elsewhere than in /opt/rocm, set ROCM_PATH",
        )
    else:
        yield ok("amd_gpu", f"AMD: {', '.join(dict.fromkeys(c.device for c in measured))} can be read")


def _devices(container: str) -> str:
    if container in ("docker", "podman"):
        return f"{container} run --device /dev/kfd --device /dev/dri"
    return "its power stands in /sys/class/hwmon once the driver amdgpu runs; dmesg | grep amdgpu tells more"
