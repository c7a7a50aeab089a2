"""What the view does with VMs, and where it has them from: for real here, by others in tests."""

import socket
import sys
from typing import Protocol

from avf.client import VmInfo
from avf.client.control import open_vm_in
from avf.top.model import Snapshot


class Source(Protocol):
    """Where the VMs come from."""

    def snapshot(self) -> Snapshot:
        """What is known now; returns at once."""

    def watch(self, uid: int | None) -> None:
        """From now on the VMs of that user, or of all."""


class Doors(Protocol):
    """The ways into a VM. All but `shell` may take their time, and raise OSError, BinderError or ClientError."""

    def console(self, info: VmInfo) -> socket.socket:
        """What its console said last, and goes on to say."""

    def log(self, info: VmInfo) -> socket.socket:
        """The same of its log."""

    def stop(self, info: VmInfo) -> None:
        """Kills it; returns when all of it is gone."""

    def shell(self, info: VmInfo) -> list[str]:
        """The command that opens a shell inside the guest."""


class RealDoors:
    """By the VM's control socket. The streams outlive the connection that they were asked over."""

    def console(self, info: VmInfo) -> socket.socket:
        with open_vm_in(info.temporary_directory) as vm:
            return vm.attach_console()

    def log(self, info: VmInfo) -> socket.socket:
        with open_vm_in(info.temporary_directory) as vm:
            return vm.follow_log()

    def stop(self, info: VmInfo) -> None:
        with open_vm_in(info.temporary_directory) as vm:
            vm.stop()

    def shell(self, info: VmInfo) -> list[str]:
        return [sys.executable, "-m", "avf.cli", "shell", str(info.cid)]
