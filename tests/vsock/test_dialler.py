"""Dialling through another process: what the device asks for, and what it is given."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from avf.vsock import DeviceHost, HybridVsock, guest_address
from avf.vsock.device.loop import Loop
from avf.vsock.device.remote_dialler import RemoteDialler
from avf.vsock.dialler import ANSWER, BURST, NOBODY, PER_SECOND, WISH, Dialler, DialServer

CID = 2048


class Device:
    """The device's end: a dialler, and the loop in which its answers come."""

    def __init__(self, sock: socket.socket) -> None:
        self.loop = Loop()
        self.answered: list[tuple[int, int]] = []
        self.taken: list[socket.socket | None] = []
        self.takes = True
        self.dial = RemoteDialler(self.loop, sock, self._on_answer)

    def _on_answer(self, port: int, guest_port: int) -> None:
        self.answered.append((port, guest_port))
        if self.takes:
            self.taken.append(self.dial(port, guest_port))

    def ask(self, port: int, guest_port: int) -> None:
        with pytest.raises(BlockingIOError):
            self.dial(port, guest_port)

    def wait(self, count: int) -> None:
        while len(self.answered) < count:
            assert self.loop.turn(10)

    def close(self) -> None:
        self.dial.close()
        self.loop.close()
        for sock in self.taken:
            if sock is not None:
                sock.close()


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    server = DialServer(Dialler(CID, str(tmp_path / "vsock"), [str(tmp_path)]), ours)
    device = Device(theirs)
    yield device
    device.close()
    server.close()


def test_a_listener_is_reached_under_the_guests_name(device: Device, tmp_path: Path) -> None:
    with HybridVsock(CID, tmp_path / "vsock").listen(80) as listener:
        device.ask(80, 1234)
        device.ask(80, 1234)  # asked for once only
        device.wait(1)
        accepted, _ = listener.accept()
        with accepted:
            assert guest_address(accepted) == (CID, 1234)
            (connected,) = device.taken
            assert connected is not None
            assert not connected.getblocking()
            accepted.sendall(b"x")
            connected.setblocking(True)
            assert connected.recv(2) == b"x"
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_nobody_listens(device: Device) -> None:
    device.ask(81, 1)
    device.wait(1)
    assert device.taken == [None]


def test_an_answer_that_is_no_longer_wanted_is_closed(device: Device, tmp_path: Path) -> None:
    device.takes = False
    with HybridVsock(CID, tmp_path / "vsock").listen(80) as listener:
        device.ask(80, 1)
        device.wait(1)
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.recv(1) == b""
    device.ask(80, 1)  # as if it had never been asked for


def test_a_full_backlog_is_asked_about_again(device: Device, tmp_path: Path) -> None:
    path = tmp_path / "vsock_80"
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(str(path))
        listener.listen(0)
        first.connect(str(path))
        device.ask(80, 1)
        assert device.loop.turn(10)
        assert device.answered == []
        listener.accept()[0].close()
        device.ask(80, 1)
        device.wait(1)
        assert device.taken[0] is not None


def test_nonsense_is_passed_over(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    server = DialServer(Dialler(CID, str(tmp_path / "vsock"), []), ours)
    with theirs:
        for packet in (b"x", bytes(WISH.size + 1), os.urandom(4096)):
            theirs.send(packet)
        theirs.send(WISH.pack(0xFFFF_FFFF, 0xFFFF_FFFF))
        assert theirs.recv(64) == ANSWER.pack(0xFFFF_FFFF, 0xFFFF_FFFF, NOBODY)
    server.close()


def test_wishes_beyond_the_rate_wait(tmp_path: Path) -> None:
    now = 1000.0
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        nonlocal now
        pauses.append(seconds)
        now += seconds

    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    dialler = Dialler(CID, str(tmp_path / "vsock"), [])
    server = DialServer(dialler, ours, clock=lambda: now, pause=pause)
    with theirs:
        for wish in range(BURST + 500):
            theirs.send(WISH.pack(wish, 1))
            assert theirs.recv(64) == ANSWER.pack(wish, 1, NOBODY)
            assert bool(pauses) == (wish >= BURST)
    server.close()
    assert sum(pauses) == pytest.approx(500 / PER_SECOND, rel=0.01)


def test_nothing_is_left_of_a_device(tmp_path: Path) -> None:
    host = DeviceHost(HybridVsock(CID, tmp_path / "vsock"), [tmp_path])
    assert (tmp_path / "vsock").is_socket()
    host.release()
    host.close()
    host.close()
    assert list(tmp_path.iterdir()) == []


def test_a_base_that_is_there_already(tmp_path: Path) -> None:
    (tmp_path / "vsock").touch()
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    with pytest.raises(OSError, match="in use"):
        DeviceHost(HybridVsock(CID, tmp_path / "vsock"))
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
