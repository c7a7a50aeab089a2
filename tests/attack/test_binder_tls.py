"""Peers of a TLS server that never come to the end of a handshake, or break what TLS protects."""

import os
import socket
import ssl
import struct
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from avf.binder import Budget, Server, connect, inet
from tests.binder.certificates import Identity, calling
from tests.eventually import eventually
from tests.interop.echo import Echo, IEcho

HOST = "127.0.0.1"


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
