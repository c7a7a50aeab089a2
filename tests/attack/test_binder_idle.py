"""Servers that send between calls, when no thread of their client waits for anything."""

import struct
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from avf.binder import IBinder, Session, connect, interface_cast, unix, wire
from tests.binder.conftest import nothing_is_left
from tests.binder.test_core import CALLBACK, ROOT, oneway_body
from tests.binder.test_delivery import CALLS, LibbinderServer
from tests.binder.test_hostile import frame
from tests.eventually import eventually
from tests.interop.echo import Echo, IEcho

from .test_binder_calls import Hostile

__all__ = ["nothing_is_left"]

Attack = Callable[[Hostile], None]


def returns(server: Hostile) -> None:
    while True:
        server.sock.sendall(wire.dec_strong(ROOT, 1) * 100)


def calls(server: Hostile) -> None:
    number = 0
    while True:
        server.sock.sendall(frame(wire.TRANSACT, oneway_body(number, number, CALLBACK)))
        number += 1


def large_calls(server: Hostile) -> None:
    body = oneway_body(0, 0, CALLBACK)
    while True:
        server.sock.sendall(frame(wire.TRANSACT, body + bytes(wire.MAX_RECEIVED - len(body))))


@pytest.mark.parametrize("attack", [returns, calls, large_calls])
@pytest.mark.parametrize("fd_mode", wire.FdMode)
def test_frames_without_end_between_calls(
    tmp_path: Path, attack: Attack, fd_mode: wire.FdMode
) -> None:
    """One frame is kept at most, and other sessions of the process are read meanwhile."""

    def attacks(server: Hostile) -> None:
        server.set_up()
        attack(server)

    hostile = Hostile(tmp_path / "hostile", attacks)
    honest = LibbinderServer(tmp_path / "honest")
    with connect(unix(tmp_path / "hostile"), fd_mode=fd_mode, timeout=10) as attacked:
        root = interface_cast(IEcho, attacked.get_root(IBinder))
        with connect(unix(tmp_path / "honest"), timeout=10) as made:
            other = interface_cast(IEcho, made.get_root(IBinder))
            for i in range(CALLS):
                other.append(i)
            eventually(lambda: honest.served, CALLS)
        assert held_by(attacked) <= wire.MAX_RECEIVED + 4096
        assert not attacked.closed
        del root
    hostile.thread.join()
    honest.thread.join()


def held_by(session: Session) -> int:
    """Bytes of memory that its server makes the client keep."""
    return session.endpoint.core.account.used.memory


BREAKS = {
    "reply to nothing": frame(wire.REPLY, struct.pack("<iI12x", 0, 0)),
    "unknown command": frame(9, b""),
    "return of a wrong size": frame(wire.DEC_STRONG, bytes(8)),
    "call beyond the limit": struct.pack("<IIQ", wire.TRANSACT, wire.MAX_RECEIVED + 1, 0),
}


@pytest.mark.parametrize("sent", BREAKS.values(), ids=BREAKS)
def test_what_breaks_the_protocol_between_calls_ends_the_session(
    tmp_path: Path, sent: bytes
) -> None:
    read = threading.Event()

    def attack(server: Hostile) -> None:
        server.set_up()
        server.sock.sendall(sent)
        read.wait(10)

    hostile = Hostile(tmp_path / "sock", attack)
    with connect(unix(tmp_path / "sock"), timeout=10) as made:
        root = interface_cast(IEcho, made.get_root(IBinder))
        eventually(lambda: made.closed, True)
        assert held_by(made) == 0
        del root
    read.set()
    hostile.thread.join()


def test_an_object_that_is_given_back_too_often_between_calls(tmp_path: Path) -> None:
    done = threading.Event()

    def attack(server: Hostile) -> None:
        server.set_up()
        server.answer(struct.pack("<i", 0))
        server.sock.sendall(wire.dec_strong(CALLBACK, 1) * 1000)
        done.wait(10)

    hostile = Hostile(tmp_path / "sock", attack)
    with connect(unix(tmp_path / "sock"), timeout=10) as made:
        callback = Echo()
        interface_cast(IEcho, made.get_root(IBinder)).hold_binder(callback)
        assert callback.released.wait(10)
        assert not made.closed
    done.set()
    hostile.thread.join()


def test_an_owner_that_fails_does_not_end_the_reading_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """As when no thread can be started to tell of what has come."""
    honest = LibbinderServer(tmp_path / "honest")
    other = LibbinderServer(tmp_path / "other")
    with (
        connect(unix(tmp_path / "other"), timeout=10) as failing,
        connect(unix(tmp_path / "honest"), timeout=10) as made,
    ):
        failed = threading.Event()

        def fail(*_: object) -> None:
            failed.set()
            raise RuntimeError("can't start new thread")

        callback = Echo()
        failing.get_root(IEcho).hold_binder(callback)
        monkeypatch.setattr(failing.endpoint, "_run_or_start", fail)
        other.sock.sendall(wire.dec_strong(CALLBACK, 1))
        assert failed.wait(10)
        root = interface_cast(IEcho, made.get_root(IBinder))
        for i in range(CALLS):
            root.append(i)
        eventually(lambda: honest.served, CALLS)
        monkeypatch.undo()
    assert "can't start new thread" in capfd.readouterr().err
    honest.thread.join()
    other.thread.join()
