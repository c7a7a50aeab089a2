"""Golden arguments, device by device."""

import pytest

from avf.disk import ImageFormat, QemuDisk
from avf.vmm import Accelerator, Machine
from avf.vmm.outlets import NOWHERE, Outlet
from avf.vmm.qemu import devices

FAST, PCI = Machine.FAST, Machine.PCI
KVM, TCG = Accelerator.KVM, Accelerator.TCG
MICROVM = "microvm,acpi=on,pit=on,pic=on,rtc=on,isa-serial=off,auto-kernel-cmdline=off"
PRIVATE = "dump-guest-core=off,mem-merge=off"
MODERN = "-global virtio-mmio.force-legacy=false"


@pytest.mark.parametrize(
    ("arguments", "golden"),
    [
        (
            devices.isolation(),
            "-nodefaults -no-user-config -display none"
            " -sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
        ),
        (devices.identity("vm"), "-name guest=vm"),
        (devices.identity("a,b"), "-name guest=a,,b"),
        (devices.identity(""), ""),
        (
            devices.board(FAST, TCG, shared_memory=True),
            f"-accel tcg,tb-size=256 -machine {MICROVM},{PRIVATE},memory-backend=ram {MODERN}",
        ),
        (
            devices.board(FAST, KVM, shared_memory=False),
            f"-accel kvm -machine {MICROVM},{PRIVATE} {MODERN}",
        ),
        (
            devices.board(PCI, KVM, shared_memory=True),
            f"-accel kvm -machine q35,vmport=off,{PRIVATE},memory-backend=ram",
        ),
        (
            devices.board(PCI, TCG, shared_memory=False),
            f"-accel tcg,tb-size=256 -machine q35,vmport=off,{PRIVATE}",
        ),
        (devices.processor(devices.emulated_processor(FAST), 1), "-cpu qemu64,+rdrand -smp 1"),
        (devices.processor(devices.emulated_processor(PCI), 2), "-cpu max,-erms -smp 2"),
        (devices.processor("host", 8), "-cpu host -smp 8"),
        (devices.memory(256, shared=False), "-m 256M"),
        (
            devices.memory(64, shared=True),
            "-m 64M -object memory-backend-memfd,id=ram,size=64M,share=on",
        ),
        (devices.lifecycle(), "-S -no-reboot -action panic=none -device pvpanic"),
        (
            devices.lifecycle(pause_on_panic=True),
            "-S -no-reboot -action panic=pause -device pvpanic",
        ),
        (devices.monitor(7), "-chardev socket,id=qmp,fd=7 -mon chardev=qmp,mode=control"),
        (
            devices.debugger(9),
            "-chardev socket,id=gdb,fd=9,server=on,wait=off -gdb chardev:gdb",
        ),
        (devices.kernel("/proc/self/fd/5", None, ""), "-kernel /proc/self/fd/5"),
        (
            devices.kernel("/proc/self/fd/5", "/proc/self/fd/6", "quiet"),
            "-kernel /proc/self/fd/5 -initrd /proc/self/fd/6 -append quiet",
        ),
        (devices.firmware("/proc/self/fd/5"), "-bios /proc/self/fd/5"),
        (devices.quick_firmware(), "-bios qboot.rom"),
        (
            devices.serial_port(1, "ttyS1", Outlet(9)),
            "-add-fd set=9,fd=9 -chardev null,id=ttyS1,logfile=/dev/fdset/9,logappend=on"
            " -device isa-serial,index=1,chardev=ttyS1",
        ),
        (
            devices.serial_port(0, "ttyS0", NOWHERE),
            "-chardev null,id=ttyS0 -device isa-serial,index=0,chardev=ttyS0",
        ),
        (
            devices.console_ports(FAST, [Outlet(4, is_socket=True), NOWHERE]),
            "-device virtio-serial-device,id=consoles,max_ports=3"
            " -chardev socket,id=hvc0,fd=4 -device virtconsole,bus=consoles.0,nr=0,chardev=hvc0"
            " -chardev null,id=hvc1 -device virtconsole,bus=consoles.0,nr=1,chardev=hvc1",
        ),
        (
            devices.balloon(PCI),
            "-device virtio-balloon-pci,id=balloon,deflate-on-oom=on,free-page-reporting=on",
        ),
        (
            devices.entropy(FAST),
            "-object rng-builtin,id=entropy -device virtio-rng-device,rng=entropy",
        ),
        (
            devices.device(devices.kernel_vsock(PCI, 2048, 8)),
            "-device vhost-vsock-pci,guest-cid=2048,vhostfd=8",
        ),
        (
            devices.device(devices.kernel_vsock(FAST, 2048, 8)),
            "-device vhost-vsock-device,guest-cid=2048,vhostfd=8",
        ),
        (
            [*devices.vsock_control(8), *devices.device(devices.user_vsock(FAST))],
            "-chardev socket,id=vsock,fd=8 -device vhost-user-vsock-device,chardev=vsock",
        ),
        (
            [*devices.vsock_control(8), *devices.device(devices.user_vsock(PCI))],
            "-chardev socket,id=vsock,fd=8 -device vhost-user-vsock-pci,chardev=vsock",
        ),
    ],
)
def test_golden(arguments: list[str], golden: str) -> None:
    assert " ".join(arguments) == golden


def test_an_unpartitioned_raw_disk() -> None:
    node = {"node-name": "disk0", "driver": "raw"}
    disk = QemuDisk("disk0", True, ImageFormat.RAW, fds=[9], blockdevs=[node])
    assert devices.disk(disk, PCI) == [
        *("-add-fd", "set=9,fd=9"),
        *("-blockdev", '{"node-name":"disk0","driver":"raw"}'),
        *("-device", "virtio-blk-pci,drive=disk0,werror=report,rerror=report"),
    ]


def test_an_unpartitioned_qcow2_disk_is_never_zeroed_in_place() -> None:
    disk = QemuDisk("disk0", True, ImageFormat.QCOW2, blockdevs=[{"node-name": "disk0"}])
    assert devices.disk(disk, FAST)[-1] == (
        "virtio-blk-device,drive=disk0,werror=report,rerror=report,discard=off,write-zeroes=off"
    )


@pytest.mark.parametrize(("writable", "read_only"), [(True, ""), (False, "readonly=on,")])
def test_a_partitioned_disk(writable: bool, read_only: str) -> None:
    drive = {"driver": "vmdk", "file": "f"}
    disk = QemuDisk("disk1", writable, None, blockdevs=[{"node-name": "f"}], drive=drive)
    assert devices.disk(disk, FAST) == [
        *("-blockdev", '{"node-name":"f"}'),
        "-drive",
        f"if=none,id=disk1-drive,{read_only}auto-read-only=off,werror=report,rerror=report,"
        'file=json:{"driver":"vmdk",,"file":"f"}',
        *("-device", "virtio-blk-device,drive=disk1-drive"),
    ]
