# Written by avf-aidl: change the .aidl file and run it again.
# Source: android/system/virtualizationservice/IVirtualizationService.aidl

"""For asyncio: AIDL interface android.system.virtualizationservice.IVirtualizationService.

What a client asks of virtmgr.
"""

from __future__ import annotations

from abc import abstractmethod

from avf.binder import AsyncInterface, Long, ParcelFileDescriptor

from ._IVirtualizationService import IVirtualizationService

__all__ = ["IVirtualizationServiceAsync"]


class IVirtualizationServiceAsync(AsyncInterface[IVirtualizationService]):
    """The root object of virtmgr."""

    @abstractmethod
    async def create_vm(
        self,
        config: VirtualMachineConfig,
        console_fd: ParcelFileDescriptor | None,
        os_log_fd: ParcelFileDescriptor | None,
    ) -> IVirtualMachine:
        """Makes a VM without starting it."""
        raise NotImplementedError

    @abstractmethod
    async def initialize_writable_partition(
        self, image_fd: ParcelFileDescriptor, size_bytes: Long, type: PartitionType
    ) -> None:
        """Makes `image_fd` a partition image of at least `size_bytes`. It must be empty, or such an image: that is
        gone then.
        """
        raise NotImplementedError

    @abstractmethod
    async def create_or_update_idsig_file(
        self, input_fd: ParcelFileDescriptor, idsig_fd: ParcelFileDescriptor
    ) -> None:
        """Brings the idsig (APK Signature Scheme v4) of an APK up to date. `idsig_fd` must be empty, or an idsig."""
        raise NotImplementedError

    @abstractmethod
    async def debug_list_vms(self) -> list[VirtualMachineDebugInfo]:
        """The VMs of all clients on this host."""
        raise NotImplementedError

    @abstractmethod
    async def create_vm_with_input(
        self,
        config: VirtualMachineConfig,
        console_out_fd: ParcelFileDescriptor | None,
        console_in_fd: ParcelFileDescriptor | None,
        os_log_fd: ParcelFileDescriptor | None,
    ) -> IVirtualMachine:
        """Not in the original of 2023; create_vm of 2024, under another code so that create_vm keeps its form. What
        can be read from `console_in_fd` is typed into the guest's console.
        """
        raise NotImplementedError

    @abstractmethod
    async def forget_instance(self, instance_image: ParcelFileDescriptor) -> None:
        """Not in the original. Has the host forget the instance whose image this is: an old copy of it is taken from
        then on. For an instance that is deleted, or is meant to go back. Nothing if the host knows nothing of it.
        """
        raise NotImplementedError

    @abstractmethod
    async def create_vm_with_invocation(
        self,
        config: VirtualMachineConfig,
        console_out_fd: ParcelFileDescriptor | None,
        console_in_fd: ParcelFileDescriptor | None,
        os_log_fd: ParcelFileDescriptor | None,
        invocation: PayloadInvocation,
    ) -> IVirtualMachine:
        """Not in the original. As create_vm_with_input, for an app config: the payload is called with these
        arguments and variables. ILLEGAL_ARGUMENT for more than a payload gets, and for variables that only a
        debuggable VM takes.
        """
        raise NotImplementedError

    @abstractmethod
    async def keep_clones_waiting(self, request: PoolRequest) -> None:
        """Not in the original. Keeps clones of booted guests waiting, which this client's next VMs begin as. Returns
        at once. What the clones are like follows the VMs that are created. ILLEGAL_ARGUMENT for more than can wait.
        """
        raise NotImplementedError

    @abstractmethod
    async def get_pool_status(self) -> PoolStatus:
        """Not in the original."""
        raise NotImplementedError


from avf.aidl.vm_control import PayloadInvocation, PoolRequest, PoolStatus  # noqa: E402

from ._IVirtualMachine import IVirtualMachine  # noqa: E402
from ._PartitionType import PartitionType  # noqa: E402
from ._VirtualMachineConfig import VirtualMachineConfig  # noqa: E402
from ._VirtualMachineDebugInfo import VirtualMachineDebugInfo  # noqa: E402
