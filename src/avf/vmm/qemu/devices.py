"""QEMU arguments, one function per device or setting. Descriptors keep their numbers in the child."""

import json
from collections.abc import Sequence

from avf.disk import ImageFormat, Node, QemuDisk, fdset_path
from avf.vmm.accel import Accelerator
from avf.vmm.base import Machine
from avf.vmm.outlets import Outlet

MEMORY_ID = "ram"
CONSOLE = "hvc0"
"""The character device behind the console that a guest can read from."""
TEMPLATE_PORT = "avf.template"
"""The name by which a guest finds the port over which a template and its host talk."""
TEMPLATE_IS_READY = b"avf-template 4\n"
CLONE_IS_ITSELF = b"avf-clone 4\n"
CLONE_HAS_REHEARSED = b"avf-rehearsed 4\n"
"""What the guest says there: see `avf.guest.template`."""
FORK_IS_QUIET = b"avf-quiet 2\n"
FORK_IS_REFUSED = b"avf-refused "
FORK_GOES_ON = b"avf-goes-on 1\n"
"""See `avf.guest.forks`."""

Device = dict[str, str]
"""One device as QMP's device_add takes it: `driver` and its properties."""


def escape(text: str) -> str:
    """`text` as a value inside a comma-separated option."""
    return text.replace(",", ",,")


def virtio(kind: str, machine: Machine) -> str:
    """The model of a virtio device on that board's bus."""
    return f"virtio-{kind}-device" if machine is Machine.FAST else f"virtio-{kind}-pci"


def isolation() -> list[str]:
    """Nothing that was not asked for, and a system call filter."""
    denied = "obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
    return ["-nodefaults", "-no-user-config", "-display", "none", "-sandbox", f"on,{denied}"]


def identity(name: str) -> list[str]:
    return ["-name", f"guest={escape(name)}"] if name else []


def board(machine: Machine, accelerator: Accelerator, *, shared_memory: bool) -> list[str]:
    """The guest's memory is in no core dump of QEMU and is never merged with another's."""
    memory = "dump-guest-core=off,mem-merge=off"
    if shared_memory:
        memory += f",memory-backend={MEMORY_ID}"
    acceleration = ["-accel", "kvm" if accelerator is Accelerator.KVM else "tcg,tb-size=256"]
    if machine is Machine.PCI:
        return [*acceleration, "-machine", f"q35,vmport=off,{memory}"]
    # Serial ports are devices of their own here, since the board itself would make only the first.
    options = "acpi=on,pit=on,pic=on,rtc=on,isa-serial=off,auto-kernel-cmdline=off"
    modern = ["-global", "virtio-mmio.force-legacy=false"]
    return [*acceleration, "-machine", f"microvm,{options},{memory}", *modern]


def emulated_processor(machine: Machine) -> str:
    """The model for a guest under TCG: a plain one, quick to start, or one that has everything but the promise that
    strings of bytes are moved fast: they are moved one by one, and those that rely on it take twice as long.
    """
    return "qemu64,+rdrand" if machine is Machine.FAST else "max,-erms"


def processor(model: str, cpus: int) -> list[str]:
    return ["-cpu", model, "-smp", str(cpus)]


def memory(mib: int, *, shared: bool) -> list[str]:
    """Guest memory; shared with the vsock device process if there is one."""
    size = ["-m", f"{mib}M"]
    if shared:
        backend = f"memory-backend-memfd,id={MEMORY_ID},size={mib}M,share=on"
        return [*size, "-object", backend]
    return size


def cloned_memory(mib: int, path: str, *, own: bool) -> list[str]:
    """Guest memory that begins as what is in the file. That stays as it is, and pages that are written to are copied,
    unless it is the guest's `own`, and shared with its vsock device process.
    """
    share = "on" if own else "off"
    backend = f"memory-backend-file,id={MEMORY_ID},size={mib}M,share={share},mem-path={path}"
    return ["-m", f"{mib}M", "-object", backend]


def lifecycle(*, pause_on_panic: bool = False) -> list[str]:
    """The guest waits to be let run, since QMP tells nothing of what happens before somebody listens. A reset ends
    QEMU; a panic is reported and left to the guest, unless its memory is wanted as it is then.
    """
    action = "panic=pause" if pause_on_panic else "panic=none"
    return ["-S", "-no-reboot", "-action", action, "-device", "pvpanic"]


def monitor(fd: int) -> list[str]:
    return ["-chardev", f"socket,id=qmp,fd={fd}", "-mon", "chardev=qmp,mode=control"]


def debugger(listener: int) -> list[str]:
    """A debugger's door at a listening unix socket; it is the debugger that lets the guest run.

    Never over TCP: the gdb server carries the whole monitor, and takes what any local program or web page sends.
    """
    return ["-chardev", f"socket,id=gdb,fd={listener},server=on,wait=off", "-gdb", "chardev:gdb"]


def kernel(path: str, initrd: str | None, params: str) -> list[str]:
    arguments = ["-kernel", path]
    if initrd is not None:
        arguments += ["-initrd", initrd]
    if params:
        arguments += ["-append", params]
    return arguments


def quick_firmware() -> list[str]:
    """QEMU's qboot, which only starts kernels. What a microvm gets by default differs between distributions, and the
    SeaBIOS among it resets a board of these devices.
    """
    return ["-bios", "qboot.rom"]


def firmware(path: str) -> list[str]:
    return ["-bios", path]


def add_fd(fd: int) -> list[str]:
    """Makes an inherited descriptor known as /dev/fdset/FD."""
    return ["-add-fd", f"set={fd},fd={fd}"]


def chardev(name: str, outlet: Outlet) -> list[str]:
    if outlet.fd is None:
        return ["-chardev", f"null,id={name}"]
    if not outlet.is_socket:
        # QEMU waits for its log to be written, where it would throw away what a file or pipe does not take at once.
        path = fdset_path(outlet.fd)
        return [*add_fd(outlet.fd), "-chardev", f"null,id={name},logfile={path},logappend=on"]
    if outlet.copy is None:
        return ["-chardev", f"socket,id={name},fd={outlet.fd}"]
    copy = fdset_path(outlet.copy)
    socket = f"socket,id={name},fd={outlet.fd},logfile={copy},logappend=on"
    return [*add_fd(outlet.copy), "-chardev", socket]


def input_backend(output: int, input_set: int) -> dict[str, object]:
    """QMP's form of what `chardev` makes of a file at descriptor `output`, with an input besides."""
    data = {
        "in": fdset_path(input_set),
        "out": "/dev/null",
        "logfile": fdset_path(output),
        "logappend": True,
    }
    return {"type": "file", "data": data}


def output_backend(output: int) -> dict[str, object]:
    """QMP's form of what `chardev` makes of a file or pipe at descriptor `output`."""
    return {"type": "null", "data": {"logfile": fdset_path(output), "logappend": True}}


def serial_port(index: int, name: str, outlet: Outlet) -> list[str]:
    """ttyS`index`, write-only."""
    return [*chardev(name, outlet), "-device", f"isa-serial,index={index},chardev={name}"]


def console_ports(machine: Machine, outlets: Sequence[Outlet]) -> list[str]:
    """hvc0, hvc1, ... in order; the guest numbers them by their order, not by `nr`."""
    arguments = ["-device", f"{virtio('serial', machine)},id=consoles,max_ports={len(outlets) + 1}"]
    for index, outlet in enumerate(outlets):
        name = f"hvc{index}"
        device = f"virtconsole,bus=consoles.0,nr={index},chardev={name}"
        arguments += [*chardev(name, outlet), "-device", device]
    return arguments


def balloon(machine: Machine) -> list[str]:
    options = "id=balloon,deflate-on-oom=on,free-page-reporting=on"
    return ["-device", f"{virtio('balloon', machine)},{options}"]


def entropy(machine: Machine) -> list[str]:
    return ["-object", "rng-builtin,id=entropy", "-device", f"{virtio('rng', machine)},rng=entropy"]


def disk(disk: QemuDisk, machine: Machine) -> list[str]:
    return [*disk_nodes(disk), *device(disk_device(disk, machine))]


def disk_nodes(disk: QemuDisk) -> list[str]:
    """Everything behind the device."""
    arguments = []
    for fd in disk.fds:
        arguments += add_fd(fd)
    for node in disk.blockdevs:
        arguments += ["-blockdev", _json(node)]
    return arguments if disk.drive is None else [*arguments, *_drive(disk, disk.drive)]


def disk_device(disk: QemuDisk, machine: Machine) -> Device:
    driver = virtio("blk", machine)
    if disk.drive is not None:
        return {"driver": driver, "drive": f"{disk.name}-drive"}
    device = {"driver": driver, "drive": disk.name, "werror": "report", "rerror": "report"}
    if disk.format is ImageFormat.QCOW2:
        # crosvm reads stale data from a cluster that QEMU zeroed in place.
        device |= {"discard": "off", "write-zeroes": "off"}
    return device


def _drive(disk: QemuDisk, node: Node) -> list[str]:
    return ["-drive", drive_options(disk, node)]


def drive_options(disk: QemuDisk, node: Node) -> str:
    """The drive of a disk, as the command line and the monitor's drive_add take it."""
    options = [
        "if=none",
        f"id={disk.name}-drive",
        *([] if disk.writable else ["readonly=on"]),
        "auto-read-only=off",
        "werror=report",
        "rerror=report",
        f"file=json:{escape(_json(node))}",
    ]
    return ",".join(options)


def kernel_vsock(machine: Machine, cid: int, vhost_fd: int) -> Device:
    model = "vhost-vsock-device" if machine is Machine.FAST else "vhost-vsock-pci"
    return {"driver": model, "guest-cid": str(cid), "vhostfd": str(vhost_fd)}


def user_vsock(machine: Machine) -> Device:
    """The device is another process, at the other end of `vsock_control`."""
    model = "vhost-user-vsock-device" if machine is Machine.FAST else "vhost-user-vsock-pci"
    return {"driver": model, "chardev": "vsock"}


def vsock_control(fd: int) -> list[str]:
    return ["-chardev", f"socket,id=vsock,fd={fd}"]


def device(device: Device) -> list[str]:
    return ["-device", _option(device)]


def template_port(fd: int, index: int) -> list[str]:
    """The port `index` of the consoles' device."""
    port = f"virtserialport,bus=consoles.0,nr={index},chardev=template,name={TEMPLATE_PORT}"
    return ["-chardev", f"socket,id=template,fd={fd}", "-device", port]


def slots(count: int) -> list[str]:
    """Empty slots of a q35, `slot0`, `slot1`, ..., each for one device that is added later, and without ACPI: the guest
    switches a slot on and off, and what is in one that it switches off is unplugged. See `avf.guest.slots`.
    """
    arguments = ["-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off"]
    for index in range(count):
        number = index + 1
        arguments += ["-device", f"pcie-root-port,id=slot{index},chassis={number},slot={number}"]
    return arguments


def stand_in_disk(index: int) -> list[str]:
    """A disk with nothing on it, in that slot."""
    node = f"stand-in{index}"
    disk = {"driver": "virtio-blk-pci", "drive": node}
    return [
        *("-blockdev", f"null-co,node-name={node},size=0,read-only=on"),
        *device(in_slot(disk, index)),
    ]


def in_slot(device: Device, index: int) -> Device:
    """The device, to be plugged into that slot."""
    return {**device, "bus": f"slot{index}", "id": name_in_slot(index)}


def name_in_slot(index: int) -> str:
    """By which the device in that slot is known."""
    return f"in-slot{index}"


def incoming() -> list[str]:
    """The machine is in the state it is made in until another's is loaded into it."""
    return ["-incoming", "defer"]


def _option(device: Device) -> str:
    """A device as the command line takes it."""
    properties = (f"{name}={value}" for name, value in device.items() if name != "driver")
    return ",".join([device["driver"], *properties])


def _json(node: Node) -> str:
    return json.dumps(node, separators=(",", ":"))
