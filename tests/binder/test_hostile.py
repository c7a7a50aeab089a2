"""Peers that break the protocol, on purpose or by accident: raw bytes against a real server and a real client."""

import array
import errno
import os
import resource
import select
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from avf.binder import (
    TOTAL_LIMITS,
    Budget,
    DeadObjectError,
    IBinder,
    Server,
    StatusError,
    connect,
    interface_cast,
    nobody,
    unix,
    wire,
)
from avf.binder.handshake import INIT, ConnectionHeader
from tests.eventually import eventually
from tests.interop.echo import IEcho

from .conftest import BOTH_MODES, Serve, Served, listening
from .test_core import METHODS, ROOT, binder, oneway_body, transact_body, with_token

NEW = bytes.fromhex("01000000 00 00 0000000000000000 0000")
NEW_UNIX = bytes.fromhex("01000000 00 01 0000000000000000 0000")
HELLO = NEW + INIT
HELLO_UNIX = NEW_UNIX + INIT


def frame(command: int, body: bytes) -> bytes:
    return struct.pack("<IIQ", command, len(body), 0) + body


def special(code: int) -> bytes:
    return frame(wire.TRANSACT, struct.pack("<QIIQI12x", 0, code, 0, 0, 0))


def read_exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = sock.recv(size - len(data))
        if not piece:
            raise EOFError(data)
        data += piece
    return data


def read_frame(sock: socket.socket) -> tuple[int, bytes]:
    command, size = struct.unpack("<II8x", read_exactly(sock, 16))
    return command, read_exactly(sock, size)


def read_reply(sock: socket.socket) -> bytes:
    """The body of the next REPLY."""
    while True:
        command, body = read_frame(sock)
        if command == wire.REPLY:
            return body
        assert command == wire.DEC_STRONG


def is_closed(sock: socket.socket) -> bool:
    """Whether the peer hangs up, without another byte."""
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True


def session(served: Served, hello: bytes = HELLO) -> socket.socket:
    """A raw session that got the root object."""
    sock = served.raw()
    sock.sendall(hello)
    assert read_exactly(sock, 8) == bytes.fromhex("0100000000000000")
    sock.sendall(special(0))
    assert read_reply(sock)[20:] == binder(1, ROOT, 12)
    return sock


def add_works(sock: socket.socket) -> bool:
    parcel = with_token(struct.pack("<ii", 2, 3))
    sock.sendall(frame(wire.TRANSACT, transact_body(ROOT, 2, parcel)))
    return read_reply(sock)[20:] == struct.pack("<ii", 0, 5)


@pytest.fixture
def served(serve: Serve) -> Iterator[Served]:
    """A server that has to serve others as ever after the test."""
    made = serve(max_threads=3)
    yield made
    assert made.connect().get_root(IEcho).add_ints(1, 1) == 2


# Handshake


def test_the_bytes_of_a_handshake(served: Served) -> None:
    sock = served.raw()
    header = ConnectionHeader(1, incoming=False, fd_mode=1, new_session=True)
    assert header.pack() + INIT == bytes.fromhex(
        "01000000 00 01 0000000000000000 0000 6363690000000000"
    )
    sock.sendall(header.pack() + INIT)
    assert read_exactly(sock, 8) == bytes.fromhex("01000000 00000000")
    sock.sendall(special(1))
    assert read_reply(sock) == bytes.fromhex("00000000 04000000" + "00" * 12 + "03000000")
    sock.sendall(special(2))
    body = read_reply(sock)
    assert body[:24] == bytes.fromhex("00000000 24000000" + "00" * 12 + "20000000")
    assert len(body) == 24 + 32


@pytest.mark.parametrize(
    ("offered", "answered"), [(0, 0), (1, 1), (2, 1), (0xF0000000, 1), (0xFFFFFFFF, 1)]
)
def test_versions(served: Served, offered: int, answered: int) -> None:
    sock = served.raw()
    sock.sendall(struct.pack("<I", offered) + HELLO[4:])
    assert read_exactly(sock, 8) == struct.pack("<II", answered, 0)


def test_reserved_bytes_do_not_matter(served: Served) -> None:
    sock = served.raw()
    sock.sendall(b"\1\0\0\0\xfe\0" + b"\xff" * 8 + b"\0\0" + b"cci\0" + b"\xff" * 4)
    assert len(read_exactly(sock, 8)) == 8
    sock.sendall(
        struct.pack("<II", 0, 40)
        + b"\xff" * 8
        + bytes(8)
        + struct.pack("<II", 1, 1 << 30)
        + bytes(12)
        + b"\xff" * 12
    )
    assert len(read_reply(sock)) == 24


@pytest.mark.parametrize(
    ("hello", "answers"),
    [
        (NEW[:14] + b"\x1f\0" + INIT, False),
        (NEW[:14] + b"\x20\0" + bytes(32) + INIT, False),
        (NEW[:4] + b"\1" + NEW[5:], True),
        (NEW[:5] + b"\2" + NEW[6:] + INIT, True),
        (NEW + b"cciX" + bytes(4), True),
    ],
    ids=["id size", "unknown id", "new and incoming", "fd mode", "init"],
)
def test_handshakes_that_are_refused(served: Served, hello: bytes, answers: bool) -> None:
    sock = served.raw()
    sock.sendall(hello)
    if answers:
        assert read_exactly(sock, 8) == bytes.fromhex("0100000000000000")
    assert is_closed(sock)
    assert served.server.sessions == 0


@pytest.mark.parametrize("sent", [b"", NEW[:7], NEW, NEW[:14] + b"\x20\0" + bytes(31)])
def test_peers_that_fall_silent(serve: Serve, sent: bytes) -> None:
    served = serve(handshake_timeout=0.05)
    sock = served.raw()
    sock.sendall(sent)
    while sock.recv(100):
        pass
    assert served.server.sessions == 0


def test_shutdown_does_not_wait_for_silent_peers(serve: Serve) -> None:
    served = serve(handshake_timeout=None)
    sock = served.raw()
    sock.sendall(NEW)
    read_exactly(sock, 8)
    served.server.shutdown()
    assert is_closed(sock)


def test_connections_beyond_the_limit(serve: Serve) -> None:
    budget = Budget(total=TOTAL_LIMITS._replace(connections=2))
    served = serve(budget=budget)
    socks = [served.raw() for _ in range(2)]
    for sock in socks:
        sock.sendall(HELLO)
        read_exactly(sock, 8)
    assert is_closed(served.raw())
    for sock in socks:
        sock.close()
    eventually(lambda: served.server.sessions, 0)
    eventually(lambda: budget.used.connections, 0)


def session_id(sock: socket.socket) -> bytes:
    sock.sendall(special(2))
    return read_reply(sock)[24:]


def attach(served: Served, name: bytes, *, incoming: bool = False) -> socket.socket:
    sock = served.raw()
    header = ConnectionHeader(1, incoming=incoming, fd_mode=0, new_session=False).pack()
    sock.sendall(header + name + (b"" if incoming else INIT))
    return sock


def test_more_connections_of_a_session(served: Served) -> None:
    first = session(served)
    name = session_id(first)
    second = attach(served, name)
    assert add_works(second)
    incoming = attach(served, name, incoming=True)
    assert read_exactly(incoming, 8) == INIT
    third = attach(served, name)
    assert add_works(third)
    assert is_closed(attach(served, name))
    assert add_works(first)
    assert served.server.sessions == 1
    incoming.close()
    assert add_works(first)  # nobody reads the lost connection
    second.close()
    assert is_closed(first)
    assert is_closed(third)


def test_a_session_that_lost_a_connection_takes_no_more(served: Served) -> None:
    first = session(served)
    name = session_id(first)
    second = attach(served, name)
    assert add_works(second)
    second.sendall(struct.pack("<IIQ", wire.TRANSACT, wire.MAX_RECEIVED + 1, 0))
    assert is_closed(second)
    assert add_works(first)
    assert is_closed(attach(served, name))
    assert add_works(first)
    first.sendall(struct.pack("<IIQ", wire.TRANSACT, wire.MAX_RECEIVED + 1, 0))
    assert is_closed(first)
    eventually(lambda: served.server.sessions, 0)


# Frames

ENDS = {
    "unknown command": frame(3, b""),
    "command of all ones": frame(0xFFFFFFFF, bytes(16)),
    "reply to nothing": frame(wire.REPLY, struct.pack("<iI12x", 0, 0)),
    "short transaction": frame(wire.TRANSACT, bytes(39)),
    "empty transaction": frame(wire.TRANSACT, b""),
    "short return": frame(wire.DEC_STRONG, bytes(15)),
    "long return": frame(wire.DEC_STRONG, bytes(17)),
    "parcel longer than the body": frame(wire.TRANSACT, transact_body(ROOT, 2, b"", size=1)),
    "parcel much longer than the body": frame(
        wire.TRANSACT, transact_body(ROOT, 2, b"", size=0xFFFFFFFF)
    ),
    "odd object table": frame(wire.TRANSACT, transact_body(ROOT, 2, b"123", size=0)),
    "unknown address": frame(
        wire.TRANSACT, transact_body(wire.address(5, for_server=False), 2, b"")
    ),
    "address of nobody's": frame(
        wire.TRANSACT, transact_body(wire.address(5, for_server=True), 2, b"")
    ),
    "too much": frame(wire.TRANSACT, bytes(wire.MAX_RECEIVED + 4)),
}


@pytest.mark.parametrize("sent", ENDS.values(), ids=ENDS)
@pytest.mark.parametrize("hello", [HELLO, HELLO_UNIX], ids=["none", "unix"])
def test_what_ends_a_session(served: Served, hello: bytes, sent: bytes) -> None:
    sock = session(served, hello)
    assert add_works(sock)
    try:
        sock.sendall(sent)
    except (BrokenPipeError, ConnectionResetError):
        return
    assert is_closed(sock)
    eventually(lambda: served.server.sessions, 0)


@pytest.mark.parametrize("hello", [HELLO, HELLO_UNIX], ids=["none", "unix"])
@pytest.mark.parametrize(
    ("body", "status"),
    [
        (transact_body(ROOT, 2, with_token(struct.pack("<ii", 2, 3)) + bytes(4), size=44), -22),
        (transact_body(ROOT, 1337, b""), -74),
        (transact_body(ROOT, 2, b"wrong token."), -2147483647),
        (transact_body(0, 9, b""), -74),
        (transact_body(ROOT | 4, 2, b""), -22),
        (transact_body(4, 2, b""), -22),
        (transact_body(0xFFFF_FFFF, 1, b""), -22),
    ],
    ids=[
        "objects without descriptors",
        "unknown code",
        "token",
        "special",
        "root with another option",
        "option of nobody's",
        "all options",
    ],
)
def test_what_only_fails(served: Served, hello: bytes, body: bytes, status: int) -> None:
    sock = session(served, hello)
    sock.sendall(frame(wire.TRANSACT, body))
    assert struct.unpack_from("<i", read_reply(sock))[0] == status
    assert add_works(sock)


def test_the_largest_transaction(served: Served) -> None:
    sock = session(served)
    body = transact_body(ROOT, 2, bytes(wire.MAX_RECEIVED - 40))
    assert len(body) == wire.MAX_RECEIVED
    sock.sendall(frame(wire.TRANSACT, body))
    assert struct.unpack_from("<i", read_reply(sock))[0] == -2147483647
    assert add_works(sock)


def test_frames_in_pieces(served: Served) -> None:
    for hello in (HELLO, HELLO_UNIX):
        sock = session(served, hello)
        raw = frame(wire.TRANSACT, transact_body(ROOT, 2, with_token(struct.pack("<ii", 2, 3))))
        for i in range(len(raw)):
            sock.send(raw[i : i + 1])
        assert read_reply(sock)[20:] == struct.pack("<ii", 0, 5)


def test_calls_without_waiting_are_answered_in_order(served: Served) -> None:
    sock = session(served)
    for i in range(50):
        parcel = with_token(struct.pack("<ii", i, 0))
        sock.sendall(frame(wire.TRANSACT, transact_body(ROOT, 2, parcel)))
    for i in range(50):
        assert read_reply(sock)[20:] == struct.pack("<ii", 0, i)


def test_a_callers_death_in_a_nested_call(served: Served) -> None:
    sock = session(served)
    parcel = with_token(binder(1, wire.address(0, for_server=False), 12) + struct.pack("<i", 3))
    sock.sendall(frame(wire.TRANSACT, transact_body(ROOT, 5, parcel)))
    command, body = read_frame(sock)
    assert (command, body[8:12]) == (wire.TRANSACT, struct.pack("<I", 1))
    sock.close()
    eventually(lambda: served.server.sessions, 0)


@pytest.mark.parametrize("reply", [b"", bytes(19), struct.pack("<iI12x", 0, 5)])
def test_a_bad_reply_to_a_nested_call(served: Served, reply: bytes) -> None:
    sock = session(served)
    parcel = with_token(binder(1, wire.address(0, for_server=False), 12) + struct.pack("<i", 1))
    sock.sendall(frame(wire.TRANSACT, transact_body(ROOT, 5, parcel)))
    read_frame(sock)
    sock.sendall(frame(wire.REPLY, reply))
    assert is_closed(sock)


def test_a_flood_of_oneway_calls_ends_its_session_alone(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "MAX_QUEUED_ONEWAY", 100)
    sock = session(served)
    for number in range(1, 101):
        sock.sendall(frame(wire.TRANSACT, oneway_body(number, number)))
    assert add_works(sock)
    sock.sendall(frame(wire.TRANSACT, oneway_body(101, 101)))
    assert is_closed(sock)
    assert served.echo.appended == []


# Descriptors


def send_with_fds(sock: socket.socket, data: bytes, fds: list[int]) -> None:
    """Waits, as an ordinary user has to, while too many descriptors are under way."""
    control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
    sent = 0

    def send() -> bool:
        nonlocal sent
        try:
            sent = sock.sendmsg([data], control)
        except OSError as error:
            if error.errno != errno.ETOOMANYREFS:
                raise
            return False
        return True

    eventually(send, True, 60)
    if sent < len(data):
        sock.sendall(data[sent:])


def read_fd_body(count: int, table: list[int]) -> bytes:
    parcel = with_token(struct.pack("<iiii", 1, 0, 2, count - 1))
    return transact_body(ROOT, 8, parcel + struct.pack(f"<{len(table)}I", *table), size=len(parcel))


POSITION = len(METHODS[1].token) + 8


@pytest.mark.parametrize(
    ("count", "table", "status"),
    [
        (1, [POSITION], 0),
        (0, [POSITION], -22),
        (2, [POSITION], -22),
        (1, [], -22),
        (1, [POSITION + 8], -22),
        (1, [0xFFFFFFFF], -22),
        (1, [0], -2147483647),
        (2, [POSITION, POSITION], 0),
    ],
)
def test_descriptors_and_object_tables(
    served: Served, count: int, table: list[int], status: int
) -> None:
    sock = session(served, HELLO_UNIX)
    with open("/dev/null", "rb") as file:
        body = frame(wire.TRANSACT, read_fd_body(1, table))
        if count:
            send_with_fds(sock, body, [file.fileno()] * count)
        else:
            sock.sendall(body)
    assert struct.unpack_from("<i", read_reply(sock))[0] == status
    assert add_works(sock)


def test_a_descriptor_behind_another_frame_stays_with_its_own(served: Served) -> None:
    sock = session(served, HELLO_UNIX)
    with open("/dev/null", "rb") as file:
        sock.sendall(frame(wire.DEC_STRONG, bytes(16)))
        body = frame(wire.TRANSACT, read_fd_body(1, [POSITION]))
        sent = sock.sendmsg(
            [body[:5]], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [file.fileno()]))]
        )
        sock.sendall(body[sent:])
    assert read_reply(sock)[20:] == struct.pack("<i", 0) + bytes(8)


@pytest.mark.parametrize("hello", [HELLO, HELLO_UNIX], ids=["none", "unix"])
def test_descriptors_nobody_asked_for(served: Served, hello: bytes) -> None:
    """With a return, with a body, with a call that ends the session: all are closed (the fixture looks)."""
    sock = session(served, hello)
    with open("/dev/null", "rb") as file:
        send_with_fds(sock, frame(wire.DEC_STRONG, bytes(16)), [file.fileno()] * 3)
        body = frame(wire.TRANSACT, transact_body(ROOT, 2, with_token(struct.pack("<ii", 2, 3))))
        sock.sendall(body[:16])
        send_with_fds(sock, body[16:], [file.fileno()])
        assert read_reply(sock)[20:] == struct.pack("<ii", 0, 5)
        send_with_fds(sock, frame(wire.TRANSACT, bytes(39)), [file.fileno()] * 5)
    assert is_closed(sock)
    sock = session(served, hello)
    with open("/dev/null", "rb") as file:
        send_with_fds(sock, frame(wire.REPLY, bytes(20)), [file.fileno()] * 5)
    assert is_closed(sock)


def test_descriptors_of_calls_that_never_run(served: Served) -> None:
    sock = session(served, HELLO_UNIX)
    with open("/dev/null", "rb") as file:
        fds = [file.fileno()] * 10
        parcel = METHODS[19].token + struct.pack("<i", 1) + struct.pack("<10I", *range(10))
        body = struct.pack("<QIIQI12x", ROOT, 19, 1, 5, len(parcel) - 40) + parcel
        send_with_fds(sock, frame(wire.TRANSACT, body), fds)
    assert add_works(sock)
    sock.close()
    eventually(lambda: served.server.sessions, 0)


def is_free(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return True
    return False


@contextmanager
def descriptors_left(count: int) -> Iterator[None]:
    """Only so many more descriptors can be opened."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = [number for number in range(min(before[0], 4096)) if is_free(number)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest[count], before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_more_descriptors_than_the_server_can_take(served: Served) -> None:
    sock = session(served, HELLO_UNIX)
    with open("/dev/null", "rb") as file, descriptors_left(3):
        send_with_fds(
            sock, frame(wire.TRANSACT, read_fd_body(10, [POSITION])), [file.fileno()] * 10
        )
        assert is_closed(sock)
    eventually(lambda: served.server.sessions, 0)


def test_no_descriptor_left_to_accept_with(serve: Serve, capfd: pytest.CaptureFixture[str]) -> None:
    """A line says so once in a while; whoever nothing is kept for waits until there is one."""
    served = serve(budget=Budget(privileged=nobody))
    session(served).close()  # it accepts by now
    eventually(lambda: served.server.sessions, 0)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        with descriptors_left(0):
            sock.connect(str(served.path))
            sock.sendall(HELLO)
            printed = ""

            def said() -> bool:
                nonlocal printed
                printed += capfd.readouterr().err
                return "Too many open files" in printed

            eventually(said, True)
        assert len(read_exactly(sock, 8)) == 8
    assert "Traceback" not in printed
    assert printed.count("\n") <= 5


def test_a_privileged_peer_is_accepted_with_a_descriptor_kept_for_it(serve: Serve) -> None:
    served = serve()
    session(served).close()
    eventually(lambda: served.server.sessions, 0)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        with descriptors_left(0):
            sock.connect(str(served.path))
            sock.sendall(HELLO + special(0))
            assert len(read_exactly(sock, 8)) == 8
            assert read_reply(sock)[20:] == binder(1, ROOT, 12)
            assert add_works(sock)


# Anything at all


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=64),
            st.builds(
                frame,
                st.sampled_from([0, 0, 0, 1, 2, 3]),
                st.one_of(
                    st.binary(max_size=100),
                    st.builds(
                        transact_body,
                        st.sampled_from([0, ROOT, wire.address(0, for_server=False)]),
                        st.sampled_from([*range(30), wire.PING, wire.DUMP]),
                        st.binary(max_size=80).map(with_token),
                    ),
                ),
            ),
        ),
        max_size=5,
    )
)
def test_any_bytes_at_all(serve: Serve, pieces: list[bytes]) -> None:
    served = shared(serve)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(str(served.path))
        sock.sendall(HELLO_UNIX + special(0))
        read_exactly(sock, 8)
        try:
            for piece in pieces:
                sock.sendall(piece)
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(65_536):
                pass
        except (BrokenPipeError, ConnectionResetError):
            pass
    eventually(lambda: served.server.sessions, 0)


_shared: dict[Serve, Served] = {}
"""The fixture is kept, not its id, which another test's could have later."""


def shared(serve: Serve) -> Served:
    """One server for all examples of a test."""
    if serve not in _shared:
        _shared.clear()
        _shared[serve] = serve()
    return _shared[serve]


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.binary(max_size=80))
def test_any_handshake_at_all(serve: Serve, sent: bytes) -> None:
    served = shared(serve)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(str(served.path))
        try:
            sock.sendall(sent)
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(65_536):
                pass
        except (BrokenPipeError, ConnectionResetError):
            pass


# Hostile servers


@pytest.mark.parametrize("fd_mode", wire.FdMode)
def test_a_server_that_answers_every_oneway_call_before_it_reads_the_next(
    tmp_path: Path, fd_mode: wire.FdMode
) -> None:
    """Far more returns than a socket holds: the client has to read them while it sends."""
    count = 20_000

    def run(listener: socket.socket) -> None:
        with listener, listener.accept()[0] as sock:
            read_exactly(sock, 24)
            sock.sendall(bytes.fromhex("0100000000000000"))
            for reply in (struct.pack("<i", 1), struct.pack("<i", 32) + b"i" * 32):
                read_frame(sock)
                sock.sendall(frame(wire.REPLY, struct.pack("<iI12x", 0, len(reply)) + reply))
            read_frame(sock)
            root = binder(1, ROOT, 12)
            sock.sendall(frame(wire.REPLY, struct.pack("<iI12x", 0, len(root)) + root))
            for number in range(count):
                command, body = read_frame(sock)
                assert (command, body[16:24]) == (wire.TRANSACT, struct.pack("<Q", number))
                sock.sendall(wire.dec_strong(ROOT, 1))
            read_frame(sock)
            sock.sendall(frame(wire.REPLY, struct.pack("<iI12xii", 0, 8, 0, 5)))
            sock.recv(1)

    thread = threading.Thread(target=run, args=(listening(tmp_path / "sock"),))
    thread.start()
    with connect(unix(tmp_path / "sock"), fd_mode=fd_mode, timeout=10) as made:
        root = interface_cast(IEcho, made.get_root(IBinder))
        for i in range(count):
            root.append(i)
        assert root.add_ints(2, 3) == 5
    thread.join()


class FakeServer:
    """Accepts one connection, answers the handshake and the specials, then sends `answer` to the next call."""

    def __init__(self, path: Path, answer: bytes, fds: int = 0) -> None:
        self.answer = answer
        self.fds = fds
        self.listener = listening(path)
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self) -> None:
        with self.listener, self.listener.accept()[0] as sock:
            read_exactly(sock, 24)
            sock.sendall(bytes.fromhex("0100000000000000"))
            for reply in (struct.pack("<i", 1), struct.pack("<i", 32) + b"i" * 32):
                read_frame(sock)
                self.reply(sock, reply)
            read_frame(sock)
            self.reply(sock, binder(1, ROOT, 12))
            while read_frame(sock)[0] != wire.TRANSACT:
                pass
            if self.fds:
                with open("/dev/null", "rb") as file:
                    send_with_fds(sock, self.answer, [file.fileno()] * self.fds)
            else:
                sock.sendall(self.answer)
            try:
                while sock.recv(4096):
                    pass
            except OSError:
                pass

    def reply(self, sock: socket.socket, parcel: bytes) -> None:
        sock.sendall(frame(wire.REPLY, struct.pack("<iI12x", 0, len(parcel)) + parcel))


def call_of(path: Path, answer: bytes, fds: int = 0) -> tuple[Exception, bool]:
    """What a call raises, and whether the session has ended."""
    fake = FakeServer(path, answer, fds)
    try:
        with connect(unix(path), fd_mode=wire.FdMode.UNIX, timeout=10) as made:
            root = interface_cast(IEcho, made.get_root(IBinder))
            with pytest.raises(Exception) as raised:
                root.echo_string("x").encode()
            return raised.value, made.closed
    finally:
        fake.thread.join()


def test_a_reply_may_be_larger_than_what_is_sent_in_its_version(tmp_path: Path) -> None:
    parcel = struct.pack("<ii", 0, 200_000) + bytes(200_000)
    reply = frame(wire.REPLY, struct.pack("<iI12x", 0, len(parcel)) + parcel)
    fake = FakeServer(tmp_path / "sock", reply)
    with connect(unix(tmp_path / "sock"), timeout=10) as made:
        assert made.version == 1
        root = interface_cast(IEcho, made.get_root(IBinder))
        assert root.echo_bytes(b"") == bytes(200_000)
    fake.thread.join()


REPLY_BREAKS = {
    "unknown command": frame(7, b""),
    "short": frame(wire.REPLY, bytes(10)),
    "too long": struct.pack("<IIQ", wire.REPLY, wire.MAX_RECEIVED + 24, 0),
    "parcel size": frame(wire.REPLY, struct.pack("<iI12x", 0, 100) + bytes(8)),
    "unknown target": frame(wire.TRANSACT, transact_body(ROOT, 2, b"")),
    "return of a wrong size": frame(wire.DEC_STRONG, bytes(8)),
}


@pytest.mark.parametrize("answer", REPLY_BREAKS.values(), ids=REPLY_BREAKS)
def test_servers_that_break_the_protocol(tmp_path: Path, answer: bytes) -> None:
    error, ended = call_of(tmp_path / "sock", answer)
    assert isinstance(error, DeadObjectError)
    assert ended


@pytest.mark.parametrize(
    ("parcel", "fds", "status"),
    [
        (b"", 0, -61),
        (struct.pack("<ii", 0, 100), 0, -2147483640),
        (struct.pack("<ii", 0, -1), 0, -2147483640),
        (struct.pack("<ii", -128, 2), 0, -22),
        (struct.pack("<i", -3), 0, -61),
        (struct.pack("<iii", 0, 0, 0), 4, -22),
    ],
)
def test_servers_that_answer_nonsense(tmp_path: Path, parcel: bytes, fds: int, status: int) -> None:
    answer = frame(wire.REPLY, struct.pack("<iI12x", 0, len(parcel)) + parcel)
    error, ended = call_of(tmp_path / "sock", answer, fds)
    assert isinstance(error, StatusError)
    assert error.status == status
    assert not ended


@pytest.mark.parametrize(
    "reply",
    [struct.pack("<i", 0), struct.pack("<i", -1), b"", struct.pack("<i", 1) + bytes(4)],
)
def test_servers_with_impossible_thread_counts_or_ids(tmp_path: Path, reply: bytes) -> None:
    def run(listener: socket.socket) -> None:
        with listener, listener.accept()[0] as sock:
            read_exactly(sock, 24)
            sock.sendall(bytes.fromhex("0100000000000000"))
            try:
                while True:
                    read_frame(sock)
                    body = struct.pack("<iI12x", 0, len(reply)) + reply
                    sock.sendall(frame(wire.REPLY, body))
            except (EOFError, OSError):
                pass

    thread = threading.Thread(target=run, args=(listening(tmp_path / "sock"),))
    thread.start()
    with pytest.raises(Exception, match=r"threads|too short|session id"):
        connect(unix(tmp_path / "sock"), timeout=10)
    thread.join()


def test_bootstrap_messages_with_anything_but_one_descriptor() -> None:
    ours, theirs = socket.socketpair()
    server = Server(lambda peer: None, fd_modes=BOTH_MODES)
    thread = threading.Thread(target=server.serve_bootstrap, args=(theirs,))
    thread.start()
    with ours:
        reading, writing = os.pipe()
        send_with_fds(ours, bytes(4), [reading, writing])
        send_with_fds(ours, bytes(4), [reading])  # no socket
        ours.sendall(bytes(4))
        os.close(writing)
        os.close(reading)
    thread.join()
    server.shutdown()
    assert server.sessions == 0


# Peers that stop in the middle


@pytest.mark.parametrize("hello", [HELLO, HELLO_UNIX])
@pytest.mark.parametrize("sent", [1, 15, 16, 17, 60])
def test_frames_that_do_not_come_to_an_end(serve: Serve, hello: bytes, sent: int) -> None:
    served = serve(frame_timeout=0.15, max_threads=2)
    sock = session(served, hello)
    assert add_works(sock)
    sock.sendall(frame(wire.TRANSACT, transact_body(ROOT, 2, with_token(bytes(8))))[:sent])
    assert is_closed(sock)
    eventually(lambda: served.server.sessions, 0)


@pytest.mark.parametrize("hello", [HELLO, HELLO_UNIX])
def test_the_beginning_of_a_frame_behind_another_is_not_waited_for(
    serve: Serve, hello: bytes
) -> None:
    sock = session(serve(frame_timeout=0.15), hello)
    data = frame(wire.TRANSACT, transact_body(ROOT, 2, with_token(struct.pack("<ii", 2, 3))))
    sock.sendall(data + data[:7])
    assert read_reply(sock)[20:] == struct.pack("<ii", 0, 5)
    assert is_closed(sock)


@pytest.mark.parametrize("hello", [HELLO, HELLO_UNIX])
@pytest.mark.parametrize("sent", [1, 15, 16, 17, 60])
def test_a_frame_of_which_a_part_has_come_is_waited_for_by_shutdown(
    serve: Serve, hello: bytes, sent: int
) -> None:
    served = serve()
    sock = session(served, hello)
    data = frame(wire.TRANSACT, transact_body(ROOT, 2, with_token(struct.pack("<ii", 2, 3))))
    sock.sendall(data[:sent])
    (endpoint,) = served.server.endpoints()
    eventually(lambda: endpoint.busy, True)
    stopping = threading.Thread(target=served.server.shutdown, args=(60,))
    stopping.start()
    sock.sendall(data[sent:])
    assert read_reply(sock)[20:] == struct.pack("<ii", 0, 5)
    stopping.join(30)
    assert not stopping.is_alive()


def test_a_frame_byte_by_byte_is_not_waited_for_any_longer(serve: Serve) -> None:
    sock = session(serve(frame_timeout=0.15))
    data = frame(wire.TRANSACT, transact_body(ROOT, 2, with_token(bytes(8))))
    with pytest.raises(ConnectionError):
        for i in range(len(data)):
            sock.sendall(data[i : i + 1])
            select.select([], [], [], 0.01)


def test_a_peer_that_takes_no_reply(serve: Serve) -> None:
    served = serve(frame_timeout=0.15)
    sock = session(served)
    call = frame(wire.TRANSACT, transact_body(ROOT, 3, with_token(echo_bytes_argument(90_000))))
    sock.settimeout(1)
    with pytest.raises((ConnectionError, TimeoutError)):
        for _ in range(100):
            sock.sendall(call)
    eventually(lambda: served.server.sessions, 0)


def echo_bytes_argument(size: int) -> bytes:
    return struct.pack("<i", size) + bytes(size)


def test_a_session_that_is_only_quiet_stays(serve: Serve) -> None:
    sock = session(serve(frame_timeout=0.05))
    select.select([], [], [], 0.2)
    assert add_works(sock)


def test_without_a_timeout_a_frame_may_take_its_time(serve: Serve) -> None:
    sock = session(serve())
    data = frame(wire.TRANSACT, transact_body(ROOT, 2, with_token(struct.pack("<ii", 2, 3))))
    sock.sendall(data[:20])
    select.select([], [], [], 0.2)
    sock.sendall(data[20:])
    assert read_reply(sock)[20:] == struct.pack("<ii", 0, 5)
