"""What every virtual machine monitor is to the rest of AVF: start, watch, kill, balloon, dump.

VmmError
 +-- VmmUnavailable     this host lacks the program or a right it needs; the message says which
 +-- VmmStartError      the process could not be spawned
 +-- VmmControlError    the running VMM refused or did not answer a request
      +-- NotSupported  ... because it has no such device or feature
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Protocol

from avf.disk import Disk
from avf.vsock import HostVsock


class VmmError(Exception):
    """Base of all errors of this package."""


class VmmUnavailable(VmmError):
    """The host lacks what this VMM needs."""


class VmmStartError(VmmError):
    """The VMM process could not be spawned."""


class VmmControlError(VmmError):
    """The running VMM refused a request or did not answer."""


class NotSupported(VmmControlError):
    """The VMM has no such device or feature."""


class Machine(Enum):
    """Which board the guest expects."""

    PCI = "pci"
    """Devices on PCI, as under crosvm: fits any guest kernel, and every raw configuration."""
    FAST = "fast"
    """The quickest board the VMM has, for guests known to cope (the AVF image: QEMU's microvm)."""


def nobody_listens(phase: str) -> None:
    """Listens to nothing."""


@dataclass(frozen=True, slots=True)
class VmSpec:
    """Everything one VM is started from. Descriptors stay the caller's; a VMM dups what it keeps."""

    cid: int
    name: str
    temporary_directory: Path
    vsock: HostVsock
    kernel: int | None = None
    initrd: int | None = None
    bootloader: int | None = None
    params: str | None = None
    disks: tuple[Disk, ...] = ()
    image_disks: int = 0
    """How many of them, the first ones, belong to the guest's image: all VMs of it have them."""
    memory_mib: int | None = None
    cpus: int | None = 1
    """None: as many as the host has."""
    protected: bool = False
    machine: Machine = Machine.PCI
    console: int | None = None
    """Write end of the console (ttyS0 and hvc0), or None for nowhere."""
    log: int | None = None
    """Write end of the log port (hvc2), or None for nowhere."""
    console_copy: int | None = None
    """Write end of a pipe that gets what the console gets, if that is a socket and the VMM can copy."""
    log_copy: int | None = None
    failure: int | None = None
    """Write end of the pipe behind the failure-reason port (ttyS1)."""
    ramdump: int | None = None
    """What the ramdump port (hvc1) writes to, or None for nowhere: a guest can write to it without end."""
    panic_dump: int | None = None
    """An empty file for all the memory of a guest that panics, if that is wanted and the VMM can write it."""
    panic_dump_limit: int = 0
    """Bytes; a longer dump is given up."""
    gdb_listener: int | None = None
    """Listening unix socket behind which the VMM serves a debugger, which lets the guest run; None for no debugger."""
    task_profiles: tuple[str, ...] = ()
    forkable: bool = False
    """Whether the running VM may be copied, if the VMM can: then it has no disk that can be written to."""
    ended: Callable[[str], None] = field(default=nobody_listens, repr=False, compare=False)
    """Told of each phase of the start as it ends, by its name, in any thread."""


class ExitCause(Enum):
    """Why a VMM ended, as far as the VMM itself tells (crosvm's exit status, QEMU's events)."""

    SHUTDOWN = "shutdown"
    REBOOT = "reboot"
    CRASH = "crash"
    WATCHDOG = "watchdog"
    KILLED = "killed"
    START_FAILED = "start failed"
    INFRASTRUCTURE = "infrastructure"
    """Something the VMM cannot work without was lost (its vsock device, its monitor)."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class ExitReport:
    """How a VMM process ended."""

    cause: ExitCause
    returncode: int
    """As of subprocess: negative is the signal that ended it."""
    stderr_tail: str = ""
    events: tuple[str, ...] = field(default=())
    """What the VMM reported on its way out, oldest first, for people."""

    @property
    def signal(self) -> int:
        """The number of the signal that ended the VMM; 0: none."""
        return max(0, -self.returncode)


@dataclass(frozen=True, slots=True)
class BalloonStats:
    """Bytes; None where the guest has not told."""

    actual: int
    total_memory: int | None = None
    available_memory: int | None = None
    free_memory: int | None = None


class VmProcess(Protocol):
    """A started VMM. All methods may be called from any thread, `wait` from several at once."""

    @property
    def pid(self) -> int:
        """Of the VMM's process, as this host numbers it."""

    def wait(self, timeout: float | None = None) -> ExitReport:
        """Blocks until the VMM and its helpers are gone. TimeoutError after `timeout` seconds."""

    def kill(self) -> None:
        """SIGKILL; returns at once. No error if it is gone already."""

    def guest_seconds(self) -> float | None:
        """How long the guest has been let run, stops by a debugger left out; None if the VMM does not tell."""

    def set_balloon(self, size: int) -> None:
        """Takes `size` bytes of memory from the guest (0 gives all back). Raises VmmControlError."""

    def balloon_stats(self) -> BalloonStats:
        """Raises NotSupported while no balloon driver answers, else VmmControlError."""

    def dump_memory(self, fd: int) -> None:
        """Writes the guest's memory as an ELF core to `fd`. Raises VmmControlError."""

    def set_console_input(self, fd: int) -> None:
        """Has the guest's hvc0 read from the pipe `fd`, which stays the caller's. Raises VmmControlError."""


class Vmm(Protocol):
    """A kind of VMM."""

    name: str
    supports_protected: bool
    """Whether it can keep a guest's memory from the host (VmSpec.protected)."""

    def emulates(self, kernel: int | None) -> bool:
        """Whether a VM that boots the kernel at that descriptor, if any, is emulated and so many times slower.

        May try the kernel out, once per boot of the host. Raises VmmUnavailable.
        """

    def start(self, spec: VmSpec, on_event: Callable[[str], None] | None = None) -> VmProcess:
        """Spawns the VM; returns once the process runs, not when the guest has booted.

        The process dies with the calling process, even under SIGKILL, and inherits no descriptor but those of the spec.
        `on_event` gets lines for people, in the thread that watches the VM: it must neither wait for the VM nor ask it
        anything.
        Raises VmmUnavailable or VmmStartError and leaves nothing behind.
        """
