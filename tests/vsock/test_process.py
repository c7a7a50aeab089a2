"""The device as a process: arguments, readiness, what it leaves behind, and what it delivers at the end."""

import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from avf.vsock import AddressError, device_command
from avf.vsock.device.packet import Op
from tests.vsock.frontend import Guest
from tests.vsock.test_connections import fill


def start(command: list[str], *fds: int) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(command, pass_fds=fds, stderr=subprocess.PIPE, env={}, cwd="/")


def finish(process: "subprocess.Popen[bytes]") -> tuple[int, str]:
    _, errors = process.communicate(timeout=60)
    return process.returncode, errors.decode()


def test_it_is_ready_when_base_listens_and_leaves_with_the_front_end(tmp_path: Path) -> None:
    base = tmp_path / "vsock"
    front, back = socket.socketpair()
    ready, report = os.pipe()
    with front:
        with back:
            command = device_command(back.fileno(), base, 2048, [tmp_path / "host"], report)
            process = start(command, back.fileno(), report)
        os.close(report)
        assert os.read(ready, 2) == b"1"
        assert os.read(ready, 2) == b""
        os.close(ready)
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(base))
        assert base.stat().st_mode & 0o777 == 0o600
        limits = resource.prlimit(process.pid, resource.RLIMIT_CORE)
        assert limits == (0, 0)
    assert finish(process) == (0, "")
    assert list(tmp_path.iterdir()) == []


def test_it_answers_a_front_end_that_calls(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as door, socket.socket(socket.AF_UNIX) as front:
        door.bind(str(tmp_path / "door"))
        door.listen(1)
        process = start(device_command(door.fileno(), tmp_path / "vsock", 2048), door.fileno())
        front.connect(str(tmp_path / "door"))
        front.sendall(struct.pack("<III", 1, 1, 0))  # VHOST_USER_GET_FEATURES
        assert len(front.recv(100)) == 20
    assert finish(process) == (0, "")


def test_it_leaves_when_nobody_will_call(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(tmp_path / "door"))
        door.listen(1)
        process = start(device_command(door.fileno(), tmp_path / "vsock", 2048), door.fileno())
        door.shutdown(socket.SHUT_RDWR)
        assert finish(process) == (0, "")


def test_paths_mean_the_same_in_another_working_directory() -> None:
    command = device_command(3, Path("vsock"), 2048, [Path("host")])
    assert f"{Path.cwd()}/vsock" in command
    assert f"{Path.cwd()}/host" in command


def test_base_is_nobody_elses(tmp_path: Path) -> None:
    base = tmp_path / "vsock"
    base.write_text("precious")
    front, back = socket.socketpair()
    with front, back:
        status, errors = finish(start(device_command(back.fileno(), base, 2048), back.fileno()))
    assert status == 1
    assert "in use" in errors
    assert base.read_text() == "precious"


def test_a_control_descriptor_that_is_none(tmp_path: Path) -> None:
    status, errors = finish(start(device_command(1000, tmp_path / "vsock", 2048)))
    assert status == 1
    assert "Bad file descriptor" in errors
    assert "Traceback" not in errors
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "--ctl-fd is missing"),
        (["--ctl-fd"], "lacks its value"),
        (["--ctl-fd", "x", "--base", "b", "--cid", "3"], "'x'"),
        (["--ctl-fd", "0", "--base", "b", "--cid", "2"], "cannot be the CID of a guest"),
        (["--frobnicate", "1"], "unknown option --frobnicate"),
    ],
)
def test_bad_arguments(words: list[str], complaint: str) -> None:
    program = [sys.executable, "-m", "avf.vsock.device", *words]
    result = subprocess.run(program, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 2
    assert complaint in result.stderr
    assert "usage:" in result.stderr


def test_the_command_has_no_reserved_cid(tmp_path: Path) -> None:
    with pytest.raises(AddressError):
        device_command(3, tmp_path, 2)


def test_what_the_guest_sent_last_is_delivered_after_its_end(guest: Guest) -> None:
    with guest.listener(80) as listener, guest.dial(listener, 80, 1) as sock:
        sent = fill(guest, 80, 1)
        guest.control.close()
        statuses: list[int] = []
        thread = threading.Thread(target=lambda: statuses.append(guest.process.run()))
        thread.start()
        got = b""
        while len(got) < len(sent):
            got += sock.recv(1 << 20)
        thread.join()
        assert got == sent
        assert statuses == [0]


def test_a_mistake_of_the_device_ends_traffic_only(
    guest: Guest, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with guest.listener(80) as listener, guest.dial(listener, 80, 1) as sock:
        with monkeypatch.context() as patch:
            patch.setattr(guest.process.connections, "handle", lambda *_: 1 / 0)
            guest.packet(Op.RW, 80, 1, b"x")
        assert sock.recv(1) == b""
        errors = capfd.readouterr().err
        assert "ZeroDivisionError" in errors
        assert errors.count("\n") == 1
        guest.reboot()
        with guest.dial(listener, 80, 1) as again:
            guest.packet(Op.RW, 80, 1, b"alive")
            assert again.recv(16) == b"alive"


def test_signals(tmp_path: Path) -> None:
    """An interrupt is not its business; SIGTERM ends it, and BASE goes with it."""
    front, back = socket.socketpair()
    ready, report = os.pipe()
    with front:
        with back:
            command = device_command(back.fileno(), tmp_path / "vsock", 2048, ready_fd=report)
            process = start(command, back.fileno(), report)
        os.close(report)
        assert os.read(ready, 1) == b"1"
        os.close(ready)
        process.send_signal(signal.SIGINT)
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(tmp_path / "vsock"))
            sock.sendall(b"nonsense\n")
            assert sock.recv(1) == b""
        process.terminate()
        assert finish(process) == (0, "")
    assert list(tmp_path.iterdir()) == []


def test_a_killed_device_resets_its_streams(tmp_path: Path) -> None:
    """The guest has not even answered; that the host asked is enough."""
    front, back = socket.socketpair()
    ready, report = os.pipe()
    with front, back:
        command = device_command(back.fileno(), tmp_path / "vsock", 2048, ready_fd=report)
        process = start(command, back.fileno(), report)
        os.close(report)
        assert os.read(ready, 1) == b"1"
        os.close(ready)
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(60)
            sock.connect(str(tmp_path / "vsock"))
            sock.sendall(b"CONNECT 7\n")
            process.kill()
            assert finish(process) == (-signal.SIGKILL, "")
            with pytest.raises(ConnectionResetError):
                sock.recv(1)


def test_nobody_reads_the_log(tmp_path: Path) -> None:
    """The device drops lines rather than wait for a reader."""
    front, back = socket.socketpair()
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(writer, bytes(65536))
    os.set_blocking(writer, True)
    with front:
        with back:
            command = device_command(back.fileno(), tmp_path / "vsock", 2048)
            process = subprocess.Popen(command, pass_fds=[back.fileno()], stderr=writer)
        front.sendall(struct.pack("=III", 99, 1, 0) + struct.pack("=III", 17, 1, 0))
        assert front.recv(20, socket.MSG_WAITALL)[12:] == struct.pack("=Q", 3)
    assert process.wait(timeout=60) == 0
    os.close(reader)
    os.close(writer)
