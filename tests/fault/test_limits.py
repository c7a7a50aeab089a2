"""A process runs out of descriptors, of memory for threads: calls fail in so many words, and nothing else does."""

import contextlib
import os
import resource
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from avf.aidl.virtualizationcommon import DeathReason as AidlDeathReason
from avf.aidl.virtualizationcommon import ErrorCode
from avf.aidl.virtualizationservice import IVirtualMachineCallback
from avf.binder import RemoteException
from avf.client import DeathReason, VirtualizationService, VirtualMachine
from avf.virtmgr.atoms import AtomSender
from avf.virtmgr.create import VmCreation
from avf.virtmgr.errors import VirtmgrError
from avf.virtmgr.global_service import GlobalService
from avf.virtmgr.requester import Requester
from avf.virtmgr.table import VmTable
from avf.vmm import Qemu
from tests.eventually import eventually
from tests.fault import counts
from tests.fault.guests import config
from tests.fault.processes import processes, the_one

SECONDS = 30
DAEMON = "avf.virtualizationservice"


class Ignoring(IVirtualMachineCallback):
    def on_payload_started(self, cid: int) -> None:
        pass

    def on_payload_ready(self, cid: int) -> None:
        pass

    def on_payload_finished(self, cid: int, exit_code: int) -> None:
        pass

    def on_error(self, cid: int, error_code: ErrorCode, message: str) -> None:
        pass

    def on_died(self, cid: int, reason: AidlDeathReason) -> None:
        pass


@contextlib.contextmanager
def limited(pid: int, what: int, soft: int) -> Iterator[None]:
    before = resource.prlimit(pid, what)
    resource.prlimit(pid, what, (soft, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, what, before)


def works(service: VirtualizationService, folder: Path) -> None:
    with service.create_vm(config(folder)) as vm:
        vm.start()
        vm.stop()
        assert vm.wait_for_death(SECONDS) is DeathReason.KILLED, vm.death_report


def test_virtmgr_asks_for_as_many_descriptors_as_it_may_have(
    service: VirtualizationService,
) -> None:
    soft, hard = resource.prlimit(service.pid, resource.RLIMIT_NOFILE)
    assert soft == min(hard, 65536)


@pytest.mark.usefixtures("several_uids")
def test_virtmgr_has_few_descriptors(service: VirtualizationService, tmp_path: Path) -> None:
    """There is a last VM; those before it can still be started and stopped."""
    works(service, tmp_path)
    before = counts.descriptors(service.pid)
    vms: list[VirtualMachine] = []
    with contextlib.ExitStack() as undo:
        with limited(service.pid, resource.RLIMIT_NOFILE, before + 90):
            with pytest.raises(RemoteException, match="RLIMIT_NOFILE") as raised:
                while len(vms) < 60:
                    vms += [undo.enter_context(service.create_vm(config(tmp_path)))]
            assert raised.value.service_specific == -1
            assert len(vms) > 2
            for vm in vms[:2]:
                vm.start()
                vm.stop()
                assert vm.wait_for_death(SECONDS) is DeathReason.KILLED
        works(service, tmp_path)
    eventually(lambda: counts.descriptors(service.pid) <= before, True)


@pytest.mark.parametrize("spare", range(0, 24, 2))
@pytest.mark.usefixtures("several_uids")
def test_no_descriptor_is_left_for_a_start(
    service: VirtualizationService, runtime_dir: Path, tmp_path: Path, spare: int
) -> None:
    """Whatever step fails, the VM has failed, no process is left, and virtmgr goes on."""
    works(service, tmp_path)
    before, running = counts.descriptors(service.pid), set(processes(runtime_dir))
    with service.create_vm(config(tmp_path)) as vm:
        held = counts.descriptors(service.pid)
        with limited(service.pid, resource.RLIMIT_NOFILE, held + spare):
            try:
                vm.start()
            except RemoteException as e:
                assert ") failed to start\n\nCaused by:\n" in e.message
                assert "Too many open files" in e.message
            else:
                vm.wait_for_death(0.5)
        if vm.state.name != "DEAD":
            vm.stop()
    works(service, tmp_path)
    eventually(lambda: set(processes(runtime_dir)) - running, set())
    eventually(lambda: counts.descriptors(service.pid) <= before, True)


@pytest.mark.parametrize(
    "refused",
    ["exit-", "failure-reason", "vm-output", "metrics-", "qemu-", "callback-", "binder-accept"],
)
def test_no_more_threads(
    service: VirtualizationService,
    runtime_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    refused: str,
) -> None:
    """A VM made in this process, where one thread cannot be started: nothing is left, and it can be let go of."""
    works(service, tmp_path)
    before, running = counts.descriptors(os.getpid()), set(processes(runtime_dir))
    start = threading.Thread.start

    def refuse(self: threading.Thread) -> None:
        if self.name.startswith(refused):
            raise RuntimeError("can't start new thread")
        start(self)

    daemon = GlobalService()
    atoms = AtomSender(daemon)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    try:
        with config(tmp_path).open() as aidl, contextlib.suppress(RemoteException, VirtmgrError):
            creation = VmCreation(daemon, VmTable(), Qemu(), atoms)
            machine = creation.run(aidl, None, None, None, Requester(os.getuid(), 0))
            machine.register_callback(Ignoring())
            try:
                machine.start()
                machine.stop()
            finally:
                machine.release()
    finally:
        atoms.close(SECONDS)
        daemon.close()
    assert set(processes(runtime_dir)) == running
    eventually(service.debug_list_vms, [])
    eventually(lambda: counts.descriptors(os.getpid()) <= before, True)


@pytest.mark.usefixtures("several_uids")
def test_the_daemon_has_no_descriptors(
    service: VirtualizationService, runtime_dir: Path, tmp_path: Path
) -> None:
    """Its clients get an error or what they want; when there is room again all is as ever."""
    works(service, tmp_path)
    daemon = the_one(runtime_dir, DAEMON)
    before = counts.descriptors(daemon)
    with limited(daemon, resource.RLIMIT_NOFILE, before), contextlib.suppress(RemoteException):
        for _ in range(3):
            service.create_vm(config(tmp_path)).close()
    works(service, tmp_path)
    eventually(service.debug_list_vms, [])
    eventually(lambda: list((runtime_dir / "vms").iterdir()), [])
    eventually(lambda: counts.descriptors(daemon) <= before, True)
