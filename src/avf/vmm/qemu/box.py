"""The sandbox of a QEMU process."""

from collections.abc import Sequence
from pathlib import Path

from avf.causes import words
from avf.confine import Box, ConfinementError, Filter, needs_of, remembered
from avf.vmm.accel import Accelerator
from avf.vmm.base import VmSpec
from avf.vmm.box import identity_for, limits_for, virtual_sizes
from avf.vmm.qemu.command import DEFAULT_MEMORY_MIB, Inputs

_TIMEOUT = 10.0


def qemu_box(program: str, spec: VmSpec, inputs: Inputs, accelerator: Accelerator) -> Box:
    """Its libraries and ROMs, /dev/null, and /dev/kvm if it is to open that. Raises ConfinementError or OSError."""
    devices = [Path("/dev/null")]
    if accelerator is Accelerator.KVM:
        devices.append(Path("/dev/kvm"))
    images = (inputs.kernel, inputs.initrd, inputs.firmware)
    sizes = [(spec.memory_mib or DEFAULT_MEMORY_MIB) << 20, *virtual_sizes(spec.disks)]
    uid, groups = identity_for(spec.cid, devices)
    return Box(
        Filter.MONITOR,
        limits_for(inputs.fds, sizes),
        remembered(program, lambda: [*needs_of(program), *_data_folders(program)]),
        devices=tuple(devices),
        images=tuple(fd for fd in images if fd is not None),
        uid=uid,
        groups=groups,
    )


def _data_folders(program: str) -> Sequence[Path]:
    """Where this QEMU looks for its ROMs, as it says itself."""
    import subprocess  # slow to import, and needed once per boot

    try:
        result = subprocess.run(
            [program, "-L", "help"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise ConfinementError(
            f"{program} does not tell where its ROMs are: {words(error)}"
        ) from error
    return [Path(line) for line in result.stdout.splitlines() if line.startswith("/")]
