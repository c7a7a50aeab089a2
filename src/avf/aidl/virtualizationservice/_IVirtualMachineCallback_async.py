# Written by avf-aidl: change the .aidl file and run it again.
# Source: android/system/virtualizationservice/IVirtualMachineCallback.aidl

"""For asyncio: AIDL interface android.system.virtualizationservice.IVirtualMachineCallback."""

from __future__ import annotations

from abc import abstractmethod

from avf.binder import AsyncInterface

from ._IVirtualMachineCallback import IVirtualMachineCallback

__all__ = ["IVirtualMachineCallbackAsync"]


class IVirtualMachineCallbackAsync(AsyncInterface[IVirtualMachineCallback]):
    """Told of what happens to one VM; every method is oneway."""

    @abstractmethod
    async def on_payload_started(self, cid: int) -> None:
        """The guest has verified the payload and starts it."""
        raise NotImplementedError

    @abstractmethod
    async def on_payload_ready(self, cid: int) -> None:
        """The payload has said that it is ready to be used."""
        raise NotImplementedError

    @abstractmethod
    async def on_payload_finished(self, cid: int, exit_code: int) -> None:
        """The payload has ended with this exit code: 0 to 255."""
        raise NotImplementedError

    @abstractmethod
    async def on_error(self, cid: int, error_code: ErrorCode, message: str) -> None:
        """The guest could not run the payload, or a signal ended it. `message` is text of the guest: at most 4096
        characters.
        """
        raise NotImplementedError

    @abstractmethod
    async def on_died(self, cid: int, reason: DeathReason) -> None:
        """The VM has ended. No other call follows."""
        raise NotImplementedError


from avf.aidl.virtualizationcommon import DeathReason, ErrorCode  # noqa: E402
