# Written by avf-aidl: change the .aidl file and run it again.
# Source: android/system/virtualizationservice_internal/IGlobalVmContext.aidl

"""AIDL interface android.system.virtualizationservice_internal.IGlobalVmContext."""

from __future__ import annotations

from abc import abstractmethod

from avf.binder import Interface, method

__all__ = ["IGlobalVmContext"]


class IGlobalVmContext(
    Interface, descriptor="android.system.virtualizationservice_internal.IGlobalVmContext"
):
    """What one VM has that is unique on its host. The CID is reserved while the object lives."""

    @method(1)
    @abstractmethod
    def get_cid(self) -> int:
        """The VM's CID: from 2048 on, unique on the host."""
        raise NotImplementedError

    @method(2)
    @abstractmethod
    def get_temporary_directory(self) -> str:
        """The absolute path of the VM's own directory, which goes when this object does."""
        raise NotImplementedError
