"""Somebody stops answering: a client, its callbacks, the reader of a log, virtualizationservice, QEMU."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from avf.aidl.virtualizationservice import IVirtualizationService, VirtualMachineState
from avf.aidl.virtualmachineservice import IVirtualMachineService
from avf.binder import FdMode, bootstrap, release, unix
from avf.binder import connect as binder_connect
from avf.client import DeathReason, VirtualizationService, VmDied
from avf.client.control import open_vm
from avf.virtmgr import global_service as global_service_module
from avf.virtmgr.global_service import GlobalService, GlobalServiceError
from tests.eventually import eventually
from tests.fault.guests import config
from tests.fault.processes import all_end, the_one

SECONDS = 30
QEMU, DEVICE, VIRTMGR, DAEMON = (
    "qemu-system",
    "avf/vsock/device",
    "avf.virtmgr",
    "avf.virtualizationservice",
)

SILENT_CLIENT = """
import os, signal, sys
from pathlib import Path
from avf.client import connect
from tests.fault.guests import config
with connect() as service, service.create_vm(config(Path(sys.argv[1]))) as vm:
    vm.start()
    print(vm.cid, flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
"""


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        eventually(lambda: states(pid), {"T"})
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def states(pid: int) -> set[str]:
    """Of all threads."""
    stats = [file.read_text() for file in Path(f"/proc/{pid}/task").glob("*/stat")]
    return {stat.rpartition(")")[2].split()[0] for stat in stats}


def test_a_stopped_client_keeps_its_vms_and_they_can_be_ended(
    runtime_dir: Path, image_dir: Path, tmp_path: Path
) -> None:
    with (
        subprocess.Popen(
            [sys.executable, "-c", SILENT_CLIENT, tmp_path], stdout=subprocess.PIPE
        ) as client,
        contextlib.ExitStack() as undo,
    ):
        undo.callback(client.kill)
        assert client.stdout is not None
        cid = int(client.stdout.readline())
        with all_end(runtime_dir, QEMU, DEVICE), open_vm(cid) as control:
            control.stop()
        with all_end(runtime_dir, VIRTMGR):
            client.kill()
    eventually(lambda: list((runtime_dir / "vms").iterdir()), [])


def test_a_callback_that_does_not_return(service: VirtualizationService, tmp_path: Path) -> None:
    """Others hear of their VM's death, and both VMs can be stopped."""
    go_on, heard = threading.Event(), threading.Event()

    def stuck(event: object) -> None:
        go_on.wait(SECONDS)

    def listen(event: object) -> None:
        if isinstance(event, VmDied):
            heard.set()

    try:
        with service.create_vm(config(tmp_path), on_event=stuck) as vm:
            vm.start()
            with service.create_vm(config(tmp_path), on_event=listen) as other:
                other.start()
                vm.stop()
                other.stop()
                assert heard.wait(SECONDS)
            go_on.set()
    finally:
        go_on.set()


def test_nobody_reads_the_log(runtime_dir: Path, image_dir: Path, tmp_path: Path) -> None:
    """A client that gives its virtmgr a pipe and never reads it."""
    ours, theirs = socket.socketpair()
    ready_read, ready = os.pipe()
    log_read, log = os.pipe()
    os.set_blocking(log, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(log, bytes(4096))
    os.set_blocking(log, True)
    virtmgr = subprocess.Popen(
        [
            *(sys.executable, "-m", "avf.virtmgr"),
            f"--rpc-server-fd={theirs.fileno()}",
            f"--ready-fd={ready}",
        ],
        stderr=log,
        pass_fds=(theirs.fileno(), ready),
    )
    theirs.close()
    os.close(ready)
    os.close(log)
    with virtmgr, ours, open(ready_read, "rb") as waiting, open(log_read, "rb"):
        assert waiting.read() == b"o"
        with binder_connect(bootstrap(ours), fd_mode=FdMode.UNIX, timeout=SECONDS) as session:
            root = session.get_root(IVirtualizationService)
            with config(tmp_path).open() as aidl:
                vm = root.create_vm(aidl, None, None)
            vm.start()
            vm.stop()
            assert vm.get_state() == VirtualMachineState.DEAD
            release(vm)
        ours.close()
        assert virtmgr.wait(SECONDS) == 0


def test_a_stopped_qemu(service: VirtualizationService, runtime_dir: Path, tmp_path: Path) -> None:
    with service.create_vm(config(tmp_path)) as vm:
        vm.start()
        with all_end(runtime_dir, QEMU, DEVICE):
            os.kill(the_one(runtime_dir, QEMU), signal.SIGSTOP)
            vm.stop()
        assert vm.wait_for_death(SECONDS) is DeathReason.KILLED


def test_a_stopped_device(
    service: VirtualizationService, runtime_dir: Path, tmp_path: Path
) -> None:
    with service.create_vm(config(tmp_path)) as vm:
        vm.start()
        with all_end(runtime_dir, QEMU, DEVICE):
            os.kill(the_one(runtime_dir, DEVICE), signal.SIGSTOP)
            vm.stop()


def test_vms_end_while_the_daemon_does_not_answer(
    service: VirtualizationService, runtime_dir: Path, tmp_path: Path
) -> None:
    with service.create_vm(config(tmp_path)) as vm:
        vm.start()
        with stopped(the_one(runtime_dir, DAEMON)), all_end(runtime_dir, QEMU, DEVICE):
            vm.stop()
            vm.close()
    eventually(service.debug_list_vms, [])


def test_a_call_of_a_daemon_that_does_not_answer(
    service: VirtualizationService, runtime_dir: Path
) -> None:
    """It fails after a while, and what it yields later is given back."""
    service.debug_list_vms()
    caller = GlobalService(patience=0.5)
    try:
        caller.prepare()
        discarded: list[object] = []
        with (
            stopped(the_one(runtime_dir, DAEMON)),
            pytest.raises(GlobalServiceError, match=r"has not answered for 0\.5 s"),
        ):
            caller.call(lambda daemon: daemon.allocate_global_vm_context(1), discarded.append)
        eventually(lambda: len(discarded), 1)
        discarded.clear()
        eventually(service.debug_list_vms, [])
        assert caller.call(lambda daemon: daemon.debug_list_vms()) == []
    finally:
        caller.close()


def test_no_more_than_some_calls_wait(service: VirtualizationService, runtime_dir: Path) -> None:
    service.debug_list_vms()
    caller = GlobalService(patience=0.01)
    try:
        caller.prepare()
        threads = threading.active_count()
        with stopped(the_one(runtime_dir, DAEMON)):
            for _ in range(global_service_module.MAX_CALLS + 10):
                with pytest.raises(GlobalServiceError):
                    caller.call(lambda daemon: daemon.debug_list_vms())
            assert threading.active_count() <= threads + global_service_module.MAX_CALLS
        eventually(lambda: threading.active_count() <= threads, True)
    finally:
        caller.close()


def test_somebody_sits_on_the_start_lock(
    runtime_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    monkeypatch.setattr(global_service_module, "START_SECONDS", 0.2)
    with open(runtime_dir / "start.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        caller = GlobalService()
        with pytest.raises(GlobalServiceError, match=r"start\.lock"):
            caller.call(lambda daemon: daemon.debug_list_vms())
        caller.close()


def test_guests_are_heard_while_a_vm_is_being_made(
    service: VirtualizationService, runtime_dir: Path, tmp_path: Path
) -> None:
    """However long createVm takes: here the daemon does not answer it."""
    made: list[int] = []

    def make() -> None:
        with service.create_vm(config(tmp_path)) as other:
            made.append(other.cid)

    with service.create_vm(config(tmp_path)) as vm:
        vm.start()
        port = runtime_dir / "vms" / str(vm.cid) / f"vsock.sock_{vm.cid}"
        making = threading.Thread(target=make)
        with stopped(the_one(runtime_dir, DAEMON)):
            making.start()
            with binder_connect(unix(port), timeout=SECONDS) as session:
                session.get_root(IVirtualMachineService).notify_payload_ready()
            vm.wait_until_ready(SECONDS)
            assert not made
        making.join(SECONDS)
        assert made
