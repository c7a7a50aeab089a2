"""Which Python modules are public."""

import importlib
import pkgutil
from functools import cache

PUBLIC_SUBMODULES = (
    "avf.binder.aio",
    "avf.client.aio",
    "avf.client.control",
    "avf.client.spans",
    "avf.client.store",
)


@cache
def modules() -> tuple[str, ...]:
    """Every package face that has an `__all__`, and the submodules that are public themselves."""
    avf = importlib.import_module("avf")
    names = ["avf_payload", *PUBLIC_SUBMODULES]
    names += [
        found.name
        for found in pkgutil.iter_modules(avf.__path__, "avf.")
        if (found.ispkg or found.name == "avf.pytest") and public_names(found.name)
    ]
    contracts = importlib.import_module("avf.aidl")
    names += [
        found.name for found in pkgutil.iter_modules(contracts.__path__, "avf.aidl.") if found.ispkg
    ]
    return tuple(sorted(names))


@cache
def public_names(module: str) -> tuple[str, ...]:
    return tuple(getattr(importlib.import_module(module), "__all__", ()))
