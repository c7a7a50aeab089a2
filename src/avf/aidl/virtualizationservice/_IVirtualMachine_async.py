# Written by avf-aidl: change the .aidl file and run it again.
# Source: android/system/virtualizationservice/IVirtualMachine.aidl

"""For asyncio: AIDL interface android.system.virtualizationservice.IVirtualMachine."""

from __future__ import annotations

from abc import abstractmethod

from avf.binder import AsyncInterface, IBinder, ParcelFileDescriptor

from ._IVirtualMachine import IVirtualMachine

__all__ = ["IVirtualMachineAsync"]


class IVirtualMachineAsync(AsyncInterface[IVirtualMachine]):
    """One VM. Who holds the last reference and lets go of it kills the VM."""

    @abstractmethod
    async def get_cid(self) -> int:
        """The CID under which the guest is reached over vsock."""
        raise NotImplementedError

    @abstractmethod
    async def get_state(self) -> VirtualMachineState:
        """How far the VM's life has come."""
        raise NotImplementedError

    @abstractmethod
    async def register_callback(self, callback: IVirtualMachineCallback) -> None:
        """Adds to whom is told; past events are not told again."""
        raise NotImplementedError

    @abstractmethod
    async def start(self) -> None:
        """Starts the VM; returns when the VMM runs. Service-specific error -1 if it was started before."""
        raise NotImplementedError

    @abstractmethod
    async def stop(self) -> None:
        """Kills the VM; returns when all of it is gone. Service-specific error -1 if it is not running."""
        raise NotImplementedError

    @abstractmethod
    async def on_trim_memory(self, level: MemoryTrimLevel) -> None:
        """Takes memory back from the guest by the balloon."""
        raise NotImplementedError

    @abstractmethod
    async def connect_vsock(self, port: int) -> ParcelFileDescriptor:
        """A stream to `port` (unsigned 32 bit, from 1024 on) of the running guest."""
        raise NotImplementedError

    @abstractmethod
    async def get_control(self) -> IBinder:
        """Not in the original: the org.avf.linux.control.IVmControl of this VM."""
        raise NotImplementedError


from ._IVirtualMachineCallback import IVirtualMachineCallback  # noqa: E402
from ._MemoryTrimLevel import MemoryTrimLevel  # noqa: E402
from ._VirtualMachineState import VirtualMachineState  # noqa: E402
