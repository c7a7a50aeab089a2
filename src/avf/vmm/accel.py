"""Whether hardware can run guests here: proved by running one, since a device node and a CPU flag prove nothing."""

import functools
import os
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from avf import facts
from avf.vmm.base import VmmUnavailable
from avf.vmm.probe_guest import EXIT_PORT, EXIT_STATUS, probe_firmware

_DEADLINE = 5.0


class Accelerator(Enum):
    KVM = "kvm"
    TCG = "tcg"


@dataclass(frozen=True, slots=True)
class AcceleratorReport:
    accelerator: Accelerator
    reason: str
    """Why this one, for people."""


def probe_accelerator(qemu: str) -> Accelerator:
    """The accelerator with which the QEMU program `qemu` really runs guests here.

    `AVF_ACCEL` (kvm or tcg) decides instead if it is set. A probe's result is kept until the next boot. Raises
    VmmUnavailable for another value of AVF_ACCEL.
    """
    return explain_accelerator(qemu).accelerator


@functools.cache
def explain_accelerator(qemu: str) -> AcceleratorReport:
    """As probe_accelerator, and why."""
    if chosen := os.environ.get("AVF_ACCEL"):
        try:
            return AcceleratorReport(Accelerator(chosen), "AVF_ACCEL says so")
        except ValueError:
            raise VmmUnavailable(f"AVF_ACCEL is {chosen!r}; it may be kvm or tcg") from None
    if lack := _missing_for_kvm():
        return AcceleratorReport(Accelerator.TCG, lack)
    if _probe_once(qemu):
        return AcceleratorReport(Accelerator.KVM, "a probe guest ran under KVM")
    return AcceleratorReport(Accelerator.TCG, "a probe guest did not run under KVM")


def _missing_for_kvm() -> str | None:
    if not _cpu_flags() & {"vmx", "svm"}:
        return "the CPU (or the VM this host is) offers no hardware virtualization"
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return f"/dev/kvm cannot be opened: {error.strerror}"
    return None


def _cpu_flags() -> set[str]:
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith("flags"):
                return set(line.partition(":")[2].split())
    return set()


def _probe_once(qemu: str) -> bool:
    status = Path(qemu).stat()
    key = f"kvm:{qemu}:{status.st_ino}:{status.st_size}:{status.st_mtime_ns}"
    known = facts.recall(key)
    if isinstance(known, bool):
        return known
    works = runs_guest(qemu, Accelerator.KVM, _DEADLINE)
    facts.remember(key, works)
    return works


def runs_guest(qemu: str, accelerator: Accelerator, deadline: float) -> bool:
    """Whether a tiny guest gets as far as 64-bit mode and ends QEMU within `deadline` seconds."""
    import subprocess  # slow to import, and needed once per boot

    firmware = os.memfd_create("avf-probe", os.MFD_CLOEXEC)
    try:
        os.write(firmware, probe_firmware())
        result = subprocess.run(
            _probe_command(qemu, accelerator, firmware),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[firmware],
            timeout=deadline,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    finally:
        os.close(firmware)
    return result.returncode == EXIT_STATUS


def _probe_command(qemu: str, accelerator: Accelerator, firmware: int) -> list[str]:
    exit_device = f"isa-debug-exit,iobase={EXIT_PORT:#x},iosize=1"
    return [
        qemu,
        *("-accel", accelerator.value, "-machine", "microvm,pit=off,pic=off,rtc=off", "-m", "16"),
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        *("-bios", f"/proc/self/fd/{firmware}", "-device", exit_device),
    ]
