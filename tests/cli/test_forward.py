"""`vm connect` and `vm forward` without a machine: what they take, and how they copy."""

import os
import select
import socket
import stat
import struct
import threading
from contextlib import ExitStack, suppress
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from avf.cli import man
from avf.cli.addresses import ADDRESS, Address, dialler, listen
from avf.cli.connect import MAX_CONNECTIONS, Forwarding, forward
from avf.cli.splice import Way, splice
from avf.cli.text import CliError

GOOD = {
    "tcp:8080": Address("tcp", "127.0.0.1", 8080),
    "tcp:0.0.0.0:80": Address("tcp", "0.0.0.0", 80),
    "tcp:[::1]:80": Address("tcp", "::1", 80),
    "unix:a:b": Address("unix", "a:b"),
    "vsock:5678": Address("vsock", port=5678),
}
BAD = [
    "8080", "tcp:", "tcp:65536", "tcp:-1", "tcp::80", "tcp:host", "unix:", "vsock:22", "vsock:x", "vsock:4294967295",
    "udp:80", "tcp:٣", "",
]  # fmt: skip


@pytest.mark.parametrize("text", GOOD)
def test_addresses(text: str) -> None:
    assert ADDRESS.convert(text, None, None) == GOOD[text]


@pytest.mark.parametrize("text", BAD)
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is none of tcp:PORT"):
        ADDRESS.convert(text, None, None)


@pytest.mark.parametrize("pair", [("vsock:2000", "vsock:3000"), ("tcp:1", "unix:x")])
def test_one_end_is_a_vsock_port(pair: tuple[str, str]) -> None:
    result = CliRunner().invoke(forward, ["2048", *pair])
    assert result.exit_code == 2
    assert "One of FROM and TO, and not both, is a vsock port." in result.output


def test_examples_keep_their_lines_in_the_manual() -> None:
    page = dict(man.pages("1.0"))["vm-forward"]
    assert "\n.SH EXAMPLES\n.nf\nvm forward 2048 tcp:8080 vsock:5678\n" in page


def test_a_unix_socket_is_for_its_owner_and_goes_in_the_end(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    address = Address("unix", str(path))
    with ExitStack() as stack:
        listen(address, stack)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with pytest.raises(CliError, match="Address already in use"):
            listen(address, ExitStack())
        assert path.exists()
    assert not path.exists()


def test_what_is_there_already_stays(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("precious")
    with pytest.raises(CliError, match=r"cannot listen on unix:.*file: Address already in use"):
        listen(Address("unix", str(path)), ExitStack())
    assert path.read_text() == "precious"


def test_a_socket_that_took_the_name_stays(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with ExitStack() as stack:
        listen(Address("unix", str(path)), stack)
        path.unlink()
        path.write_text("another")
    assert path.read_text() == "another"


def test_tcp_is_open_on_the_loopback_alone() -> None:
    with ExitStack() as stack:
        (listener,), address = listen(Address("tcp", "127.0.0.1", 0), stack)
        assert listener.getsockname() == ("127.0.0.1", address.port)
        assert address.port


def echo_once(listener: socket.socket) -> None:
    """Reads to the end, and only then answers: that needs both ends of the stream apart."""
    connection, _ = listener.accept()
    with connection, connection.makefile("rwb") as file:
        data = file.read()
        file.write(data[::-1])


class Running:
    """A Forwarding in a thread, from a TCP port to a unix socket that `serve` serves."""

    def __init__(self, tmp_path: Path) -> None:
        self.stack = ExitStack()
        self.target = self.stack.enter_context(socket.socket(socket.AF_UNIX))
        self.target.bind(str(tmp_path / "target"))
        self.target.listen(200)
        listeners, self.address = listen(Address("tcp", "127.0.0.1", 0), self.stack)
        self.over = threading.Event()
        forwarding = Forwarding(
            listeners, dialler(Address("unix", str(tmp_path / "target"))), lambda sock: True
        )
        self.thread = threading.Thread(
            target=forwarding.run, args=(lambda: not self.over.is_set(),)
        )
        self.thread.start()

    def __enter__(self) -> "Running":
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()
        self.stack.close()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.address.port), timeout=30)


def test_an_end_is_passed_on_and_the_answer_still_comes(tmp_path: Path) -> None:
    data = os.urandom(500_000)
    with Running(tmp_path) as running:
        server = threading.Thread(target=echo_once, args=(running.target,))
        server.start()
        with running.connect() as client, client.makefile("rb") as answer:
            sender = threading.Thread(target=client.sendall, args=(data,))
            sender.start()
            sender.join()
            client.shutdown(socket.SHUT_WR)
            assert answer.read() == data[::-1]
        server.join()


def test_a_cut_is_passed_on_as_a_cut(tmp_path: Path) -> None:
    with Running(tmp_path) as running, running.connect() as client:
        connection, _ = running.target.accept()
        with connection:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("@ii", 1, 0))
            client.close()
            connection.settimeout(30)
            assert connection.recv(1) == b""
    with Running(tmp_path.parent) as running, running.connect() as client:
        connection, _ = running.target.accept()
        client.sendall(b"not read")
        connection.recv(1, socket.MSG_PEEK)
        connection.close()  # with unread data: a unix socket's way of a reset
        with pytest.raises(ConnectionResetError):
            while client.recv(1):
                pass


def test_more_connections_than_are_served_wait(tmp_path: Path) -> None:
    """One that leaves makes room for one that waits."""
    with Running(tmp_path) as running, ExitStack() as stack:
        clients = [stack.enter_context(running.connect()) for _ in range(MAX_CONNECTIONS + 1)]
        served = [stack.enter_context(running.target.accept()[0]) for _ in range(MAX_CONNECTIONS)]
        running.target.settimeout(0.2)
        with pytest.raises(TimeoutError):
            running.target.accept()
        clients[0].sendall(b"it is me")
        (readable,), _, _ = select.select(served, [], [], 30)  # in which order they came is open
        readable.close()
        clients[0].close()
        running.target.settimeout(30)
        stack.enter_context(running.target.accept()[0])


def send_until_cut(sock: socket.socket, data: bytes) -> None:
    with suppress(BrokenPipeError):
        sock.sendall(data)


def test_one_way_that_is_stuck_does_not_hold_up_the_other() -> None:
    """Nobody reads what goes one way, more than any buffer holds; the other way is whole nevertheless."""
    (a, b), (c, d) = socket.socketpair(), socket.socketpair()
    with a, b, c, d:
        for sock in (b, c):
            sock.setblocking(False)
        back = Way(c.fileno(), b.fileno(), lambda: b.shutdown(socket.SHUT_WR))
        ways = [Way(b.fileno(), c.fileno(), lambda: None), back]
        thread = threading.Thread(target=splice, args=(ways, back))
        thread.start()
        stuck = threading.Thread(target=send_until_cut, args=(a, bytes(4 << 20)))
        stuck.start()
        d.sendall(b"answer")
        d.shutdown(socket.SHUT_WR)
        a.settimeout(30)
        assert a.recv(6, socket.MSG_WAITALL) == b"answer"
        thread.join(30)
        assert not thread.is_alive()
        a.shutdown(socket.SHUT_RDWR)
        stuck.join()
