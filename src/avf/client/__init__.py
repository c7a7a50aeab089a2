"""Run VMs from Python: connect, create, watch, talk. `avf.client.aio` is the same for asyncio, `avf.client.store` keeps
VMs with names, `avf.client.control` looks into VMs that other processes run.

    with connect() as service, service.create_vm(config) as vm:
        vm.start()
        vm.wait_until_ready(timeout=60)
        with vm.connect_vsock(5678) as stream:
            ...
"""

from avf.aidl.virtualizationservice import (
    CpuTopology,
    MemoryTrimLevel,
    PartitionType,
    VirtualMachineState,
)
from avf.aidl.vm_control import Refusal
from avf.client.command import GuestCommand
from avf.client.completion import grow_storage
from avf.client.config import AppConfig, DebugLevel, Disk, FileSource, Partition, RawConfig
from avf.client.connection import VirtualizationService, VmInfo, check_settings, connect
from avf.client.errors import (
    ClientError,
    CommandFailed,
    ConfigError,
    Died,
    Finished,
    NoSuchVm,
    Refused,
    ServiceDied,
    ServiceError,
    ServiceStartError,
    ShellFailed,
    TimedOut,
    VmClosed,
    VmGone,
    VmStateError,
    WaitError,
    split_message,
    warnings_in,
)
from avf.client.events import (
    DeathReason,
    ErrorCode,
    Event,
    PayloadError,
    PayloadFinished,
    PayloadReady,
    PayloadStarted,
    VmDied,
)
from avf.client.history import MetricsSample
from avf.client.inside import CompletedCommand, GuestAccess
from avf.client.inspection import Inspection, VmDetails, VmFile, VmMetrics, VmParts
from avf.client.json_config import load_raw_config
from avf.client.machine import GuestService, VirtualMachine
from avf.client.pool import MAX_WARM, PoolStatus
from avf.client.relay import Ending, Relay
from avf.client.remedies import remedy_for
from avf.client.report import DeathReport
from avf.client.timeline import LifecycleStep, Moment, Phase, StartKind, Timeline
from avf.settings import SettingWarning

__all__ = [
    "MAX_WARM",
    "AppConfig",
    "ClientError",
    "CommandFailed",
    "CompletedCommand",
    "ConfigError",
    "CpuTopology",
    "DeathReason",
    "DeathReport",
    "DebugLevel",
    "Died",
    "Disk",
    "Ending",
    "ErrorCode",
    "Event",
    "FileSource",
    "Finished",
    "GuestAccess",
    "GuestCommand",
    "GuestService",
    "Inspection",
    "LifecycleStep",
    "MemoryTrimLevel",
    "MetricsSample",
    "Moment",
    "NoSuchVm",
    "Partition",
    "PartitionType",
    "PayloadError",
    "PayloadFinished",
    "PayloadReady",
    "PayloadStarted",
    "Phase",
    "PoolStatus",
    "RawConfig",
    "Refusal",
    "Refused",
    "Relay",
    "ServiceDied",
    "ServiceError",
    "ServiceStartError",
    "SettingWarning",
    "ShellFailed",
    "StartKind",
    "TimedOut",
    "Timeline",
    "VirtualMachine",
    "VirtualMachineState",
    "VirtualizationService",
    "VmClosed",
    "VmDetails",
    "VmDied",
    "VmFile",
    "VmGone",
    "VmInfo",
    "VmMetrics",
    "VmParts",
    "VmStateError",
    "WaitError",
    "check_settings",
    "connect",
    "grow_storage",
    "load_raw_config",
    "remedy_for",
    "split_message",
    "warnings_in",
]
