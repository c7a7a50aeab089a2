"""The command line as a whole: what is on it when, and in which order."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from avf.disk import ImageDisk, ImageFormat, QemuDisk
from avf.vmm import Accelerator, Machine, VmSpec
from avf.vmm.outlets import NOWHERE, Outlet
from avf.vmm.qemu.command import (
    SLOTS,
    Host,
    Inputs,
    board_of,
    clone_command,
    clone_devices,
    fork_command,
    forkable_command,
    qemu_command,
    stand_ins,
    template_command,
)
from avf.vsock import HybridVsock

SPEC = VmSpec(
    cid=2048,
    name="vm",
    temporary_directory=Path("/none"),
    vsock=HybridVsock(2048, Path("/none/vsock")),
    kernel=3,
    params="quiet",
)
INPUTS = Inputs(
    monitor=10, console=(NOWHERE, NOWHERE), failure=NOWHERE, ramdump=NOWHERE, log=NOWHERE, kernel=11
)
TCG = Host(Accelerator.TCG, cpus=4, tsc_khz=2_000_000)
KVM = Host(Accelerator.KVM, cpus=4, tsc_khz=None, processor="host")


def value(command: list[str], option: str) -> str:
    return command[command.index(option) + 1]


def values(command: list[str], option: str) -> list[str]:
    return [command[at + 1] for at, text in enumerate(command) if text == option]


def test_defaults() -> None:
    command = qemu_command("/qemu", SPEC, INPUTS, KVM)
    assert command[0] == "/qemu"
    assert value(command, "-m") == "256M"
    assert value(command, "-smp") == "1"
    assert value(command, "-append") == "quiet"
    assert not [text for text in command if "net" in text]


@pytest.mark.parametrize(
    ("change", "option", "expected"),
    [
        ({"memory_mib": 64}, "-m", "64M"),
        ({"cpus": None}, "-smp", "4"),
        ({"cpus": 2}, "-smp", "2"),
        (
            {"params": None, "machine": Machine.FAST},
            "-append",
            "tsc_early_khz=2000000 tsc=reliable",
        ),
        ({"machine": Machine.FAST}, "-append", "tsc_early_khz=2000000 tsc=reliable quiet"),
        (
            {"machine": Machine.FAST, "params": "tsc_early_khz=7 tsc=nowatchdog"},
            "-append",
            "tsc_early_khz=7 tsc=nowatchdog",
        ),
    ],
)
def test_what_a_spec_changes(change: dict[str, object], option: str, expected: str) -> None:
    assert value(qemu_command("/qemu", replace(SPEC, **change), INPUTS, TCG), option) == expected  # type: ignore[arg-type]


def test_a_debugger_has_a_socket_that_is_inherited() -> None:
    inputs = replace(INPUTS, debugger=99)
    command = qemu_command("/qemu", SPEC, inputs, TCG)
    assert value(command, "-gdb") == "chardev:gdb"
    assert "socket,id=gdb,fd=99,server=on,wait=off" in values(command, "-chardev")
    assert 99 in inputs.fds
    assert "-gdb" not in qemu_command("/qemu", SPEC, INPUTS, TCG)


def test_devices_come_in_the_order_the_guest_counts_them() -> None:
    inputs = replace(INPUTS, vsock_control=12)
    models = [
        text.split(",")[0] for text in values(qemu_command("q", SPEC, inputs, TCG), "-device")
    ]
    assert models == [
        "pvpanic",
        "isa-serial",
        "isa-serial",
        "virtio-serial-pci",
        "virtconsole",
        "virtconsole",
        "virtconsole",
        "virtio-balloon-pci",
        "virtio-rng-pci",
        "vhost-user-vsock-pci",
    ]


@pytest.mark.parametrize(
    ("machine", "outlets", "ports"),
    [
        (Machine.FAST, {"console": (NOWHERE, NOWHERE), "ramdump": NOWHERE, "log": NOWHERE}, 0),
        (Machine.PCI, {"console": (NOWHERE, NOWHERE), "ramdump": NOWHERE, "log": NOWHERE}, 3),
        (Machine.FAST, {"console": (NOWHERE, Outlet(31)), "ramdump": NOWHERE, "log": NOWHERE}, 3),
        (Machine.FAST, {"console": (NOWHERE, NOWHERE), "ramdump": Outlet(31), "log": NOWHERE}, 3),
        (Machine.FAST, {"console": (NOWHERE, NOWHERE), "ramdump": NOWHERE, "log": Outlet(31)}, 3),
    ],
)
def test_a_mute_guest_on_the_fast_board_has_no_console_ports(
    machine: Machine, outlets: dict[str, Any], ports: int
) -> None:
    command = qemu_command("q", replace(SPEC, machine=machine), replace(INPUTS, **outlets), TCG)
    models = [text.split(",")[0] for text in values(command, "-device")]
    assert models.count("virtconsole") == ports
    assert sum(model.startswith("virtio-serial") for model in models) == (ports > 0)


def test_memory_is_shared_only_with_a_device_process() -> None:
    assert not [t for t in qemu_command("q", SPEC, replace(INPUTS, vhost=9), TCG) if "share" in t]
    command = qemu_command("q", SPEC, replace(INPUTS, vsock_control=9), TCG)
    assert "memory-backend-memfd,id=ram,size=256M,share=on" in command


def test_firmware_excludes_a_kernel() -> None:
    command = qemu_command("q", SPEC, replace(INPUTS, kernel=None, firmware=5), TCG)
    assert value(command, "-bios") == "/proc/self/fd/5"
    assert "-kernel" not in command and "-append" not in command


def test_the_fast_boards_firmware_is_named() -> None:
    fast = replace(SPEC, machine=Machine.FAST)
    assert value(qemu_command("q", fast, INPUTS, TCG), "-bios") == "qboot.rom"
    assert "-bios" not in qemu_command("q", SPEC, INPUTS, TCG)


def test_the_fast_board_needs_the_tsc_rate_only_under_tcg() -> None:
    fast = replace(SPEC, machine=Machine.FAST)
    assert board_of(fast, TCG) is Machine.FAST
    assert board_of(fast, KVM) is Machine.FAST
    assert board_of(fast, replace(TCG, tsc_khz=None)) is Machine.PCI


def test_many_disks_need_the_bigger_board() -> None:
    fast = replace(SPEC, machine=Machine.FAST)
    assert board_of(replace(fast, disks=(ImageDisk(0),) * 20), TCG) is Machine.FAST
    assert board_of(replace(fast, disks=(ImageDisk(0),) * 21), TCG) is Machine.PCI


def test_under_kvm_the_guest_chooses_its_clock() -> None:
    fast = replace(SPEC, machine=Machine.FAST)
    assert "tsc" not in value(qemu_command("q", fast, INPUTS, KVM), "-append")


def test_a_guest_that_had_to_take_the_other_board_has_the_same_clock() -> None:
    fast = replace(SPEC, machine=Machine.FAST, disks=(ImageDisk(0),) * 21)
    inputs = replace(INPUTS, disks=())
    assert "tsc=reliable" in value(qemu_command("q", fast, inputs, TCG), "-append")


def test_a_host_whose_counter_is_no_clock_gives_its_guest_none() -> None:
    fast = replace(SPEC, machine=Machine.FAST)
    host = replace(TCG, tsc_khz=None)
    assert "tsc" not in value(qemu_command("q", fast, INPUTS, host), "-append")


def test_inherited_descriptors_are_exactly_those_named() -> None:
    inputs = replace(
        INPUTS,
        console=(Outlet(20), Outlet(21)),
        failure=Outlet(22),
        log=Outlet(23),
        initrd=24,
        vhost=25,
    )
    assert sorted(inputs.fds) == [10, 11, 20, 21, 22, 23, 24, 25]


FAST = replace(SPEC, machine=Machine.FAST)
CLONE = replace(INPUTS, template=20, initrd=12)
TEMPLATE = replace(CLONE, vsock_control=31)
STAND_INS = [
    "virtio-blk-pci,drive=stand-in0,bus=slot0,id=in-slot0",
    "virtio-blk-pci,drive=stand-in1,bus=slot1,id=in-slot1",
    "vhost-user-vsock-pci,chardev=vsock,bus=slot5,id=in-slot5",
]


def test_a_template_has_stand_ins_for_disks_and_vsock() -> None:
    command = template_command("/qemu", FAST, TEMPLATE, TCG)
    slots = [text for text in values(command, "-device") if text.startswith("pcie-root-port")]
    assert slots[0] == "pcie-root-port,id=slot0,chassis=1,slot=1"
    assert len(slots) == SLOTS
    assert value(command, "-global") == "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off"
    assert [word for word in values(command, "-device") if "bus=slot" in word] == STAND_INS
    assert value(command, "-blockdev") == "null-co,node-name=stand-in0,size=0,read-only=on"
    assert stand_ins(FAST) == ["in-slot0", "in-slot1", "in-slot5"]
    assert value(command, "-kernel") == "/proc/self/fd/11"
    assert value(command, "-append") == "tsc_early_khz=2000000 tsc=reliable quiet"
    assert "socket,id=template,fd=20" in values(command, "-chardev")
    assert "virtserialport,bus=consoles.0,nr=3,chardev=template,name=avf.template" in command
    assert value(command, "-cpu") == "qemu64,+rdrand"
    assert 20 in TEMPLATE.fds


def test_a_clone_is_the_same_machine_without_a_kernel() -> None:
    template = template_command("/qemu", FAST, TEMPLATE, TCG)
    clone = clone_command("/qemu", FAST, replace(CLONE, kernel=None, initrd=None), TCG)
    at, end = template.index("-kernel"), template.index("-blockdev")
    assert clone == [*template[:at], *template[at + 6 : end], "-incoming", "defer"]


@pytest.mark.parametrize("host", [TCG, KVM])
def test_a_clone_shares_its_memory_whatever_carries_vsock(host: Host) -> None:
    for change in ({"vhost": 30}, {"vsock_control": 31}):
        inputs = replace(CLONE, kernel=None, initrd=None, **change)
        command = clone_command("/qemu", FAST, inputs, host)
        assert value(command, "-object") == "memory-backend-memfd,id=ram,size=256M,share=on"


def test_the_devices_of_a_clone_have_a_slot_each() -> None:
    disk = QemuDisk("disk0", True, ImageFormat.RAW)
    other = QemuDisk("disk1", True, None, drive={"driver": "vmdk"})
    inputs = replace(TEMPLATE, disks=(disk, other), vsock_control=31)
    assert clone_devices(FAST, inputs) == [
        {
            "driver": "virtio-blk-pci",
            "drive": "disk0",
            "werror": "report",
            "rerror": "report",
            "bus": "slot0",
            "id": "in-slot0",
        },
        {"driver": "virtio-blk-pci", "drive": "disk1-drive", "bus": "slot1", "id": "in-slot1"},
        {"driver": "vhost-user-vsock-pci", "chardev": "vsock", "bus": "slot5", "id": "in-slot5"},
    ]
    kernel = replace(CLONE, vhost=30)
    (vsock,) = clone_devices(FAST, kernel)
    assert vsock == {
        "driver": "vhost-vsock-pci",
        "guest-cid": "2048",
        "vhostfd": "30",
        "bus": "slot5",
        "id": "in-slot5",
    }


def test_a_copy_of_a_running_guest_is_the_same_machine_without_vsock() -> None:
    """Its disks are there, as they were; whose memory it is, is all that else differs."""
    disk = QemuDisk("disk0", False, None, drive={"driver": "vmdk"})
    inputs = replace(TEMPLATE, disks=(disk,), memory=32, memory_is_own=True)
    original = forkable_command("/qemu", FAST, inputs, TCG)
    memory = f"id=ram,size=256M,share=on,mem-path={inputs.lent_folder}/32"
    assert value(original, "-object") == f"memory-backend-file,{memory}"
    at = original.index("-kernel")
    vsock = STAND_INS[-1]
    expected = [*original[:at], *original[at + 6 :]]
    expected[expected.index(vsock) - 1 : expected.index(vsock) + 1] = []
    template = template_command("/qemu", FAST, TEMPLATE, TCG)
    slots = [word for word in values(original, "-device") if "pcie-root-port" in word]
    assert [word for word in values(template, "-device") if "pcie-root-port" in word] == slots
    assert value(original, "-global") == value(template, "-global")
    for is_own, share in ((True, "share=on"), (False, "share=off")):
        given = replace(inputs, kernel=None, initrd=None, memory_is_own=is_own)
        copy = fork_command("/qemu", FAST, given, TCG)
        same = [
            word.replace("share=on", share) if "ram,size" in word else word for word in expected
        ]
        control = ["-chardev", "socket,id=vsock,fd=31"]
        assert sorted(copy) == sorted([*same, "-incoming", "defer"])
        assert copy[-4:] == [*control, "-incoming", "defer"]
