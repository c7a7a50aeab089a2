"""What a crosvm can do on this host, found out by having it run guests."""

import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

from avf.vmm.accel import missing_device
from avf.vmm.crosvm.command import takes_user_vsock
from avf.vmm.crosvm.options import ending, options_of
from avf.vmm.crosvm.vmm import find_crosvm
from avf.vmm.probe_guest import probe_firmware

_DEADLINE = 5.0
_KERNEL_DEADLINE = 15.0
_OFF, _RESET = 0, 32
_MEMORY_MIB = 16
_KERNEL_MEMORY_MIB = 128
_KERNEL_PARAMS = "console=ttyS0 earlyprintk=ttyS0 panic=-1 reboot=k"
_BANNER = b"Linux version"
_MAX_OUTPUT = 1 << 20
_MAX_WORDS = 200


@dataclass(frozen=True, slots=True)
class CrosvmAbilities:
    """Its `str` is for people."""

    program: str
    trouble: str | None
    """Why a tiny guest does not run under KVM; None if it does."""
    user_vsock: bool
    """Whether it takes the vsock device process, so that vhost-vsock is not needed."""
    debugs: bool

    @property
    def runs(self) -> bool:
        """Whether guests run."""
        return self.trouble is None

    def __str__(self) -> str:
        runs = self.trouble or "a probe guest ran under KVM"
        vsock = "" if self.user_vsock else ", needs the kernel's vhost-vsock"
        return f"{runs}{vsock}{'' if self.debugs else ', has no debugger'}"


def crosvm_abilities(program: str | None = None) -> CrosvmAbilities:
    """Of `program`, else what find_crosvm finds. Raises VmmUnavailable if there is none."""
    path = find_crosvm(program)
    options = options_of(path)
    trouble = missing_device() or _trouble_of_guest(path)
    return CrosvmAbilities(path, trouble, takes_user_vsock(options), "gdb" in options)


def crosvm_runs_kernel(program: str, kernel: int) -> bool:
    """Whether the kernel at that descriptor comes under KVM to where it looks for its root file system."""
    with tempfile.TemporaryFile() as output:
        port = f"type=file,path=/proc/self/fd/{output.fileno()},hardware=serial,num=1"
        what = ("--serial", port, "--params", _KERNEL_PARAMS, f"/proc/self/fd/{kernel}")
        try:
            result = _run(
                program, _KERNEL_MEMORY_MIB, what, (kernel, output.fileno()), _KERNEL_DEADLINE
            )
        except (OSError, subprocess.TimeoutExpired):
            return False
        output.seek(0)
        return result.returncode in {_OFF, _RESET} and _BANNER in output.read(_MAX_OUTPUT)


def _trouble_of_guest(program: str) -> str | None:
    firmware = os.memfd_create("avf-probe", os.MFD_CLOEXEC)
    try:
        os.write(firmware, probe_firmware())
        what = ("--bios", f"/proc/self/fd/{firmware}")
        result = _run(program, _MEMORY_MIB, what, (firmware,), _DEADLINE)
    except OSError as error:
        return f"it does not run: {error.strerror}"
    except subprocess.TimeoutExpired:
        return f"a probe guest did not end under KVM within {_DEADLINE:.0f} s"
    finally:
        os.close(firmware)
    if result.returncode == _RESET:
        return None
    words = result.stderr.decode(errors="replace").strip().rpartition("\n")[2][-_MAX_WORDS:]
    said = f", saying: {words}" if words else ""
    return f"a probe guest did not run under KVM: it {ending(result.returncode)}{said}"


def _run(
    program: str, memory_mib: int, what: Sequence[str], fds: Sequence[int], deadline: float
) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [
            *(program, "--extended-status", "run", "--disable-sandbox"),
            *("--mem", str(memory_mib), *what),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        pass_fds=fds,
        timeout=deadline,
        check=False,
    )
