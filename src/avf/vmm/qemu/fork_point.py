"""What is left of copying a running guest: all that other VMs need to go on from there."""

from dataclasses import dataclass

from avf.vmm.base import VmmControlError
from avf.vmm.qemu.command import Host
from avf.vmm.qemu.kept_disks import KeptDisks
from avf.vmm.qemu.unfold import UnfoldedTemplate


class ForkRefused(VmmControlError):
    """The guest does not let itself be copied; the message is its own."""


class ForkBroken(VmmControlError):
    """The guest cannot go on after it was copied."""


@dataclass(frozen=True, slots=True)
class ForkPoint:
    """A guest as it was when it was copied; any number of VMs can go on from there."""

    memory: UnfoldedTemplate
    disks: KeptDisks
    host: Host

    def close(self) -> None:
        """VMs that were made of it live on."""
        self.memory.close()
        self.disks.close()
