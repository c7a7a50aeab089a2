"""What a crosvm can do on this host, found out by having it run the probe guest."""

import os
import subprocess
from dataclasses import dataclass

from avf.vmm.crosvm.command import takes_user_vsock
from avf.vmm.crosvm.options import options_of
from avf.vmm.crosvm.vmm import find_crosvm
from avf.vmm.probe_guest import probe_firmware

_DEADLINE = 5.0
_RESET = 32
_MEMORY_MIB = 16


@dataclass(frozen=True, slots=True)
class CrosvmAbilities:
    """Its `str` is for people."""

    program: str
    runs: bool
    """Whether a tiny guest runs under KVM."""
    user_vsock: bool
    """Whether it takes the vsock device process, so that vhost-vsock is not needed."""
    debugs: bool

    def __str__(self) -> str:
        runs = "a probe guest ran under KVM" if self.runs else "a probe guest did not run under KVM"
        vsock = "" if self.user_vsock else ", needs the kernel's vhost-vsock"
        return f"{runs}{vsock}{'' if self.debugs else ', has no debugger'}"


def crosvm_abilities(program: str | None = None) -> CrosvmAbilities:
    """Of `program`, else what find_crosvm finds. Raises VmmUnavailable if there is none."""
    path = find_crosvm(program)
    options = options_of(path)
    return CrosvmAbilities(path, _runs_guest(path), takes_user_vsock(options), "gdb" in options)


def _runs_guest(program: str) -> bool:
    firmware = os.memfd_create("avf-probe", os.MFD_CLOEXEC)
    try:
        os.write(firmware, probe_firmware())
        result = subprocess.run(
            [
                *(program, "--extended-status", "run", "--disable-sandbox"),
                *("--mem", str(_MEMORY_MIB), "--bios", f"/proc/self/fd/{firmware}"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[firmware],
            timeout=_DEADLINE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    finally:
        os.close(firmware)
    return result.returncode == _RESET
