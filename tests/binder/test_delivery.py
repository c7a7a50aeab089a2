"""Calls arrive, references go back and sessions end, whatever the other end reads or does not read."""

import asyncio
import select
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from avf.binder import (
    DeadObjectError,
    IBinder,
    Session,
    connect,
    interface_cast,
    serving,
    unix,
    wire,
)
from avf.binder.aio import proxy
from avf.binder.handshake import INIT
from tests.eventually import eventually
from tests.interop.echo import Echo, IEcho

from .conftest import Serve, Served, listening
from .test_core import CALLBACK, ROOT, binder, oneway_body, transact_body, with_token
from .test_hostile import (
    add_works,
    attach,
    frame,
    read_exactly,
    read_frame,
    read_reply,
    session,
    session_id,
)

CALLS = 1000
"""More than a unix socket holds, and than it holds of returns for them."""


class LibbinderServer:
    """Answers the handshake; then gives every oneway call back as soon as it is read, before it reads the next.

    It blocks when nobody reads, as libbinder does.
    """

    def __init__(self, path: Path) -> None:
        self.listener = listening(path)
        self.served = 0
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self) -> None:
        with self.listener, self.listener.accept()[0] as sock:
            self.sock = sock
            read_exactly(sock, 24)
            sock.sendall(bytes.fromhex("0100000000000000"))
            parcels = struct.pack("<i", 1), struct.pack("<i", 32) + b"i" * 32, binder(1, ROOT, 12)
            for parcel in parcels:
                read_frame(sock)
                sock.sendall(frame(wire.REPLY, struct.pack("<iI12x", 0, len(parcel)) + parcel))
            try:
                while (frame_read := read_frame(sock))[0] == wire.TRANSACT:
                    self.may_answer.wait()
                    sock.sendall(wire.dec_strong(ROOT, 1))
                    if not frame_read[1][12] & wire.FLAG_ONEWAY:
                        sock.sendall(frame(wire.REPLY, struct.pack("<iI12xi", 0, 4, 0)))
                    self.served += 1
            except (EOFError, OSError):
                pass


def with_libbinder_server(path: Path, fd_mode: wire.FdMode, use: Callable[[Session], None]) -> None:
    server = LibbinderServer(path)
    try:
        with connect(unix(path), fd_mode=fd_mode, timeout=10) as made:
            use(made)
            eventually(lambda: server.served, CALLS)
    finally:
        server.thread.join()


@pytest.mark.parametrize("fd_mode", wire.FdMode)
def test_oneway_calls_without_any_other_call_all_arrive(
    tmp_path: Path, fd_mode: wire.FdMode
) -> None:
    def use(made: Session) -> None:
        root = interface_cast(IEcho, made.get_root(IBinder))
        for i in range(CALLS):
            root.append(i)

    with_libbinder_server(tmp_path / "sock", fd_mode, use)


def test_oneway_calls_from_a_loop_all_arrive(tmp_path: Path) -> None:
    def use(made: Session) -> None:
        async def post() -> None:
            root = proxy(interface_cast(IEcho, made.get_root(IBinder)))
            for i in range(CALLS):
                await root.append(i)

        asyncio.run(post())

    with_libbinder_server(tmp_path / "sock", wire.FdMode.NONE, use)


def held_callback(served: Served) -> tuple[socket.socket, socket.socket]:
    """A raw session whose callback the server holds: its connection, and the one that callbacks come on."""
    sock = session(served)
    incoming = attach(served, session_id(sock), incoming=True)
    assert read_exactly(incoming, 8) == INIT
    parcel = with_token(binder(1, CALLBACK, 12))
    sock.sendall(frame(wire.TRANSACT, transact_body(ROOT, 11, parcel)))
    assert read_reply(sock)[:4] == bytes(4)
    return sock, incoming


def test_oneway_callbacks_without_any_other_call_all_arrive(serve: Serve) -> None:
    served = serve()
    _sock, incoming = held_callback(served)
    held = served.echo.held
    assert held is not None
    callback = interface_cast(IEcho, held)

    def post() -> None:
        for i in range(CALLS):
            callback.on_notify(i)

    posting = threading.Thread(target=post)
    posting.start()
    for number in range(CALLS):
        command, body = read_frame(incoming)
        assert (command, body[16:24]) == (wire.TRANSACT, struct.pack("<Q", number))
        incoming.sendall(wire.dec_strong(CALLBACK, 1))
    posting.join()


@pytest.mark.parametrize("callbacks", [False, True])
def test_a_peer_that_reads_nothing_is_still_served(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, callbacks: bool
) -> None:
    """What is to be given back to it adds up meanwhile, and comes when it reads."""
    monkeypatch.setattr(serving, "_MAX_OWED_CALLS", 1)
    served = serve()
    socks = list(held_callback(served)) if callbacks else [session(served)]
    sock = socks[0]
    for number in range(CALLS):
        sock.sendall(frame(wire.TRANSACT, oneway_body(number, number)))
    eventually(lambda: len(served.echo.appended), CALLS)
    given_back = 0
    while given_back < CALLS:
        for readable in select.select(socks, [], [], 10)[0]:
            command, body = read_frame(readable)
            assert command == wire.DEC_STRONG
            given_back += int.from_bytes(body[8:12], "little")
    assert given_back == CALLS
    assert add_works(sock)


# References


def next_frame(*socks: socket.socket) -> tuple[int, bytes]:
    """References may go back on any connection."""
    readable, _, _ = select.select(socks, [], [], 10)
    return read_frame(readable[0])


def test_what_a_oneway_call_lent_goes_back_at_once(serve: Serve) -> None:
    served = serve()
    sock, incoming = held_callback(served)
    sock.sendall(frame(wire.TRANSACT, oneway_body(0, 1)))
    assert next_frame(sock, incoming) == (wire.DEC_STRONG, wire.dec_strong(ROOT, 1)[16:])


def test_references_go_back_while_all_connections_to_the_peer_are_in_use(serve: Serve) -> None:
    served = serve()
    sock, incoming = held_callback(served)
    held = served.echo.held
    assert held is not None
    calling = threading.Thread(target=interface_cast(IEcho, held).echo_string, args=("x",))
    calling.start()
    assert read_frame(incoming)[0] == wire.TRANSACT
    sock.sendall(frame(wire.TRANSACT, oneway_body(0, 1)))
    assert read_frame(sock) == (wire.DEC_STRONG, wire.dec_strong(ROOT, 1)[16:])
    answer = struct.pack("<ii", 0, 1) + b"x\0\0\0"
    incoming.sendall(frame(wire.REPLY, struct.pack("<iI12x", 0, len(answer)) + answer))
    calling.join()


def test_an_object_is_let_go_of_while_no_call_is_made(tmp_path: Path) -> None:
    server = LibbinderServer(tmp_path / "sock")
    with connect(unix(tmp_path / "sock"), timeout=10) as made:
        callback = Echo()
        made.get_root(IEcho).hold_binder(callback)
        server.sock.sendall(wire.dec_strong(CALLBACK, 1))
        assert callback.released.wait(10)
    server.thread.join()


def test_a_peer_that_returns_references_late_gets_its_object_back_then(serve: Serve) -> None:
    """An object called by oneway calls stays known until the peer has told that it received them all."""
    served = serve()
    sock, incoming = held_callback(served)
    held = served.echo.held
    assert held is not None
    callback = interface_cast(IEcho, held)
    for i in range(200):
        callback.on_notify(i)
        assert read_frame(incoming)[0] == wire.TRANSACT
    served.echo.held = None
    del held, callback
    for amount in (1, 99, 100):
        assert add_works(sock)
        assert not select.select([incoming], [], [], 0)[0]
        incoming.sendall(wire.dec_strong(CALLBACK, amount))
    assert next_frame(sock, incoming) == (wire.DEC_STRONG, wire.dec_strong(CALLBACK, 1)[16:])


@pytest.mark.parametrize("first", ["return", "call"])
def test_a_call_that_comes_while_no_call_is_made_is_served_in_the_next(
    tmp_path: Path, first: str
) -> None:
    """And only then, for before that there is no thread for it."""
    server = LibbinderServer(tmp_path / "sock")
    with connect(unix(tmp_path / "sock"), timeout=10) as made:
        root = made.get_root(IEcho)
        callback, other = Echo(), Echo()
        root.hold_binder(callback)
        root.hold_binder(other)
        early = frame(wire.TRANSACT, oneway_body(0, 7, CALLBACK))
        frames = [wire.dec_strong(CALLBACK + (1 << 32), 1), early]
        server.sock.sendall(b"".join(frames if first == "return" else reversed(frames)))
        if first == "return":
            assert other.released.wait(10)
        assert callback.appended == []
        root.drop_held()
        assert callback.appended == [7]
        assert other.released.wait(10)
    server.thread.join()


def test_a_session_that_makes_no_call_notices_its_end(serve: Serve) -> None:
    served = serve()
    made = served.connect()
    root = made.get_root(IEcho)
    served.server.shutdown()
    eventually(lambda: made.closed, True)
    with pytest.raises(DeadObjectError):
        root.add_ints(1, 2)


# The end


class Slow(Echo):
    """Whose `append` of 0, and whose `echo_string`, wait."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = threading.Event()
        self.go_on = threading.Event()

    def append(self, v: int) -> None:
        if v == 0:
            self.begun.set()
            assert self.go_on.wait(10)
        super().append(v)

    def echo_string(self, value: str) -> str:
        self.begun.set()
        assert self.go_on.wait(10)
        return value


def lost(served: Served) -> list[bool]:
    return [end.core.lost for end in served.server.endpoints()]


def test_oneway_calls_made_right_before_the_end_are_served(serve: Serve) -> None:
    """On a connection whose turn comes when another one is known to be closed, and behind a call that takes long."""
    slow = Slow()
    served = serve(root=slow, max_threads=2)
    first = session(served)
    second = attach(served, session_id(first))
    second.sendall(frame(wire.TRANSACT, oneway_body(0, 0)))
    assert slow.begun.wait(10)
    for number in range(1, 51):
        second.sendall(frame(wire.TRANSACT, oneway_body(number, number)))
    first.close()
    eventually(lambda: lost(served), [True])
    second.close()
    slow.go_on.set()
    eventually(lambda: slow.appended, list(range(51)))
    eventually(lambda: served.server.sessions, 0)


def test_oneway_calls_are_served_after_references_could_not_be_given_back(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "_MAX_OWED_CALLS", 1)
    slow = Slow()
    served = serve(root=slow)
    sock = session(served)
    for number in range(50):
        sock.sendall(frame(wire.TRANSACT, oneway_body(number, number)))
    assert slow.begun.wait(10)
    sock.close()
    slow.go_on.set()
    eventually(lambda: slow.appended, list(range(50)))
    eventually(lambda: served.server.sessions, 0)


def test_a_call_that_waits_for_its_reply_does_not_hold_up_the_end(serve: Serve) -> None:
    """So that a method may wait for what its caller's end sets off."""
    slow = Slow()
    made = Echo()
    slow.held = made
    served = serve(root=slow, max_threads=2)
    first = session(served)
    second = attach(served, session_id(first))
    second.sendall(frame(wire.TRANSACT, transact_body(ROOT, 18, with_token(b""))))
    read_reply(second)
    parcel = with_token(struct.pack("<i", 1) + b"x\0\0\0")
    second.sendall(frame(wire.TRANSACT, transact_body(ROOT, 1, parcel)))
    assert slow.begun.wait(10)
    first.close()
    assert made.released.wait(10)
    slow.go_on.set()
    second.close()


def test_a_session_is_closed_when_its_oneway_calls_are_served(tmp_path: Path) -> None:
    server = LibbinderServer(tmp_path / "sock")
    server.may_answer.clear()
    with connect(unix(tmp_path / "sock"), timeout=10) as made:
        root = interface_cast(IEcho, made.get_root(IBinder))
        for i in range(5):
            root.append(i)
        end = made.endpoint
        end.settle(0)
        assert end.core.unanswered()
        server.may_answer.set()
        end.settle(10)
        assert not end.core.unanswered()
    server.thread.join()
    assert server.served == 5


# The choice of a connection


class Where(Echo):
    """Says in which thread a call is served; each connection has one."""

    def echo_string(self, value: str) -> str:
        return str(threading.get_ident())


def test_sync_calls_keep_to_a_connection_and_oneway_calls_spread(serve: Serve) -> None:
    root = serve(root=Where(), max_threads=3).connect().get_root(IEcho)
    seen = []
    for _ in range(4):
        (thread,) = {root.echo_string("") for _ in range(5)}
        seen.append(thread)
        root.append(1)
    assert len(set(seen[:3])) == 3
    assert seen[3] == seen[0]


# Numbers


def call(sock: socket.socket, code: int, parcel: bytes) -> bytes:
    sock.sendall(frame(wire.TRANSACT, transact_body(ROOT, code, with_token(parcel))))
    return read_reply(sock)[20:]


def sold(sock: socket.socket) -> int:
    """The address of the object that `get_held` returns."""
    address: int = struct.unpack_from("<Q", call(sock, 18, b""), 8)[0]
    return address


def test_oneway_calls_of_a_peer_that_counts_from_0_again_are_run(serve: Serve) -> None:
    served = serve()
    held = Echo()
    served.echo.held = held
    sock = session(served)
    key = sold(sock)
    for number in range(2):
        sock.sendall(frame(wire.TRANSACT, oneway_body(number, number, key)))
    assert sold(sock) == key
    sock.sendall(wire.dec_strong(key, 1))
    for number in range(4):
        sock.sendall(frame(wire.TRANSACT, oneway_body(number, 10 + number, key)))
    eventually(lambda: held.appended, [0, 1, 10, 11, 12, 13])


def test_oneway_calls_that_overtake_the_return_before_them_are_run(serve: Serve) -> None:
    served = serve(max_threads=2)
    held = Echo()
    served.echo.held = held
    sock = session(served)
    other = attach(served, session_id(sock))
    key = sold(sock)
    sock.sendall(frame(wire.TRANSACT, oneway_body(0, 0, key)))
    assert sold(sock) == key
    sock.sendall(frame(wire.TRANSACT, oneway_body(0, 10, key)))
    assert add_works(sock)
    assert held.appended == [0]
    other.sendall(wire.dec_strong(key, 1))
    eventually(lambda: held.appended, [0, 10])


def test_a_oneway_call_that_comes_twice_is_run_once_and_noted(
    serve: Serve, capfd: pytest.CaptureFixture[str]
) -> None:
    served = serve()
    sock = session(served)
    for number in (0, 0, 1, 1):
        sock.sendall(frame(wire.TRANSACT, oneway_body(number, number)))
    assert add_works(sock)
    assert served.echo.appended == [0, 1]
    sock.close()
    eventually(lambda: served.server.sessions, 0)
    assert "2 oneway calls had been received and were not run" in capfd.readouterr().err
