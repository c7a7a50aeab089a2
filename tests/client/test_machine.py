import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from avf.binder import ExceptionCode, RemoteException
from avf.client import (
    AppConfig,
    ClientError,
    ConfigError,
    DeathReason,
    DebugLevel,
    Died,
    ErrorCode,
    Event,
    Finished,
    MemoryTrimLevel,
    PartitionType,
    PayloadError,
    PayloadFinished,
    PayloadReady,
    PayloadStarted,
    RawConfig,
    Refusal,
    Refused,
    ServiceDied,
    ServiceStartError,
    TimedOut,
    VirtualizationService,
    VirtualMachineState,
    VmClosed,
    VmDied,
    connect,
)
from tests.client.fake_virtmgr import IGreeter
from tests.eventually import eventually

FAKE = [sys.executable, "-m", "tests.client.fake_virtmgr"]
SOON = 20


def open_fds() -> set[Path]:
    return set(Path("/proc/self/fd").iterdir())


def play(script: str) -> RawConfig:
    return RawConfig(name=script, kernel="/dev/null")


def app(script: str) -> AppConfig:
    null = Path(os.devnull)
    return AppConfig(
        name=script, apk=null, idsig=null, instance_image=null, payload_binary_name="a"
    )


def cids(service: VirtualizationService) -> list[int]:
    return [info.cid for info in service.debug_list_vms()]


@pytest.fixture
def service() -> Iterator[VirtualizationService]:
    with connect(command=FAKE) as connection:
        yield connection


def test_a_whole_life_is_told_in_order(service: VirtualizationService) -> None:
    heard: list[Event] = []
    config = play("started,ready,finished:7,died:3")
    with service.create_vm(config, on_event=heard.append) as vm:
        assert vm.cid == 2048
        assert vm.state == VirtualMachineState.NOT_STARTED
        vm.start()
        assert vm.wait_for_death(SOON) == DeathReason.SHUTDOWN
        story = [
            PayloadStarted(),
            PayloadReady(),
            PayloadFinished(7),
            VmDied(DeathReason.SHUTDOWN),
        ]
        assert list(vm.events()) == heard == story
        assert vm.state == VirtualMachineState.DEAD


def test_a_fork_is_a_vm_with_a_life_of_its_own(
    service: VirtualizationService, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    heard: list[Event] = []
    with service.create_vm(play("report")) as vm:
        vm.start()
        with vm.fork("ready,finished:7,died:3", log=log, on_event=heard.append) as clone:
            assert clone.cid == 4242
            assert clone.state == VirtualMachineState.NOT_STARTED
            assert log.read_text() == "a clone\n"
            clone.start()
            assert clone.wait_for_death(SOON) == DeathReason.SHUTDOWN
            assert heard == [PayloadReady(), PayloadFinished(7), VmDied(DeathReason.SHUTDOWN)]
        assert vm.death_reason is None
        with pytest.raises(ConfigError, match="name must be text"):
            vm.fork(7)  # type: ignore[arg-type]


def test_ready(service: VirtualizationService) -> None:
    with service.create_vm(play("started,ready")) as vm:
        vm.start()
        vm.wait_until_ready(SOON)
        assert vm.death_reason is None


@pytest.mark.parametrize(
    ("script", "error"), [("finished:0", Finished), ("error:1:no", Finished), ("died:6", Died)]
)
def test_not_ready(service: VirtualizationService, script: str, error: type[Exception]) -> None:
    with service.create_vm(play(script)) as vm:
        vm.start()
        with pytest.raises(error):
            vm.wait_until_ready(SOON)


def test_not_ready_in_time(service: VirtualizationService) -> None:
    with service.create_vm(play("")) as vm:
        vm.start()
        with pytest.raises(TimedOut):
            vm.wait_until_ready(0)


def test_an_error_of_the_guest(service: VirtualizationService) -> None:
    with service.create_vm(play("error:2:changed: ü,died:12")) as vm:
        vm.start()
        assert list(vm.events()) == [
            PayloadError(ErrorCode.PAYLOAD_CHANGED, "changed: ü"),
            VmDied(DeathReason.MICRODROID_PAYLOAD_HAS_CHANGED),
        ]


def test_a_reason_of_a_later_version(service: VirtualizationService) -> None:
    with service.create_vm(play("died:4242")) as vm:
        vm.start()
        assert str(vm.wait_for_death(SOON)) == "Unrecognised(4242)"


def test_stop(service: VirtualizationService) -> None:
    with service.create_vm(play("started")) as vm:
        vm.start()
        vm.stop()
        assert vm.wait_for_death(SOON) == DeathReason.KILLED
        with pytest.raises(RemoteException, match="VM is not running"):
            vm.stop()


def test_a_time_limit_ends_a_payload(service: VirtualizationService) -> None:
    with service.create_vm(app("started,report")) as vm:
        vm.start(timeout=0.1)
        assert vm.wait_for_death(SOON) == DeathReason.TIMED_OUT
        assert vm.death_report is not None
        assert vm.death_report.reason == DeathReason.TIMED_OUT
        assert vm.death_report.last_step == "killed because it had run for 0.1 s, its time limit"


def test_a_time_limit_counts_from_the_start_of_the_payload(service: VirtualizationService) -> None:
    with service.create_vm(app("")) as waiting, service.create_vm(play("")) as raw:
        waiting.start(timeout=0.1)
        raw.start(timeout=0.1)
        assert raw.wait_for_death(SOON) == DeathReason.TIMED_OUT
        assert waiting.death_reason is None


def test_a_time_limit_that_is_not_reached_changes_nothing(service: VirtualizationService) -> None:
    before = threading.active_count()
    with service.create_vm(app("started,died:3,report")) as vm, service.create_vm(app("")) as other:
        vm.start(timeout=SOON)
        assert vm.wait_for_death(SOON) == DeathReason.SHUTDOWN
        other.start(timeout=SOON)
        other.stop()
        assert other.wait_for_death(SOON) == DeathReason.KILLED
    eventually(threading.active_count, before)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf")])
def test_what_is_no_time_limit(service: VirtualizationService, timeout: float) -> None:
    with service.create_vm(play("")) as vm:
        with pytest.raises(ConfigError, match="timeout must be a positive number of seconds"):
            vm.start(timeout=timeout)
        assert vm.state == VirtualMachineState.NOT_STARTED


def test_a_time_limit_keeps_no_vm_alive(service: VirtualizationService) -> None:
    vm = service.create_vm(play(""))
    vm.start(timeout=SOON * 100)
    del vm
    eventually(lambda: cids(service), [])


def test_what_is_typed_reaches_the_service(service: VirtualizationService, tmp_path: Path) -> None:
    (tmp_path / "typed").write_text("a line\nanother\n")
    console = tmp_path / "console"
    config = play("hear,died:3")
    with service.create_vm(config, console=console, console_in=tmp_path / "typed") as vm:
        vm.start()
        assert vm.wait_for_death(SOON) == DeathReason.SHUTDOWN
    assert console.read_text() == "a line\n"


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (play(""), "config must be an AppConfig"),
        (app(""), "only a debuggable VM"),
        (
            replace(app(""), debug_level=DebugLevel.FULL, forkable=True, instance_image=None),
            "a forkable VM",
        ),
    ],
)
def test_vms_whose_standard_error_cannot_be_kept_apart(
    service: VirtualizationService, tmp_path: Path, config: AppConfig | RawConfig, said: str
) -> None:
    with pytest.raises(ConfigError, match=f"payload_stderr: {said}"):
        service.create_vm(config, payload_stderr=tmp_path / "errors")
    assert not (tmp_path / "errors").exists()


def test_a_fifo_without_the_other_end_keeps_nobody_waiting(
    service: VirtualizationService, tmp_path: Path
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for field in ("console", "log"):
        with pytest.raises(ConfigError, match=rf"{field}: .*/fifo: nobody reads from this FIFO"):
            service.create_vm(play(""), **{field: fifo})  # type: ignore[arg-type]
    service.create_vm(play(""), console_in=fifo).close()
    reader_fd = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    with open(reader_fd, "rb") as reader:
        with service.create_vm(play("tell:hello,died:3"), console=fifo) as vm:
            vm.start()
            assert vm.wait_for_death(SOON) == DeathReason.SHUTDOWN
        assert reader.read() == b"hello\n"


def test_a_second_start_is_refused(service: VirtualizationService) -> None:
    with service.create_vm(play("")) as vm:
        vm.start()
        with pytest.raises(Refused) as caught:
            vm.start()
        assert isinstance(caught.value, ClientError)
        assert isinstance(caught.value, RemoteException)
        assert caught.value.code == ExceptionCode.SERVICE_SPECIFIC
        assert caught.value.service_specific == -1
        assert caught.value.refusal is Refusal.FAILED
        assert caught.value.problem == "VM already started or failed"


@pytest.mark.parametrize(
    ("error", "name", "shown", "causes"),
    [
        (RemoteException.security("no"), Refusal.FAILED, "SECURITY: no", ()),
        (
            RemoteException.service_specific_error(-4, "a\n\nCaused by:\n    b: c"),
            Refusal.START_FAILED,
            "START_FAILED: a: b: c",
            ("b: c",),
        ),
        (
            RemoteException.service_specific_error(-99, "a\n\nCaused by:\n    0: b\n    1: 1: c"),
            Refusal.FAILED,
            "SERVICE_SPECIFIC: a: b: 1: c",
            ("b", "1: c"),
        ),
        (RemoteException.service_specific_error(-3), Refusal.STARTED_BEFORE, "STARTED_BEFORE", ()),
        (RemoteException(-12345, "odd"), Refusal.FAILED, "UNRECOGNISED_-12345: odd", ()),
    ],
)
def test_a_refusal_has_a_name_and_parts(
    error: RemoteException, name: Refusal, shown: str, causes: tuple[str, ...]
) -> None:
    refused = Refused.of(error)
    assert (refused.refusal, str(refused), refused.causes) == (name, shown, causes)
    assert refused.message == error.message


def test_a_refusal_with_a_remedy_shows_it() -> None:
    refused = Refused.of(RemoteException.security("not you"))
    assert "vm doctor" in refused.remedy
    assert refused.__notes__ == [f"Try: {refused.remedy}"]
    assert not hasattr(Refused.of(RemoteException.illegal_state("so what")), "__notes__")


def test_a_payload_that_cannot_run_tells_why(service: VirtualizationService) -> None:
    """The exception has what the guest reported and how the VM died."""
    with service.create_vm(play("report,error:2:it is another one,died:3")) as vm:
        vm.start()
        with pytest.raises((Finished, Died), match="PayloadChanged: it is another one") as caught:
            vm.wait_until_ready(SOON)
    assert caught.value.error == PayloadError(ErrorCode.PAYLOAD_CHANGED, "it is another one")
    assert caught.value.report is not None
    assert caught.value.report.reason == DeathReason.SHUTDOWN


def test_a_refusal_leaves_nothing_open(service: VirtualizationService) -> None:
    before = open_fds()
    with pytest.raises(RemoteException, match="not for you"):
        service.create_vm(play("refuse:not for you"))
    assert open_fds() == before


def test_leaving_gives_the_handle_back(service: VirtualizationService) -> None:
    with service.create_vm(play("started")) as vm, service.create_vm(play("")) as other:
        vm.start()
        assert cids(service) == [vm.cid, other.cid]
        other.close()
        eventually(lambda: cids(service), [vm.cid])
    eventually(lambda: cids(service), [])
    assert vm.death_reason == other.death_reason == DeathReason.KILLED


def test_dropping_the_last_name_gives_the_handle_back(service: VirtualizationService) -> None:
    vm = service.create_vm(play("started"))
    vm.start()
    del vm
    eventually(lambda: cids(service), [])


def test_a_closed_vm_does_nothing_any_more(service: VirtualizationService) -> None:
    vm = service.create_vm(play(""))
    vm.close()
    vm.close()
    for use in (vm.start, vm.stop, lambda: vm.state, lambda: vm.connect_vsock(5678)):
        with pytest.raises(VmClosed, match="CID 2048 was closed"):
            use()


def test_a_listener_may_close_the_vm(service: VirtualizationService) -> None:
    vm = service.create_vm(play("started,ready"))
    vm.add_listener(lambda event: vm.close() if event == PayloadReady() else None)
    vm.start()
    assert vm.wait_for_death(4) == DeathReason.KILLED


def test_a_stopped_virtmgr_does_not_hold_up_leaving(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("avf.client.machine._LAST_WORD_TIMEOUT", 0.1)
    monkeypatch.setattr("avf.client.process._EXIT_TIMEOUT", 0.1)
    with connect(command=FAKE) as service, service.create_vm(play("started")) as vm:
        vm.start()
        os.kill(service.pid, signal.SIGSTOP)
    assert vm.death_reason == DeathReason.KILLED


def test_closing_frees_whoever_waits(service: VirtualizationService) -> None:
    vm = service.create_vm(play(""))
    reasons: list[DeathReason | None] = []
    waiter = threading.Thread(target=lambda: reasons.append(vm.wait_for_death()))
    waiter.start()
    vm.close()
    waiter.join(SOON)
    assert reasons == [DeathReason.KILLED]


def test_output_goes_to_an_open_file_or_a_path(
    service: VirtualizationService, tmp_path: Path
) -> None:
    path = tmp_path / "console"
    for _ in range(2):
        with service.create_vm(play("tell:hello,died:3"), console=path) as vm:
            vm.start()
            vm.wait_for_death(SOON)
        assert path.read_text() == "hello\n"
    with (
        open(path, "wb", buffering=0) as file,
        service.create_vm(play("tell:again,died:3"), console=file) as vm,
    ):
        vm.start()
        vm.wait_for_death(SOON)
    assert path.read_text() == "again\n"


def test_a_port_beyond_two_to_the_31_reaches_the_guest(service: VirtualizationService) -> None:
    with service.create_vm(play("")) as vm:
        vm.start()
        with vm.connect_vsock(0x80000001) as stream:
            assert stream.recv(100) == b"you have reached a negative port"


@pytest.mark.parametrize("port", [-1, 1 << 32])
def test_a_port_has_32_bits(service: VirtualizationService, port: int) -> None:
    with service.create_vm(play("")) as vm, pytest.raises(ValueError, match="from 0 to 4294967295"):
        vm.connect_vsock(port)


def test_a_service_in_the_guest(service: VirtualizationService) -> None:
    with service.create_vm(play("")) as vm:
        vm.start()
        with vm.connect_service(5678, IGreeter) as greeter:
            assert greeter.greet("you") == "hello, you"


def test_a_service_in_a_vm_that_does_not_run(service: VirtualizationService) -> None:
    with (
        service.create_vm(play("")) as vm,
        pytest.raises(RemoteException, match="VM is not running"),
    ):
        vm.connect_service(5678, IGreeter)


def test_trim_memory_reaches_the_service(service: VirtualizationService) -> None:
    with service.create_vm(play("")) as vm:
        vm.trim_memory(MemoryTrimLevel.TRIM_MEMORY_RUNNING_LOW)
    service.close()
    assert "trim TRIM_MEMORY_RUNNING_LOW" in service.log_tail


def test_files_are_prepared(service: VirtualizationService, tmp_path: Path) -> None:
    image, apk, idsig = tmp_path / "image", tmp_path / "apk", tmp_path / "idsig"
    image.touch()
    idsig.touch()
    apk.write_text("an apk")
    service.initialize_writable_partition(image, 8192, PartitionType.ENCRYPTEDSTORE)
    assert image.stat().st_size == 8192
    assert image.read_bytes().startswith(b"ENCRYPTEDSTORE")
    service.create_or_update_idsig_file(apk, idsig)
    assert idsig.read_text() == "idsig of an apk"


def test_the_death_of_virtmgr_is_the_death_of_its_vms(service: VirtualizationService) -> None:
    with service.create_vm(play("started")) as vm, service.create_vm(play("")) as idle:
        vm.start()
        os.kill(service.pid, signal.SIGKILL)
        assert vm.wait_for_death(SOON) == DeathReason.VIRTUALIZATION_SERVICE_DIED
        assert idle.wait_for_death(SOON) == DeathReason.VIRTUALIZATION_SERVICE_DIED
        assert vm.state == VirtualMachineState.DEAD
        with pytest.raises(ServiceDied, match="virtmgr was killed by SIGKILL") as caught:
            vm.start()
        assert "the fake virtmgr is up" in caught.value.stderr_tail
        with pytest.raises(ServiceDied):
            service.create_vm(play(""))


def test_waiting_for_ready_ends_with_virtmgr(service: VirtualizationService) -> None:
    with service.create_vm(play("started")) as vm:
        vm.start()
        os.kill(service.pid, signal.SIGKILL)
        with pytest.raises(Died) as caught:
            vm.wait_until_ready(SOON)
        assert caught.value.reason == DeathReason.VIRTUALIZATION_SERVICE_DIED


def test_closing_the_service_ends_virtmgr_and_frees_whoever_waits() -> None:
    with connect(command=FAKE) as service:
        vm = service.create_vm(play(""))
        vm.start()
        pid = service.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert vm.wait_for_death(SOON) is not None
    vm.close()


def test_nothing_is_left_behind() -> None:
    before = open_fds()
    threads = threading.active_count()
    with connect(command=FAKE) as service, service.create_vm(play("started,ready")) as vm:
        vm.start()
        vm.wait_until_ready(SOON)
        vm.connect_vsock(5678).close()
    assert open_fds() == before
    assert threading.active_count() == threads


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo no service here >&2; exit 3", "virtmgr exited with status 3; it said:\nno service"),
        ("kill -9 $$", "virtmgr was killed by SIGKILL"),
    ],
)
def test_a_virtmgr_that_does_not_come_up(script: str, message: str) -> None:
    before = open_fds()
    with pytest.raises(ServiceStartError) as caught:
        connect(command=["sh", "-c", script])
    assert str(caught.value).startswith(message)
    assert open_fds() == before


def test_a_virtmgr_that_is_never_ready() -> None:
    with pytest.raises(ServiceStartError, match=r"not ready after 0.1 s"):
        connect(command=["sh", "-c", "exec sleep 1000"], timeout=0.1)


def test_a_virtmgr_that_is_not_there() -> None:
    with pytest.raises(ServiceStartError, match=r"cannot run virtmgr: .*No such file"):
        connect(command=["/nonexistent/virtmgr"])


def test_a_virtmgr_that_says_ready_by_closing_only() -> None:
    with connect(command=[*FAKE, "--silent"]) as service:
        assert service.debug_list_vms() == []


def test_a_virtmgr_that_says_ready_and_dies() -> None:
    program = "import os, sys; os.write(int(sys.argv[4]), b'o')"
    with pytest.raises(ServiceStartError, match="exited with status 0"):
        connect(command=[sys.executable, "-c", program])


def test_the_environment_may_choose_virtmgr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVF_VIRTMGR", f"{sys.executable} -m tests.client.fake_virtmgr")
    with connect() as service:
        assert service.debug_list_vms() == []


def test_virtmgr_goes_with_a_client_that_is_killed() -> None:
    program = (
        "import sys; from avf.client import connect\n"
        "service = connect(command=[sys.executable, '-m', 'tests.client.fake_virtmgr'])\n"
        "print(service.pid, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as client:
        assert client.stdout is not None
        pid = int(client.stdout.readline())
        virtmgr = os.pidfd_open(pid)
        try:
            client.send_signal(signal.SIGKILL)
            assert select.select([virtmgr], [], [], SOON)[0]
        finally:
            os.close(virtmgr)


def test_a_death_is_told_with_all_that_is_known(service: VirtualizationService) -> None:
    with service.create_vm(play("report,died:6")) as vm:
        assert vm.death_report is None
        vm.start()
        assert vm.wait_for_death(10) is DeathReason.CRASH
        report = vm.death_report
        assert report is not None
        assert (report.reason, report.vmm_status) == (DeathReason.CRASH, -11)
        assert report.vmm_events == ("started",)
        assert list(report.lines())[:2] == [
            "last step: the payload was ready",
            "the VMM was killed by SIGSEGV",
        ]
    with pytest.raises(VmClosed):
        vm.death_report  # noqa: B018


def test_a_virtmgr_that_knows_of_no_reports(service: VirtualizationService) -> None:
    with service.create_vm(play("died:6")) as vm:
        vm.start()
        vm.wait_for_death(10)
        assert vm.death_report is None
