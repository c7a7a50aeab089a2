"""crosvm's command line, flag by flag in the order Android's virtmgr emits it."""

from dataclasses import dataclass

from avf.disk import CrosvmDisk
from avf.vmm.base import VmmStartError, VmSpec
from avf.vmm.outlets import Outlet

SWIOTLB_MIB_PER_DEVICE = 2
SWIOTLB_BASE_DEVICES = 4
CRASHKERNEL = "crashkernel=17M"


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

    @property
    def fds(self) -> list[int]:
        outlets = (self.console.fd, self.failure.fd, self.ramdump.fd, self.log.fd)
        single = (self.kernel, self.initrd, self.bootloader)
        return [
            self.control,
            *(fd for fd in (*outlets, *single) if fd is not None),
            *(fd for disk in self.disks for fd in disk.fds),
        ]


def crosvm_command(
    program: str,
    spec: VmSpec,
    inputs: Inputs,
    *,
    host_cpus: int,
    balloon: bool,
    firmware: str | None,
) -> list[str]:
    """`balloon`: with page reporting, else none. `firmware`: path for protected VMs, None for crosvm's own way."""
    return [
        program,
        *("--extended-status", "--log-level", "info,disk=warn", "run", "--disable-sandbox"),
        *("--cid", str(spec.cid)),
        "--balloon-page-reporting" if balloon else "--no-balloon",
        *(protection(len(inputs.disks), firmware) if spec.protected else []),
        *(["--mem", str(spec.memory_mib)] if spec.memory_mib else []),
        *("--cpus", str(spec.cpus or host_cpus)),
        *(["--task-profiles", ",".join(spec.task_profiles)] if spec.task_profiles else []),
        *(["--gdb", str(spec.gdb_port)] if spec.gdb_port else []),
        *serial_ports(inputs),
        *boot(spec, inputs),
        *(argument for disk in inputs.disks for argument in disk_arguments(disk)),
        *([fd_path(inputs.kernel)] if inputs.kernel is not None else []),
        *("--socket", fd_path(inputs.control)),
        *(["--params", CRASHKERNEL] if spec.protected else []),
    ]


def fd_path(fd: int) -> str:
    return f"/proc/self/fd/{fd}"


def protection(disks: int, firmware: str | None) -> list[str]:
    mode = ["--protected-vm-with-firmware", firmware] if firmware else ["--protected-vm"]
    swiotlb = SWIOTLB_MIB_PER_DEVICE * (SWIOTLB_BASE_DEVICES + disks)
    return [*mode, "--swiotlb", str(swiotlb)]


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


def disk_arguments(disk: CrosvmDisk) -> list[str]:
    return ["--rwdisk" if disk.writable else "--disk", fd_path(disk.fd)]


def _serial(outlet: Outlet, hardware: str, number: int) -> str:
    if outlet.is_socket:
        raise VmmStartError("crosvm cannot write a console to a socket")
    kind = "type=sink" if outlet.fd is None else f"type=file,path={fd_path(outlet.fd)}"
    return f"--serial={kind},hardware={hardware},num={number}"
