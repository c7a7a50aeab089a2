"""How long a guest may take to start its payload."""

from avf import settings
from avf.vmm import Vmm, VmmUnavailable

HARDWARE_SECONDS = 30.0
EMULATED_SECONDS = 300.0


def boot_timeout(vmm: Vmm, kernel: int | None) -> float:
    """Seconds; `$AVF_BOOT_TIMEOUT` if set, else by what runs a guest with that kernel. Raises SettingError."""
    if (chosen := settings.boot_timeout()) is not None:
        return chosen
    try:
        emulated = vmm.emulates(kernel)
    except VmmUnavailable:
        return EMULATED_SECONDS
    return EMULATED_SECONDS if emulated else HARDWARE_SECONDS
