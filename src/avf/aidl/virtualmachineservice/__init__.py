# Written by avf-aidl: change the .aidl files and run it again.

"""AIDL package android.system.virtualmachineservice."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._IVirtualMachineService import IVirtualMachineService
    from ._IVirtualMachineService_async import IVirtualMachineServiceAsync

__all__ = ["IVirtualMachineService", "IVirtualMachineServiceAsync"]

_MODULES = {
    "IVirtualMachineService": "._IVirtualMachineService",
    "IVirtualMachineServiceAsync": "._IVirtualMachineService_async",
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
