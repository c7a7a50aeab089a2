"""Which VMM runs this client's VMs."""

import os

from avf.vmm import Qemu, Vmm


def choose_vmm() -> Vmm:
    """`$AVF_VMM` (qemu), QEMU if unset. Raises ValueError for a name that is not known."""
    name = os.environ.get("AVF_VMM", "qemu")
    if name != "qemu":
        raise ValueError(f"AVF_VMM={name}: no such VMM (there is qemu)")
    return Qemu()
