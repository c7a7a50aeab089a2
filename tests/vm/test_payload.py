"""A payload's life in a real machine, from createVm to the death of the VM."""

import shutil
import socket
from pathlib import Path

import pytest

from avf.apk import ApkBuilder, SigningKey
from avf.client import (
    DeathReason,
    DebugLevel,
    Died,
    ErrorCode,
    Event,
    PayloadError,
    PayloadFinished,
    PayloadReady,
    PayloadStarted,
    VirtualizationService,
    VirtualMachineState,
    VmDied,
)
from tests.eventually import eventually
from tests.fault.processes import kill, the_one
from tests.vm.conftest import App, prepare_app

pytestmark = pytest.mark.vm

WHOLE_LIFE = [
    PayloadStarted(),
    PayloadReady(),
    PayloadFinished(0),
    VmDied(DeathReason.SHUTDOWN),
]


def run(app: App, payload: str, **changes: object) -> tuple[list[Event], str]:
    """What happened, and what the log port said."""
    log = app.folder / "log"
    config = app.running(payload, **changes)
    with app.service.create_vm(config, console=app.folder / "console", log=log) as vm:
        vm.start()
        events = list(vm.events())
        assert vm.state is VirtualMachineState.DEAD
    return events, log.read_text()


def test_native_payload(app: App) -> None:
    events, log = run(app, "libhello.so")
    assert events == WHOLE_LIFE
    assert "Hello from a native payload!" in log
    assert "/mnt/apk/AndroidManifest.xml" in log


def test_python_payload(app: App) -> None:
    events, log = run(app, "hello.py")
    assert events == WHOLE_LIFE
    assert "Hello from a Python payload!" in log
    assert "/mnt/apk/lib" in log


@pytest.mark.parametrize(
    ("payload", "name"), [("libhello_cpp.so", "C++ payload"), ("hello.sh", "shell script")]
)
def test_payloads_of_other_kinds(app: App, payload: str, name: str) -> None:
    events, log = run(app, payload)
    assert events == WHOLE_LIFE
    assert f"Hello from a {name}!" in log
    assert "/mnt/apk/lib" in log


def test_a_vm_that_is_not_debuggable_says_nothing(app: App) -> None:
    events, log = run(app, "libhello.so", debug_level=DebugLevel.NONE)
    assert events == WHOLE_LIFE
    assert log == ""
    assert (app.folder / "console").read_text() == ""


def test_talking_to_a_payload(app: App) -> None:
    with app.service.create_vm(app.running("echo.py")) as vm:
        assert vm.state is VirtualMachineState.NOT_STARTED
        vm.start()
        vm.wait_until_ready(timeout=300)
        assert vm.state is VirtualMachineState.READY
        with vm.connect_vsock(5678) as stream, stream.makefile("rwb") as lines:
            lines.write(b"Look not into the abyss\n")
            lines.flush()
            assert lines.readline() == b"ssyba eht otni ton kooL\n"
            stream.shutdown(socket.SHUT_WR)
            assert lines.read() == b""
        assert vm.wait_for_death(timeout=300) is DeathReason.SHUTDOWN


@pytest.mark.parametrize("end", ["stop", "avf/vsock/device", "qemu-system"])
def test_a_stream_that_a_death_cuts_is_reset(app: App, runtime_dir: Path, end: str) -> None:
    """What the guest said before is there, and then no end of file, which would make it look whole."""
    with app.service.create_vm(app.running("echo.py")) as vm:
        vm.start()
        vm.wait_until_ready(timeout=300)
        with vm.connect_vsock(5678) as stream:
            stream.sendall(b"half a\n")
            assert stream.recv(100) == b"a flah\n"
            if end == "stop":
                vm.stop()
            else:
                kill(the_one(runtime_dir, end))
            with pytest.raises(ConnectionResetError):
                stream.recv(100)


def test_extra_apks_and_a_time_limit(app: App) -> None:
    """Two APKs beside the main one, with no word of them inside it; then the payload goes on for ever."""
    key = SigningKey.generate()
    main, *extras = (app.folder / name for name in ("main.apk", "zero.apk", "one.apk"))
    script = (
        b"#!/bin/sh\ncat /mnt/extra-apk/0/assets/note /mnt/extra-apk/1/assets/note\nsleep 1000\n"
    )
    build(main, ApkBuilder("com.example.main").add("bin/wait.sh", script, mode=0o755), key)
    for number, extra in enumerate(extras):
        builder = ApkBuilder(f"com.example.extra{number}")
        build(extra, builder.add("assets/note", b"%d here\n" % number), key)
    app.service.create_or_update_idsig_file(main, app.config.idsig)
    log = app.folder / "log"
    config = app.running("wait.sh", apk=main, extra_apks=extras)
    with app.service.create_vm(config, log=log) as vm:
        vm.start(timeout=5)
        assert vm.wait_for_death(300) is DeathReason.TIMED_OUT
    assert "0 here\n1 here\n" in log.read_text()


def build(path: Path, builder: ApkBuilder, key: SigningKey) -> None:
    with path.open("w+b") as file:
        builder.build(file, key)


def test_listed_while_its_handle_lives(app: App, runtime_dir: Path) -> None:
    with app.service.create_vm(app.config) as vm:
        (info,) = app.service.debug_list_vms()
        assert info.cid == vm.cid
        assert info.temporary_directory == f"{runtime_dir}/vms/{vm.cid}"
    eventually(app.service.debug_list_vms, [])
    eventually(Path(info.temporary_directory).exists, False)


@pytest.mark.parametrize("refresh_idsig", [False, True], ids=["old idsig", "new idsig"])
def test_an_apk_that_was_tampered_with_is_not_run(
    service: VirtualizationService, tmp_path: Path, sample_apk: Path, refresh_idsig: bool
) -> None:
    """The old idsig's root hash does not fit; a new one's does, but then the signature does not."""
    apk = tmp_path / "tampered.apk"
    shutil.copy(sample_apk, apk)
    app = prepare_app(service, tmp_path, apk)
    content = bytearray(apk.read_bytes())
    position = content.index(b"Hello from a native payload!")
    content[position] ^= 1
    apk.write_bytes(content)
    if refresh_idsig:
        (tmp_path / "app.idsig").write_bytes(b"")
        service.create_or_update_idsig_file(apk, tmp_path / "app.idsig")
    events, _ = run(app, "libhello.so")
    error, died = events
    assert isinstance(error, PayloadError)
    assert error.code is ErrorCode.PAYLOAD_VERIFICATION_FAILED
    assert died == VmDied(DeathReason.MICRODROID_PAYLOAD_VERIFICATION_FAILED)


def test_a_payload_that_is_not_there(app: App) -> None:
    events, _ = run(app, "libmissing.so")
    error, died = events
    assert isinstance(error, PayloadError)
    assert error.code is ErrorCode.UNKNOWN
    assert died == VmDied(DeathReason.MICRODROID_UNKNOWN_RUNTIME_ERROR)


def test_config_file_in_the_apk(app: App) -> None:
    events, log = run(app, None, config_path="assets/vm_config.json")  # type: ignore[arg-type]
    assert events == WHOLE_LIFE
    assert "Hello from a native payload!" in log


def test_stop_kills(app: App) -> None:
    with app.service.create_vm(app.running("echo.py")) as vm:
        vm.start()
        vm.stop()
        assert vm.wait_for_death(timeout=30) is DeathReason.KILLED
        with pytest.raises(Died, match="Killed"):
            vm.wait_until_ready(timeout=0)
