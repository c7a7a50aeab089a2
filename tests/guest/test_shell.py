"""Who is served by the shell service, and that its absence harms nobody. Commands are in tests/client and tests/vm."""

import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from avf.guest import shell
from avf.guest.host import HOST_CID
from avf.guest.shell import MAX_SESSIONS, ServeOne, ShellService, serve, start_if_debuggable
from tests.conftest import children


class Over(OSError):
    """Nobody connects any more."""


class Listener:
    """A vsock listener on which those of the given CIDs connect, one after the other."""

    def __init__(self, cids: list[int], before: Callable[[], None] = lambda: None) -> None:
        self._cids = cids
        self._before = before
        self.clients: list[socket.socket] = []

    def accept(self) -> tuple[socket.socket, tuple[int, int]]:
        self._before()
        if not self._cids:
            raise Over
        ours, theirs = socket.socketpair()
        self.clients.append(ours)
        return theirs, (self._cids.pop(0), 1025)

    def close(self) -> None:
        for client in self.clients:
            client.close()


def answer(connection: socket.socket) -> None:
    connection.sendall(b"served")


def served(listener: Listener, load: Callable[[], ServeOne]) -> None:
    with pytest.raises(Over):
        serve(listener, load)  # type: ignore[arg-type]


def reap() -> None:
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def test_the_host_alone_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's own CID, the loopback's, the hypervisor's and any other are closed at once."""
    told: list[str] = []
    monkeypatch.setattr(shell, "log", told.append)
    cids = [2049, 1, 0, 0xFFFFFFFF, HOST_CID]
    listener = Listener(list(cids))
    served(listener, lambda: answer)
    reap()
    heard = [client.makefile("rb").read() for client in listener.clients]
    assert heard == [b"", b"", b"", b"", b"served"]
    assert told == [f"shell: CID {cid} is not the host" for cid in cids[:-1]]
    listener.close()


def test_nothing_is_loaded_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell, "log", lambda text: None)

    def load() -> ServeOne:
        raise AssertionError("loaded")

    listener = Listener([1, 3])
    served(listener, load)
    listener.close()


def test_only_so_many_at_a_time() -> None:
    """Who comes then waits until one is done."""
    listener = Listener([HOST_CID] * (MAX_SESSIONS + 1))
    read, write = os.pipe()

    def wait_for_word(connection: socket.socket) -> None:
        os.close(write)
        os.read(read, 1)

    before = len(children(os.getpid()))

    def look() -> None:
        assert len(children(os.getpid())) - before < MAX_SESSIONS
        if len(listener.clients) >= MAX_SESSIONS - 1:
            os.write(write, b"x")  # one more comes, and one of them all goes

    listener._before = look
    served(listener, lambda: wait_for_word)
    assert len(listener.clients) == MAX_SESSIONS + 1
    os.close(write)
    os.close(read)
    reap()
    listener.close()


def test_a_guest_that_is_not_debuggable_has_none(tmp_path: Path) -> None:
    assert start_if_debuggable(str(tmp_path / "absent")) is None
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_a_service_that_is_gone_stops_no_payload(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(shell, "log", told.append)
    monkeypatch.setattr(
        shell, "_wait_and_serve", lambda orders: os.kill(os.getpid(), signal.SIGKILL)
    )
    service = ShellService()
    reap()
    service.begin()
    assert told == ["no shell service: [Errno 32] Broken pipe"]
