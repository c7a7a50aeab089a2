# Written by avf-aidl: change the .aidl files and run it again.

"""AIDL package android.system.virtualizationcommon."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._DeathReason import DeathReason
    from ._ErrorCode import ErrorCode

__all__ = ["DeathReason", "ErrorCode"]

_MODULES = {"DeathReason": "._DeathReason", "ErrorCode": "._ErrorCode"}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__} has no attribute {name}")
        found = getattr(import_module(_MODULES[name], __name__), name)
        globals()[name] = found
        return found

    def __dir__() -> list[str]:
        return __all__
