"""How long a guest may take to start its payload."""

import os

from avf.vmm import Vmm, VmmUnavailable

HARDWARE_SECONDS = 30.0
EMULATED_SECONDS = 300.0


def boot_timeout(vmm: Vmm, kernel: int | None) -> float:
    """Seconds; `$AVF_BOOT_TIMEOUT` if set (a positive number), else by what runs a guest with that kernel."""
    chosen = os.environ.get("AVF_BOOT_TIMEOUT", "")
    try:
        seconds = float(chosen)
    except ValueError:
        seconds = 0
    if seconds > 0:
        return seconds
    try:
        emulated = vmm.emulates(kernel)
    except VmmUnavailable:
        return EMULATED_SECONDS
    return EMULATED_SECONDS if emulated else HARDWARE_SECONDS
