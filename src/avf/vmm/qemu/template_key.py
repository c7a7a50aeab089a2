"""What a template depends on, and so what a clone and its template must have in common."""

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

from avf.disk import Disk, ImageDisk
from avf.vmm.accel import Accelerator
from avf.vmm.base import VmSpec
from avf.vmm.digests import file_digest
from avf.vmm.outlets import NOWHERE
from avf.vmm.qemu.command import DEFAULT_MEMORY_MIB, SLOTS, Host, Inputs, template_command
from avf.vmm.templates import FORMAT, TemplateError

PARAMETER = "AVF_TEMPLATE=1"
"""Tells the guest's init that it boots a template."""

_INPUTS = Inputs(
    *(3, (NOWHERE, NOWHERE), NOWHERE, NOWHERE, NOWHERE),
    kernel=4,
    initrd=5,
    vsock_control=6,
    template=7,
)
"""Any descriptors: the command line shall not depend on their numbers."""
_CLOCK_TOLERANCE = 1e-3


def template_spec(spec: VmSpec) -> VmSpec:
    """What the template of a VM is made from: all that makes it this one VM is left out."""
    return replace(
        spec,
        cid=0,
        name="",
        params=f"{spec.params or ''} {PARAMETER}".strip(),
        disks=spec.disks[: spec.image_disks],
        memory_mib=spec.memory_mib or DEFAULT_MEMORY_MIB,
        console=None,
        log=None,
        console_copy=None,
        log_copy=None,
        failure=None,
        ramdump=None,
        panic_dump=None,
        task_profiles=(),
    )


def template_key(program: str, spec: VmSpec, host: Host) -> str | None:
    """A digest; None if a VM like `spec` cannot begin as a clone. Raises OSError."""
    if spec.kernel is None or spec.initrd is None or spec.gdb_listener is not None:
        return None
    if spec.protected or len(spec.disks) >= SLOTS:
        return None
    disks = spec.disks[: spec.image_disks]
    if any(disk.writable for disk in disks):
        return None
    # the rate of a counter is measured anew at each boot of the host, see check_clock
    common = template_command(program, template_spec(spec), _INPUTS, replace(host, tsc_khz=None))
    known = {
        "format": FORMAT,
        "kernel": file_digest(spec.kernel),
        "initrd": file_digest(spec.initrd),
        "disks": [_contents(disk) for disk in disks],
        "command": common,
        "program": _program_digest(program),
        "host": _processor_of_the_host() if host.accelerator is Accelerator.KVM else None,
    }
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def check_clock(now: int | None, then: int | None) -> None:
    """Raises TemplateError unless a counter's rate, in kHz, is still what the template's guest was told."""
    if now == then:
        return
    if now is None or then is None or abs(now - then) > then * _CLOCK_TOLERANCE:
        raise TemplateError(
            f"the template's guest was told a clock of {then} kHz, this host's has {now}"
        )


def _contents(disk: Disk) -> list[str]:
    """What a guest finds on it."""
    if isinstance(disk, ImageDisk):
        return [file_digest(disk.fd)]
    return [text for part in disk.partitions for text in (part.label, file_digest(part.fd))]


def _program_digest(program: str) -> str:
    fd = os.open(program, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return file_digest(fd)
    finally:
        os.close(fd)


def _processor_of_the_host() -> list[str]:
    """What of the host a guest under KVM sees, or depends on."""
    names = ("vendor_id", "model name", "stepping", "microcode", "flags")
    lines = Path("/proc/cpuinfo").read_text(errors="replace").partition("\n\n")[0].splitlines()
    return [os.uname().release, *(line for line in lines if line.startswith(names))]
