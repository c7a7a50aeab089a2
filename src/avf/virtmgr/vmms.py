"""Which VMM runs this client's VMs, and whether they may begin as clones."""

import functools

from avf import settings
from avf.vmm import Qemu, Vmm


def choose_vmm() -> Vmm:
    """The one that `$AVF_VMM` names, QEMU if unset. Raises SettingError."""
    if settings.vmm() == "crosvm":
        from avf.vmm import Crosvm

        return Crosvm()
    return _qemu()


@functools.cache
def _qemu() -> Qemu:
    """One for all VMs, since its clones share memory."""
    return Qemu()


def warm_starts() -> bool:
    """Whether `$AVF_WARM` is on. Raises SettingError."""
    return settings.warm() == "on"
