# Written by avf-aidl: change the .aidl files and run it again.

"""AIDL package android.system.virtualizationservice."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._CpuTopology import CpuTopology
    from ._DiskImage import DiskImage
    from ._IVirtualizationService import IVirtualizationService
    from ._IVirtualizationService_async import IVirtualizationServiceAsync
    from ._IVirtualMachine import IVirtualMachine
    from ._IVirtualMachine_async import IVirtualMachineAsync
    from ._IVirtualMachineCallback import IVirtualMachineCallback
    from ._IVirtualMachineCallback_async import IVirtualMachineCallbackAsync
    from ._MemoryTrimLevel import MemoryTrimLevel
    from ._Partition import Partition
    from ._PartitionType import PartitionType
    from ._VirtualMachineAppConfig import VirtualMachineAppConfig
    from ._VirtualMachineConfig import VirtualMachineConfig
    from ._VirtualMachineDebugInfo import VirtualMachineDebugInfo
    from ._VirtualMachinePayloadConfig import VirtualMachinePayloadConfig
    from ._VirtualMachineRawConfig import VirtualMachineRawConfig
    from ._VirtualMachineState import VirtualMachineState

__all__ = [
    "CpuTopology",
    "DiskImage",
    "IVirtualMachine",
    "IVirtualMachineAsync",
    "IVirtualMachineCallback",
    "IVirtualMachineCallbackAsync",
    "IVirtualizationService",
    "IVirtualizationServiceAsync",
    "MemoryTrimLevel",
    "Partition",
    "PartitionType",
    "VirtualMachineAppConfig",
    "VirtualMachineConfig",
    "VirtualMachineDebugInfo",
    "VirtualMachinePayloadConfig",
    "VirtualMachineRawConfig",
    "VirtualMachineState",
]

_MODULES = {
    "CpuTopology": "._CpuTopology",
    "DiskImage": "._DiskImage",
    "IVirtualMachine": "._IVirtualMachine",
    "IVirtualMachineAsync": "._IVirtualMachine_async",
    "IVirtualMachineCallback": "._IVirtualMachineCallback",
    "IVirtualMachineCallbackAsync": "._IVirtualMachineCallback_async",
    "IVirtualizationService": "._IVirtualizationService",
    "IVirtualizationServiceAsync": "._IVirtualizationService_async",
    "MemoryTrimLevel": "._MemoryTrimLevel",
    "Partition": "._Partition",
    "PartitionType": "._PartitionType",
    "VirtualMachineAppConfig": "._VirtualMachineAppConfig",
    "VirtualMachineConfig": "._VirtualMachineConfig",
    "VirtualMachineDebugInfo": "._VirtualMachineDebugInfo",
    "VirtualMachinePayloadConfig": "._VirtualMachinePayloadConfig",
    "VirtualMachineRawConfig": "._VirtualMachineRawConfig",
    "VirtualMachineState": "._VirtualMachineState",
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__} has no attribute {name}")
        found = getattr(import_module(_MODULES[name], __name__), name)
        globals()[name] = found
        return found

    def __dir__() -> list[str]:
        return __all__
