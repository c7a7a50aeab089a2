"""Makes a template: boots a guest that has nothing of its own, and saves it when it waits for an identity."""

import os
import socket
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from avf.vmm.base import VmmControlError, VmSpec
from avf.vmm.qemu import folded
from avf.vmm.qemu.command import stand_ins
from avf.vmm.qemu.devices import TEMPLATE_IS_READY
from avf.vmm.qemu.process import QemuProcess
from avf.vmm.qemu.template_key import template_spec
from avf.vmm.qemu.unfold import take_apart
from avf.vmm.qemu.vmm import Qemu, explain, find_qemu
from avf.vmm.templates import TemplateError, TemplateFacts, TemplateLate, new_facts
from avf.vsock import HybridVsock

_BOOT_SECONDS = 600.0
"""It has the time: it is made while others work."""
_END_SECONDS = 2.0
"""In which a QEMU ends whose guest has powered off."""
_MAX_LINE = 64
_MAX_FAILURE = 4096


def make_template(
    qemu: Qemu, spec: VmSpec, state: int, seconds: float = _BOOT_SECONDS
) -> TemplateFacts:
    """Writes the state of a template for VMs like `spec` to the empty file `state`.

    Raises TemplateError, or what `Qemu.start` raises.
    """
    ours = template_spec(spec)
    failure = os.memfd_create("avf-failure", os.MFD_CLOEXEC)
    raw = os.memfd_create("avf-template", os.MFD_CLOEXEC)
    try:
        with tempfile.TemporaryDirectory(
            prefix="avf-template-", ignore_cleanup_errors=True
        ) as folder:
            # nobody connects there: it is gone as soon as the guest runs
            vsock = HybridVsock(spec.cid, Path(folder) / "vsock")
            started = replace(ours, cid=spec.cid, vsock=vsock, failure=failure)
            process, port, disks = qemu.start_template(started)
        try:
            with port:
                _wait_until_ready(process, port, failure, time.monotonic() + seconds)
                process.save(raw, disks, stand_ins(ours))
        except VmmControlError as error:
            raise _failed(process, str(error)) from error
        finally:
            process.kill()
            process.wait()
        _keep(raw, (ours.memory_mib or 0) << 20, state)
    finally:
        os.close(raw)
        os.close(failure)
    cpus = ours.cpus or os.sysconf("SC_NPROCESSORS_CONF")
    return new_facts(find_qemu(), ours.memory_mib or 0, cpus, qemu.tsc_khz(spec))


def _wait_until_ready(
    process: QemuProcess, port: socket.socket, failure: int, deadline: float
) -> None:
    said = b""
    try:
        while not said.endswith(b"\n") and len(said) < _MAX_LINE:
            port.settimeout(max(0.001, deadline - time.monotonic()))
            piece = port.recv(_MAX_LINE)
            if not piece:
                break
            said += piece
    except TimeoutError:
        raise TemplateLate("no template was made: its guest has not booted in time") from None
    if said == TEMPLATE_IS_READY:
        return
    error = _failed(process)
    if why := os.pread(failure, _MAX_FAILURE, 0).decode("utf-8", "replace").strip():
        raise TemplateError(f"no template can be made: {why}")
    raise error


def _failed(process: QemuProcess, why: str = "") -> TemplateError:
    """What is to be raised about a QEMU that cannot go on, and may be about to end."""
    kind: type[TemplateError] = TemplateError
    try:
        report = process.wait(_END_SECONDS)
        if process.was_interrupted:
            kind = TemplateLate
    except TimeoutError:
        process.kill()
        report = process.wait()
    return kind(f"no template can be made: {why or explain(report)}")


def _keep(raw: int, memory_size: int, state: int) -> None:
    """What a clone needs of what QEMU has saved."""
    try:
        template = take_apart(raw, memory_size)
    except ValueError as error:  # an empty file cannot be mapped, and StreamError is one, too
        raise TemplateError(f"no template can be made: {error}") from error
    try:
        folded.write(template.memory, template.state, state)
    finally:
        template.close()
