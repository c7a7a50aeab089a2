"""What KVM runs on this host, proved by running it: a device node and a CPU flag prove nothing.

A host that is a virtual machine itself may have a /dev/kvm that runs a few bytes of firmware and no kernel.
"""

import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from avf import facts
from avf.vmm.probe_guest import EXIT_PORT, EXIT_STATUS, probe_firmware

PROCESSORS = ("host", "host,-arch-capabilities,-core-capability")
"""QEMU's processor models in the order they are tried: some hosts refuse the registers that come with the first."""

_FIRMWARE_DEADLINE = 5.0
_KERNEL_DEADLINE = 15.0
_BANNER = b"Linux version"
_MAX_OUTPUT = 1 << 20
_KERNEL_PARAMS = "console=ttyS0 earlyprintk=ttyS0 panic=-1 reboot=t"


def kvm_processor(qemu: str) -> str | None:
    """The processor model with which a tiny guest runs under KVM, found once per boot; None if it runs with none."""
    key = f"kvm:{_identity(qemu)}"
    known = facts.recall(key)
    if known == "" or known in PROCESSORS:
        return str(known) or None
    found = next((model for model in PROCESSORS if runs_firmware(qemu, under_kvm(model))), None)
    facts.remember(key, found or "")
    return found


def kvm_runs_kernels(qemu: str, processor: str, kernel: int) -> bool:
    """Whether the kernel at the descriptor `kernel` comes under KVM to where it looks for its root file system.

    Found once per boot: if one kernel comes that far, all are taken to; if one does not, that is held against it alone.
    """
    works = f"kvm-kernels:{_identity(qemu)}:{processor}"
    if facts.recall(works) is True:
        return True
    status = os.fstat(kernel)
    fails = f"{works}:{status.st_dev}:{status.st_ino}:{status.st_size}:{status.st_mtime_ns}"
    if facts.recall(fails) is True:
        return False
    found = runs_kernel(qemu, under_kvm(processor), kernel)
    facts.remember(works if found else fails, True)
    return found


def under_kvm(processor: str) -> list[str]:
    """QEMU's arguments for KVM with that processor."""
    return ["-accel", "kvm", "-cpu", processor]


def runs_firmware(
    qemu: str, acceleration: Sequence[str], deadline: float = _FIRMWARE_DEADLINE
) -> bool:
    """Whether a tiny guest gets as far as 64-bit mode and ends QEMU within `deadline` seconds."""
    firmware = os.memfd_create("avf-probe", os.MFD_CLOEXEC)
    try:
        os.write(firmware, probe_firmware())
        status = _run(firmware_command(qemu, acceleration, firmware), firmware, deadline)
    finally:
        os.close(firmware)
    return status == EXIT_STATUS


def runs_kernel(
    qemu: str, acceleration: Sequence[str], kernel: int, deadline: float = _KERNEL_DEADLINE
) -> bool:
    """Whether a kernel boots, finds no root file system, panics and resets within `deadline` seconds."""
    with tempfile.TemporaryFile() as output:
        command = [
            *(*_bare(qemu, acceleration, "q35"), "-m", "128"),
            *("-kernel", f"/proc/self/fd/{kernel}", "-append", _KERNEL_PARAMS),
            *("-serial", "stdio"),
        ]
        status = _run(command, kernel, deadline, output.fileno())
        output.seek(0)
        return status == 0 and _BANNER in output.read(_MAX_OUTPUT)


def firmware_command(qemu: str, acceleration: Sequence[str], firmware: int) -> list[str]:
    exit_device = f"isa-debug-exit,iobase={EXIT_PORT:#x},iosize=1"
    return [
        *(*_bare(qemu, acceleration, "microvm,pit=off,pic=off,rtc=off"), "-m", "16"),
        *("-bios", f"/proc/self/fd/{firmware}", "-device", exit_device),
    ]


def _bare(qemu: str, acceleration: Sequence[str], machine: str) -> list[str]:
    alone = ("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot")
    return [qemu, *acceleration, "-machine", machine, *alone]


def _run(
    command: Sequence[str], inherited: int, deadline: float, output: int = subprocess.DEVNULL
) -> int | None:
    """The exit status; None if the program cannot be started or does not end in time."""
    try:
        result = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.DEVNULL,
            pass_fds=[inherited],
            timeout=deadline,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.returncode


def _identity(program: str) -> str:
    status = Path(program).stat()
    return f"{program}:{status.st_ino}:{status.st_size}:{status.st_mtime_ns}"
