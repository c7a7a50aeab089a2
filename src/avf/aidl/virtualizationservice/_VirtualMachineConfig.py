# Written by avf-aidl: change the .aidl file and run it again.
# Source: android/system/virtualizationservice/VirtualMachineConfig.aidl

"""AIDL union android.system.virtualizationservice.VirtualMachineConfig."""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

from avf.binder import Enum, Union

__all__ = ["VirtualMachineConfig"]


class VirtualMachineConfig(
    Union, descriptor="android.system.virtualizationservice.VirtualMachineConfig"
):
    """What createVm is asked to make."""

    class Tag(Enum):
        appConfig = 0
        rawConfig = 1

    app_config: VirtualMachineAppConfig
    raw_config: VirtualMachineRawConfig

    if TYPE_CHECKING:

        @overload
        def __init__(self, *, app_config: VirtualMachineAppConfig) -> None: ...

        @overload
        def __init__(self, *, raw_config: VirtualMachineRawConfig) -> None: ...

        def __init__(self, **member: object) -> None: ...


from ._VirtualMachineAppConfig import VirtualMachineAppConfig  # noqa: E402
from ._VirtualMachineRawConfig import VirtualMachineRawConfig  # noqa: E402
