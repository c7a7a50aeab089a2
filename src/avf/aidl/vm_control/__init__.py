# Written by avf-aidl: change the .aidl files and run it again.

"""AIDL package org.avf.linux.control."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._DeathReport import DeathReport
    from ._IVmControl import IVmControl
    from ._IVmControl_async import IVmControlAsync
    from ._LifecycleMoment import LifecycleMoment
    from ._LifecycleStep import LifecycleStep
    from ._MetricsSample import MetricsSample
    from ._PayloadInvocation import PayloadInvocation
    from ._PayloadState import PayloadState
    from ._PoolRequest import PoolRequest
    from ._PoolStatus import PoolStatus
    from ._Refusal import Refusal
    from ._StartKind import StartKind
    from ._StartPhase import StartPhase
    from ._Timeline import Timeline
    from ._VmFile import VmFile
    from ._VmInfo import VmInfo
    from ._VmMetrics import VmMetrics
    from ._VmParts import VmParts

__all__ = [
    "DeathReport",
    "IVmControl",
    "IVmControlAsync",
    "LifecycleMoment",
    "LifecycleStep",
    "MetricsSample",
    "PayloadInvocation",
    "PayloadState",
    "PoolRequest",
    "PoolStatus",
    "Refusal",
    "StartKind",
    "StartPhase",
    "Timeline",
    "VmFile",
    "VmInfo",
    "VmMetrics",
    "VmParts",
]

_MODULES = {
    "DeathReport": "._DeathReport",
    "IVmControl": "._IVmControl",
    "IVmControlAsync": "._IVmControl_async",
    "LifecycleMoment": "._LifecycleMoment",
    "LifecycleStep": "._LifecycleStep",
    "MetricsSample": "._MetricsSample",
    "PayloadInvocation": "._PayloadInvocation",
    "PayloadState": "._PayloadState",
    "PoolRequest": "._PoolRequest",
    "PoolStatus": "._PoolStatus",
    "Refusal": "._Refusal",
    "StartKind": "._StartKind",
    "StartPhase": "._StartPhase",
    "Timeline": "._Timeline",
    "VmFile": "._VmFile",
    "VmInfo": "._VmInfo",
    "VmMetrics": "._VmMetrics",
    "VmParts": "._VmParts",
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
