"""Which VMM runs this client's VMs."""

import os

from avf.vmm import Crosvm, Qemu, Vmm


def choose_vmm() -> Vmm:
    """`$AVF_VMM` (qemu, crosvm), QEMU if unset. Raises ValueError for a name that is not known."""
    match os.environ.get("AVF_VMM", "qemu"):
        case "qemu":
            return Qemu()
        case "crosvm":
            return Crosvm()
        case name:
            raise ValueError(f"AVF_VMM={name}: no such VMM (there are qemu and crosvm)")
