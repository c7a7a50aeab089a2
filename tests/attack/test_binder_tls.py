"""Peers of a TLS server that never come to the end of a handshake, or break what TLS protects."""

import os
import select
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import TypeVar

import pytest

from avf.binder import Budget, Server, connect, inet, wire
from tests.binder.certificates import Identity, calling
from tests.binder.test_core import ROOT, transact_body, with_token
from tests.binder.test_hostile import HELLO, frame, special
from tests.eventually import eventually
from tests.interop.echo import Echo, IEcho

HOST = "127.0.0.1"
T = TypeVar("T")


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return Identity(tmp_path_factory.mktemp("identity"), "server")


def client_hello(context: ssl.SSLContext) -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def assert_serves(port: int, ours: Identity) -> None:
    with connect(inet(HOST, port, tls=calling(ours)), timeout=30) as session:
        assert session.get_root(IEcho).add_ints(2, 3) == 5


def ends(sock: socket.socket) -> bool:
    """Whether the server hangs up, whatever it says before."""
    try:
        while sock.recv(4096):
            pass
    except ConnectionResetError:
        pass
    return True


OPENINGS: dict[str, Callable[[bytes], bytes]] = {
    "random": lambda hello: os.urandom(20_000),
    "zeros": lambda hello: bytes(20_000),
    "plain http": lambda hello: b"GET / HTTP/1.1\r\n\r\n",
    "without tls": lambda hello: b"\1\0\0\0" + bytes(12) + b"cci\0" + bytes(4),
    "hello twice": lambda hello: hello + hello,
    "hello and data": lambda hello: hello + b"\x17\x03\x03\x40\x00" + bytes(16_384),
    "a huge hello": lambda hello: (b"\x16\x03\x01\x40\x00\x01\xff\xff\xff" + bytes(16_380)) * 40,
    "alerts": lambda hello: hello + b"\x15\x03\x03\x00\x02\x01\x00" * 5000,
    "empty records": lambda hello: b"\x16\x03\x01\x00\x00" * 5000,
}


@pytest.mark.parametrize("opening", OPENINGS)
def test_what_is_no_handshake_ends_that_connection_only(ours: Identity, opening: str) -> None:
    data = OPENINGS[opening](client_hello(calling(ours)))
    budget = Budget()
    with Server(Echo(), budget=budget, handshake_timeout=5) as server, ExitStack() as stack:
        port = server.start(inet(HOST, 0, tls=ours.serving())).port
        for _ in range(5):
            sock = stack.enter_context(socket.create_connection((HOST, port)))
            sock.settimeout(30)
            try:
                sock.sendall(data)
            except (BrokenPipeError, ConnectionResetError):
                pass
            assert ends(sock)
        assert_serves(port, ours)
        eventually(lambda: list(budget.used), [0, 0, 0])


def test_a_handshake_that_comes_byte_by_byte_ends_at_the_deadline(ours: Identity) -> None:
    """Every byte would begin the wait anew if the timeout were one of each receive."""
    hello = client_hello(calling(ours))
    with Server(Echo(), handshake_timeout=0.5) as server:
        port = server.start(inet(HOST, 0, tls=ours.serving())).port
        with socket.create_connection((HOST, port)) as sock:
            sock.settimeout(0.1)
            sent = 0
            for byte in hello:
                try:
                    sock.sendall(bytes([byte]))
                    if not sock.recv(100):
                        break
                except TimeoutError:
                    sent += 1
                except OSError:
                    break
            assert sent < len(hello) // 2
        assert_serves(port, ours)


def test_handshakes_that_never_end_take_no_more_than_their_share(ours: Identity) -> None:
    with Server(Echo()) as server, ExitStack() as stack:
        port = server.start(inet(HOST, 0, tls=ours.serving())).port
        hello = client_hello(calling(ours))
        for _ in range(300):
            sock = stack.enter_context(socket.create_connection((HOST, port)))
            sock.sendall(hello[:-1])
        eventually(lambda: len(server.threads()) <= 257, True)
        assert server.sessions == 0


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_connections_reset_at_once_do_not_stop_the_server(ours: Identity, secure: bool) -> None:
    """Whoever they came from is not to be learnt any more when they are accepted."""
    budget = Budget()
    with Server(Echo(), budget=budget) as server:
        address = server.start(inet(HOST, 0, tls=ours.serving() if secure else None))
        for _ in range(300):
            with socket.create_connection((HOST, address.port)) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        tls = calling(ours) if secure else None
        with connect(inet(HOST, address.port, tls=tls), timeout=30) as session:
            assert session.get_root(IEcho).add_ints(2, 3) == 5
        eventually(lambda: list(budget.used), [0, 0, 0])


ADD = frame(wire.TRANSACT, transact_body(ROOT, 2, with_token(struct.pack("<ii", 2, 3))))
SUM = struct.pack("<ii", 0, 5)


class Slow:
    """A session over TLS, whose records go out as they are wanted."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        self.sock = sock
        sock.settimeout(30)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")
        self._until_it_works(self._tls.do_handshake)
        self.sock.sendall(self.record(HELLO))
        assert len(self.read(8)) == 8
        self.sock.sendall(self.record(special(0)))
        self.reply()

    def record(self, data: bytes) -> bytes:
        self._tls.write(data)
        return self._outgoing.read()

    def read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            data += self._until_it_works(partial(self._tls.read, size - len(data)))
        return data

    def reply(self) -> bytes:
        """The parcel of the next REPLY."""
        while True:
            command, size, _ = struct.unpack("<IIQ", self.read(16))
            body = self.read(size)
            if command == wire.REPLY:
                return body[20:]
            assert command == wire.DEC_STRONG

    def _until_it_works(self, function: Callable[[], T]) -> T:
        while True:
            try:
                return function()
            except ssl.SSLWantReadError:
                self.sock.sendall(self._outgoing.read())
                self._incoming.write(self.sock.recv(65536))
            finally:
                self.sock.sendall(self._outgoing.read())


@pytest.mark.parametrize("split", [1, 4, 5, 6, -1])
def test_a_record_of_which_a_part_comes_has_the_time_of_a_frame(ours: Identity, split: int) -> None:
    with Server(Echo(), frame_timeout=0.3) as server:
        port = server.start(inet(HOST, 0, tls=ours.serving())).port
        with socket.create_connection((HOST, port)) as sock:
            slow = Slow(sock, calling(ours))
            sock.sendall(slow.record(ADD)[:split])
            assert ends(sock)
        eventually(lambda: server.sessions, 0)
        assert_serves(port, ours)


def test_a_record_that_comes_byte_by_byte_has_the_time_of_a_frame(ours: Identity) -> None:
    with Server(Echo(), frame_timeout=0.3) as server:
        port = server.start(inet(HOST, 0, tls=ours.serving())).port
        with socket.create_connection((HOST, port)) as sock:
            slow = Slow(sock, calling(ours))
            data = slow.record(ADD + ADD * 20)
            sent = 0
            while sent < len(data) and not select.select([sock], [], [], 0.01)[0]:
                sent += sock.send(data[sent : sent + 1])
            assert sent < len(data) // 2
            assert ends(sock)
        assert_serves(port, ours)


def test_without_a_limit_a_record_may_take_its_time(ours: Identity) -> None:
    with Server(Echo()) as server:
        port = server.start(inet(HOST, 0, tls=ours.serving())).port
        with socket.create_connection((HOST, port)) as sock:
            slow = Slow(sock, calling(ours))
            for byte in slow.record(ADD):
                sock.sendall(bytes([byte]))
            assert slow.reply() == SUM


@pytest.mark.parametrize("split", [1, 5, 30, -1])
def test_a_call_of_which_a_part_has_come_is_waited_for_by_shutdown(
    ours: Identity, split: int
) -> None:
    server = Server(Echo())
    port = server.start(inet(HOST, 0, tls=ours.serving())).port
    with socket.create_connection((HOST, port)) as sock:
        slow = Slow(sock, calling(ours))
        data = slow.record(ADD)
        sock.sendall(data[:split])
        (endpoint,) = server.endpoints()
        eventually(lambda: endpoint.busy, True)
        stopping = threading.Thread(target=server.shutdown, args=(60,))
        stopping.start()
        sock.sendall(data[split:])
        assert slow.reply() == SUM
        stopping.join(30)
        assert not stopping.is_alive()
