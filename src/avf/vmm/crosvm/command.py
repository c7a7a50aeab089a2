"""crosvm's command line, flag by flag in the order Android's virtmgr emits it, as far as this crosvm takes them."""

from collections.abc import Sequence
from dataclasses import dataclass

from avf.disk import CrosvmDisk
from avf.vmm.base import VmmStartError, VmmUnavailable, VmSpec
from avf.vmm.crosvm.options import Options
from avf.vmm.outlets import Outlet

SWIOTLB_MIB_PER_DEVICE = 2
SWIOTLB_BASE_DEVICES = 4
CRASHKERNEL = "crashkernel=17M"
GDB_PORT = 1234
_OLD_VHOST_USER = "vhost-user-vsock"


@dataclass(frozen=True, slots=True)
class Inputs:
    """Everything the command line names, open and to be inherited."""

    control: int
    """A listening SOCK_SEQPACKET socket."""
    console: Outlet
    failure: Outlet
    ramdump: Outlet
    log: Outlet
    disks: tuple[CrosvmDisk, ...] = ()
    kernel: int | None = None
    initrd: int | None = None
    bootloader: int | None = None
    vsock: int | None = None
    """Names the socket that the vsock device process listens on; None if the kernel carries vsock."""

    @property
    def fds(self) -> list[int]:
        outlets = (self.console.fd, self.failure.fd, self.ramdump.fd, self.log.fd)
        single = (self.kernel, self.initrd, self.bootloader, self.vsock)
        return [
            self.control,
            *(fd for fd in (*outlets, *single) if fd is not None),
            *(fd for disk in self.disks for fd in disk.fds),
        ]


def crosvm_command(
    program: str,
    spec: VmSpec,
    inputs: Inputs,
    options: Options,
    *,
    host_cpus: int,
    balloon: bool,
    firmware: str | None,
) -> list[str]:
    """`balloon`: with page reporting, else none. `firmware`: path for protected VMs, None for crosvm's own way.

    Raises VmmUnavailable if something that was asked for cannot be had with these `options`.
    """
    return [
        program,
        *("--extended-status", "--log-level", "info,disk=warn", "run", "--disable-sandbox"),
        *vsock(spec.cid, inputs.vsock, options),
        *balloon_arguments(balloon, options),
        *(protection(len(inputs.disks), firmware, options) if spec.protected else []),
        *(["--mem", str(spec.memory_mib)] if spec.memory_mib else []),
        *("--cpus", str(spec.cpus or host_cpus)),
        *task_profiles(spec.task_profiles, options),
        *debugger(spec.gdb_listener is not None, options),
        *serial_ports(inputs),
        *boot(spec, inputs),
        *(argument for disk in inputs.disks for argument in disk_arguments(disk, options)),
        *([fd_path(inputs.kernel)] if inputs.kernel is not None else []),
        *("--socket", fd_path(inputs.control)),
        *(["--params", CRASHKERNEL] if spec.protected else []),
    ]


def fd_path(fd: int) -> str:
    return f"/proc/self/fd/{fd}"


def connectable(fd: int) -> str:
    """A name by which no crosvm recognizes a descriptor, which it would take to be connected."""
    return f"/proc/thread-self/fd/{fd}"


def takes_user_vsock(options: Options) -> bool:
    """Whether the vsock device may be another process."""
    return "vhost-user" in options or _OLD_VHOST_USER in options


def needs(option: str, options: Options) -> bool:
    """True. Raises VmmUnavailable if there is no such option."""
    if option not in options:
        raise VmmUnavailable(f"this crosvm has no --{option}")
    return True


def debugger(wanted: bool, options: Options) -> list[str]:
    """crosvm listens on a TCP port: of its own network namespace, where every number is free."""
    return ["--gdb", str(GDB_PORT)] if wanted and needs("gdb", options) else []


def vsock(cid: int, door: int | None, options: Options) -> list[str]:
    """The kernel's device, or one that is another process, which crosvm calls by the descriptor `door`."""
    if door is not None:
        path = connectable(door)
        if _OLD_VHOST_USER in options:
            return [f"--{_OLD_VHOST_USER}", path]
        needs("vhost-user", options)
        return ["--vhost-user", f"type=vsock,socket={path}"]
    if "cid" in options:
        return ["--cid", str(cid)]
    needs("vsock", options)
    return ["--vsock", f"cid={cid}"]


def balloon_arguments(balloon: bool, options: Options) -> list[str]:
    """A crosvm without page reporting has a plain balloon; one that knows no balloon needs none taken away."""
    option = "balloon-page-reporting" if balloon else "no-balloon"
    return [f"--{option}"] if option in options else []


def protection(disks: int, firmware: str | None, options: Options) -> list[str]:
    """crosvm for x86 has no --swiotlb."""
    mode = ["--protected-vm-with-firmware", firmware] if firmware else ["--protected-vm"]
    needs(mode[0].removeprefix("--"), options)
    if "swiotlb" not in options:
        return mode
    return [*mode, "--swiotlb", str(SWIOTLB_MIB_PER_DEVICE * (SWIOTLB_BASE_DEVICES + disks))]


def task_profiles(names: Sequence[str], options: Options) -> list[str]:
    """Android's crosvm applies them itself; on other systems whoever starts it does."""
    return ["--task-profiles", ",".join(names)] if names and "task-profiles" in options else []


def serial_ports(inputs: Inputs) -> list[str]:
    """ttyS0, ttyS1, hvc0, hvc1, hvc2: always all five, in this order."""
    return [
        _serial(inputs.console, "serial", 1),
        _serial(inputs.failure, "serial", 2),
        _serial(inputs.console, "virtio-console", 1),
        _serial(inputs.ramdump, "virtio-console", 2),
        _serial(inputs.log, "virtio-console", 3),
    ]


def boot(spec: VmSpec, inputs: Inputs) -> list[str]:
    return [
        *(["--bios", fd_path(inputs.bootloader)] if inputs.bootloader is not None else []),
        *(["--initrd", fd_path(inputs.initrd)] if inputs.initrd is not None else []),
        *(["--params", spec.params] if spec.params else []),
    ]


def disk_arguments(disk: CrosvmDisk, options: Options) -> list[str]:
    old = "rwdisk" if disk.writable else "disk"
    if old in options:
        return [f"--{old}", fd_path(disk.fd)]
    needs("block", options)
    return ["--block", fd_path(disk.fd) if disk.writable else f"{fd_path(disk.fd)},ro"]


def _serial(outlet: Outlet, hardware: str, number: int) -> str:
    if outlet.is_socket:
        raise VmmStartError("crosvm cannot write a console to a socket")
    kind = "type=sink" if outlet.fd is None else f"type=file,path={fd_path(outlet.fd)}"
    return f"--serial={kind},hardware={hardware},num={number}"
