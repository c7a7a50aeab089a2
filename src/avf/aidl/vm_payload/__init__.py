# Written by avf-aidl: change the .aidl files and run it again.

"""AIDL package android.system.virtualization.payload."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._IVmPayloadService import IVmPayloadService
    from ._IVmPayloadService_async import IVmPayloadServiceAsync

__all__ = ["IVmPayloadService", "IVmPayloadServiceAsync"]

_MODULES = {
    "IVmPayloadService": "._IVmPayloadService",
    "IVmPayloadServiceAsync": "._IVmPayloadService_async",
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
