# Written by avf-aidl: change the .aidl file and run it again.
# Source: android/system/virtualizationservice_internal/IGlobalVmContext.aidl

"""For asyncio: AIDL interface android.system.virtualizationservice_internal.IGlobalVmContext."""

from __future__ import annotations

from abc import abstractmethod

from avf.binder import AsyncInterface

from ._IGlobalVmContext import IGlobalVmContext

__all__ = ["IGlobalVmContextAsync"]


class IGlobalVmContextAsync(AsyncInterface[IGlobalVmContext]):
    """What one VM has that is unique on its host. The CID is reserved while the object lives."""

    @abstractmethod
    async def get_cid(self) -> int:
        """The VM's CID: from 2048 on, unique on the host."""
        raise NotImplementedError

    @abstractmethod
    async def get_temporary_directory(self) -> str:
        """The absolute path of the VM's own directory, which goes when this object does."""
        raise NotImplementedError
