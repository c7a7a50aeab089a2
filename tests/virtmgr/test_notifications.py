"""What a guest tells, true or not, and who hears of it. The guest is played over the VM's own vsock sockets."""

import contextlib
import queue
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from avf.aidl.virtualizationcommon import DeathReason, ErrorCode
from avf.aidl.virtualizationservice import (
    IVirtualizationService,
    IVirtualMachine,
    IVirtualMachineCallback,
)
from avf.aidl.virtualmachineservice import IVirtualMachineService
from avf.aidl.vm_control import IVmControl, Timeline
from avf.binder import (
    BinderError,
    DeadObjectError,
    ExceptionCode,
    RemoteException,
    connect,
    interface_cast,
    ping,
    release,
    unix,
)
from tests.virtmgr.conftest import create, raw

SECONDS = 20


class Recorder(IVirtualMachineCallback):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.events: queue.Queue[tuple[object, ...]] = queue.Queue()

    def on_payload_started(self, cid: int) -> None:
        self.events.put(("started", cid))

    def on_payload_ready(self, cid: int) -> None:
        self.events.put(("ready", cid))

    def on_payload_finished(self, cid: int, exit_code: int) -> None:
        self.events.put(("finished", cid, exit_code))

    def on_error(self, cid: int, error_code: ErrorCode, message: str) -> None:
        self.events.put(("error", cid, error_code, message))

    def on_died(self, cid: int, reason: DeathReason) -> None:
        self.events.put(("died", cid, reason))

    def next(self) -> tuple[object, ...]:
        return self.events.get(timeout=SECONDS)


class Broken(IVirtualMachineCallback, partial=True):
    """Implements nothing."""

    def on_payload_started(self, cid: int) -> None:
        raise RuntimeError("broken")


@pytest.fixture
def vm(root: IVirtualizationService, tmp_path: Path) -> Iterator[IVirtualMachine]:
    machine = create(root, raw(tmp_path))
    yield machine
    release(machine)


@pytest.fixture
def recorder(vm: IVirtualMachine) -> Recorder:
    callback = Recorder()
    vm.register_callback(callback)
    return callback


def service_socket(runtime_dir: Path, cid: int) -> Path:
    return runtime_dir / "vms" / str(cid) / f"vsock.sock_{cid}"


@pytest.fixture
def guest(vm: IVirtualMachine, runtime_dir: Path) -> Iterator[IVirtualMachineService]:
    with connect(unix(service_socket(runtime_dir, vm.get_cid())), timeout=SECONDS) as session:
        yield session.get_root(IVirtualMachineService)


def test_a_payload_that_goes_its_way(
    vm: IVirtualMachine, guest: IVirtualMachineService, recorder: Recorder
) -> None:
    cid = vm.get_cid()
    guest.notify_payload_started()
    assert recorder.next() == ("started", cid)
    guest.notify_payload_ready()
    assert recorder.next() == ("ready", cid)
    guest.notify_payload_finished(-3)
    assert recorder.next() == ("finished", cid, -3)


def test_a_guest_hears_the_time(guest: IVirtualMachineService) -> None:
    before = time.time_ns()
    told = guest.get_time()
    assert before <= told <= time.time_ns()


def told_timeline(vm: IVirtualMachine) -> Timeline:
    return interface_cast(IVmControl, vm.get_control()).get_timeline()


def told_phases(vm: IVirtualMachine) -> list[str]:
    return [phase.name for phase in told_timeline(vm).phases if phase.in_guest]


def test_a_guest_tells_the_phases_of_its_start(
    vm: IVirtualMachine, guest: IVirtualMachineService
) -> None:
    asked = time.monotonic_ns()
    guest.get_time()
    answered = time.monotonic_ns()
    ends = [asked + 1, answered]
    guest.report_start_phases(["verify", "clock"], ends, asked, answered, time.monotonic_ns())
    guest.notify_payload_started()
    assert told_phases(vm) == ["verify", "clock"]
    timeline = told_timeline(vm)
    assert 0 <= timeline.guest_error_nanos <= time.monotonic_ns() - asked


def test_what_a_guest_may_not_tell_of_its_start_is_left_out(
    vm: IVirtualMachine, guest: IVirtualMachineService
) -> None:
    for names, ends in (
        (["<script>"], [1]),
        (["a"] * 100, list(range(100))),
        (["kernel"], [2, 1]),
        (["kernel"], [1 << 62]),
    ):
        guest.report_start_phases(names, ends, 0, 0, 1 << 61)
    guest.get_time()
    assert told_phases(vm) == []


def test_once_the_payload_has_the_word_it_cannot_tell_of_the_start(
    vm: IVirtualMachine, guest: IVirtualMachineService
) -> None:
    guest.notify_payload_started()
    guest.report_start_phases(["payload"], [1], 0, 0, 1)
    guest.get_time()
    assert told_phases(vm) == []


def test_an_error_ends_it(
    vm: IVirtualMachine, guest: IVirtualMachineService, recorder: Recorder
) -> None:
    guest.notify_error(ErrorCode.PAYLOAD_CHANGED, "another payload")
    assert recorder.next() == ("error", vm.get_cid(), ErrorCode.PAYLOAD_CHANGED, "another payload")
    with pytest.raises(RemoteException):
        guest.notify_payload_finished(0)
    assert recorder.events.empty()


@pytest.mark.parametrize(
    ("first", "then", "message"),
    [
        ("started", "started", "from Started to Started"),
        ("ready", "started", "from Ready to Started"),
        ("finished", "ready", "from Finished to Ready"),
        ("finished", "finished", "from Finished to Finished"),
        ("finished", "error", "from Finished to Finished"),
    ],
)
def test_no_way_back(
    guest: IVirtualMachineService, recorder: Recorder, first: str, then: str, message: str
) -> None:
    tell(guest, first)
    assert recorder.next()[0] == first
    with pytest.raises(RemoteException) as raised:
        tell(guest, then)
    assert raised.value.code is ExceptionCode.ILLEGAL_STATE
    assert raised.value.message == f"Invalid payload state transition {message}"
    assert recorder.events.empty()


def tell(guest: IVirtualMachineService, what: str) -> None:
    match what:
        case "started":
            guest.notify_payload_started()
        case "ready":
            guest.notify_payload_ready()
        case "finished":
            guest.notify_payload_finished(0)
        case "error":
            guest.notify_error(ErrorCode.UNKNOWN, "")


def test_a_broken_callback_harms_nobody(vm: IVirtualMachine, guest: IVirtualMachineService) -> None:
    before, after = Recorder(), Recorder()
    for callback in (before, Broken(), after, after):
        vm.register_callback(callback)
    guest.notify_payload_started()
    assert before.next()[0] == "started"
    assert [after.next()[0], after.next()[0]] == ["started", "started"]


def test_a_huge_message_is_cut(guest: IVirtualMachineService, recorder: Recorder) -> None:
    guest.notify_error(ErrorCode.UNKNOWN, "x" * 20_000)
    event = recorder.next()
    assert event[0] == "error"
    assert event[3] == "x" * 4096


def test_a_guest_that_sends_too_much_loses_its_connection_and_nothing_else(
    vm: IVirtualMachine, guest: IVirtualMachineService, runtime_dir: Path, recorder: Recorder
) -> None:
    with pytest.raises(BinderError):
        guest.notify_error(ErrorCode.UNKNOWN, "x" * 200_000)
    with connect(unix(service_socket(runtime_dir, vm.get_cid())), timeout=SECONDS) as session:
        session.get_root(IVirtualMachineService).notify_payload_started()
    assert recorder.next()[0] == "started"


def test_a_guest_that_sends_nonsense(
    vm: IVirtualMachine, runtime_dir: Path, recorder: Recorder
) -> None:
    path = service_socket(runtime_dir, vm.get_cid())
    for nonsense in (b"", b"\xff" * 16, b"GET / HTTP/1.1\r\n\r\n" * 100, bytes(4096)):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stranger:
            stranger.settimeout(SECONDS)
            stranger.connect(str(path))
            with contextlib.suppress(OSError):
                stranger.sendall(nonsense)
                stranger.shutdown(socket.SHUT_WR)
                while stranger.recv(4096):
                    pass
    with connect(unix(path), timeout=SECONDS) as session:
        session.get_root(IVirtualMachineService).notify_payload_ready()
    assert recorder.next()[0] == "ready"


def test_the_service_of_a_guest_ends_with_its_vm(
    root: IVirtualizationService, tmp_path: Path, runtime_dir: Path
) -> None:
    machine = create(root, raw(tmp_path))
    with connect(unix(service_socket(runtime_dir, machine.get_cid())), timeout=SECONDS) as session:
        guest = session.get_root(IVirtualMachineService)
        guest.notify_payload_started()
        release(machine)
        with pytest.raises(DeadObjectError):
            while True:
                ping(guest)
