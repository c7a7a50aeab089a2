"""Things that happen at the same time: starts of the daemon, calls and the end of their session, starts and drops."""

import contextlib
import subprocess
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from avf.aidl.virtualizationservice import IVirtualizationService
from avf.aidl.virtualizationservice_internal import IGlobalVmContext
from avf.binder import (
    BinderError,
    FdMode,
    Interface,
    RemoteException,
    Server,
    Session,
    bootstrap,
    method,
    unix,
)
from avf.binder import connect as binder_connect
from avf.client import VirtualizationService, VirtualMachine, connect
from avf.client.process import VirtmgrProcess
from avf.unix_path import listen
from avf.virtmgr import global_service
from avf.virtmgr.global_service import GlobalService
from avf.virtualizationservice.cids import CidAllocator
from avf.virtualizationservice.contexts import ContextTable
from avf.virtualizationservice.tempdirs import TempDirs
from tests.eventually import eventually
from tests.fault.guests import config
from tests.fault.processes import processes

SECONDS = 30
QEMU, DAEMON = "qemu-system", "avf.virtualizationservice"


def together(acts: list[Callable[[], None]]) -> None:
    """Runs all at the same time and waits for them; what one raises is raised."""
    barrier = threading.Barrier(len(acts))
    errors: list[BaseException] = []

    def run(act: Callable[[], None]) -> None:
        barrier.wait(SECONDS)
        try:
            act()
        except BaseException as e:  # noqa: BLE001
            errors.append(e)

    threads = [threading.Thread(target=run, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
        assert not thread.is_alive()
    for error in errors:
        raise error


def test_several_clients_find_no_daemon(runtime_dir: Path, image_dir: Path, tmp_path: Path) -> None:
    """One starts it, and all get VMs of their own from it."""
    vms: list[VirtualMachine] = []
    with contextlib.ExitStack() as undo:
        clients = [undo.enter_context(connect()) for _ in range(4)]
        together([lambda c=c: vms.append(c.create_vm(config(tmp_path))) for c in clients])  # type: ignore[misc]
        assert len({vm.cid for vm in vms}) == len(clients)
        assert sum(DAEMON in command for command in processes(runtime_dir).values()) == 1
        assert len(clients[0].debug_list_vms()) == len(clients)


def test_start_twice_at_once(service: VirtualizationService, tmp_path: Path) -> None:
    outcomes: list[str] = []

    def start() -> None:
        try:
            vm.start()
            outcomes.append("started")
        except BinderError as e:
            outcomes.append(str(e))

    with service.create_vm(config(tmp_path)) as vm:
        together([start] * 3)
        assert sorted(outcomes)[:2] == ["STARTED_BEFORE: VM already started or failed"] * 2
        assert sorted(outcomes)[2] == "started"


@pytest.fixture
def virtmgr(runtime_dir: Path, image_dir: Path) -> Iterator[VirtmgrProcess]:
    process = VirtmgrProcess(None, forward_log=False, timeout=SECONDS)
    yield process
    process.close()


def session_of(virtmgr: VirtmgrProcess) -> Session:
    return binder_connect(bootstrap(virtmgr.bootstrap), fd_mode=FdMode.UNIX, timeout=SECONDS)


def test_a_session_ends_while_it_makes_or_starts_a_vm(
    virtmgr: VirtmgrProcess, runtime_dir: Path, tmp_path: Path
) -> None:
    """virtmgr lives on for its other sessions, so the VM, which nobody holds, must go by itself."""
    with session_of(virtmgr) as lasting, config(tmp_path).open() as aidl:
        root = lasting.get_root(IVirtualizationService)
        for moment in range(40):
            session = session_of(virtmgr)

            def make(session: Session = session) -> None:
                with contextlib.suppress(BinderError):
                    session.get_root(IVirtualizationService).create_vm(aidl, None, None).start()

            def leave(session: Session = session, moment: int = moment) -> None:
                threading.Event().wait(moment * 0.0004)
                session.close()

            together([make, leave])

        def listed() -> object:
            with contextlib.suppress(RemoteException):  # while too many calls wait for the daemon
                return root.debug_list_vms()

        eventually(listed, [])
        eventually(lambda: list((runtime_dir / "vms").iterdir()), [])
        assert not [c for c in processes(runtime_dir).values() if QEMU in c]


def test_the_caller_has_gone_before_it_gets_its_context(tmp_path: Path) -> None:
    """The daemon's side of the same: the CID is free again, whenever the session ended."""
    directories = TempDirs(tmp_path / "vms")
    table = ContextTable(CidAllocator(tmp_path / "last_cid"), directories)

    class IMaker(Interface, descriptor="test.IMaker"):
        @method(1)
        def make(self) -> IGlobalVmContext:
            raise NotImplementedError

    class Maker(IMaker):
        def make(self) -> IGlobalVmContext:
            made = table.allocate(0, 0)
            session.close()
            eventually(lambda: server.sessions, 0)
            return made

    server = Server(Maker(), max_threads=2)
    server.start(listen(str(tmp_path / "socket"), mode=0o600, backlog=8))
    try:
        session = binder_connect(unix(tmp_path / "socket"), timeout=SECONDS)
        with pytest.raises(BinderError):
            session.get_root(IMaker).make()
        eventually(table.live, [])
    finally:
        server.shutdown()
        directories.close()
    assert list((tmp_path / "vms").iterdir()) == []


def test_clients_come_and_go_while_the_daemon_wants_to_leave(
    runtime_dir: Path, image_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon leaves when idle; whoever comes at that moment gets the next one."""

    daemons = []

    def start(log_file: Path, start: Callable[[Path], subprocess.Popen[bytes]]) -> object:
        daemons.append(start(log_file))
        return daemons[-1]

    start_one = partial(start, start=global_service._start)
    monkeypatch.setattr(global_service, "_start", start_one)
    monkeypatch.setattr(global_service, "IDLE_SECONDS", 0.5)
    for pause in [0.9, 0.95, 1.0, 1.05, 1.1, 1.2]:
        caller = GlobalService()
        try:
            assert caller.call(lambda daemon: daemon.debug_list_vms()) == []
        finally:
            caller.close()
        threading.Event().wait(pause)
    assert len(daemons) > 1, "the daemon never left"
    for daemon in daemons:
        assert daemon.wait(SECONDS) == 0
