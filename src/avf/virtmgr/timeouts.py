"""How long a guest may take to start its payload."""

import os

from avf.vmm import Accelerator, VmmUnavailable, find_qemu, probe_accelerator

HARDWARE_SECONDS = 30.0
EMULATED_SECONDS = 300.0


def boot_timeout() -> float:
    """Seconds; `$AVF_BOOT_TIMEOUT` if set (a positive number), else by what runs the guest."""
    chosen = os.environ.get("AVF_BOOT_TIMEOUT", "")
    try:
        seconds = float(chosen)
    except ValueError:
        seconds = 0
    if seconds > 0:
        return seconds
    try:
        accelerator = probe_accelerator(find_qemu())
    except VmmUnavailable:
        return EMULATED_SECONDS
    return HARDWARE_SECONDS if accelerator is Accelerator.KVM else EMULATED_SECONDS
