"""The sandbox of a crosvm process."""

from pathlib import Path

from avf.confine import Box, Filter, needs_of, remembered
from avf.vmm.base import VmSpec
from avf.vmm.box import limits_for, virtual_sizes
from avf.vmm.crosvm.command import Inputs

_DEVICES = ("/dev/null", "/dev/urandom", "/dev/kvm")
_VHOST = "/dev/vhost-vsock"
_DEFAULT_MEMORY_MIB = 256
_SPARE_DESCRIPTORS = 512
_DESCRIPTORS_OF_A_DISK = 32
"""A device of crosvm's has events, pipes and threads of its own."""


def crosvm_box(program: str, spec: VmSpec, inputs: Inputs, firmware: str | None) -> Box:
    """Its libraries, its devices, and /proc, since it opens all it is given by its name there.

    For the same reason it has to stay root where root starts it. Raises ConfinementError, DiskError or OSError.
    """
    readable = remembered(program, lambda: needs_of(program))
    if firmware is not None:
        readable = (*readable, Path(firmware))
    names = _DEVICES if inputs.vsock is not None else (*_DEVICES, _VHOST)
    return Box(
        Filter.OPEN,
        limits_for(
            inputs.fds,
            [(spec.memory_mib or _DEFAULT_MEMORY_MIB) << 20, *virtual_sizes(spec.disks)],
            spare_descriptors=_SPARE_DESCRIPTORS + _DESCRIPTORS_OF_A_DISK * len(inputs.disks),
        ),
        readable,
        devices=tuple(Path(name) for name in names if Path(name).exists()),
        proc=True,
    )
