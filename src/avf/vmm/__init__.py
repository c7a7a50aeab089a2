"""Runs one virtual machine process: QEMU or crosvm, behind one small protocol."""

from typing import TYPE_CHECKING

from avf.lazy import lazily
from avf.vmm.accel import (
    Acceleration,
    Accelerator,
    acceleration_for,
    explain_acceleration,
    kernel_boots,
    missing_device,
)
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
from avf.vmm.qemu.command import SLOTS
from avf.vmm.qemu.fork_point import ForkPoint, ForkRefused
from avf.vmm.qemu.process import QemuProcess
from avf.vmm.qemu.vmm import CLONE_SECONDS, Qemu, find_qemu, qemu_version
from avf.vmm.qemu.waiting import WaitingQemu
from avf.vmm.templates import (
    StoredTemplate,
    TemplateError,
    TemplateFacts,
    TemplateLate,
    TemplateStore,
    system_templates,
    user_templates,
)
from avf.vmm.tsc import tsc_khz

if TYPE_CHECKING:
    from avf.vmm.crosvm.probe import CrosvmAbilities, crosvm_abilities, crosvm_runs_kernel
    from avf.vmm.crosvm.vmm import Crosvm, find_crosvm
    from avf.vmm.qemu.template import make_template
else:
    __getattr__ = lazily(
        __name__,
        {
            "crosvm.probe": "CrosvmAbilities crosvm_abilities crosvm_runs_kernel",
            "crosvm.vmm": "Crosvm find_crosvm",
            "qemu.template": "make_template",
        },
    )

__all__ = [
    "CLONE_SECONDS",
    "SLOTS",
    "Acceleration",
    "Accelerator",
    "BalloonStats",
    "BoundedFile",
    "Crosvm",
    "CrosvmAbilities",
    "ExitCause",
    "ExitReport",
    "ForkPoint",
    "ForkRefused",
    "Machine",
    "NotSupported",
    "Qemu",
    "QemuProcess",
    "StoredTemplate",
    "TemplateError",
    "TemplateFacts",
    "TemplateLate",
    "TemplateStore",
    "VmProcess",
    "VmSpec",
    "Vmm",
    "VmmControlError",
    "VmmError",
    "VmmStartError",
    "VmmUnavailable",
    "WaitingQemu",
    "acceleration_for",
    "crosvm_abilities",
    "crosvm_runs_kernel",
    "explain_acceleration",
    "find_crosvm",
    "find_qemu",
    "kernel_boots",
    "make_template",
    "missing_device",
    "qemu_version",
    "system_templates",
    "tsc_khz",
    "user_templates",
]
