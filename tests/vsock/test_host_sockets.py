"""The host's side: hybrid sockets against a scripted device, kernel sockets as far as this host allows."""

import os
import socket
import stat
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from avf.vsock import (
    AddressError,
    HybridVsock,
    KernelVsock,
    guest_address,
    kernel,
    kernel_vhost_available,
    listen_host,
)
from avf.vsock.naming import name_guest

CID = 2048


@pytest.fixture
def hybrid(tmp_path: Path) -> HybridVsock:
    return HybridVsock(CID, tmp_path / "vsock")


@pytest.fixture
def device(hybrid: HybridVsock) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(hybrid.base))
        listener.listen()
        yield listener


def answer(device: socket.socket, reply: bytes) -> tuple[threading.Thread, list[bytes]]:
    """Answers one connection with `reply` and end of file; what was asked is in the list."""
    asked: list[bytes] = []

    def serve() -> None:
        sock, _ = device.accept()
        with sock:
            while not b"".join(asked).endswith(b"\n"):
                asked.append(sock.recv(1))
            sock.sendall(reply)

    thread = threading.Thread(target=serve)
    thread.start()
    return thread, asked


def test_connect_takes_only_the_answer(hybrid: HybridVsock, device: socket.socket) -> None:
    thread, asked = answer(device, b"OK 1073741824\nOK of the guest")
    with hybrid.connect(0xFFFF_FFFE) as sock:
        assert sock.gettimeout() is None
        assert sock.recv(64) == b"OK of the guest"
    thread.join()
    assert b"".join(asked) == b"CONNECT 4294967294\n"


def test_end_of_file_is_a_refusal(hybrid: HybridVsock, device: socket.socket) -> None:
    thread, _ = answer(device, b"")
    with pytest.raises(ConnectionResetError, match="port 5"):
        hybrid.connect(5)
    thread.join()


@pytest.mark.parametrize("reply", [b"NO\n", b"OK " + b"1" * 30, b"OKAY\n"])
def test_a_strange_answer(hybrid: HybridVsock, device: socket.socket, reply: bytes) -> None:
    thread, _ = answer(device, reply)
    with pytest.raises(ConnectionError):
        hybrid.connect(5)
    thread.join()


def test_a_guest_that_does_not_answer(hybrid: HybridVsock, device: socket.socket) -> None:
    with pytest.raises(TimeoutError):
        hybrid.connect(5, timeout=0.05)


def test_a_device_that_does_not_accept(hybrid: HybridVsock) -> None:
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(str(hybrid.base))
        listener.listen(0)
        first.connect(str(hybrid.base))
        with pytest.raises(TimeoutError):
            hybrid.connect(5, timeout=0.05)


def test_no_device(hybrid: HybridVsock) -> None:
    with pytest.raises(FileNotFoundError):
        hybrid.connect(5)


def test_no_such_port(hybrid: HybridVsock) -> None:
    with pytest.raises(AddressError):
        hybrid.listen(0xFFFF_FFFF)
    assert list(hybrid.base.parent.iterdir()) == []


@pytest.mark.parametrize("mask", [0, 0o022, 0o777])
def test_a_port_is_open_to_its_owner_alone(hybrid: HybridVsock, mask: int) -> None:
    old = os.umask(mask)
    try:
        with hybrid.listen(2048):
            path = Path(f"{hybrid.base}_2048")
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
    finally:
        os.umask(old)


def test_a_port_is_taken_once(hybrid: HybridVsock) -> None:
    with hybrid.listen(2048), pytest.raises(OSError, match="in use"):
        hybrid.listen(2048)


def test_peers_of_this_user_are_accepted(hybrid: HybridVsock) -> None:
    with hybrid.listen(1) as listener, socket.socket(socket.AF_UNIX) as peer:
        peer.connect(f"{hybrid.base}_1")
        accepted, _ = listener.accept()
        with accepted:
            assert hybrid.accepts(accepted)
    with socket.create_server(("127.0.0.1", 0)) as inet:
        assert not hybrid.accepts(inet)


def test_a_device_of_another_guest_is_not_accepted(hybrid: HybridVsock) -> None:
    with hybrid.listen(1) as listener:
        for cid, good in ((CID, True), (CID + 1, False)):
            with socket.socket(socket.AF_UNIX) as peer:
                name_guest(peer, cid, 5)
                peer.connect(f"{hybrid.base}_1")
                accepted, _ = listener.accept()
                with accepted:
                    assert guest_address(accepted) == (cid, 5)
                    assert hybrid.accepts(accepted) == good


@pytest.mark.parametrize(
    "name", [b"\0other", b"\0avf-vsock/1", b"\0avf-vsock/x/1/2/3", b"\0avf-vsock/-1/1/2/3"]
)
def test_other_names_tell_nothing(hybrid: HybridVsock, name: bytes) -> None:
    with hybrid.listen(1) as listener, socket.socket(socket.AF_UNIX) as peer:
        peer.bind(name)
        peer.connect(f"{hybrid.base}_1")
        accepted, _ = listener.accept()
        with accepted:
            assert guest_address(accepted) is None


def test_long_paths_work(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    hybrid = HybridVsock(CID, deep / "vsock")
    before = list(Path("/proc/self/fd").iterdir())
    with hybrid.listen(0xFFFF_FFFE) as listener, listen_host(7, deep):
        assert (deep / "vsock_4294967294").is_socket()
        assert (deep / "7").is_socket()
        assert len(list(Path("/proc/self/fd").iterdir())) == len(before) + 2
        assert listener.family == socket.AF_UNIX


def test_the_host_listens_for_all_guests(tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        with listen_host(2000, tmp_path):
            assert stat.S_IMODE((tmp_path / "2000").stat().st_mode) == 0o666
            with pytest.raises(OSError, match="in use"):
                listen_host(2000, tmp_path)
    finally:
        os.umask(old)
    with listen_host(2000, tmp_path, mode=0o600):
        assert stat.S_IMODE((tmp_path / "2000").stat().st_mode) == 0o600


def test_what_is_no_socket_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "2000").write_text("precious")
    with pytest.raises(OSError, match="in use"):
        listen_host(2000, tmp_path)
    assert (tmp_path / "2000").read_text() == "precious"


def test_kernel_vsock_needs_a_device_that_answers(tmp_path: Path) -> None:
    assert not kernel_vhost_available(str(tmp_path / "missing"))
    assert not kernel_vhost_available("/dev/null")
    (tmp_path / "file").touch()
    assert not kernel_vhost_available(str(tmp_path / "file"))


def test_kernel_vsock_tells_guests_by_cid() -> None:
    class Peer:
        family = socket.AF_VSOCK

        def __init__(self, cid: int) -> None:
            self.cid = cid

        def getpeername(self) -> tuple[int, int]:
            return self.cid, 1024

    vsock = KernelVsock(CID)
    assert vsock.accepts(Peer(CID))  # type: ignore[arg-type]
    assert not vsock.accepts(Peer(CID + 1))  # type: ignore[arg-type]
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert not vsock.accepts(ours)


@pytest.mark.parametrize("timeout", [0.0, 0.25, 60.0])
def test_kernel_vsock_waits_as_long_as_asked_to(timeout: float) -> None:
    with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as sock:
        kernel._set_connect_timeout(sock, timeout)
        with socket.socket(socket.AF_UNIX, fileno=os.dup(sock.fileno())) as plain:
            option = plain.getsockopt(socket.AF_VSOCK, 6, 16)
        seconds, microseconds = struct.unpack("@ll", option)
    # kept in ticks of the kernel's clock, rounded up
    assert timeout <= seconds + microseconds / 1e6 <= timeout + 0.02


def test_kernel_vsock_listens() -> None:
    """Binding needs no guest; nobody connects here."""
    with KernelVsock(CID).listen(0x7FFF_F123) as sock:
        assert sock.getsockname()[1] == 0x7FFF_F123
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
