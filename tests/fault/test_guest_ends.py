"""However a guest ends, or does not, its owner learns the right reason and can end it."""

import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from avf.aidl.virtualizationservice import MemoryTrimLevel
from avf.binder import RemoteException
from avf.client import (
    DeathReason,
    Disk,
    RawConfig,
    Refused,
    VirtualizationService,
    VirtualMachine,
    connect,
)
from tests.eventually import eventually
from tests.fault import counts
from tests.fault.guests import Guest, config
from tests.fault.processes import processes
from tests.vm.conftest import App

SECONDS = 30


@pytest.mark.parametrize(
    ("guest", "reason"),
    [(Guest.RESETS, DeathReason.REBOOT), (Guest.PANICS, DeathReason.CRASH)],
)
def test_the_guest_ends(
    service: VirtualizationService, tmp_path: Path, guest: Guest, reason: DeathReason
) -> None:
    with service.create_vm(config(tmp_path, guest)) as vm:
        vm.start()
        assert vm.wait_for_death(SECONDS) is reason


@pytest.mark.parametrize("guest", [Guest.HALTS, Guest.FLOODS_CONSOLE, Guest.FLOODS_FAILURE_PORT])
def test_the_guest_never_ends(
    service: VirtualizationService, runtime_dir: Path, tmp_path: Path, guest: Guest
) -> None:
    with service.create_vm(config(tmp_path, guest), console=tmp_path / "console") as vm:
        vm.start()
        vm.stop()
        assert vm.wait_for_death(SECONDS) is DeathReason.KILLED
        assert not [p for p in processes(runtime_dir).values() if "qemu-system" in p]
        assert [path.name for path in (runtime_dir / "vms" / str(vm.cid)).iterdir()] == [
            "control.sock"
        ]


def test_a_console_that_nobody_reads(service: VirtualizationService, tmp_path: Path) -> None:
    """The guest fills the pipe; neither its owner nor the end of the VM waits for a reader."""
    read_end, write_end = os.pipe()
    with open(read_end, "rb") as console, open(write_end, "wb") as given:
        with service.create_vm(config(tmp_path, Guest.FLOODS_CONSOLE), console=given) as vm:
            vm.start()
            capacity = 64 << 10
            received = console.read(capacity)  # the guest is well under way, and fills it anew
            vm.stop()
            assert vm.wait_for_death(SECONDS) is DeathReason.KILLED
        assert received == b"x" * capacity


def test_an_endless_failure_text_is_cut(service: VirtualizationService, tmp_path: Path) -> None:
    before = counts.resident_kib(service.pid)
    with service.create_vm(config(tmp_path, Guest.FLOODS_FAILURE_PORT)) as vm:
        vm.start()
        assert vm.wait_for_death(1) is None
        vm.stop()
        report = vm.death_report
        assert report is not None
        assert report.reason is DeathReason.KILLED
        assert 0 < len(report.failure) <= 4096
    assert counts.resident_kib(service.pid) < before + 20_000


def test_a_kernel_that_is_none(service: VirtualizationService, tmp_path: Path) -> None:
    kernel = tmp_path / "kernel"
    kernel.write_bytes(b"no kernel" * 1000)
    with service.create_vm(RawConfig(kernel=kernel, platform_version="~1.0")) as vm:
        vm.start()
        assert vm.wait_for_death(SECONDS) is DeathReason.START_FAILED


def test_a_disk_that_another_vm_has(service: VirtualizationService, tmp_path: Path) -> None:
    """Two clients race for one writable image: the second VM does not start, the first goes on."""
    image = tmp_path / "image"
    image.write_bytes(bytes(1 << 20))
    shared = replace(config(tmp_path), disks=[Disk(image=image, writable=True)])
    with service.create_vm(shared) as first, service.create_vm(shared) as second:
        first.start()
        assert first.wait_for_death(0.5) is None
        with pytest.raises(Refused, match=f"{image} is in use by process"):
            second.start()
        assert second.wait_for_death(SECONDS) is DeathReason.START_FAILED
        assert first.death_reason is None
        first.stop()


@pytest.mark.vm
def test_a_guest_that_never_gets_to_its_payload(
    app: App, monkeypatch: pytest.MonkeyPatch, runtime_dir: Path
) -> None:
    """Killed after AVF_BOOT_TIMEOUT; the guest, which has only just begun to boot, has said nothing itself."""
    monkeypatch.setenv("AVF_BOOT_TIMEOUT", "0.2")
    config = app.running("echo.py", fresh=True)  # a clone gets there sooner
    with connect() as impatient, impatient.create_vm(config) as vm:
        vm.start()
        assert vm.wait_for_death(SECONDS) is DeathReason.HANGUP


def test_stop_from_two_threads(service: VirtualizationService, tmp_path: Path) -> None:
    with service.create_vm(config(tmp_path)) as vm:
        vm.start()
        stoppers = [threading.Thread(target=_stop, args=(vm,)) for _ in range(4)]
        for stopper in stoppers:
            stopper.start()
        for stopper in stoppers:
            stopper.join(SECONDS)
            assert not stopper.is_alive()
        assert vm.wait_for_death(SECONDS) is DeathReason.KILLED


def _stop(vm: VirtualMachine) -> None:
    try:
        vm.stop()
    except RemoteException as e:
        assert e.message == "VM is not running"


def test_memory_is_not_trimmed_without_a_balloon_driver(
    service: VirtualizationService, tmp_path: Path
) -> None:
    """As in AVF this is no error; the log says that nothing was done."""
    with service.create_vm(config(tmp_path)) as vm:
        vm.start()
        vm.trim_memory(MemoryTrimLevel.TRIM_MEMORY_RUNNING_LOW)
        eventually(lambda: "has no balloon yet; its memory stays" in service.log_tail, True)
