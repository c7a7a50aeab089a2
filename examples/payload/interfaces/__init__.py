# Written by avf-aidl: change the .aidl files and run it again.

"""AIDL package com.example."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._IGreeter import IGreeter
    from ._IGreeter_async import IGreeterAsync
    from ._INotebook import INotebook
    from ._INotebook_async import INotebookAsync
    from ._Note import Note

__all__ = ["IGreeter", "IGreeterAsync", "INotebook", "INotebookAsync", "Note"]

_MODULES = {
    "IGreeter": "._IGreeter",
    "IGreeterAsync": "._IGreeter_async",
    "INotebook": "._INotebook",
    "INotebookAsync": "._INotebook_async",
    "Note": "._Note",
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
