"""The sandbox that is made for a VM: as which user, within which limits, and that KVM works in it."""

import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from avf.confine import Box, Filter, Limits, existing, image_folder, needs_of, spawn
from avf.vmm import find_qemu
from avf.vmm.box import FIRST_UID, identity_for, limits_for
from avf.vmm.kvm import firmware_command, kvm_processor, under_kvm
from avf.vmm.probe_guest import EXIT_STATUS, probe_firmware
from avf.vmm.qemu.box import _data_folders

pytestmark = pytest.mark.usefixtures("nothing_is_left")


@pytest.mark.vm
@pytest.mark.parametrize("accelerator", ["tcg", "kvm"])
def test_a_tiny_guest_runs_in_the_sandbox(accelerator: str) -> None:
    qemu = find_qemu()
    acceleration, devices = ["-accel", "tcg"], [Path("/dev/null")]
    if accelerator == "kvm":
        if (processor := kvm_processor(qemu)) is None:
            pytest.skip("no guest runs under KVM here")
        acceleration = under_kvm(processor)
        devices.append(Path("/dev/kvm"))
    uid, groups = identity_for(2048, devices)
    with ExitStack() as stack:
        firmware = os.memfd_create("firmware")
        stack.callback(os.close, firmware)
        os.write(firmware, probe_firmware())
        box = Box(
            Filter.MONITOR,
            limits_for([firmware], [16 << 20]),
            tuple(existing([*needs_of(qemu), *_data_folders(qemu)])),
            devices=tuple(devices),
            images=(firmware,),
            uid=uid,
            groups=groups,
        )
        command = firmware_command(qemu, acceleration, firmware)
        command[command.index("-bios") + 1] = f"{image_folder()}/{firmware}"
        assert spawn(command, fds=[firmware], stderr=2, box=box).reap() == EXIT_STATUS


def test_everybodys_devices_need_no_group() -> None:
    assert identity_for(2048, [Path("/dev/null")]) == (FIRST_UID + 2048, ())


def test_a_device_of_a_group(tmp_path: Path) -> None:
    device = tmp_path / "device"
    device.touch()
    os.chown(device, -1, os.getgid() or 5)
    device.chmod(0o660)
    assert identity_for(2048, [device]) == (FIRST_UID + 2048, (device.stat().st_gid,))


def test_a_device_that_is_roots_alone_keeps_root(tmp_path: Path) -> None:
    device = tmp_path / "device"
    device.touch(mode=0o600)
    assert identity_for(2048, [device, Path("/dev/null")]) == (None, ())


def test_limits_leave_room_for_the_largest_and_a_little_more(tmp_path: Path) -> None:
    with (tmp_path / "disk").open("wb") as file:
        file.truncate(10 << 30)
        limits = limits_for([file.fileno()], [1 << 30])
    assert 10 << 30 < limits.file_size < 11 << 30
    assert limits_for([], [1 << 30]) == Limits(128, (1 << 30) + (1 << 24) + (64 << 20))
