# Written by avf-aidl: change the .aidl file and run it again.
# Source: android/system/virtualizationservice/IVirtualMachine.aidl

"""AIDL interface android.system.virtualizationservice.IVirtualMachine."""

from __future__ import annotations

from abc import abstractmethod

from avf.binder import IBinder, Interface, ParcelFileDescriptor, method

__all__ = ["IVirtualMachine"]


class IVirtualMachine(Interface, descriptor="android.system.virtualizationservice.IVirtualMachine"):
    """One VM. Who holds the last reference and lets go of it kills the VM."""

    @method(1)
    @abstractmethod
    def get_cid(self) -> int:
        """The CID under which the guest is reached over vsock."""
        raise NotImplementedError

    @method(2)
    @abstractmethod
    def get_state(self) -> VirtualMachineState:
        """How far the VM's life has come."""
        raise NotImplementedError

    @method(3)
    @abstractmethod
    def register_callback(self, callback: IVirtualMachineCallback) -> None:
        """Adds to whom is told; past events are not told again."""
        raise NotImplementedError

    @method(4)
    @abstractmethod
    def start(self) -> None:
        """Starts the VM; returns when the VMM runs. Service-specific error -1 if it was started before."""
        raise NotImplementedError

    @method(5)
    @abstractmethod
    def stop(self) -> None:
        """Kills the VM; returns when all of it is gone. Service-specific error -1 if it is not running."""
        raise NotImplementedError

    @method(6)
    @abstractmethod
    def on_trim_memory(self, level: MemoryTrimLevel) -> None:
        """Takes memory back from the guest by the balloon."""
        raise NotImplementedError

    @method(7)
    @abstractmethod
    def connect_vsock(self, port: int) -> ParcelFileDescriptor:
        """A stream to `port` (unsigned 32 bit, from 1024 on) of the running guest."""
        raise NotImplementedError

    @method(0x00A00001)
    @abstractmethod
    def get_control(self) -> IBinder:
        """Not in the original: the org.avf.linux.control.IVmControl of this VM."""
        raise NotImplementedError


from ._IVirtualMachineCallback import IVirtualMachineCallback  # noqa: E402
from ._MemoryTrimLevel import MemoryTrimLevel  # noqa: E402
from ._VirtualMachineState import VirtualMachineState  # noqa: E402
