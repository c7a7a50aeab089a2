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


def warm_starts(vmm: Vmm, kernel: int | None) -> bool:
    """Whether VMs that boot the kernel at that descriptor may begin as clones: as `$AVF_WARM` says, else those that are
    emulated. Raises SettingError or VmmUnavailable.
    """
    chosen = settings.warm()
    return vmm.emulates(kernel) if chosen is None else chosen == "on"
