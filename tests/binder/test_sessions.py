"""Sessions over real sockets: every transport, version and descriptor mode that go together."""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest

from avf.binder import (
    Connector,
    DeadObjectError,
    FdMode,
    IBinder,
    ParcelFileDescriptor,
    Peer,
    ProtocolError,
    RemoteException,
    Server,
    Session,
    Status,
    StatusError,
    bootstrap,
    calling_peer,
    connect,
    dump,
    hybrid_vsock,
    inet,
    interface_cast,
    is_alive,
    link_to_death,
    ping,
    release,
    unix,
    unix_abstract,
    unlink_to_death,
)
from tests.eventually import eventually
from tests.interop.echo import Echo, IEcho, P

from .conftest import Serve, listening


@contextmanager
def status(wanted: Status) -> Iterator[None]:
    with pytest.raises(StatusError) as raised:
        yield
    assert raised.value.status == wanted


# Transports

Transport = Callable[[Server, Path, ExitStack], Connector]


def over_unix(server: Server, folder: Path, stack: ExitStack) -> Connector:
    server.start(listening(folder / "sock"))
    return unix(folder / "sock")


def over_abstract(server: Server, folder: Path, stack: ExitStack) -> Connector:
    name = f"avf-test-{os.getpid()}"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"\0{name}")
    listener.listen(50)
    server.start(listener)
    return unix_abstract(name)


def over_inet(server: Server, folder: Path, stack: ExitStack) -> Connector:
    listener = socket.create_server(("127.0.0.1", 0))
    server.start(listener)
    return inet("127.0.0.1", listener.getsockname()[1])


def over_bootstrap(server: Server, folder: Path, stack: ExitStack) -> Connector:
    ours, theirs = socket.socketpair()
    thread = threading.Thread(target=server.serve_bootstrap, args=(theirs,), name="binder-test")
    thread.start()
    stack.callback(thread.join)
    stack.callback(ours.close)
    return bootstrap(ours)


TRANSPORTS = [over_unix, over_abstract, over_inet, over_bootstrap]


@pytest.fixture(params=TRANSPORTS, ids=lambda t: t.__name__)
def transport(request: pytest.FixtureRequest) -> Transport:
    chosen: Transport = request.param
    return chosen


def exercise(session: Session) -> None:
    """A bit of everything that needs no descriptors."""
    root = session.get_root(IEcho)
    mine = Echo()
    assert root.add_ints(1, 2) == 3
    assert root.echo_string("h\u00e9\U0001f600") == "h\u00e9\U0001f600"
    assert root.echo_bytes(bytes(65_536)) == bytes(65_536)
    assert root.echo_parcelable(P(a=1, d=["x"])) == P(a=1, d=["x"])
    assert root.call_back(mine, 3) == 3
    assert root.nest(mine, 10) == 10
    root.oneway_notify(mine, 7)
    assert mine.wait_notified(1) == [8]
    for i in range(100):
        root.append(i)
    seen: list[int] = []
    while len(seen) < 100:
        seen += root.get_appended()
    assert seen == list(range(100))
    with pytest.raises(RemoteException, match=r"SERVICE_SPECIFIC\(-77\): ss"):
        root.throw_service_specific(-77, "ss")
    assert root.echo_binder(mine) is mine
    assert mine.released.wait(10)


@pytest.mark.parametrize("max_threads", [1, 3])
@pytest.mark.parametrize("versions", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_everything_over_every_transport(
    transport: Transport, tmp_path: Path, versions: tuple[int, int], max_threads: int
) -> None:
    with ExitStack() as stack:
        server = Server(Echo(), max_threads=max_threads, max_version=versions[1])
        connector = transport(server, tmp_path, stack)
        with connect(connector, incoming_threads=2, max_version=versions[0], timeout=10) as session:
            assert session.version == min(versions)
            exercise(session)
        eventually(lambda: server.sessions, 0)
        server.shutdown()


@pytest.mark.parametrize("transport", [over_unix, over_bootstrap])
def test_descriptors_where_they_can_go(transport: Transport, tmp_path: Path) -> None:
    with ExitStack() as stack:
        server = Server(Echo(), fd_modes=frozenset({FdMode.UNIX}))
        connector = transport(server, tmp_path, stack)
        with connect(connector, fd_mode=FdMode.UNIX, incoming_threads=2, timeout=10) as session:
            exercise(session)
            (tmp_path / "file").write_text("content")
            with session.get_root(IEcho).open_file(str(tmp_path / "file")) as fd:
                assert not os.get_inheritable(fd.fileno())
                assert os.read(fd.fileno(), 100) == b"content"
        server.shutdown()


def test_bootstrap_ends_with_its_socket_and_sessions_do_not() -> None:
    server = Server(Echo())
    ours, theirs = socket.socketpair()
    thread = threading.Thread(target=server.serve_bootstrap, args=(theirs,))
    thread.start()
    with connect(bootstrap(ours), timeout=10) as session:
        root = session.get_root(IEcho)
        ours.sendall(b"none")  # no descriptor with it: ignored
        ours.close()
        thread.join()
        assert root.add_ints(1, 1) == 2
    server.shutdown()


def test_hybrid_vsock_asks_for_a_port(tmp_path: Path) -> None:
    path = tmp_path / "vsock"
    server = Server(Echo())

    def device(listener: socket.socket) -> None:
        with listener:
            for answer in (b"OK 1073741824\n", b""):
                sock, _ = listener.accept()
                assert sock.recv(64) == b"CONNECT 5000\n"
                sock.sendall(answer)
                if not answer:
                    sock.close()
                    return
                server._take(sock)

    thread = threading.Thread(target=device, args=(listening(path),))
    thread.start()
    with connect(hybrid_vsock(path, 5000), timeout=10) as session:
        assert session.get_root(IEcho).add_ints(1, 1) == 2
        with pytest.raises(ConnectionRefusedError, match="port 5000"):
            connect(hybrid_vsock(path, 5000))
    thread.join()
    server.shutdown()


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        connect(unix(tmp_path / "none"))
    with socket.socket(socket.AF_UNIX) as closed:
        closed.bind(str(tmp_path / "closed"))
    with pytest.raises(ConnectionRefusedError):
        connect(unix(tmp_path / "closed"))


def test_a_server_that_says_nothing(tmp_path: Path) -> None:
    with listening(tmp_path / "sock"), pytest.raises(TimeoutError):
        connect(unix(tmp_path / "sock"), timeout=0.05)


@pytest.mark.parametrize("answer", [b"", b"\1\0\0", b"\1\0\0\0\0\0\0\0"])
def test_a_server_that_hangs_up(tmp_path: Path, answer: bytes) -> None:
    def serve(listener: socket.socket) -> None:
        with listener, listener.accept()[0] as sock:
            sock.recv(24)
            sock.sendall(answer)

    thread = threading.Thread(target=serve, args=(listening(tmp_path / "sock"),))
    thread.start()
    with pytest.raises(DeadObjectError):
        connect(unix(tmp_path / "sock"), timeout=10)
    thread.join()


def test_a_session_of_one_connection_asks_for_no_more(tmp_path: Path) -> None:
    """Neither how many connections the server takes nor how they would name the session."""

    def serve(listener: socket.socket) -> None:
        with listener, listener.accept()[0] as sock:
            sock.recv(24)
            sock.sendall(b"\0\0\0\0\0\0\0\0")
            asked.append(sock.recv(1))

    asked: list[bytes] = []
    thread = threading.Thread(target=serve, args=(listening(tmp_path / "sock"),))
    thread.start()
    connect(unix(tmp_path / "sock"), max_outgoing=1, timeout=10).close()
    thread.join()
    assert asked == [b""]


def test_a_server_with_a_version_nobody_offered(tmp_path: Path) -> None:
    def serve(listener: socket.socket) -> None:
        with listener, listener.accept()[0] as sock:
            sock.recv(24)
            sock.sendall(b"\1\0\0\0\0\0\0\0")

    thread = threading.Thread(target=serve, args=(listening(tmp_path / "sock"),))
    thread.start()
    with pytest.raises(ProtocolError, match="version 1, offered was 0"):
        connect(unix(tmp_path / "sock"), max_version=0, timeout=10)
    thread.join()
    with status(Status.BAD_VALUE):
        connect(unix(tmp_path / "sock"), max_version=3)


@pytest.mark.parametrize(
    ("offered", "wanted"), [({FdMode.NONE}, FdMode.UNIX), ({FdMode.UNIX}, FdMode.NONE)]
)
def test_descriptor_modes_that_do_not_match(
    serve: Serve, offered: set[FdMode], wanted: FdMode
) -> None:
    with status(Status.DEAD_OBJECT):
        serve(fd_modes=frozenset(offered)).connect(wanted)


# Roots and peers


def test_a_root_for_each_peer(serve: Serve) -> None:
    made: list[Peer] = []

    def root(peer: Peer) -> Echo:
        made.append(peer)
        return Echo()

    served = serve(root=root)
    first, second = served.connect(), served.connect()
    one, two = first.get_root(IEcho), second.get_root(IEcho)
    assert first.get_root(IEcho) is one
    one.hold_binder(None)
    assert one != two
    assert made == [Peer(os.getpid(), os.getuid(), os.getgid())] * 2


def test_no_root(serve: Serve) -> None:
    session = serve(root=lambda peer: None).connect()
    with status(Status.UNEXPECTED_NULL):
        session.get_root(IEcho)
    assert not session.closed


def test_who_calls(serve: Serve) -> None:
    class Asking(Echo):
        def echo_string(self, value: str) -> str:
            peer = calling_peer()
            return f"{peer.pid} {peer.uid} {peer.gid} {peer.cid}"

    root = serve(root=Asking()).connect().get_root(IEcho)
    assert root.echo_string("") == f"{os.getpid()} {os.getuid()} {os.getgid()} None"
    mine = Asking()
    root.hold_binder(mine)
    assert root.call_held("").startswith(f"{os.getpid()} ")
    root.drop_held()
    with pytest.raises(RuntimeError):
        calling_peer()


def test_peers_that_are_not_accepted(serve: Serve) -> None:
    seen: list[Peer] = []

    def accept(peer: Peer) -> bool:
        seen.append(peer)
        return False

    with pytest.raises((DeadObjectError, OSError)):
        serve(accept=accept).connect()
    assert [peer.pid for peer in seen] == [os.getpid()]


# Lifetime


def test_sessions_last_as_long_as_something_of_them(serve: Serve) -> None:
    served = serve()
    session = served.connect(incoming_threads=1)
    assert session.get_root(IEcho).add_ints(1, 1) == 2
    root = session.get_root(IEcho)
    other = root.return_binder()
    assert served.server.sessions == 1
    endpoint = session._endpoint
    release(root)
    assert not endpoint.ended
    release(other)
    assert endpoint.ended
    eventually(lambda: served.server.sessions, 0)


def test_forgotten_sessions_end(serve: Serve) -> None:
    served = serve()
    session = connect(unix(served.path), timeout=10, incoming_threads=1)
    root = session.get_root(IEcho)
    del session
    assert root.add_ints(1, 1) == 2
    assert served.server.sessions == 1
    del root
    eventually(lambda: served.server.sessions, 0)
    session = connect(unix(served.path), timeout=10)
    del session
    eventually(lambda: served.server.sessions, 0)


def test_remote_objects_live_exactly_as_long_as_proxies(serve: Serve) -> None:
    served = serve()
    root = served.connect().get_root(IEcho)
    binders = [root.return_binder() for _ in range(20)]
    assert root.count_live_binders() == 20
    del binders[::2]
    assert root.count_live_binders() == 10
    binders.clear()
    assert root.count_live_binders() == 0


def test_an_object_is_released_once_over_all_sessions(serve: Serve) -> None:
    class Counting(Echo):
        count = 0

        def on_released(self) -> None:
            self.count += 1
            super().on_released()

    kept = Counting()

    class Handing(Echo):
        def return_binder(self) -> IBinder:
            return kept

    served = serve(root=Handing())
    sessions = [served.connect() for _ in range(2)]
    proxies = [session.get_root(IEcho).return_binder() for session in sessions]
    release(proxies[0])
    sessions[0].get_root(IEcho).add_ints(1, 1)
    assert kept.count == 0
    sessions[1].close()
    assert kept.released.wait(10)
    again = sessions[0].get_root(IEcho).return_binder()
    assert kept.count == 1
    kept.released.clear()
    del again
    assert kept.released.wait(10)
    assert kept.count == 2


def test_errors_of_callbacks_are_reported_and_hurt_nobody(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported: list[BaseException] = []
    monkeypatch.setattr("avf.binder.session_objects.report", reported.append)
    monkeypatch.setattr("avf.binder.dispatch.report", reported.append)

    class Bad(Echo):
        def on_released(self) -> None:
            raise ValueError("on_released")

        def echo_string(self, value: str) -> str:
            raise KeyError("echo_string")

    def recipient() -> None:
        raise ValueError("recipient")

    session = serve(root=Bad()).connect(incoming_threads=1)
    root = session.get_root(IEcho)
    with pytest.raises(RemoteException, match=r"IEcho.echo_string failed with KeyError"):
        root.echo_string("")
    assert root.add_ints(1, 1) == 2
    link_to_death(root, recipient)
    session.close()
    eventually(lambda: sorted(map(str, reported)), ["'echo_string'", "on_released", "recipient"])


def test_death(serve: Serve) -> None:
    served = serve()
    session = served.connect(incoming_threads=1)
    root = session.get_root(IEcho)
    dead = threading.Event()
    calls: list[int] = []
    link_to_death(root, lambda: calls.append(1))
    link_to_death(root, dead.set)
    never = calls.clear
    link_to_death(root, never)
    unlink_to_death(root, never)
    with status(Status.NAME_NOT_FOUND):
        unlink_to_death(root, never)
    served.server.shutdown()
    assert dead.wait(10)
    assert calls == [1]
    assert not is_alive(root)
    assert session.closed
    with status(Status.DEAD_OBJECT):
        root.add_ints(1, 1)
    with status(Status.DEAD_OBJECT):
        ping(root)
    with status(Status.DEAD_OBJECT):
        link_to_death(root, dead.set)


def test_who_cannot_be_watched(serve: Serve) -> None:
    with status(Status.INVALID_OPERATION):
        link_to_death(serve().connect().get_root(IEcho), lambda: None)
    with status(Status.INVALID_OPERATION):
        link_to_death(Echo(), lambda: None)


def test_the_server_notices_the_death_of_a_callback(serve: Serve) -> None:
    dead = threading.Event()

    class Watching(Echo):
        def hold_binder(self, binder: IBinder | None) -> None:
            super().hold_binder(binder)
            assert binder is not None
            link_to_death(binder, dead.set)

    session = serve(root=Watching()).connect()
    session.get_root(IEcho).hold_binder(Echo())
    session.close()
    assert dead.wait(10)


def test_calls_under_way_fail_when_the_session_is_closed(serve: Serve) -> None:
    served = serve(max_threads=3)
    session = served.connect()
    root = session.get_root(IEcho)
    entered = threading.Event()

    def slow(ms: int) -> None:
        entered.set()
        root.sleep_ms(ms)

    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(slow, 500)
        entered.wait()
        session.close()
        with status(Status.DEAD_OBJECT):
            call.result()


def test_methods_that_raise_anything(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    reported: list[BaseException] = []
    monkeypatch.setattr("avf.binder.dispatch.report", reported.append)

    class Raising(Echo):
        def echo_string(self, value: str) -> str:
            raise {"exit": SystemExit, "key": KeyboardInterrupt, "deep": RecursionError}[value]

        def echo_bytes(self, value: bytes) -> bytes:
            return "no bytes"  # type: ignore[return-value]

        def read_fd(self, fd: ParcelFileDescriptor) -> str:
            raise StatusError(Status.PERMISSION_DENIED)

        def open_file(self, path: str) -> ParcelFileDescriptor:
            with ParcelFileDescriptor(os.dup(0)) as fd:
                return fd

    root = serve(root=Raising()).connect().get_root(IEcho)
    for value in ("exit", "key", "deep"):
        with pytest.raises(RemoteException, match=r"ILLEGAL_STATE: IEcho.echo_string failed with"):
            root.echo_string(value)
    with pytest.raises(RemoteException, match=r"ILLEGAL_STATE: IEcho.echo_bytes failed with"):
        root.echo_bytes(b"")
    with pytest.raises(RemoteException, match=r"ILLEGAL_STATE: IEcho.open_file failed with"):
        root.open_file("")
    with ExitStack() as stack, status(Status.PERMISSION_DENIED):
        root.read_fd(pipe_with(stack, b""))
    assert [type(error).__name__ for error in reported] == [
        "SystemExit",
        "KeyboardInterrupt",
        "RecursionError",
        "TypeError",
        "ValueError",
    ]
    assert root.add_ints(1, 1) == 2


def test_binders_that_are_nothing_but_tokens(serve: Serve) -> None:
    root = serve().connect().get_root(IEcho)
    token = IBinder()
    assert root.echo_binder(token) is token
    root.hold_binder(token)
    with status(Status.UNKNOWN_TRANSACTION):
        root.call_held("x")
    root.drop_held()


def test_a_handler_may_shut_its_server_down(serve: Serve) -> None:
    served = serve()

    class Closing(Echo):
        def add_ints(self, a: int, b: int) -> int:
            other.server.shutdown()
            return a + b

    other = serve(root=Closing())
    with status(Status.DEAD_OBJECT):
        other.connect().get_root(IEcho).add_ints(1, 1)
    other.server.shutdown()
    with pytest.raises(OSError, match=r".*"):
        other.connect()
    assert served.connect().get_root(IEcho).add_ints(1, 1) == 2


# Calls


def test_calls_by_name_and_wrong_calls(serve: Serve) -> None:
    root = serve().connect().get_root(IEcho)
    assert root.add_ints(1, b=2) == root.add_ints(b=2, a=1) == 3
    with pytest.raises(TypeError, match=r"IEcho.add_ints takes \(a, b\): b is missing"):
        root.add_ints(1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"takes \(a, b\): b is missing, there is no c"):
        root.add_ints(1, c=2)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"IEcho.add_ints: b: int wanted, not str"):
        root.add_ints(1, "2")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"IEcho.add_ints: a: "):
        root.add_ints(2**31, 0)
    with pytest.raises(ValueError, match=r"IEcho.echo_parcelable: value\.a: "):
        root.echo_parcelable(P(a=2**31))
    with pytest.raises(TypeError, match=r"IEcho.hold_binder: binder: IBinder wanted, not str"):
        root.hold_binder("x")  # type: ignore[arg-type]
    assert root.add_ints(1, 2) == 3


def test_methods_a_server_does_not_have(serve: Serve) -> None:
    class Bare(IEcho):
        pass

    with status(Status.UNKNOWN_TRANSACTION):
        serve(root=Bare()).connect().get_root(IEcho).add_ints(1, 2)


def test_proxies_of_one_object_are_one(serve: Serve) -> None:
    session = serve().connect()
    root = session.get_root(IEcho)
    binder = root.return_binder()
    echo = interface_cast(IEcho, binder)
    assert interface_cast(IEcho, binder) is echo
    assert root.echo_binder(echo) is binder
    assert echo == binder
    assert len({echo, binder}) == 1
    assert echo != root
    assert isinstance(echo, IEcho)
    assert not isinstance(binder, IEcho)
    assert repr(echo) == "<IEchoProxy for object 0x100000003>"
    local = Echo()
    assert interface_cast(IEcho, local) is local
    with status(Status.BAD_TYPE):
        interface_cast(IEcho, IBinder())


def test_proxies_do_not_go_to_other_sessions(serve: Serve) -> None:
    served = serve()
    one, two = served.connect().get_root(IEcho), served.connect().get_root(IEcho)
    with status(Status.INVALID_OPERATION):
        one.echo_binder(two)
    with status(Status.INVALID_OPERATION):
        one.call_back(two, 1)
    assert one.add_ints(1, 1) == 2


def test_callbacks_need_a_connection(serve: Serve) -> None:
    root = serve().connect().get_root(IEcho)
    mine = Echo()
    root.hold_binder(mine)
    with status(Status.WOULD_BLOCK):
        root.call_held_async(1)
    assert root.call_held("x") == "x"
    root.drop_held()
    assert mine.released.wait(10)


def test_more_calls_than_threads(serve: Serve) -> None:
    served = serve(max_threads=3)
    root = served.connect(max_outgoing=2).get_root(IEcho)
    assert root._remote is not None
    with ThreadPoolExecutor(8) as pool:
        for _ in pool.map(root.sleep_ms, [20] * 12):
            pass
    assert len(served.connect()._endpoint._outgoing) == 3


def test_one_thread_left_is_enough(serve: Serve) -> None:
    entered = threading.Barrier(3)
    leave = threading.Event()

    class Blocking(Echo):
        def sleep_ms(self, ms: int) -> None:
            entered.wait(10)
            assert leave.wait(10)

    root = serve(root=Blocking(), max_threads=3).connect().get_root(IEcho)
    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(root.sleep_ms, 0) for _ in range(2)]
        entered.wait(10)
        assert root.add_ints(1, 1) == 2
        leave.set()
        for call in calls:
            call.result()


def test_stress(serve: Serve) -> None:
    served = serve(max_threads=3)
    root = served.connect(incoming_threads=2).get_root(IEcho)

    def work(n: int) -> None:
        mine = Echo()
        for i in range(40):
            assert root.echo_binder(mine) is mine
            assert root.add_ints(n, i) == n + i
            root.append(i)
            assert root.call_back(mine, 2) == 2
        theirs = root.return_binder()
        assert interface_cast(IEcho, theirs).add_ints(1, 1) == 2

    with ThreadPoolExecutor(8) as pool:
        for _ in pool.map(work, range(8)):
            pass
    count = 0
    while count < 320:
        count += len(root.get_appended())
    eventually(root.count_live_binders, 0)
    assert root._remote is not None
    table = root._remote.remote.core.table  # type: ignore[attr-defined]
    eventually(lambda: (root.add_ints(1, 1), len(table.nodes))[1], 1)


def test_oneway_calls_of_one_object_run_in_order_over_several_connections(serve: Serve) -> None:
    root = serve(max_threads=4).connect().get_root(IEcho)
    for i in range(2000):
        root.append(i)
    seen: list[int] = []
    while len(seen) < 2000:
        seen += root.get_appended()
    assert seen == list(range(2000))


def test_oneway_calls_that_are_never_read_do_not_block_each_other(serve: Serve) -> None:
    """Enough for both directions of the socket to fill up."""
    served = serve()
    root = served.connect().get_root(IEcho)
    for i in range(20_000):
        root.append(i)
    seen = 0
    while seen < 20_000:
        seen += len(root.get_appended())


def test_oneway_calls_to_many_objects_with_big_arguments(serve: Serve) -> None:
    received = threading.Semaphore(0)

    class Taking(Echo):
        def hold_binder(self, binder: IBinder | None) -> None:
            received.release()

    root = serve(root=Taking()).connect().get_root(IEcho)
    for _ in range(50):
        root.hold_binder(Echo())
    assert root.echo_bytes(bytes(90_000)) == bytes(90_000)


# Descriptors


def pipe_with(stack: ExitStack, data: bytes) -> ParcelFileDescriptor:
    reading, writing = os.pipe()
    os.write(writing, data)
    os.close(writing)
    return stack.enter_context(ParcelFileDescriptor(reading))


def test_as_many_descriptors_as_go(serve: Serve) -> None:
    root = serve().connect().get_root(IEcho)
    with ExitStack() as stack:
        fds = [pipe_with(stack, b"%d " % i) for i in range(254)]
        assert root.cat_fds(fds[:253]) == "".join(f"{i} " for i in range(253))
        with status(Status.BAD_VALUE):
            root.cat_fds(fds)
        assert not any(fd.closed for fd in fds)
    assert root.add_ints(1, 1) == 2


def test_who_closes_a_descriptor(serve: Serve) -> None:
    kept: list[ParcelFileDescriptor | int] = []

    class Keeping(Echo):
        def read_fd(self, fd: ParcelFileDescriptor) -> str:
            kept.append(fd)
            return "kept"

        def cat_fds(self, fds: list[ParcelFileDescriptor]) -> str:
            kept.extend([fds[0].detach(), fds[1].dup()])
            return "detached"

        def open_file(self, path: str) -> ParcelFileDescriptor:
            fd = ParcelFileDescriptor(os.open(path, os.O_RDONLY))
            kept.append(fd)
            return fd

    root = serve(root=Keeping()).connect().get_root(IEcho)
    with ExitStack() as stack:
        fds = [pipe_with(stack, b"") for _ in range(2)]
        assert root.read_fd(fds[0]) == "kept"
        assert not fds[0].closed
        assert isinstance(kept[0], ParcelFileDescriptor)
        assert kept.pop(0).closed  # type: ignore[union-attr]
        assert root.cat_fds(fds) == "detached"
        detached, dup = kept
        assert isinstance(detached, int)
        assert isinstance(dup, ParcelFileDescriptor)
        os.close(detached)
        dup.close()
        kept.clear()
        with root.open_file("/dev/null") as fd:
            assert os.fstat(fd.fileno()).st_rdev == Path("/dev/null").stat().st_rdev
        eventually(lambda: kept[0].closed, True)  # type: ignore[union-attr]


def test_closed_descriptors_cannot_be_sent(serve: Serve) -> None:
    root = serve().connect().get_root(IEcho)
    fd = ParcelFileDescriptor(os.dup(0))
    fd.close()
    with pytest.raises(ValueError, match="closed"):
        root.read_fd(fd)
    assert root.add_ints(1, 1) == 2
    with pytest.raises(ValueError, match="no file descriptor: -1"):
        ParcelFileDescriptor(-1)


def test_descriptors_in_mode_none(serve: Serve) -> None:
    root = serve().connect(FdMode.NONE).get_root(IEcho)
    with ExitStack() as stack:
        with status(Status.FDS_NOT_ALLOWED):
            root.read_fd(pipe_with(stack, b""))
        with status(Status.FDS_NOT_ALLOWED):
            root.open_file("/dev/null")
    with pytest.raises(RemoteException, match="No such file"):
        root.open_file("/nonexistent")


def test_descriptors_in_version_0(serve: Serve) -> None:
    root = serve().connect(max_version=0).get_root(IEcho)
    with ExitStack() as stack, status(Status.BAD_VALUE):
        root.read_fd(pipe_with(stack, b""))
    with status(Status.BAD_VALUE):
        root.open_file("/dev/null")
    assert root.add_ints(1, 1) == 2


def test_descriptors_of_queued_oneway_calls_survive(serve: Serve) -> None:
    root = serve(max_threads=3).connect().get_root(IEcho)
    with ExitStack() as stack:
        for i in range(50):
            root.append(i)
            assert root.read_fd(pipe_with(stack, b"%d" % i)) == str(i)


def test_dump(serve: Serve) -> None:
    class Dumping(Echo):
        def dump(self, fd: int, args: list[str]) -> None:
            os.write(fd, repr(args).encode())

    root = serve(root=Dumping()).connect().get_root(IEcho)
    for dumping in (partial(dump, root), root.dump):
        reading, writing = os.pipe()
        dumping(writing, ["-a", ""])
        os.close(writing)
        with open(reading, "rb") as file:
            assert file.read() == b"['-a', '']"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RemoteException.security("not you"), Status.PERMISSION_DENIED),
        (RemoteException.illegal_state("not now"), Status.INVALID_OPERATION),
        (RemoteException.service_specific_error(-6, "nobody is there"), Status.UNKNOWN_ERROR),
    ],
)
def test_a_dump_that_fails_tells_why(serve: Serve, error: RemoteException, code: Status) -> None:
    class Failing(Echo):
        def dump(self, fd: int, args: list[str]) -> None:
            raise error

    root = serve(root=Failing()).connect().get_root(IEcho)
    reading, writing = os.pipe()
    with status(code):
        dump(root, writing, [])
    os.close(writing)
    with open(reading) as file:
        assert file.read() == f"{error}\n"


def test_server_options_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match="max_threads"):
        Server(Echo(), max_threads=0)
    with pytest.raises(ValueError, match="version 3"):
        Server(Echo(), max_version=3)
