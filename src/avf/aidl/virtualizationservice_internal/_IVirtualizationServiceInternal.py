# Written by avf-aidl: change the .aidl file and run it again.
# Source: android/system/virtualizationservice_internal/IVirtualizationServiceInternal.aidl

"""AIDL interface android.system.virtualizationservice_internal.IVirtualizationServiceInternal.

What virtmgr asks of virtualizationservice.
"""

from __future__ import annotations

from abc import abstractmethod

from avf.binder import Interface, Long, method

__all__ = ["IVirtualizationServiceInternal"]


class IVirtualizationServiceInternal(
    Interface,
    descriptor="android.system.virtualizationservice_internal.IVirtualizationServiceInternal",
):
    """The root object of virtualizationservice."""

    @method(1)
    @abstractmethod
    def remove_memlock_rlimit(self) -> None:
        """Lifts RLIMIT_MEMLOCK of the calling process."""
        raise NotImplementedError

    @method(2)
    @abstractmethod
    def allocate_global_vm_context(self, requester_debug_pid: int) -> IGlobalVmContext:
        """Reserves a CID and makes a directory for a VM of the calling uid."""
        raise NotImplementedError

    @method(3)
    @abstractmethod
    def atom_vm_booted(self, atom: AtomVmBooted) -> None:
        """Tells that a VM's payload was started. The service writes it to `atoms.jsonl`."""
        raise NotImplementedError

    @method(4)
    @abstractmethod
    def atom_vm_creation_requested(self, atom: AtomVmCreationRequested) -> None:
        """Tells that a client asked for a VM, and whether it got one."""
        raise NotImplementedError

    @method(5)
    @abstractmethod
    def atom_vm_exited(self, atom: AtomVmExited) -> None:
        """Tells that a VM has ended, with its reason and how long it ran."""
        raise NotImplementedError

    @method(6)
    @abstractmethod
    def debug_list_vms(self) -> list[VirtualMachineDebugInfo]:
        """The VMs of all clients on this host. SECURITY without the DEBUG permission."""
        raise NotImplementedError

    @method(0x00A00001)
    @abstractmethod
    def get_instance_generation(self, instance_id: bytes) -> Long:
        """Not in the original. The highest generation raised for an instance of the calling user, 0 if there was none.

        `instance_id`: 32 bytes. UNSUPPORTED_OPERATION if this service keeps no generations.
        """
        raise NotImplementedError

    @method(0x00A00002)
    @abstractmethod
    def raise_instance_generation(self, instance_id: bytes, generation: Long) -> None:
        """Not in the original. Remembers a generation (from 1 on), on disk, unless a higher one is remembered."""
        raise NotImplementedError

    @method(0x00A00003)
    @abstractmethod
    def forget_instance_generation(self, instance_id: bytes) -> None:
        """Not in the original. Forgets what is remembered of an instance of the calling user, if anything is."""
        raise NotImplementedError

    @method(0x00A00004)
    @abstractmethod
    def is_granted(self, permission: str) -> bool:
        """Not in the original. Whether the calling user has a permission, by its name: android.permission.DUMP.

        ILLEGAL_ARGUMENT for a name that is none.
        """
        raise NotImplementedError


from avf.aidl.virtualizationservice import VirtualMachineDebugInfo  # noqa: E402

from ._AtomVmBooted import AtomVmBooted  # noqa: E402
from ._AtomVmCreationRequested import AtomVmCreationRequested  # noqa: E402
from ._AtomVmExited import AtomVmExited  # noqa: E402
from ._IGlobalVmContext import IGlobalVmContext  # noqa: E402
