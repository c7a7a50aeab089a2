"""The sandbox of a QEMU process."""

import itertools
from collections.abc import Sequence
from pathlib import Path

from avf.causes import words
from avf.confine import Box, ConfinementError, Filter, needs_of, remembered
from avf.vmm.accel import Accelerator
from avf.vmm.base import VmSpec
from avf.vmm.box import identity_for, limits_for, virtual_sizes
from avf.vmm.qemu.command import DEFAULT_MEMORY_MIB, Inputs

_TIMEOUT = 10.0
_OPENED_FIRST, _OPENED_NEXT = 2, 4
"""What QEMU opens for its own use before it knows what it inherited, and before it opens any of that."""


def qemu_box(program: str, spec: VmSpec, inputs: Inputs, accelerator: Accelerator) -> Box:
    """Its libraries and ROMs, /dev/null, and /dev/kvm if it is to open that. Raises ConfinementError or OSError."""
    devices = [Path("/dev/null")]
    if accelerator is Accelerator.KVM:
        devices.append(Path("/dev/kvm"))
    images = (inputs.kernel, inputs.initrd, inputs.firmware)
    sizes = [(spec.memory_mib or DEFAULT_MEMORY_MIB) << 20, *virtual_sizes(spec.disks)]
    uid, groups = identity_for(spec.cid, devices)
    shares = inputs.memory is not None and not inputs.memory_is_own
    return Box(
        Filter.MONITOR,
        limits_for(inputs.fds, sizes),
        remembered(program, lambda: [*needs_of(program), *_data_folders(program)]),
        devices=tuple(devices),
        images=tuple(fd for fd in images if fd is not None),
        lent=(inputs.memory,) if inputs.memory is not None else (),
        kept_whole=memory_number(inputs) if shares else None,
        uid=uid,
        groups=groups,
    )


def memory_number(inputs: Inputs) -> int:
    """The descriptor under which QEMU has a memory file that it opens by its name.

    It opens that after its disks and character devices, each from a set of descriptors into which it has put copies of
    what it inherited. It always takes the lowest number that is free.
    """
    named = inputs.named_fds
    taken = {0, 1, 2, *inputs.fds}

    def open_more(count: int) -> None:
        for _ in range(count):
            taken.add(_lowest_not_in(taken))

    open_more(_OPENED_FIRST + len(named))
    taken.difference_update(named)
    open_more(_OPENED_NEXT + len(named))
    return _lowest_not_in(taken)


def _lowest_not_in(taken: set[int]) -> int:
    return next(number for number in itertools.count() if number not in taken)


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
