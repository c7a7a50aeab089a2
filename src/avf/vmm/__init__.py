"""Runs one virtual machine process: QEMU or crosvm, behind one small protocol."""

from avf.vmm.accel import Accelerator, AcceleratorReport, explain_accelerator, probe_accelerator
from avf.vmm.base import (
    BalloonStats,
    ExitCause,
    ExitReport,
    Machine,
    NotSupported,
    Vmm,
    VmmControlError,
    VmmError,
    VmmStartError,
    VmmUnavailable,
    VmProcess,
    VmSpec,
)
from avf.vmm.bounded import BoundedFile
from avf.vmm.crosvm.vmm import Crosvm, find_crosvm
from avf.vmm.pace import Pace
from avf.vmm.qemu.vmm import Qemu, find_qemu, qemu_version
from avf.vmm.tsc import tsc_khz

__all__ = [
    "Accelerator",
    "AcceleratorReport",
    "BalloonStats",
    "BoundedFile",
    "Crosvm",
    "ExitCause",
    "ExitReport",
    "Machine",
    "NotSupported",
    "Pace",
    "Qemu",
    "VmProcess",
    "VmSpec",
    "Vmm",
    "VmmControlError",
    "VmmError",
    "VmmStartError",
    "VmmUnavailable",
    "explain_accelerator",
    "find_crosvm",
    "find_qemu",
    "probe_accelerator",
    "qemu_version",
    "tsc_khz",
]
