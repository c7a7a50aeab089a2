"""The user-space vsock device of a VM: the process, and what the host keeps for it."""

import socket
from contextlib import ExitStack
from dataclasses import dataclass

from avf import runtime
from avf.confine import Child, spawn
from avf.vmm.box import uid_of
from avf.vsock import DeviceHost, HybridVsock, confined_device_command, device_box


@dataclass(frozen=True, slots=True)
class VsockDevice:
    """The process that serves the guest's vsock, and what the host keeps for it."""

    process: Child
    host: DeviceHost
    lender: socket.socket | None = None
    """Over which a descriptor of the VMM's memory is lent to it, if it cannot map its guest's."""

    def close(self) -> None:
        """The device has ended. Idempotent."""
        self.host.close()
        if self.lender is not None:
            self.lender.close()


def start_vsock_device(
    cid: int,
    vsock: HybridVsock,
    control: int,
    stderr: int,
    undo: ExitStack,
    *,
    borrows: bool = False,
) -> VsockDevice:
    """Starts the device in its sandbox. `control`: its end of the socket to the VMM, or where the VMM calls;
    `borrows`: it cannot map the guest's memory.

    Raises SpawnError, ConfinementError, OSError or RuntimeError.
    """
    host = DeviceHost(vsock, runtime.host_vsock_dirs())
    undo.callback(host.close)
    fds = [control, host.listener, host.dial]
    command = confined_device_command(control, host.listener, host.dial, cid)
    lender = None
    with ExitStack() as given:
        if borrows:
            lender, borrower = socket.socketpair()
            given.enter_context(borrower)
            undo.callback(lender.close)
            fds.append(borrower.fileno())
            command += ["--memory-fd", str(borrower.fileno())]
        process = spawn(command, fds=fds, stderr=stderr, box=device_box(uid_of(cid)))
    undo.callback(process.abort)
    host.release()
    return VsockDevice(process, host, lender)
