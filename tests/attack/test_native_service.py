"""Hostile callers of the service of a native payload: others are served meanwhile, and nothing grows."""

import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from avf.binder import RemoteException, StatusError, connect, unix, wire
from tests.binder.test_core import ROOT, transact_body
from tests.binder.test_hostile import HELLO, frame, read_exactly, read_reply, special
from tests.guest.native_host import native_host
from tests.guest.test_native_rpc import SOURCE, TOKEN, IKinds

LONG_REPLY, TEXT = 7, 2


@pytest.fixture
def service(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """The pid of a payload that answers one call at a time, and its socket."""
    with native_host(tmp_path) as host, host.serving(host.compile(SOURCE)) as process:
        yield process.pid, tmp_path / "5000"


def session(path: Path) -> socket.socket:
    """A raw session that got the root object."""
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(30)
    sock.connect(str(path))
    sock.sendall(HELLO)
    read_exactly(sock, 8)
    sock.sendall(special(wire.SPECIAL_GET_ROOT))
    read_reply(sock)
    return sock


def call(code: int, arguments: bytes) -> bytes:
    return frame(wire.TRANSACT, transact_body(ROOT, code, TOKEN.payload() + arguments))


def assert_served(path: Path) -> None:
    with connect(unix(path), timeout=30) as others:
        assert others.get_root(IKinds).text("served") == "served"


def resident_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if "VmRSS" in line)


def test_a_caller_that_takes_no_reply(service: tuple[int, Path]) -> None:
    """The turn to be answered ends with the answer, not when its caller has taken it."""
    _, path = service
    with session(path) as sock:
        sock.sendall(call(LONG_REPLY, struct.pack("<i", 24_000)) * 20)
        assert_served(path)


def test_a_caller_that_stops_in_the_middle(service: tuple[int, Path]) -> None:
    _, path = service
    for size in (1, 15, 16, 40, 70):
        with session(path) as sock:
            sock.sendall(call(TEXT, b"\2\0\0\0a\0b\0\0\0\0\0")[:size])
            assert_served(path)


def test_replies_leave_no_memory_behind(service: tuple[int, Path]) -> None:
    """Whatever the call ended with: 8 MiB at most, where the replies are 300 MB."""
    pid, path = service

    def call_all(rounds: int) -> None:
        with connect(unix(path), timeout=60) as caller:
            kinds = caller.get_root(IKinds)
            for _ in range(rounds):
                assert len(kinds.long_reply(20_000)) == 20_000
                with pytest.raises(StatusError):
                    kinds.long_reply(2**31 - 1)
                with pytest.raises(RemoteException):
                    kinds.fail(-3, 0, "x" * 10_000)

    call_all(20)
    before = resident_kib(pid)
    call_all(400)
    assert resident_kib(pid) - before < 8 << 10
