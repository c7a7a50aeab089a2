"""Calls of the most usual form, which take a shorter way through the code: they mean what others mean."""

import asyncio
import fcntl
import gc
import os
import socket
import struct
import termios
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from avf.binder import (
    Byte,
    Char,
    Enum,
    Float,
    Interface,
    Long,
    Parcelable,
    RemoteException,
    StatusError,
    aio,
    connect,
    interface_cast,
    method,
    unix,
    wire,
    workers,
)
from avf.binder.methods import Method
from avf.binder.session import SessionCore
from tests.eventually import eventually
from tests.interop.echo import Echo, IEcho

from .conftest import Serve, Served, listening


class Small(Enum, backing="byte"):
    NONE = 0
    LOW = -1


class Large(Enum, backing="long"):
    HUGE = 1 << 40


class Record(Parcelable):
    a: int = 0
    b: bool = False
    name: str = ""
    c: Long = 0
    d: Char = "x"


Values = tuple[Any, ...]
ALL: Values = (True, -7, "ß", 1 << 40, 1.5, 2.25, Small.LOW, Large.HUGE, 11)


class IShapes(Interface, descriptor="avf.test.IShapes"):
    @method(1)
    def fixed(
        self, z: bool, b: Byte, c: Char, j: Long, f: Float, d: float, s: Small, h: Large, i: int
    ) -> Long:
        raise NotImplementedError

    @method(2)
    def mixed(self, i: int, z: bool, text: str, b: Byte, c: Char) -> str:
        raise NotImplementedError

    @method(3)
    def record(self, value: Record) -> Record:
        raise NotImplementedError

    @method(4)
    def truth(self, value: int) -> bool:
        raise NotImplementedError

    @method(5)
    def nothing(self) -> None:
        raise NotImplementedError


class Shapes(IShapes):
    def __init__(self) -> None:
        self.truth_of: Callable[[int], Any] = bool
        self.seen: list[object] = []

    def fixed(self, *values: Any) -> int:
        assert values == ALL
        assert [type(value) for value in values] == [type(value) for value in ALL]
        return -(1 << 50)

    def mixed(self, i: int, z: bool, text: str, b: int, c: str) -> str:
        return f"{i} {z} {text} {b} {c}"

    def record(self, value: Record) -> Record:
        value.a += 1
        return value

    def truth(self, value: int) -> bool:
        answer: bool = self.truth_of(value)
        return answer

    def nothing(self) -> None:
        self.seen.append(None)


METHODS: dict[int, Method] = IShapes._contract.methods()


def test_every_shape_arrives(serve: Serve) -> None:
    served = serve(root=Shapes())
    root = served.connect().get_root(IShapes)
    assert root.fixed(*ALL) == -(1 << 50)
    assert root.mixed(1, False, "text", -128, "ß") == "1 False text -128 ß"
    sent = Record(a=1, b=True, name="name", c=-5, d="\ud800")
    assert root.record(sent) == Record(a=2, b=True, name="name", c=-5, d="\ud800")
    assert root.truth(0) is False
    assert root.nothing() is None


def test_a_request_has_the_same_bytes_either_way() -> None:
    core, made = SessionCore(server=False, version=1), METHODS[1]
    parcel = core.request_parcel()
    made.write_arguments(parcel, ALL)
    assert made.fixed_request is not None
    frame = made.fixed_request.frame(0, ALL)
    assert frame == bytes(core.request(None, 1, parcel, oneway=False).data)
    assert list(made.fixed_request.arguments(frame) or ()) == list(ALL)


def test_a_reply_has_the_same_bytes_either_way() -> None:
    core, made = SessionCore(server=True, version=1), METHODS[1]
    reply = core.reply_parcel()
    made.write_result(reply, 1 << 50)
    assert made.fixed_reply is not None
    frames = made.fixed_reply.frames(5, 2, (1 << 50,))
    assert frames == wire.dec_strong(5, 2) + bytes(core.finish(None, reply).data)
    assert list(made.fixed_reply.values(frames) or ()) == [1 << 50]


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (0, 1, "IShapes.fixed: z: bool wanted, not int"),
        (1, 200, "IShapes.fixed: b: 200 is out of range for byte"),
        (2, "xy", "IShapes.fixed: c: a char is one UTF-16 unit"),
        (3, 1 << 63, "IShapes.fixed: j: 9223372036854775808 is out of range for long"),
        (4, "1", "IShapes.fixed: f: float wanted, not str"),
        (5, None, "IShapes.fixed: d: float wanted, not NoneType"),
        (6, 0, r"IShapes.fixed: s: Small wanted, not int; Small\(0\) makes one of a number"),
        (7, Small.LOW, "IShapes.fixed: h: Large wanted, not Small"),
        (8, "1", "IShapes.fixed: i: int wanted, not str"),
    ],
)
def test_an_argument_that_does_not_fit_is_named(
    serve: Serve, place: int, value: Any, words: str
) -> None:
    root = serve(root=Shapes()).connect().get_root(IShapes)
    args = [*ALL]
    args[place] = value
    with pytest.raises((TypeError, ValueError), match=f"^{words}$"):
        root.fixed(*args)
    with pytest.raises(TypeError, match="i is missing"):
        root.fixed(*ALL[:-1])
    assert root.fixed(*ALL) == -(1 << 50)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("a", "1", r"IShapes.record: value.a: int wanted, not str"),
        ("b", 1, r"IShapes.record: value.b: bool wanted, not int"),
        ("d", "", r"IShapes.record: value.d: a char is one UTF-16 unit"),
    ],
)
def test_a_field_that_does_not_fit_is_named(
    serve: Serve, field: str, value: Any, words: str
) -> None:
    root = serve(root=Shapes()).connect().get_root(IShapes)
    sent = Record()
    setattr(sent, field, value)
    with pytest.raises((TypeError, ValueError), match=f"^{words}$"):
        root.record(sent)
    delattr(sent, field)
    with pytest.raises(TypeError, match=f"^IShapes.record: value.{field}"):
        root.record(sent)


def test_fields_that_an_older_peer_does_not_know_have_their_defaults(serve: Serve) -> None:
    class Old(Parcelable):
        a: int = 0

    class IOld(Interface, descriptor="avf.test.IShapes"):
        @method(3)
        def record(self, value: Old) -> Old:
            raise NotImplementedError

    IOld.record.__annotations__.update(value=Old, **{"return": Old})
    seen: list[Record] = []

    class Remembering(Shapes):
        def record(self, value: Record) -> Record:
            seen.append(value)
            return value

    root = serve(root=Remembering()).connect().get_root(IOld)
    assert root.record(Old(a=3)) == Old(a=3)
    assert seen == [Record(a=3)]


@pytest.mark.parametrize(
    "answer",
    [lambda _: "true", lambda _: 2, lambda _: 1 / 0, lambda _: StatusError(-1), lambda _: None],
)
def test_a_result_that_does_not_fit_leaves_the_counts_right(serve: Serve, answer: Any) -> None:
    shapes = Shapes()
    served = serve(root=shapes)
    session = served.connect()
    root = session.get_root(IShapes)
    shapes.truth_of = answer
    with pytest.raises(RemoteException):
        root.truth(1)
    shapes.truth_of = bool
    assert root.truth(1) is True
    (endpoint,) = served.server.endpoints()
    (node,) = endpoint.core.table.nodes.values()
    assert node.times_received == 0
    assert root._remote is not None
    assert root._remote.node.times_sent == 0


@contextmanager
def relay(served: Served, path: Path, sizes: Callable[[], int]) -> Iterator[Path]:
    """A way to the server on which its answers travel in pieces of such sizes, each once the last one was read."""
    stop = threading.Event()
    threads: list[threading.Thread] = []
    socks: list[socket.socket] = []

    def carry(source: socket.socket, target: socket.socket, *, cut: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                while data:
                    size = sizes() if cut else len(data)
                    target.sendall(data[:size])
                    data = data[size:]
                    while cut and data and _unread(target) and not stop.is_set():
                        os.sched_yield()
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def accept() -> None:
        with suppress(OSError):
            while True:
                near = listener.accept()[0]
                far = served.raw()
                far.settimeout(None)
                socks.extend([near, far])
                for ends, cut in (((near, far), False), ((far, near), True)):
                    thread = threading.Thread(target=carry, args=ends, kwargs={"cut": cut})
                    thread.start()
                    threads.append(thread)

    listener = listening(path)
    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield path
    finally:
        stop.set()
        listener.shutdown(socket.SHUT_RDWR)
        accepting.join()
        for sock in socks:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()
        for sock in (listener, *socks):
            sock.close()


def _unread(sock: socket.socket) -> int:
    """Bytes sent on a unix socket that its peer has not read."""
    raw = fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4))
    size: int = struct.unpack("i", raw)[0]
    return size


DEC_STRONG_APART = wire.DEC_STRONG_FRAME.size
"""libbinder sends what it gives back and the reply as two messages."""
PIECES = [1, 16, DEC_STRONG_APART, 33, 67, 71]


@pytest.mark.parametrize("size", PIECES)
def test_a_reply_may_come_in_pieces(serve: Serve, tmp_path: Path, size: int) -> None:
    with (
        relay(serve(), tmp_path / "relay", lambda: size) as path,
        connect(unix(path)) as session,
    ):
        root = session.get_root(IEcho)
        assert [root.add_ints(number, 1) for number in range(5)] == [1, 2, 3, 4, 5]
        assert root.echo_string("text") == "text"


@pytest.mark.parametrize("size", PIECES)
def test_a_reply_may_come_in_pieces_to_a_loop(serve: Serve, tmp_path: Path, size: int) -> None:
    async def main(path: Path) -> None:
        async with await aio.connect(unix(path)) as session:
            echo = aio.proxy(await session.get_root(IEcho))
            assert [await echo.add_ints(number, 1) for number in range(5)] == [1, 2, 3, 4, 5]
            assert await echo.echo_string("text") == "text"
            with pytest.raises(RemoteException, match="why"):
                await echo.throw_exception(-3, "why")

    with relay(serve(), tmp_path / "relay", lambda: size) as path:
        asyncio.run(main(path))


def test_a_loop_makes_calls_without_threads(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    def submit(call: object) -> object:
        raise AssertionError("a thread was asked for")

    async def main(path: Path) -> None:
        async with await aio.connect(unix(path)) as session:
            echo = aio.proxy(await session.get_root(IEcho))
            with monkeypatch.context() as patch:
                patch.setattr(workers, "submit", submit)
                assert await echo.add_ints(1, 2) == 3
                assert await echo.echo_string("text") == "text"
                assert await echo.echo_binder(echo.binder) == echo.binder

    asyncio.run(main(serve().path))


def test_a_large_value_is_sent_and_read_without_waiting_in_the_loop(serve: Serve) -> None:
    data = bytes(range(256)) * 380

    async def main(path: Path) -> None:
        async with await aio.connect(unix(path), max_outgoing=1) as session:
            echo = aio.proxy(await session.get_root(IEcho))
            for _ in range(20):
                assert await echo.echo_bytes(data) == data

    asyncio.run(main(serve().path))


def test_the_caller_is_called_while_its_loop_awaits(serve: Serve) -> None:
    async def main(path: Path) -> None:
        async with await aio.connect(unix(path), max_outgoing=1) as session:
            echo = aio.proxy(await session.get_root(IEcho))
            for _ in range(3):
                assert await echo.call_back(Echo(), 4) == 4
                assert await echo.add_ints(1, 2) == 3

    asyncio.run(main(serve().path))


def test_a_call_goes_on_when_the_one_who_awaits_it_is_cancelled(serve: Serve) -> None:
    served = serve()

    async def main() -> None:
        async with await aio.connect(unix(served.path), max_outgoing=1) as session:
            echo = aio.proxy(await session.get_root(IEcho))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(echo.sleep_ms(100), 0.01)
            assert await echo.add_ints(1, 2) == 3
            assert not session.closed

    asyncio.run(main())


def test_a_call_is_cancelled_while_the_caller_is_called(serve: Serve) -> None:
    """A thread has taken the call over by then."""

    async def main(path: Path) -> None:
        called, go_on = threading.Event(), threading.Event()

        class Slow(Echo):
            def echo_string(self, value: str) -> str:
                called.set()
                go_on.wait(10)
                return value

        async with await aio.connect(unix(path), max_outgoing=1) as session:
            echo = aio.proxy(await session.get_root(IEcho))
            calling = asyncio.create_task(echo.call_back(Slow(), 1))
            assert await asyncio.to_thread(called.wait, 10)
            calling.cancel("enough")
            with pytest.raises(asyncio.CancelledError, match="enough"):
                await calling
            go_on.set()
            assert await echo.add_ints(1, 2) == 3
            assert not session.closed

    asyncio.run(main(serve().path))


def test_sessions_of_one_loop_come_and_go(serve: Serve) -> None:
    served = serve()

    async def main() -> None:
        kept = []
        for _ in range(3):
            async with await aio.connect(unix(served.path)) as session:
                echo = aio.proxy(await session.get_root(IEcho))
                assert await echo.add_ints(1, 2) == 3
                kept += [session, echo]

    asyncio.run(main())


def test_a_failed_call_is_in_no_cycle(serve: Serve) -> None:
    """A proxy would live until the garbage collector comes."""

    async def main(path: Path) -> None:
        async with await aio.connect(unix(path)) as session:
            echo = aio.proxy(await session.get_root(IEcho))
            other = aio.proxy(interface_cast(IEcho, await echo.return_binder()))
            handle = weakref.ref(other.binder._remote)
            for _ in range(2):
                with pytest.raises(RemoteException):
                    await other.throw_exception(-3, "why")
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(other.sleep_ms(20), 0.001)
                assert await other.add_ints(1, 2) == 3
            gc.collect()
            gc.disable()
            try:
                with pytest.raises(RemoteException):
                    await other.throw_exception(-3, "why")
                del other
                # the task holds the exception, and a thread the call that was cancelled, for a while
                async with asyncio.timeout(15):
                    while handle() is not None:
                        await asyncio.sleep(0.01)
            finally:
                gc.enable()

    asyncio.run(main(serve(max_threads=2).path))


def test_a_call_goes_on_when_its_loop_has_ended(serve: Serve) -> None:
    session = serve().connect(max_outgoing=1)
    root = session.get_root(IEcho)

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(aio.proxy(root).sleep_ms(300), 0.01)

    asyncio.run(main())
    assert root.add_ints(1, 2) == 3
    assert not session.closed


def test_one_connection_serves_loops_and_threads_by_turns(serve: Serve) -> None:
    session = serve().connect(max_outgoing=1)
    root = session.get_root(IEcho)

    async def main() -> None:
        echo = aio.proxy(root)
        for number in range(20):
            assert await echo.add_ints(number, 1) == number + 1
            assert await asyncio.to_thread(root.add_ints, number, 2) == number + 2

    for _ in range(3):
        asyncio.run(main())
    assert root.add_ints(1, 2) == 3


def test_the_end_of_a_session_reaches_who_awaits(serve: Serve) -> None:
    served = serve()

    async def main() -> None:
        session = await aio.connect(unix(served.path), max_outgoing=1)
        echo = aio.proxy(await session.get_root(IEcho))
        waiting = asyncio.create_task(echo.sleep_ms(5000))
        (endpoint,) = served.server.endpoints()
        await asyncio.to_thread(eventually, lambda: endpoint.busy, True)
        endpoint.end()
        with pytest.raises(StatusError, match=r"DEAD_OBJECT: IEcho.sleep_ms"):
            await waiting
        assert session.closed

    asyncio.run(main())
