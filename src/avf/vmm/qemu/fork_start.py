"""Starts of QEMUs whose guest can be copied while it runs, and of those that are to be such a copy."""

import os
import socket
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

from avf.causes import words
from avf.confine import Child
from avf.vmm.base import VmmStartError, VmSpec
from avf.vmm.qemu.command import (
    DEFAULT_MEMORY_MIB,
    Host,
    Inputs,
    clone_devices,
    fork_command,
    forkable_command,
)
from avf.vmm.qemu.kept_disks import KeptDisks
from avf.vmm.qemu.memory_copy import copy_memory
from avf.vmm.qemu.start import CloneStart, StartWithPort
from avf.vmm.qemu.unfold import UnfoldedTemplate
from avf.vmm.vsock_device import VsockDevice

if TYPE_CHECKING:
    from avf.vmm.qemu.clone import Clone
    from avf.vmm.qemu.fork import ForkSource


class ForkableStart(StartWithPort):
    """A cold start."""

    def _command(self, program: str, inputs: Inputs, host: Host) -> list[str]:
        return forkable_command(program, self._spec, inputs, host)

    def _new_memory(self) -> int | None:
        return _memory_of(self._spec)

    def _forks(self, inputs: Inputs, host: Host) -> "ForkSource | None":
        return _source(self._spec, inputs, host, self.port)


class ForkableCloneStart(CloneStart):
    """The start of a template's clone, which does not share its memory."""

    def _forks(self, inputs: Inputs, host: Host) -> "ForkSource | None":
        return _source(self._spec, inputs, host, self.port)


class ForkStart(CloneStart):
    """The start of a copy of a guest that runs."""

    def __init__(
        self,
        spec: VmSpec,
        on_event: Callable[[str], None] | None,
        copy: UnfoldedTemplate,
        number: int,
        *,
        shares: bool,
    ) -> None:
        """`copy`: of the ForkPoint, with memory for this VM alone unless it `shares` that."""
        super().__init__(spec, on_event, copy, shares=shares)
        self._number = number

    def _command(self, program: str, inputs: Inputs, host: Host) -> list[str]:
        return fork_command(program, self._spec, inputs, host)

    def _clone(self, inputs: Inputs, qemu: Child, device: VsockDevice | None) -> "Clone":
        from avf.vmm.qemu.fork import Fork  # slow to import

        devices = clone_devices(self._spec, inputs)[len(inputs.disks) :]
        self.sharing = self._share(inputs, qemu, device)
        fork = Fork(self._open_state(), self.port, devices, self._spec.ended, self.sharing)
        fork.number = self._number
        return fork


def own_memory(memory: int, stack: ExitStack) -> int:
    """A copy of the memory file, which belongs to `stack`. Raises VmmStartError."""
    try:
        own = os.memfd_create("avf-memory", os.MFD_CLOEXEC)
        stack.callback(os.close, own)
        for _ in copy_memory(memory, own):
            pass
    except OSError as error:
        raise VmmStartError(f"the clone's memory cannot be copied: {words(error)}") from error
    return own


def _memory_of(spec: VmSpec) -> int:
    """An empty file for the guest's memory. Raises OSError."""
    fd = os.memfd_create("avf-memory", os.MFD_CLOEXEC)
    try:
        os.ftruncate(fd, (spec.memory_mib or DEFAULT_MEMORY_MIB) << 20)
    except OSError:
        os.close(fd)
        raise
    return fd


def _source(spec: VmSpec, inputs: Inputs, host: Host, port: socket.socket) -> "ForkSource":
    from avf.vmm.qemu.fork import ForkSource  # slow to import

    assert inputs.memory is not None
    vsock = clone_devices(spec, inputs)[len(inputs.disks)]
    kept = KeptDisks(spec.disks)
    try:
        memory = os.dup(inputs.memory)
    except OSError:
        kept.close()
        raise
    return ForkSource(port.dup(), memory, inputs.disks, vsock, kept, host)
