"""The whole QEMU command line of a VM."""

from dataclasses import dataclass

from avf.disk import QemuDisk
from avf.vmm.accel import Accelerator
from avf.vmm.base import Machine, VmSpec
from avf.vmm.outlets import Outlet
from avf.vmm.qemu import devices

DEFAULT_MEMORY_MIB = 256
MAX_DISKS = {Machine.FAST: 20, Machine.PCI: 26}
"""What a board has places for besides the other devices."""


@dataclass(frozen=True, slots=True)
class Host:
    """What the command line must know about this host."""

    accelerator: Accelerator
    cpus: int
    tsc_khz: int | None
    processor: str | None = None
    """The processor model, if not the board's own."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """Everything the command line names, open and to be inherited."""

    monitor: int
    console: tuple[Outlet, Outlet]
    """For ttyS0 and hvc0."""
    failure: Outlet
    ramdump: Outlet
    log: Outlet
    disks: tuple[QemuDisk, ...] = ()
    kernel: int | None = None
    initrd: int | None = None
    firmware: int | None = None
    vhost: int | None = None
    """/dev/vhost-vsock, if the kernel carries vsock."""
    vsock_control: int | None = None
    """A socket to the vsock device process, if there is one."""
    image_folder: str = "/proc/self/fd"
    """Where kernel, initrd and firmware are found by the numbers of their descriptors."""
    debugger: int | None = None
    """The listening socket of the gdb server, if there is one."""

    def image(self, fd: int) -> str:
        return f"{self.image_folder}/{fd}"

    @property
    def fds(self) -> list[int]:
        outlets = (*self.console, self.failure, self.ramdump, self.log)
        single = (
            self.kernel,
            self.initrd,
            self.firmware,
            self.vhost,
            self.vsock_control,
            self.debugger,
        )
        return [
            self.monitor,
            *(fd for outlet in outlets for fd in outlet.fds),
            *(fd for fd in single if fd is not None),
            *(fd for disk in self.disks for fd in disk.fds),
        ]


def qemu_command(program: str, spec: VmSpec, inputs: Inputs, host: Host) -> list[str]:
    machine = board_of(spec, host)
    shared = inputs.vsock_control is not None
    return [
        program,
        *devices.isolation(),
        *devices.identity(spec.name),
        *devices.board(machine, host.accelerator, shared_memory=shared),
        *devices.processor(
            host.processor or devices.emulated_processor(machine), spec.cpus or host.cpus
        ),
        *devices.memory(spec.memory_mib or DEFAULT_MEMORY_MIB, shared=shared),
        *devices.lifecycle(pause_on_panic=dumps_on_panic(spec)),
        *devices.monitor(inputs.monitor),
        *(devices.debugger(inputs.debugger) if inputs.debugger is not None else []),
        *_boot(spec, inputs, host, machine),
        *devices.serial_port(0, "ttyS0", inputs.console[0]),
        *devices.serial_port(1, "ttyS1", inputs.failure),
        *devices.console_ports(machine, [inputs.console[1], inputs.ramdump, inputs.log]),
        *devices.balloon(machine),
        *devices.entropy(machine),
        *(argument for disk in inputs.disks for argument in devices.disk(disk, machine)),
        *_vsock(spec, inputs, machine),
    ]


def dumps_on_panic(spec: VmSpec) -> bool:
    return spec.panic_dump is not None


def board_of(spec: VmSpec, host: Host) -> Machine:
    """The board asked for; PCI if the fast one has too few places or would hang for want of a TSC and its rate."""
    if len(spec.disks) > MAX_DISKS[Machine.FAST]:
        return Machine.PCI
    if _needs_tsc_rate(spec, host) and host.tsc_khz is None:
        return Machine.PCI
    return spec.machine


def _needs_tsc_rate(spec: VmSpec, host: Host) -> bool:
    return spec.machine is Machine.FAST and host.accelerator is Accelerator.TCG


def _boot(spec: VmSpec, inputs: Inputs, host: Host, machine: Machine) -> list[str]:
    if inputs.firmware is not None:
        return devices.firmware(inputs.image(inputs.firmware))
    if inputs.kernel is None:
        return []
    params = spec.params or ""
    if _needs_tsc_rate(spec, host) and host.tsc_khz is not None:
        params = _with_clock(params, host.tsc_khz)
    quick = devices.quick_firmware() if machine is Machine.FAST else []
    initrd = None if inputs.initrd is None else inputs.image(inputs.initrd)
    return [*quick, *devices.kernel(inputs.image(inputs.kernel), initrd, params)]


def _with_clock(params: str, tsc_khz: int) -> str:
    """The emulated TSC is the host's, which its kernel trusts: a guest that compares it with the emulated timers, which
    come late on a busy host, would find it unstable and lose time with them.
    """
    # In front, since what follows "--" is for the guest's init.
    if "tsc=" not in params:
        params = f"tsc=reliable {params}"
    if "tsc_early_khz=" not in params:
        params = f"tsc_early_khz={tsc_khz} {params}"
    return params.strip()


def _vsock(spec: VmSpec, inputs: Inputs, machine: Machine) -> list[str]:
    if inputs.vhost is not None:
        return devices.kernel_vsock(machine, spec.cid, inputs.vhost)
    if inputs.vsock_control is not None:
        return devices.user_vsock(machine, inputs.vsock_control)
    return []
