"""Which cloud's machine is this, and of which kind: from what the hypervisor writes into the DMI tables.

Apart from `processors` because it is another source: where a hypervisor hides its processor, or an Arm
core's number is shared by several makers' chips, the name of the instance tells more. Rows of
cloud_instance.csv; no question is ever sent to a metadata service.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

Read = Callable[[str], str]

_DMI = "/sys/class/dmi/id/"
_AZURE_TAG = "7783-7084-3265-9085-8269-3286-77"
"""The chassis asset tag of every Azure machine; plain Hyper-V has another (cloud-init's ds-identify)."""
_VENDORS = {"Amazon EC2": "aws", "Google": "gcp", "Alibaba Cloud": "alibaba"}
_WITHOUT_INFLUENCE = "bdn"
"""Letters at the end of an EC2 family that tell of disks and network, not of the processor: `m5dn`."""


class Instance(NamedTuple):
    """A cloud's machine. `kind` is the provider's own name of it (`m5.xlarge`), empty where it is hidden."""

    provider: str = ""
    kind: str = ""

    def keys(self, signature: tuple[str, ...]) -> list[str]:
        """Keys of cloud_instance.csv, the most exact first: the family, then an Arm core there."""
        family = self.kind.partition(".")[0].partition("-")[0]
        words = [family, family.rstrip(_WITHOUT_INFLUENCE)] if family else []
        words += [number for number in signature if number.startswith("arm ")]
        return [f"{self.provider} {word}" for word in words] if self.provider else []


def read_instance(read: Read) -> Instance:
    """What DMI tells; an empty one where there is no DMI, or no cloud that is known here.

    `read` gives the stripped text of a file or raises OSError. Rights: none, these files are readable by
    everybody. EC2 of the Nitro generations names the type; its older Xen machines and Google hide it.
    """
    vendor = _text(read, "sys_vendor")
    provider = _VENDORS.get(vendor, "")
    if provider == "aws":
        kind = _text(read, "product_name")
        return Instance(provider, kind if "." in kind and " " not in kind else "")
    if vendor == "Xen" and "amazon" in _text(read, "bios_version"):
        return Instance("aws")
    if vendor == "Microsoft Corporation" and _text(read, "chassis_asset_tag") == _AZURE_TAG:
        return Instance("azure")
    return Instance(provider)


def _text(read: Read, name: str) -> str:
    try:
        return read(_DMI + name)
    except OSError:
        return ""
