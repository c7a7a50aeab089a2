"""What runs a VM's instructions: hardware if it has been seen to run a guest of that kind here, else emulation."""

import fcntl
import functools
import os
from dataclasses import dataclass
from enum import Enum

from avf import settings
from avf.vmm.base import VmmUnavailable

_DEVICE = "/dev/kvm"
_GET_API_VERSION = 0xAE00


class Accelerator(Enum):
    """What runs the guest's instructions: the processor through KVM, or QEMU's emulation (TCG)."""

    KVM = "kvm"
    TCG = "tcg"


@dataclass(frozen=True, slots=True)
class Acceleration:
    """How one VM is run, or all VMs of a kind."""

    accelerator: Accelerator
    reason: str
    """Why this one, for people."""
    processor: str | None = None
    """QEMU's processor model under KVM; None where the board decides."""


def explain_acceleration(qemu: str) -> Acceleration:
    """How the QEMU program `qemu` runs guests that need no kernel of ours here: firmware of a few bytes.

    `AVF_ACCEL` (kvm or tcg) decides instead of the probes if it is set. A probe's result is kept until the next boot.
    Raises VmmUnavailable for another value of AVF_ACCEL, or if it is kvm and no guest runs under KVM.
    """
    return find_acceleration(qemu, _chosen())


@functools.cache
def find_acceleration(qemu: str, chosen: Accelerator | None) -> Acceleration:
    """What explain_acceleration tells if AVF_ACCEL is `chosen`. Raises VmmUnavailable."""
    if chosen is Accelerator.TCG:
        return Acceleration(Accelerator.TCG, "AVF_ACCEL says so")
    lack = missing_device() if chosen else _missing_hardware() or missing_device()
    processor = None if lack else _kvm_processor(qemu)
    if processor is not None:
        reason = "AVF_ACCEL says so" if chosen else "a probe guest ran under KVM"
        return Acceleration(Accelerator.KVM, reason, processor)
    reason = lack or "a probe guest did not run under KVM"
    if chosen is not None:
        raise VmmUnavailable(f"AVF_ACCEL is kvm, but {reason}")
    if lack and missing_device() is None and _kvm_processor(qemu):
        reason += (
            f"; {_DEVICE} runs a few bytes of firmware all the same, and AVF_ACCEL=kvm uses it"
        )
    return Acceleration(Accelerator.TCG, reason)


def acceleration_for(qemu: str, kernel: int | None) -> Acceleration:
    """As explain_acceleration, for a VM that boots the kernel at the descriptor `kernel`, if it boots one.

    Some hosts' KVM runs firmware and no kernel: what comes first here is a trial of the kernel, once per boot, unless
    AVF_ACCEL has decided.
    """
    found = explain_acceleration(qemu)
    if kernel is None or found.processor is None or _chosen() is not None:
        return found
    if kernel_boots(qemu, found, kernel):
        return Acceleration(found.accelerator, "a kernel booted under KVM", found.processor)
    return Acceleration(Accelerator.TCG, "a kernel did not boot under KVM")


def kernel_boots(qemu: str, found: Acceleration, kernel: int) -> bool:
    """Whether the kernel at the descriptor `kernel` runs so; tried once per boot if that is not sure."""
    if found.processor is None:
        return True
    from avf.vmm.kvm import kvm_runs_kernels

    return kvm_runs_kernels(qemu, found.processor, kernel)


def _chosen() -> Accelerator | None:
    try:
        name = settings.accelerator()
    except settings.SettingError as error:
        raise VmmUnavailable(str(error)) from None
    return None if name is None else Accelerator(name)


def _kvm_processor(qemu: str) -> str | None:
    from avf.vmm.kvm import kvm_processor  # needs what is slow to import, once per boot

    return kvm_processor(qemu)


def _missing_hardware() -> str | None:
    if _cpu_flags() & {"vmx", "svm"}:
        return None
    return "the CPU (or the VM this host is) offers no hardware virtualization"


def missing_device() -> str | None:
    """Why /dev/kvm is of no use to this user; None if it opens and is KVM's."""
    try:
        fd = os.open(_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        return f"{_DEVICE} cannot be opened: {error.strerror}"
    try:
        fcntl.ioctl(fd, _GET_API_VERSION)
    except OSError:
        return f"{_DEVICE} is not KVM's device"
    finally:
        os.close(fd)
    return None


def _cpu_flags() -> set[str]:
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith("flags"):
                return set(line.partition(":")[2].split())
    return set()
