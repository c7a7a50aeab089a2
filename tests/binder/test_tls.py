"""TLS and mutual TLS over TCP."""

import asyncio
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from avf.binder import (
    DeadObjectError,
    FdMode,
    Interface,
    Peer,
    Server,
    StatusError,
    aio,
    calling_peer,
    connect,
    inet,
    method,
)
from avf.binder.handshake import INIT, ConnectionHeader
from avf.binder.tls import TlsSocket
from tests.eventually import eventually
from tests.interop.echo import Echo, IEcho

from .certificates import Identity, calling
from .test_hostile import HELLO_UNIX

HOST = "127.0.0.1"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Identity]:
    folder = tmp_path_factory.mktemp("identities")
    known: dict[str, Identity] = {}

    def identity(name: str) -> Identity:
        if name not in known:
            known[name] = Identity(folder, name)
        return known[name]

    return identity


@pytest.fixture
def ours(made: Callable[[str], Identity]) -> Identity:
    return made("server")


@pytest.fixture
def alice(made: Callable[[str], Identity]) -> Identity:
    return made("alice")


@pytest.fixture
def mallory(made: Callable[[str], Identity]) -> Identity:
    return made("mallory")


class IWho(Interface, descriptor="test.IWho"):
    @method(1)
    def who(self) -> str | None:
        raise NotImplementedError


class Who(IWho):
    def who(self) -> str | None:
        return calling_peer().common_name


def test_calls_of_all_kinds_and_sizes(ours: Identity) -> None:
    with Server(Echo(), max_threads=3) as server:
        port = server.start(inet(HOST, 0, tls=ours.serving())).port
        with connect(
            inet(HOST, port, tls=calling(ours)), incoming_threads=2, timeout=20
        ) as session:
            root = session.get_root(IEcho)
            assert root.add_ints(2, 3) == 5
            for size in (0, 1, 16_383, 16_384, 16_385, 65_536, 99_000):
                data = os.urandom(size)
                assert root.echo_bytes(data) == data
            watcher = Echo()
            assert root.call_back(watcher, 5) == 5
            for number in range(500):
                root.append(number)
            appended: list[int] = []
            while len(appended) < 500:
                appended += root.get_appended()
            assert sorted(appended) == list(range(500))
            root.oneway_notify(watcher, 41)
            assert watcher.wait_notified(1) == [42]


def test_oneway_calls_alone_do_not_stall(ours: Identity) -> None:
    """What comes back on a connection of oneway calls is read, also what TLS has read already."""
    with Server(Echo()) as server:
        port = server.start(inet(HOST, 0, tls=ours.serving())).port
        with connect(inet(HOST, port, tls=calling(ours)), timeout=20) as session:
            root = session.get_root(IEcho)
            for number in range(3000):
                root.append(number)
            assert root.get_appended() == list(range(3000))


def test_large_calls_in_both_directions_at_once(ours: Identity) -> None:
    """Both ends write more than the sockets hold, so each has to read while it writes."""
    with Server(Echo(), max_threads=4) as server:
        port = server.start(inet(HOST, 0, tls=ours.serving())).port
        with connect(
            inet(HOST, port, tls=calling(ours)), incoming_threads=2, timeout=20
        ) as session:
            root = session.get_root(IEcho)
            data = os.urandom(99_000)
            wrong: list[int] = []

            def work(count: int) -> None:
                wrong.extend(n for n in range(count) if root.echo_bytes(data) != data)

            threads = [threading.Thread(target=work, args=(40,)) for _ in range(6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
            assert wrong == []
            assert not any(thread.is_alive() for thread in threads)


def test_the_asyncio_face(ours: Identity, alice: Identity) -> None:
    async def main() -> str | None:
        async with aio.Server(Who()) as server:
            port = server.start(inet(HOST, 0, tls=ours.serving(alice))).port
            address = inet(HOST, port, tls=calling(ours, alice))
            async with await aio.connect(address, timeout=20) as session:
                root = await session.get_root(IWho)
                return await aio.in_thread(root.who)

    assert asyncio.run(main()) == "alice"


def test_methods_and_root_functions_learn_the_certificate(
    ours: Identity, alice: Identity, mallory: Identity
) -> None:
    seen: list[Peer] = []

    def root(peer: Peer) -> IWho | None:
        seen.append(peer)
        return Who() if peer.common_name == "alice" else None

    with Server(root) as server:
        port = server.start(inet(HOST, 0, tls=ours.serving(alice, mallory))).port
        with connect(inet(HOST, port, tls=calling(ours, alice)), timeout=20) as session:
            assert session.get_root(IWho).who() == "alice"
        with (
            connect(inet(HOST, port, tls=calling(ours, mallory)), timeout=20) as session,
            pytest.raises(StatusError, match="no root object"),
        ):
            session.get_root(IWho)
    assert [peer.certificate for peer in seen] == [alice.der, mallory.der]
    assert [peer.host for peer in seen] == [HOST, HOST]


def test_without_mutual_tls_nobody_is_named(ours: Identity, alice: Identity) -> None:
    """A certificate that nobody has verified says nothing."""
    with Server(Who()) as server:
        port = server.start(inet(HOST, 0, tls=ours.serving())).port
        with connect(inet(HOST, port, tls=calling(ours, alice)), timeout=20) as session:
            assert session.get_root(IWho).who() is None


@pytest.mark.parametrize(
    ("client", "text"),
    [(None, "certificate required"), ("mallory", "unknown ca")],
    ids=["none", "another"],
)
def test_a_client_that_is_not_trusted_is_refused_and_told_why(
    ours: Identity, alice: Identity, mallory: Identity, client: str | None, text: str
) -> None:
    shown = mallory if client else None
    with Server(Who()) as server:
        port = server.start(inet(HOST, 0, tls=ours.serving(alice))).port
        with pytest.raises(ssl.SSLError, match=text):
            connect(inet(HOST, port, tls=calling(ours, shown)), timeout=20)
        assert server.sessions == 0
        with connect(inet(HOST, port, tls=calling(ours, alice)), timeout=20) as session:
            assert session.get_root(IWho).who() == "alice"


def test_a_server_that_is_not_trusted_is_refused(ours: Identity, mallory: Identity) -> None:
    with Server(Who()) as server:
        port = server.start(inet(HOST, 0, tls=mallory.serving())).port
        with pytest.raises(ssl.SSLCertVerificationError, match="self-signed"):
            connect(inet(HOST, port, tls=calling(ours)), timeout=20)


def test_a_certificate_for_another_host_is_refused(ours: Identity) -> None:
    with Server(Who()) as server:
        port = server.start(inet("127.0.0.2", 0, tls=ours.serving())).port
        with pytest.raises(ssl.SSLCertVerificationError, match="IP address mismatch"):
            connect(inet("127.0.0.2", port, tls=calling(ours)), timeout=20)


def test_a_client_without_tls_is_dropped(ours: Identity) -> None:
    with Server(Who()) as server:
        port = server.start(inet(HOST, 0, tls=ours.serving())).port
        with pytest.raises((DeadObjectError, OSError, StatusError)):
            connect(inet(HOST, port), timeout=20)
        assert server.sessions == 0


def test_a_session_takes_connections_of_one_certificate_only(
    ours: Identity, alice: Identity, mallory: Identity
) -> None:
    """Also if another trusted client has come to know the session's number, or calls without TLS."""
    with Server(Echo(), max_threads=4) as server:
        port = server.start(inet(HOST, 0, tls=ours.serving(alice, mallory))).port
        plain = server.start(inet(HOST, 0))
        mine = inet(HOST, port, tls=calling(ours, alice))
        with connect(mine, max_outgoing=1, timeout=20) as session:
            root = session.get_root(IEcho)
            (end,) = server.endpoints()
            header = ConnectionHeader(1, incoming=False, fd_mode=FdMode.NONE, new_session=False)
            hello = header.pack() + end.core.session_id + INIT
            for other in (inet(HOST, port, tls=calling(ours, mallory)), plain):
                with closing(other()) as sock:
                    sock.sendall(hello)
                    try:
                        assert sock.recv(1) == b""
                    except ConnectionResetError:
                        pass  # it was closed with something unread
            with closing(mine()) as sock:
                sock.sendall(hello)
                eventually(lambda: len(end._serving), 2)
                assert root.add_ints(2, 3) == 5


@pytest.mark.parametrize("side", ["server", "client"])
def test_no_descriptors_travel_over_tls(ours: Identity, side: str) -> None:
    with Server(Echo(), fd_modes=frozenset({FdMode.NONE, FdMode.UNIX})) as server:
        address = server.start(inet(HOST, 0, tls=ours.serving()))
        client = inet(HOST, address.port, tls=calling(ours))
        if side == "client":
            with pytest.raises(ValueError, match="FdMode"):
                connect(client, fd_mode=FdMode.UNIX, timeout=20)
            return
        sock = client()
        try:
            sock.sendall(HELLO_UNIX)
            assert sock.recv(8)[:4] == b"\1\0\0\0"  # the version, and then nothing
            assert sock.recv(1) == b""
            assert server.sessions == 0
        finally:
            sock.close()


@pytest.mark.parametrize("server", [True, False])
def test_a_context_of_the_wrong_side_is_refused(ours: Identity, server: bool) -> None:
    with pytest.raises(ValueError, match="PROTOCOL_TLS_"):
        if server:
            Server(Echo()).start(inet(HOST, 0, tls=calling(ours)))
        else:
            connect(inet(HOST, 1, tls=ours.serving()))


@pytest.fixture
def pair(ours: Identity) -> Iterator[tuple[TlsSocket, TlsSocket]]:
    left, right = socket.socketpair()
    client = TlsSocket(left, calling(ours), "localhost")
    server = TlsSocket(right, ours.serving())
    thread = threading.Thread(target=server.handshake)
    thread.start()
    client.handshake()
    thread.join()
    yield client, server
    client.close()
    server.close()


def test_what_is_sent_without_waiting_comes_once_and_in_order(
    pair: tuple[TlsSocket, TlsSocket],
) -> None:
    """The sender goes on with what was not taken, whenever the socket was full."""
    client, server = pair
    data = os.urandom(3_000_000)
    rest, got, short = memoryview(data), bytearray(), 0
    while rest or len(got) < len(data):
        try:
            if rest:
                taken = client.send(rest, socket.MSG_DONTWAIT)
                short += taken < len(rest)
                rest = rest[taken:]
        except BlockingIOError:
            pass
        try:
            got += server.recv(100_000, socket.MSG_DONTWAIT)
        except BlockingIOError:
            pass
    assert short > 0
    assert bytes(got) == data


def test_the_end_of_what_a_peer_sends_is_no_error(pair: tuple[TlsSocket, TlsSocket]) -> None:
    client, server = pair
    client.sendall(b"last")
    client.close()
    assert server.recv(100) == b"last"
    assert server.recv(100) == b""
    assert server.recv(100) == b""


def test_bytes_that_were_changed_on_the_way_are_an_error(ours: Identity) -> None:
    left, right = socket.socketpair()
    with left, right:
        client = TlsSocket(left, calling(ours), "localhost")
        server = TlsSocket(right.dup(), ours.serving())
        thread = threading.Thread(target=server.handshake)
        thread.start()
        client.handshake()
        thread.join()
        left.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
        with pytest.raises(ssl.SSLError):
            server.recv(100)
        server.close()
