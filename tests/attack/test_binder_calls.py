"""Peers of a binder server that call without end, or calls within calls; and servers that do so to a client."""

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from avf.binder import (
    PARTY_LIMITS,
    Budget,
    DeadObjectError,
    FdMode,
    IBinder,
    Interface,
    Parcelable,
    Rate,
    Status,
    StatusError,
    connect,
    interface_cast,
    link_to_death,
    method,
    nobody,
    release,
    unix,
    unlink_to_death,
    wire,
)
from avf.binder.handshake import INIT
from tests.binder.conftest import Serve, Served, listening, nothing_is_left, serve
from tests.binder.test_core import ROOT, binder, oneway_body, transact_body, with_token
from tests.binder.test_hostile import (
    attach,
    frame,
    is_closed,
    read_exactly,
    read_frame,
    read_reply,
    send_with_fds,
    session,
    session_id,
    special,
)
from tests.eventually import eventually
from tests.interop.echo import Echo, IEcho

__all__ = ["nothing_is_left", "serve"]

MINE = wire.address(0, for_server=False)
FLOOD = Rate(burst=20, per_second=10)


class Clock:
    """A clock that the test moves."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Counting(Echo):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def add_ints(self, a: int, b: int) -> int:
        self.calls += 1
        return a + b


@pytest.fixture
def parties() -> Iterator[list[str]]:
    """Whom connections count for, to be changed by the test."""
    yield ["guest"]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def paced(serve: Serve, parties: list[str], clock: Clock) -> Served:
    budget = Budget(calls=FLOOD, arrivals=FLOOD, privileged=nobody, clock=clock)
    return serve(root=Counting(), budget=budget, party=lambda peer: parties[0], max_threads=3)


def calls_of(served: Served) -> int:
    root = served.server._root
    assert isinstance(root, Counting)
    return root.calls


def flood(sock: socket.socket, calls: int = 300) -> None:
    """So many calls that nobody waits for."""
    parcel = with_token(struct.pack("<ii", 2, 3))
    sock.sendall(frame(wire.TRANSACT, transact_body(ROOT, 2, parcel)) * calls)


def assert_others_are_served(served: Served, parties: list[str]) -> None:
    parties[0] = "other"
    before = calls_of(served)
    # a further connection might be accepted only when connections count for the guest again
    with connect(unix(served.path), timeout=10, max_outgoing=1) as made:
        for _ in range(5):
            assert made.get_root(IEcho).add_ints(2, 3) == 5
    assert calls_of(served) == before + 5
    parties[0] = "guest"


def test_calls_beyond_the_rate_wait_and_are_not_lost(
    paced: Served, parties: list[str], clock: Clock
) -> None:
    """However many connections they come over."""
    first = session(paced)
    second = attach(paced, session_id(first))
    third = session(paced)
    before = calls_of(paced)
    for sock in (first, second, third):
        flood(sock)
    allowed = FLOOD.burst - 3  # for the frames so far
    eventually(lambda: calls_of(paced), before + allowed)
    assert_others_are_served(paced, parties)
    for second_passed in range(1, 4):
        clock.now += 1
        eventually(lambda n=second_passed: calls_of(paced), 5 + allowed + 10 * second_passed)
    clock.now += 1000
    for sock in (first, second, third):
        sock.settimeout(0.01)
    served_so_far = 0
    while calls_of(paced) < 905:
        clock.now += 10
        for sock in (first, second, third):
            drain(sock)
        assert (served_so_far := served_so_far + 1) < 10_000
    assert calls_of(paced) == 905


def drain(sock: socket.socket) -> None:
    try:
        while sock.recv(1 << 16):
            pass
    except TimeoutError:
        pass


def test_frames_of_any_kind_count_as_calls(paced: Served, parties: list[str], clock: Clock) -> None:
    """Returns, unknown calls, single bytes: nothing beyond the rate is read, so the peer cannot send any more."""
    for data in (wire.dec_strong(ROOT, 0), special(0), special(99)):
        sock = session(paced)
        sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            for _ in range(2000):
                sock.sendall(data * 100)
        assert_others_are_served(paced, parties)
        clock.now += 100
        sock.close()


def test_connections_beyond_the_rate_wait(paced: Served, parties: list[str], clock: Clock) -> None:
    socks = [paced.raw() for _ in range(45)]
    for sock in socks:
        sock.sendall(bytes(14) + b"\x07\0")  # a malformed header
    eventually(lambda: sum(closed(sock) for sock in socks), FLOOD.burst)
    eventually(lambda: len(paced.server.threads()), 45 - FLOOD.burst + 1)  # all are accepted
    assert_others_are_served(paced, parties)
    assert sum(closed(sock) for sock in socks) == FLOOD.burst
    clock.now += 1
    eventually(lambda: sum(closed(sock) for sock in socks), FLOOD.burst + 10)
    clock.now += 10
    eventually(lambda: sum(closed(sock) for sock in socks), 45)


def closed(sock: socket.socket) -> bool:
    sock.setblocking(False)
    try:
        return sock.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


def test_a_server_whose_peers_wait_can_be_shut_down(paced: Served) -> None:
    sock = session(paced)
    flood(sock)
    socks = [paced.raw() for _ in range(45)]
    paced.server.shutdown()
    assert paced.server.threads() == []
    assert all(is_closed(sock) for sock in socks)


# Nesting


def test_calls_within_calls_have_a_bound(serve: Serve) -> None:
    """The peer answers every call back with another call, and never one of them."""
    served = serve()
    sock = session(served)
    ask = frame(
        wire.TRANSACT, transact_body(ROOT, 5, with_token(binder(1, MINE, 12) + b"\1\0\0\0"))
    )
    depth = 0
    while True:
        sock.sendall(ask)
        command, body = read_frame(sock)
        while command == wire.DEC_STRONG:
            command, body = read_frame(sock)
        if command == wire.REPLY:
            break
        depth += 1
        assert depth <= wire.MAX_NESTED_CALLS
    assert depth == wire.MAX_NESTED_CALLS
    assert struct.unpack_from("<i", body)[0] == Status.FAILED_TRANSACTION
    assert session(served) is not None
    sock.close()


def test_two_honest_ends_learn_of_the_bound(serve: Serve) -> None:
    served = serve()
    root = served.connect().get_root(IEcho)
    assert root.nest(Echo(), 60) == 60
    with pytest.raises(StatusError, match="FAILED_TRANSACTION"):
        root.nest(Echo(), 1000)
    assert root.add_ints(2, 3) == 5


class Node(Parcelable):
    next: "Node | None" = None


class INodes(Interface, descriptor="avf.test.INodes"):
    @method(1)
    def depth(self, node: Node) -> int:
        raise NotImplementedError


class Nodes(INodes):
    def depth(self, node: Node) -> int:
        depth = 1
        while (after := node.next) is not None:
            depth, node = depth + 1, after
        return depth


def nodes(depth: int) -> bytes:
    """A chain of Nodes as it is written."""
    raw = b"\0\0\0\0"
    for _ in range(depth):
        raw = b"\1\0\0\0" + struct.pack("<i", 4 + len(raw)) + raw
    return raw


@pytest.mark.parametrize("depth", [65, 330, 5000])
def test_values_within_values_have_a_bound(
    serve: Serve, depth: int, capfd: pytest.CaptureFixture[str]
) -> None:
    served = serve(root=Nodes(), max_version=2)
    root = served.connect(max_version=2).get_root(INodes)
    chain = Node()
    for _ in range(63):
        chain = Node(next=chain)
    assert root.depth(chain) == 64
    assert INodes._contract is not None
    sock = served.raw()
    sock.sendall(b"\2\0\0\0\0\1" + bytes(10) + INIT)
    read_exactly(sock, 8)
    sock.sendall(special(0))
    read_reply(sock)
    raw = nodes(depth)
    sock.sendall(frame(wire.TRANSACT, transact_body(ROOT, 1, INodes._contract.token + raw)))
    assert struct.unpack_from("<i", read_reply(sock))[0] == Status.BAD_VALUE
    assert root.depth(Node()) == 1
    assert "RecursionError" not in capfd.readouterr().err


# Death links


def test_death_links_count_until_they_are_gone(serve: Serve) -> None:
    served = serve()
    with connect(unix(served.path), incoming_threads=1, timeout=10) as made:
        account = made.endpoint.core.account
        root = made.get_root(IEcho)
        before = account.used.memory
        for _ in range(10):
            link_to_death(root, told)
        assert account.used.memory == before + 10 * 256
        unlink_to_death(root, told)
        assert account.used.memory == before + 9 * 256
        other = root.return_binder()
        link_to_death(other, told)
        release(other)
        eventually(lambda: account.used.memory, before + 9 * 256)
        with pytest.raises(StatusError, match="NO_MEMORY"):
            for _ in range(PARTY_LIMITS.memory // 256 + 1):
                link_to_death(root, told)
        assert root.add_ints(2, 3) == 5
    assert account.used.memory == 0


def told() -> None:
    pass


# Servers that attack their client


class Hostile:
    """A server that completes a client's set-up and then does to it whatever `attack` does."""

    def __init__(self, path: Path, attack: Callable[["Hostile"], None]) -> None:
        self.listener = listening(path)
        self.attack = attack
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self) -> None:
        with self.listener, self.listener.accept()[0] as self.sock:
            read_exactly(self.sock, 24)
            self.sock.sendall(b"\1\0\0\0\0\0\0\0")
            try:
                self.attack(self)
            except (OSError, EOFError):
                pass

    def answer(self, parcel: bytes) -> None:
        while read_frame(self.sock)[0] != wire.TRANSACT:
            pass
        self.sock.sendall(frame(wire.REPLY, struct.pack("<iI12x", 0, len(parcel)) + parcel))

    def set_up(self) -> None:
        self.answer(struct.pack("<i", 1))
        self.answer(struct.pack("<i", 32) + b"i" * 32)
        self.answer(binder(1, ROOT, 12))


def test_a_set_up_that_goes_on_without_end_is_given_up(tmp_path: Path) -> None:
    def returns_without_end(server: Hostile) -> None:
        while True:
            server.sock.sendall(wire.dec_strong(ROOT, 1) * 10)

    hostile = Hostile(tmp_path / "sock", returns_without_end)
    with pytest.raises(TimeoutError):
        connect(unix(tmp_path / "sock"), timeout=0.3)
    hostile.thread.join()


def test_a_server_with_descriptors_at_every_byte(tmp_path: Path) -> None:
    def attack(server: Hostile) -> None:
        server.set_up()
        read_frame(server.sock)
        with open("/dev/null", "rb") as null:
            for _ in range(15):
                send_with_fds(server.sock, b"\1", [null.fileno()] * wire.MAX_FDS)

    hostile = Hostile(tmp_path / "sock", attack)
    with connect(unix(tmp_path / "sock"), fd_mode=FdMode.UNIX, timeout=10) as made:
        account = made.endpoint.core.account
        root = interface_cast(IEcho, made.get_root(IBinder))
        with pytest.raises(DeadObjectError, match="506 file descriptors with one frame"):
            root.add_ints(2, 3)
    assert tuple(account.used) == (0, 0, 0)
    hostile.thread.join()


def test_a_server_with_oneway_calls_of_the_future(tmp_path: Path) -> None:
    """Sent while the client waits for a reply, for an object that the client has passed."""

    def attack(server: Hostile) -> None:
        server.set_up()
        read_frame(server.sock)
        for number in range(1, 1 << 20):
            body = bytearray(oneway_body(number, 0) + bytes(20_000))
            struct.pack_into("<Q", body, 0, MINE)
            struct.pack_into("<I", body, 24, len(body) - 40)
            server.sock.sendall(frame(wire.TRANSACT, bytes(body)))

    hostile = Hostile(tmp_path / "sock", attack)
    with connect(unix(tmp_path / "sock"), timeout=10) as made:
        account = made.endpoint.core.account
        with pytest.raises(DeadObjectError, match="may not have"):
            interface_cast(IEcho, made.get_root(IBinder)).hold_binder(Echo())
    assert tuple(account.used) == (0, 0, 0)
    hostile.thread.join()


def test_a_server_that_does_not_take_a_frame(tmp_path: Path) -> None:
    gone = threading.Event()

    def attack(server: Hostile) -> None:
        server.set_up()
        gone.wait(30)

    hostile = Hostile(tmp_path / "sock", attack)
    with connect(unix(tmp_path / "sock"), timeout=10, frame_timeout=0.3) as made:
        root = interface_cast(IEcho, made.get_root(IBinder))
        with pytest.raises(DeadObjectError, match="did not take a frame"):
            for value in range(1 << 20):
                interface_cast(IEcho, root).append(value)
    gone.set()
    hostile.thread.join()
