"""The control socket of VMs that were made but not started, through a real virtmgr and its real service."""

import asyncio
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from avf.aidl.vm_control import IVmControl, Refusal
from avf.binder import DeadObjectError, RemoteException
from avf.client import (
    Disk,
    LifecycleStep,
    NoSuchVm,
    RawConfig,
    StartKind,
    VirtualizationService,
    VirtualMachine,
    VirtualMachineState,
    aio,
    connect,
)
from avf.client.control import ControlledVm, PayloadState, VmMetrics, list_vms, open_vm
from avf.report import gather, render
from tests.eventually import eventually

AS_NOBODY = """
import os, socket, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
with socket.socket(socket.AF_UNIX) as sock:
    try:
        sock.connect(sys.argv[1])
    except PermissionError:
        print("denied")
"""


@pytest.fixture
def service(runtime_dir: Path) -> Iterator[VirtualizationService]:
    with connect() as connection:
        yield connection


@contextmanager
def made(
    service: VirtualizationService, folder: Path, **changes: object
) -> Iterator[tuple[VirtualMachine, ControlledVm]]:
    kernel = folder / "kernel"
    kernel.touch()
    config = RawConfig(name="raw", kernel=kernel, memory_mib=64)
    with service.create_vm(config, **changes) as vm, open_vm(vm.cid) as control:  # type: ignore[arg-type]
        yield vm, control


def test_what_it_is(service: VirtualizationService, tmp_path: Path) -> None:
    with made(service, tmp_path, console=tmp_path / "console") as (vm, control):
        details = control.details()
        assert (details.cid, details.name, details.vmm) == (vm.cid, "raw", "qemu")
        assert details.state == VirtualMachineState.NOT_STARTED
        assert details.payload_state == PayloadState.STARTING
        assert (details.requester_uid, details.requester_pid) == (os.getuid(), os.getpid())
        assert (details.memory_mib, details.cpus) == (64, 1)
        assert (details.vmm_pid, details.uptime) == (None, None)
        assert (details.has_console, details.has_log) == (True, False)
        assert details.takes_console_input
        assert control.metrics() == VmMetrics(0, 0, 0, 0, 0, 0)
        assert control.history() == []
        assert control.death_report() is None


def test_what_it_was_made_of(service: VirtualizationService, tmp_path: Path) -> None:
    kernel, disk = tmp_path / "kernel \N{SNOWMAN}", tmp_path / os.fsdecode(b"disk \xff")
    kernel.write_bytes(b"x" * 100)
    disk.write_bytes(bytes(1 << 20))
    config = RawConfig(name="raw", kernel=kernel, disks=[Disk(image=disk, writable=True)])
    with service.create_vm(config) as vm:
        parts = vm.parts()
        assert (parts.is_app, parts.payload, parts.arguments) == (False, "", ())
        first, second = parts.files
        assert (first.label, first.disk, first.path) == ("kernel", None, str(kernel))
        assert (first.size, first.writable) == (100, False)
        assert first.is_at(kernel.stat())
        assert (second.label, second.disk, second.writable) == ("disk", 0, True)
        assert second.path == f"{tmp_path}/disk \\xff"  # it is no UTF-8, which a string of AIDL is
        kernel.write_bytes(b"y" * 101)
        assert not first.is_at(kernel.stat())
        page = render(gather(vm, vm.death_report))
    assert "disk \\xff" in page and ">not started<" in page


def test_a_timeline_of_a_vm_that_was_not_started(
    service: VirtualizationService, tmp_path: Path
) -> None:
    with made(service, tmp_path) as (vm, control):
        timeline = control.timeline()
        assert timeline == vm.timeline()
        assert timeline.kind is StartKind.UNKNOWN
        assert [phase.name for phase in timeline.phases] == ["context", "files", "disks"]
        assert [moment.step for moment in timeline.moments] == [
            LifecycleStep.CREATION_ASKED,
            LifecycleStep.CREATED,
        ]
        assert timeline.end == timeline.moments[-1].time
        assert (timeline.duration, timeline.guest_error) == (None, None)


def test_the_same_for_asyncio(runtime_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "kernel").touch()

    async def ask() -> None:
        async with aio.connect() as service:
            config = RawConfig(name="raw", kernel=tmp_path / "kernel")
            async with await service.create_vm(config) as vm:
                assert (await vm.timeline()).kind is StartKind.UNKNOWN
                assert await vm.history() == []

    asyncio.run(ask())


def test_a_vm_without_outputs_shows_none(service: VirtualizationService, tmp_path: Path) -> None:
    with made(service, tmp_path) as (_, control):
        details = control.details()
        assert not (details.has_console or details.has_log or details.takes_console_input)
        with pytest.raises(RemoteException, match="no console"):
            control.attach_console()
        with pytest.raises(RemoteException, match="no log"):
            control.follow_log()


def test_nothing_to_stop(service: VirtualizationService, tmp_path: Path) -> None:
    with made(service, tmp_path) as (_, control):
        with pytest.raises(RemoteException, match="VM is not running") as raised:
            control.stop()
        assert raised.value.service_specific == Refusal.NOT_RUNNING


@pytest.mark.usefixtures("several_uids")
def test_the_socket_is_its_owners(service: VirtualizationService, tmp_path: Path) -> None:
    with made(service, tmp_path) as (vm, _):
        (info,) = list_vms()
        assert info.cid == vm.cid
        path = Path(info.temporary_directory, IVmControl.CONTROL_SOCKET_NAME)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        stranger = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, path], capture_output=True, text=True, check=True
        )
        assert stranger.stdout == "denied\n"


def test_controlling_is_not_holding(service: VirtualizationService, tmp_path: Path) -> None:
    """The handle goes, and with it the VM and its directory, though somebody is connected and follows."""
    with made(service, tmp_path, log=tmp_path / "log") as (vm, control):
        with open_vm(vm.cid) as other:
            assert other.details().cid == vm.cid
        assert vm.state == VirtualMachineState.NOT_STARTED
        with control.follow_log() as stream:
            stream.settimeout(15)
            vm.close()
            assert stream.recv(1) == b""
        with pytest.raises(DeadObjectError):
            while True:
                control.details()
        eventually(lambda: len(list_vms()), 0)
        with pytest.raises(NoSuchVm, match=f"no VM with CID {vm.cid}"):
            open_vm(vm.cid)
