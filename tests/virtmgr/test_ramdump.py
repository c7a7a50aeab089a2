"""Sending what a guest has left of its memory; a whole crash is in tests/vm."""

import os
import socket
import threading
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest

from avf.virtmgr.ramdump import SOCKET_NAME, send_ramdump
from avf.vsock import guest_address

CID = 2048


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / SOCKET_NAME))
        sock.listen()
        sock.settimeout(20)
        yield sock


def test_all_of_it_is_sent_in_the_name_of_the_vm(tmp_path: Path, listener: socket.socket) -> None:
    data = os.urandom(3 << 20)
    dump = tmp_path / "dump"
    dump.write_bytes(data)
    received: list[tuple[object, bytes]] = []

    def receive() -> None:
        connection, _ = listener.accept()
        with connection, connection.makefile("rb") as stream:
            received.append((guest_address(connection), stream.read()))

    thread = threading.Thread(target=receive)
    thread.start()
    try:
        with dump.open("rb") as file:
            assert send_ramdump(file, CID, [tmp_path / "no service here", tmp_path])
    finally:
        thread.join()
    assert received == [((CID, 0), data)]


def test_without_a_dump_nobody_is_asked(tmp_path: Path) -> None:
    with BytesIO() as empty:
        assert not send_ramdump(empty, CID, [])


def test_nobody_to_take_it(tmp_path: Path) -> None:
    with BytesIO(b"1") as dump:
        with pytest.raises(OSError, match="no virtualizationservice"):
            send_ramdump(dump, CID, [])
        with pytest.raises(FileNotFoundError):
            send_ramdump(dump, CID, [tmp_path])


def test_a_service_that_takes_nothing(
    tmp_path: Path, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("avf.virtmgr.ramdump.TIMEOUT_SECONDS", 0.1)
    with BytesIO(bytes(8 << 20)) as dump, pytest.raises(TimeoutError):
        send_ramdump(dump, CID, [tmp_path])
