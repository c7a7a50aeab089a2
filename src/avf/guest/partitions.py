"""Finds the guest's partitions by their GPT labels, as the kernel names them in sysfs."""

import os
import time

from avf.guest.errors import GuestError
from avf.guest.files import read_text

BLOCK_CLASS = "/sys/class/block"
TIMEOUT = 10.0
_POLL = 0.005
_LABEL = "PARTNAME="

_known: dict[str, str | None] = {}
"""By uevent file."""


def labels(block_class: str = BLOCK_CLASS) -> dict[str, str]:
    """Partition label -> device name (`vda3`). Of two partitions with one label the first by name counts."""
    found: dict[str, str] = {}
    for name in sorted(os.listdir(block_class)):
        label = _label(f"{block_class}/{name}/uevent")
        if label is not None:
            found.setdefault(label, name)
    return found


def wait_for(label: str, timeout: float = TIMEOUT) -> str:
    """The device (`/dev/vda3`) of the partition called `label`, which may still be on its way. Raises GuestError."""
    deadline = time.monotonic() + timeout
    while True:
        name = labels().get(label)
        if name is not None:
            return f"/dev/{name}"
        if time.monotonic() >= deadline:
            raise GuestError(f"no partition {label!r} within {timeout:g} s")
        time.sleep(_POLL)


def numbered(prefix: str, known: dict[str, str]) -> list[str]:
    """The labels `PREFIX-N` in the order of N."""
    numbers = [
        int(label[len(prefix) + 1 :])
        for label in known
        if label.startswith(f"{prefix}-") and label[len(prefix) + 1 :].isdecimal()
    ]
    return [f"{prefix}-{number}" for number in sorted(numbers)]


def _label(uevent: str) -> str | None:
    """It is read once: a device keeps its label as long as it is there, and none goes."""
    if uevent not in _known:
        try:
            lines = read_text(uevent).splitlines()
        except OSError:
            return None
        names = [line[len(_LABEL) :] for line in lines if line.startswith(_LABEL)]
        _known[uevent] = names[0] if names else None
    return _known[uevent]
