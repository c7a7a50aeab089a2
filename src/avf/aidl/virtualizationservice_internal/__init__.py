# Written by avf-aidl: change the .aidl files and run it again.

"""AIDL package android.system.virtualizationservice_internal."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._AtomVmBooted import AtomVmBooted
    from ._AtomVmCreationRequested import AtomVmCreationRequested
    from ._AtomVmExited import AtomVmExited
    from ._IGlobalVmContext import IGlobalVmContext
    from ._IGlobalVmContext_async import IGlobalVmContextAsync
    from ._IVirtualizationServiceInternal import IVirtualizationServiceInternal
    from ._IVirtualizationServiceInternal_async import IVirtualizationServiceInternalAsync

__all__ = [
    "AtomVmBooted",
    "AtomVmCreationRequested",
    "AtomVmExited",
    "IGlobalVmContext",
    "IGlobalVmContextAsync",
    "IVirtualizationServiceInternal",
    "IVirtualizationServiceInternalAsync",
]

_MODULES = {
    "AtomVmBooted": "._AtomVmBooted",
    "AtomVmCreationRequested": "._AtomVmCreationRequested",
    "AtomVmExited": "._AtomVmExited",
    "IGlobalVmContext": "._IGlobalVmContext",
    "IGlobalVmContextAsync": "._IGlobalVmContext_async",
    "IVirtualizationServiceInternal": "._IVirtualizationServiceInternal",
    "IVirtualizationServiceInternalAsync": "._IVirtualizationServiceInternal_async",
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
