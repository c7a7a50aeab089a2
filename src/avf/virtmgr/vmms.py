"""Which VMM runs this client's VMs, and whether they may begin as clones."""

from avf import settings
from avf.vmm import Crosvm, Qemu, Vmm


def choose_vmm() -> Vmm:
    """The one that `$AVF_VMM` names, QEMU if unset. Raises SettingError."""
    return Crosvm() if settings.vmm() == "crosvm" else Qemu()


def warm_starts() -> bool:
    """Whether `$AVF_WARM` is on. Raises SettingError."""
    return settings.warm() == "on"
