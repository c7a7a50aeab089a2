"""The sandbox that is made for a VM: as which user, within which limits, and that KVM works in it."""

import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from avf.confine import Box, Filter, Limits, existing, image_folder, needs_of, spawn
from avf.vmm import box as box_module
from avf.vmm import find_qemu
from avf.vmm.box import FIRST_UID, identity_for, limits_for, uid_of
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


@pytest.mark.parametrize(
    ("uid_map", "gid_map", "uid"),
    [
        ("0 0 4294967295", "0 0 4294967295", FIRST_UID + 2048),
        ("0 1000 1\n1 100000 65536", "0 1000 1\n1 100000 65536", None),
        ("0 0 1000\n1000 5000 2147483647", "0 0 1000\n1000 5000 2147483647", FIRST_UID + 2048),
        ("0 0 4294967295", "0 1000 1", None),
    ],
)
def test_root_of_a_container_without_that_uid_stays_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uid_map: str, gid_map: str, uid: int | None
) -> None:
    """VMs of such a root run in all tests of several users that an ordinary user runs."""
    for name, text in (("uid_map", uid_map), ("gid_map", gid_map)):
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(box_module, "MAPS", tmp_path)
    assert uid_of(2048) == uid
    assert identity_for(2048, [Path("/dev/null")]) == (uid, ())


def test_limits_leave_room_for_the_largest_and_a_little_more(tmp_path: Path) -> None:
    with (tmp_path / "disk").open("wb") as file:
        file.truncate(10 << 30)
        limits = limits_for([file.fileno()], [1 << 30])
    assert 10 << 30 < limits.file_size < 11 << 30
    assert limits_for([], [1 << 30]) == Limits(128, (1 << 30) + (1 << 24) + (64 << 20))
