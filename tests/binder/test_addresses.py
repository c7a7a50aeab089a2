"""Where servers listen: every kind of address, socket files, and the way back to the client."""

import asyncio
import errno
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from avf.binder import (
    Address,
    Server,
    aio,
    bootstrap,
    calling_peer,
    connect,
    hybrid_vsock,
    inet,
    unix,
    unix_abstract,
    vsock,
)
from tests.interop.echo import Echo, IEcho

from .conftest import listening


def addresses(path: Path, stack: ExitStack) -> dict[str, tuple[Address, Address | None]]:
    """For the server, and for the client if it is not what the server says."""
    ours, theirs = (stack.enter_context(sock) for sock in socket.socketpair())
    return {
        "unix": (unix(path), None),
        "unix_abstract": (unix_abstract(str(path)), None),
        "inet": (inet("127.0.0.1", 0), None),
        "bootstrap": (bootstrap(theirs), bootstrap(ours)),
    }


KINDS = ["unix", "unix_abstract", "inet", "bootstrap"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_starts_at_an_address_and_a_client_connects_to_it(
    kind: str, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        at, reach = addresses(tmp_path / "sock", stack)[kind]
        server = stack.enter_context(Server(Echo(), max_threads=2))
        started = server.start(at)
        with connect(reach or started, incoming_threads=1, timeout=10) as session:
            assert session.get_root(IEcho).add_ints(2, 3) == 5


@pytest.mark.parametrize("kind", KINDS)
def test_the_asyncio_face_takes_the_same_addresses(kind: str, tmp_path: Path) -> None:
    async def main(at: Address, reach: Address | None) -> int:
        async with aio.Server(Echo()) as server:
            started = server.start(at)
            async with await aio.connect(reach or started, timeout=10) as session:
                echo = await session.get_root(IEcho)
                return await aio.in_thread(echo.add_ints, 2, 3)

    with ExitStack() as stack:
        assert asyncio.run(main(*addresses(tmp_path / "sock", stack)[kind])) == 5


def test_serve_blocks_until_shutdown_and_removes_its_socket(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    server = Server(Echo())
    thread = threading.Thread(target=server.serve, args=(unix(path),))
    thread.start()
    with server:
        while not path.exists():
            assert thread.is_alive()
    thread.join(10)
    assert not thread.is_alive()
    assert not path.exists()


def dead_socket(path: Path) -> None:
    listening(path).close()


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
@pytest.mark.parametrize("before", [None, dead_socket], ids=["new", "stale"])
def test_a_socket_file_has_its_rights_whatever_the_umask(
    tmp_path: Path, mode: int, before: Callable[[Path], None] | None
) -> None:
    path = tmp_path / "sock"
    if before is not None:
        before(path)
    old = os.umask(0o077)
    try:
        with Server(Echo()) as server:
            server.start(unix(path, mode=mode))
            assert path.stat().st_mode & 0o777 == mode
    finally:
        os.umask(old)


def test_a_socket_file_never_has_more_rights_than_it_is_to_have(tmp_path: Path) -> None:
    """Seen from another process at every system call that names it."""
    program = (
        "import os, sys\n"
        "from avf.binder import unix\n"
        "os.umask(0)\n"
        "def look(event, args):\n"
        "    if os.path.exists(sys.argv[1]):\n"
        "        assert os.stat(sys.argv[1]).st_mode & 0o777 == 0o600\n"
        "        print('seen')\n"
        "sys.addaudithook(look)\n"
        "unix(sys.argv[1]).listen()\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "sock")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert "seen" in done.stdout


def test_the_socket_of_a_server_that_was_killed_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    program = (
        "import os, sys\n"
        "from avf.binder import Server, unix\n"
        "from tests.interop.echo import Echo\n"
        "Server(Echo()).start(unix(sys.argv[1]))\n"
        "os.kill(os.getpid(), 9)\n"
    )
    folder = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", program, str(path)], cwd=folder, timeout=60, check=False)
    assert path.is_socket()
    with Server(Echo()) as server, connect(server.start(unix(path)), timeout=10) as session:
        assert session.get_root(IEcho).add_ints(2, 3) == 5


def test_the_socket_of_a_live_server_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    with Server(Echo()) as first, Server(Echo()) as second:
        first.start(unix(path))
        with pytest.raises(OSError, match="a server listens there") as caught:
            second.start(unix(path))
        assert caught.value.errno == errno.EADDRINUSE
        second.shutdown()
        with connect(unix(path), timeout=10) as session:
            assert session.get_root(IEcho).add_ints(2, 3) == 5


def test_a_live_server_whose_queue_is_full_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    with socket.socket(socket.AF_UNIX) as listener, ExitStack() as stack:
        listener.bind(str(path))
        listener.listen(0)
        waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
        waiting.connect(str(path))
        with pytest.raises(OSError, match="a server listens there"):
            Server(Echo()).start(unix(path))


def datagram_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(path))


def link_to_a_dead_socket(path: Path) -> None:
    dead_socket(path.with_name("other"))
    path.symlink_to("other")


OTHERS: list[Callable[[Path], object]] = [
    Path.touch,
    Path.mkdir,
    lambda path: path.symlink_to("nowhere"),
    link_to_a_dead_socket,
    lambda path: os.mkfifo(path),
]


@pytest.mark.parametrize("make", OTHERS, ids=["file", "folder", "dangling", "link", "fifo"])
def test_a_file_that_is_no_socket_is_never_removed(
    tmp_path: Path, make: Callable[[Path], object]
) -> None:
    path = tmp_path / "sock"
    make(path)
    before = path.lstat()
    with pytest.raises(FileExistsError, match="no socket"):
        Server(Echo()).start(unix(path))
    assert path.lstat() == before


def test_a_server_does_not_remove_what_has_taken_its_sockets_place(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    with Server(Echo()) as server:
        server.start(unix(path))
        path.unlink()
        path.write_text("another's")
    assert path.read_text() == "another's"


def test_of_many_servers_that_start_over_a_stale_socket_one_is_reached(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    dead_socket(path)
    servers = [Server(Echo()) for _ in range(8)]
    outcomes: list[str] = []
    together = threading.Barrier(len(servers))

    def start(server: Server) -> None:
        together.wait()
        try:
            server.start(unix(path))
        except OSError as error:
            outcomes.append(errno.errorcode[error.errno or 0])
        else:
            outcomes.append("started")

    threads = [threading.Thread(target=start, args=(server,)) for server in servers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    try:
        assert sorted(outcomes) == ["EADDRINUSE"] * 7 + ["started"]
        with connect(unix(path), timeout=10) as session:
            assert session.get_root(IEcho).add_ints(2, 3) == 5
    finally:
        for server in servers:
            server.shutdown()


def test_a_path_that_is_too_long_is_named(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 108)
    with pytest.raises(OSError, match="at most 107 bytes") as caught:
        Server(Echo()).start(unix(path))
    assert caught.value.filename == str(path)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: unix("x", mode=0o1777), "mode"),
        (lambda: inet("localhost", 70_000), "port"),
        (lambda: inet("localhost", -1), "port"),
    ],
)
def test_addresses_that_cannot_be_are_refused(make: Callable[[], Address], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make()


def test_an_address_for_clients_is_none_for_servers(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="for clients"):
        Server(Echo()).start(hybrid_vsock(tmp_path / "sock", 5000))
    with pytest.raises(TypeError, match="for servers"):
        connect(vsock(5000))
    with pytest.raises(TypeError, match="not str"):
        Server(Echo()).start("sock")  # type: ignore[call-overload]


def test_addresses_are_values() -> None:
    assert unix("a") == unix("a") != unix("b")
    assert vsock(5000) == vsock(5000) != vsock(2, 5000)
    assert {inet("a", 1), inet("a", 1)} == {inet("a", 1)}
    assert repr(unix("a")) == "UnixAddress(path='a', mode=384)"


def test_a_method_learns_the_host_and_port_of_a_tcp_peer() -> None:
    class Asking(Echo):
        def echo_string(self, value: str) -> str:
            return calling_peer().host or ""

        def add_ints(self, a: int, b: int) -> int:
            return calling_peer().port or 0

    with Server(Asking()) as server:
        address = server.start(inet("127.0.0.1", 0))
        with connect(address, timeout=10) as session:
            root = session.get_root(IEcho)
            assert root.echo_string("") == "127.0.0.1"
            assert root.add_ints(0, 0) > 0


def test_shutdown_with_grace_lets_calls_finish(tmp_path: Path) -> None:
    begun, go_on = threading.Event(), threading.Event()

    class Slow(Echo):
        def add_ints(self, a: int, b: int) -> int:
            begun.set()
            go_on.wait(30)
            return a + b

    server = Server(Slow(), max_threads=2)
    results: list[int] = []
    with connect(server.start(unix(tmp_path / "sock")), timeout=10) as session:
        root = session.get_root(IEcho)
        caller = threading.Thread(target=lambda: results.append(root.add_ints(2, 3)))
        caller.start()
        assert begun.wait(30)
        stopping = threading.Thread(target=server.shutdown, args=(60,))
        stopping.start()
        while (tmp_path / "sock").exists():  # it accepts no more
            assert stopping.is_alive()
        go_on.set()
        caller.join(30)
        stopping.join(30)
        assert results == [5]
        assert session.closed or server.sessions == 0


def test_shutdown_waits_no_longer_than_its_grace(tmp_path: Path) -> None:
    begun, go_on = threading.Event(), threading.Event()

    class Slow(Echo):
        def append(self, v: int) -> None:
            begun.set()
            go_on.wait(30)

    server = Server(Slow())
    with connect(server.start(unix(tmp_path / "sock")), timeout=10) as session:
        session.get_root(IEcho).append(1)
        assert begun.wait(30)
        stopping = threading.Thread(target=server.shutdown, args=(0.05,))
        stopping.start()
        while server.sessions:
            assert stopping.is_alive()
        go_on.set()
        stopping.join(30)
        assert not stopping.is_alive()
