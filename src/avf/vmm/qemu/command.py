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
SLOTS = 6
"""For the disks and vsock of a clone: a guest of ours has three disks."""
VSOCK_SLOT = SLOTS - 1
"""Those before it are for disks."""
_STAND_INS = 2
"""Disks of size 0 in a template, in the places of the payload's."""


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
    template: int | None = None
    """Our end of the port over which a template and its host talk, if there is one."""
    memory: int | None = None
    """The memory file that the guest's memory is, or begins as; see `avf.confine.Box.lent`."""
    memory_is_own: bool = False
    """Whether no other VM has that file."""
    lent_folder: str = "/proc/self/fd"

    def image(self, fd: int) -> str:
        return f"{self.image_folder}/{fd}"

    @property
    def named_fds(self) -> list[int]:
        """Those that QEMU opens by names of its own, as /dev/fdset/N."""
        outlets = (*self.console, self.failure, self.ramdump, self.log)
        return [
            *(fd for outlet in outlets for fd in outlet.named_fds),
            *(fd for disk in self.disks for fd in disk.fds),
        ]

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
            self.template,
            self.memory,
        )
        return [
            self.monitor,
            *(fd for outlet in outlets for fd in outlet.fds),
            *(fd for fd in single if fd is not None),
            *(fd for disk in self.disks for fd in disk.fds),
        ]


def qemu_command(program: str, spec: VmSpec, inputs: Inputs, host: Host) -> list[str]:
    machine = board_of(spec, host)
    processor = devices.emulated_processor(machine)
    shared = inputs.vsock_control is not None
    return [
        *_before_boot(program, spec, inputs, host, machine, processor, shared=shared),
        *(devices.debugger(inputs.debugger) if inputs.debugger is not None else []),
        *_boot(spec, inputs, host, machine),
        *_ports(machine, inputs),
        *_common_devices(machine),
        *(argument for disk in inputs.disks for argument in devices.disk(disk, machine)),
        *_vsock(spec, inputs, machine),
    ]


def template_command(program: str, spec: VmSpec, inputs: Inputs, host: Host) -> list[str]:
    """A machine that boots a guest with the disks of its image, and has slots for others and for vsock.

    What is in those is to be ejected before the guest is saved: see `stand_ins`.
    """
    boot = _boot(spec, inputs, host, Machine.PCI)
    control = inputs.vsock_control
    assert control is not None
    return [
        *_template_machine(program, spec, inputs, host, boot),
        *devices.slots(SLOTS),
        *_disks_in_slots(spec, inputs, len(inputs.disks)),
        *(word for slot in _disk_stand_ins(spec) for word in devices.stand_in_disk(slot)),
        *devices.vsock_control(control),
        *devices.device(devices.in_slot(devices.user_vsock(Machine.PCI), VSOCK_SLOT)),
    ]


def stand_ins(spec: VmSpec) -> list[str]:
    """The names of the devices that the guest of a template ejects before it is saved."""
    return [devices.name_in_slot(slot) for slot in (*_disk_stand_ins(spec), VSOCK_SLOT)]


def _disk_stand_ins(spec: VmSpec) -> range:
    return range(spec.image_disks, min(spec.image_disks + _STAND_INS, VSOCK_SLOT))


def clone_command(program: str, spec: VmSpec, inputs: Inputs, host: Host) -> list[str]:
    """The machine that `template_command` makes, to load its state into and then to add `added_devices` to."""
    control = inputs.vsock_control
    return [
        *_template_machine(program, spec, inputs, host, []),
        *devices.slots(SLOTS),
        *_disks_in_slots(spec, inputs, spec.image_disks),
        *(devices.vsock_control(control) if control is not None else []),
        *devices.incoming(),
    ]


def forkable_command(program: str, spec: VmSpec, inputs: Inputs, host: Host) -> list[str]:
    """A machine that boots a guest and can be copied while it runs: one like a template's, that has everything."""
    boot = _boot(spec, inputs, host, Machine.PCI)
    control = inputs.vsock_control
    return [
        *_template_machine(program, spec, inputs, host, boot),
        *devices.slots(SLOTS),
        *(argument for disk in inputs.disks for argument in devices.disk_nodes(disk)),
        *(devices.vsock_control(control) if control is not None else []),
        *(word for device in clone_devices(spec, inputs) for word in devices.device(device)),
    ]


def fork_command(program: str, spec: VmSpec, inputs: Inputs, host: Host) -> list[str]:
    """The machine that a copy of a running one is loaded into: with its disks, and without vsock as it was then."""
    control = inputs.vsock_control
    return [
        *_template_machine(program, spec, inputs, host, []),
        *devices.slots(SLOTS),
        *_disks_in_slots(spec, inputs, len(inputs.disks)),
        *(devices.vsock_control(control) if control is not None else []),
        *devices.incoming(),
    ]


def clone_devices(spec: VmSpec, inputs: Inputs) -> list[devices.Device]:
    """The disks of a clone, then its vsock, each in a slot and called `in-slotN` by it."""
    wanted = [
        devices.in_slot(devices.disk_device(disk, Machine.PCI), index)
        for index, disk in enumerate(inputs.disks)
    ]
    vsock = _vsock_device(spec, inputs, Machine.PCI)
    return wanted if vsock is None else [*wanted, devices.in_slot(vsock, VSOCK_SLOT)]


def added_devices(spec: VmSpec, inputs: Inputs) -> list[devices.Device]:
    """Those of `clone_devices` that the template does not have."""
    return clone_devices(spec, inputs)[spec.image_disks :]


def _disks_in_slots(spec: VmSpec, inputs: Inputs, count: int) -> list[str]:
    """All disks as far as no device is concerned, and the devices of the first `count`."""
    there = clone_devices(spec, inputs)[:count]
    return [
        *(argument for disk in inputs.disks for argument in devices.disk_nodes(disk)),
        *(word for device in there for word in devices.device(device)),
    ]


def _template_machine(
    program: str, spec: VmSpec, inputs: Inputs, host: Host, boot: list[str]
) -> list[str]:
    """All that a template and its clones have in common, but for where their memory is.

    That is a clone's own, page by page from when it writes there, or shared with its vsock device.
    """
    port = inputs.template
    assert port is not None
    processor = devices.emulated_processor(spec.machine)
    return [
        *_before_boot(program, spec, inputs, host, Machine.PCI, processor, shared=True),
        *boot,
        *_ports(Machine.PCI, inputs),
        *devices.template_port(port, len(_outlets(inputs))),
        *_common_devices(Machine.PCI),
    ]


def _before_boot(
    program: str,
    spec: VmSpec,
    inputs: Inputs,
    host: Host,
    machine: Machine,
    processor: str,
    *,
    shared: bool,
) -> list[str]:
    """`processor`: the model where the host has no choice of its own; `shared`: whether memory is, with a process."""
    return [
        program,
        *devices.isolation(),
        *devices.identity(spec.name),
        *devices.board(machine, host.accelerator, shared_memory=shared),
        *devices.processor(host.processor or processor, spec.cpus or host.cpus),
        *_memory(spec, inputs, shared=shared),
        *devices.lifecycle(pause_on_panic=dumps_on_panic(spec)),
        *devices.monitor(inputs.monitor),
    ]


def _memory(spec: VmSpec, inputs: Inputs, *, shared: bool) -> list[str]:
    mib = spec.memory_mib or DEFAULT_MEMORY_MIB
    if inputs.memory is not None:
        path = f"{inputs.lent_folder}/{inputs.memory}"
        return devices.cloned_memory(mib, path, own=inputs.memory_is_own)
    return devices.memory(mib, shared=shared)


def _ports(machine: Machine, inputs: Inputs) -> list[str]:
    """A guest on the fast board is one of ours. It does without console ports where all lead nowhere: each would have
    buffers of 4 MiB there.
    """
    outlets = _outlets(inputs)
    if machine is Machine.FAST and all(outlet.fd is None for outlet in outlets):
        outlets = []
    return [
        *devices.serial_port(0, "ttyS0", inputs.console[0]),
        *devices.serial_port(1, "ttyS1", inputs.failure),
        *(devices.console_ports(machine, outlets) if outlets else []),
    ]


def _outlets(inputs: Inputs) -> list[Outlet]:
    return [inputs.console[1], inputs.ramdump, inputs.log]


def _common_devices(machine: Machine) -> list[str]:
    return [*devices.balloon(machine), *devices.entropy(machine)]


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
    device = _vsock_device(spec, inputs, machine)
    control = inputs.vsock_control
    return [
        *(devices.vsock_control(control) if control is not None else []),
        *(devices.device(device) if device is not None else []),
    ]


def _vsock_device(spec: VmSpec, inputs: Inputs, machine: Machine) -> devices.Device | None:
    if inputs.vhost is not None:
        return devices.kernel_vsock(machine, spec.cid, inputs.vhost)
    if inputs.vsock_control is not None:
        return devices.user_vsock(machine)
    return None
