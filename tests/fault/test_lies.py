"""A guest that makes connections and calls without end. It is played over its VM's own vsock sockets."""

import contextlib
import errno
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from avf.aidl.virtualizationservice import VirtualMachineConfig
from avf.aidl.virtualmachineservice import IVirtualMachineService
from avf.binder import BinderError, ExceptionCode, RemoteException, Session, connect, unix
from avf.client import VirtualizationService, VirtualMachine
from avf.policy import Permission
from avf.virtmgr import context
from avf.virtmgr.atoms import AtomSender
from avf.virtmgr.contexts import CONTEXT_ATTEMPTS
from avf.virtmgr.create import VmCreation
from avf.virtmgr.global_service import GlobalService
from avf.virtmgr.requester import Requester
from avf.virtmgr.table import VmTable
from avf.vmm import Qemu
from tests.eventually import eventually
from tests.fault import counts
from tests.fault.guests import config

SECONDS = 20
FLOOD = 100
SLACK = 8
"""What the VM itself may still be opening."""


@pytest.fixture
def vm(service: VirtualizationService, tmp_path: Path) -> Iterator[VirtualMachine]:
    with service.create_vm(config(tmp_path)) as machine:
        machine.start()
        yield machine


def port(runtime_dir: Path, vm: VirtualMachine) -> Path:
    return runtime_dir / "vms" / str(vm.cid) / f"vsock.sock_{vm.cid}"


@pytest.mark.usefixtures("several_uids")
def test_connections_without_end(
    service: VirtualizationService, vm: VirtualMachine, runtime_dir: Path
) -> None:
    """Some are taken, no more; once they are gone the guest's agent gets through, and its owner always does."""
    descriptors, threads = counts.descriptors(service.pid), counts.threads(service.pid)
    with contextlib.ExitStack() as undo:
        for _ in range(FLOOD):
            stranger = undo.enter_context(socket.socket(socket.AF_UNIX))
            stranger.connect(str(port(runtime_dir, vm)))
        stranger.settimeout(SECONDS)
        assert stranger.recv(1) == b"", "one too many is still served"
        assert counts.descriptors(service.pid) <= descriptors + context.GUEST_CONNECTIONS + SLACK
        assert counts.threads(service.pid) <= threads + context.GUEST_CONNECTIONS + SLACK
        assert vm.state.name == "STARTING"
    eventually(lambda: counts.threads(service.pid) <= threads, True)
    with connect(unix(port(runtime_dir, vm)), timeout=SECONDS) as session:
        session.get_root(IVirtualMachineService).notify_payload_started()
    assert vm.state.name == "STARTED"


def test_sessions_without_end(vm: VirtualMachine, runtime_dir: Path) -> None:
    sessions: list[Session] = []
    try:
        with pytest.raises((BinderError, OSError)):
            while len(sessions) < FLOOD:
                session = connect(unix(port(runtime_dir, vm)), timeout=SECONDS)
                sessions.append(session)
                session.get_root(IVirtualMachineService)
        assert 2 < len(sessions) <= context.GUEST_CONNECTIONS + 1
    finally:
        for session in sessions:
            session.close()


def test_calls_without_end(
    service: VirtualizationService, vm: VirtualMachine, runtime_dir: Path
) -> None:
    """Each is refused; the owner hears of the first alone, and virtmgr logs and keeps nothing of the others."""
    events: list[object] = []
    vm.add_listener(events.append)
    with connect(unix(port(runtime_dir, vm)), timeout=SECONDS) as session:
        guest = session.get_root(IVirtualMachineService)
        guest.notify_payload_started()
        memory = counts.resident_kib(service.pid)
        for _ in range(300):
            with pytest.raises(RemoteException) as raised:
                guest.notify_payload_started()
            assert raised.value.code is ExceptionCode.ILLEGAL_STATE
    assert counts.resident_kib(service.pid) < memory + 3000
    eventually(lambda: len(events), 1)
    assert service.log_tail.count("\n") < 10


def test_a_port_that_is_taken(
    service: VirtualizationService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another CID is tried, a few times; then the caller is told, and no CID stays taken."""
    service.debug_list_vms()
    tried: list[int] = []

    class Taken:
        def __init__(self, cid: int) -> None:
            self.cid = cid

        def listen(self, port: int) -> socket.socket:
            tried.append(port)
            raise OSError(errno.EADDRINUSE, "Address already in use")

    monkeypatch.setattr(context, "host_vsock", lambda cid, directory, **_: Taken(cid))
    daemon = GlobalService()
    atoms = AtomSender(daemon)
    try:
        creation = VmCreation(daemon, VmTable(), Qemu(), atoms)
        aidl: VirtualMachineConfig
        with (
            config(tmp_path).open() as aidl,
            pytest.raises(RemoteException, match="Too many attempts to create VM context failed"),
        ):
            creation.run(aidl, None, None, None, Requester(0, 0))
        assert len(set(tried)) == CONTEXT_ATTEMPTS
        eventually(service.debug_list_vms, [])
    finally:
        atoms.close(SECONDS)
        daemon.close()


class Denying:
    """A GlobalService under whose policy nobody may do much."""

    def __init__(self, *permissions: Permission) -> None:
        self._permissions = permissions

    def call(self, operation: Callable[["Denying"], object], discard: object = None) -> object:
        return operation(self)

    def is_granted(self, permission: str) -> bool:
        return Permission(permission) in self._permissions

    def allocate_global_vm_context(self, requester_debug_pid: int) -> None:
        pytest.fail("a CID was asked for")


@pytest.mark.parametrize(
    ("permissions", "missing"),
    [((), "MANAGE_VIRTUAL"), ((Permission.MANAGE_VIRTUAL_MACHINE,), "USE_CUSTOM_VIRTUAL")],
)
def test_who_may_not_use_up_cids(
    tmp_path: Path, permissions: tuple[Permission, ...], missing: str
) -> None:
    denying: Any = Denying(*permissions)
    creation = VmCreation(denying, VmTable(), Qemu(), denying)
    with config(tmp_path).open() as aidl, pytest.raises(RemoteException, match=missing) as raised:
        creation.run(aidl, None, None, None, Requester(0, 0))
    assert raised.value.code is ExceptionCode.SECURITY
