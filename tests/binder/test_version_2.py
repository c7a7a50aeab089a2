"""Protocol version 2 (Android 16's, experimental): what is different from version 1."""

import os
import socket
import struct
from contextlib import ExitStack
from pathlib import Path

import pytest

from avf.binder import FdMode, Status, StatusError, connect, unix, wire
from tests.interop.echo import Echo, IEcho

from .conftest import Serve, Served
from .test_core import CALLBACK, ROOT, binder, transact_body, with_root, with_token
from .test_hostile import (
    HELLO,
    HELLO_UNIX,
    add_works,
    frame,
    is_closed,
    read_exactly,
    read_reply,
    send_with_fds,
    special,
)
from .test_sessions import exercise

ECHO_BINDER = 16
READ_FD = 8
TOKEN = len(with_token(b""))
BAD_VALUE = -22


@pytest.mark.parametrize(
    ("client", "server", "used"), [(2, 2, 2), (2, 1, 1), (1, 2, 1), (2, 0, 0), (0, 2, 0)]
)
def test_negotiation(serve: Serve, client: int, server: int, used: int) -> None:
    served = serve(max_version=server, max_threads=2)
    with served.connect(max_version=client, incoming_threads=2) as session:
        assert session.version == used
        exercise(session)


def test_it_must_be_asked_for_at_both_ends(serve: Serve) -> None:
    assert serve().connect(max_version=2).version == 1
    assert serve(max_version=2).connect().version == 1


@pytest.mark.parametrize("version", [-1, 3, 0xF0000000])
def test_versions_nobody_speaks_cannot_be_asked_for(serve: Serve, version: int) -> None:
    with pytest.raises(ValueError, match="protocol version"):
        serve(max_version=version)
    with pytest.raises(StatusError, match="protocol version"):
        connect(unix("/nonexistent"), max_version=version)


def test_binders_are_listed_in_the_object_table() -> None:
    client, server, root = with_root(Echo(), version=2)
    # GET_ROOT's reply: status, parcel size, reserved; the binder; its place.
    assert client.core.lists_binders
    server.log.clear()
    mine = Echo()
    assert root.echo_binder(mine) is mine
    (_, body) = server.log[0]
    assert body == transact_body(ROOT, ECHO_BINDER, with_token(binder(1, CALLBACK, 12))) + (
        struct.pack("<I", TOKEN)
    )
    server.log.clear()
    assert root.echo_binder(None) is None
    (_, body) = server.log[0]
    assert body == transact_body(ROOT, ECHO_BINDER, with_token(bytes(8)))


def hello(base: bytes) -> bytes:
    return struct.pack("<I", 2) + base[4:]


def raw_session(served: Served, base: bytes = HELLO) -> socket.socket:
    sock = served.raw()
    sock.sendall(hello(base))
    assert read_exactly(sock, 8) == struct.pack("<II", 2, 0)
    sock.sendall(special(0))
    body = read_reply(sock)
    assert body[20:] == binder(1, ROOT, 12) + struct.pack("<I", 0)
    return sock


@pytest.mark.parametrize(
    ("table", "status"),
    [
        ([TOKEN], 0),
        ([], BAD_VALUE),
        ([TOKEN + 4], BAD_VALUE),
        ([0], BAD_VALUE),
        ([0xFFFFFFFC], BAD_VALUE),
        ([TOKEN + 12], BAD_VALUE),
        ([TOKEN, TOKEN], 0),
    ],
)
def test_binders_are_only_where_the_table_says(serve: Serve, table: list[int], status: int) -> None:
    sock = raw_session(serve(max_version=2))
    parcel = with_token(binder(1, ROOT, 12))
    places = struct.pack(f"<{len(table)}I", *table)
    body = transact_body(ROOT, ECHO_BINDER, parcel + places, size=len(parcel))
    sock.sendall(frame(wire.TRANSACT, body))
    assert struct.unpack_from("<i", read_reply(sock))[0] == status
    assert add_works(sock)


@pytest.mark.parametrize(("descriptors", "status"), [(1, 0), (0, BAD_VALUE), (2, BAD_VALUE)])
def test_descriptors_are_counted_among_the_objects(
    serve: Serve, descriptors: int, status: int
) -> None:
    sock = raw_session(serve(max_version=2), HELLO_UNIX)
    parcel = with_token(struct.pack("<iiii", 1, 0, 2, 0))
    body = transact_body(ROOT, READ_FD, parcel + struct.pack("<I", TOKEN + 8), size=len(parcel))
    with open("/dev/null", "rb") as file:
        if descriptors:
            send_with_fds(sock, frame(wire.TRANSACT, body), [file.fileno()] * descriptors)
        else:
            sock.sendall(frame(wire.TRANSACT, body))
    assert struct.unpack_from("<i", read_reply(sock))[0] == status
    assert add_works(sock)


def test_binders_and_descriptors_in_one_call(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    with serve(max_version=2).connect(FdMode.UNIX, max_version=2) as session:
        root = session.get_root(IEcho)
        with root.open_file(str(tmp_path / "file")) as file:
            assert os.read(file.fileno(), 100) == b"content"
        assert root.echo_binder(root) == root


def test_bodies_may_have_600_kib(serve: Serve) -> None:
    with ExitStack() as stack:
        session = stack.enter_context(serve(max_version=2).connect(max_version=2))
        root = session.get_root(IEcho)
        room = wire.MAX_BODY_2 - wire.TRANSACT_SIZE - TOKEN - 4
        value = bytes(range(256)) * (room // 256)
        assert root.echo_bytes(value) == value
        assert len(root.echo_bytes(bytes(room))) == room
        with pytest.raises(StatusError) as raised:
            root.echo_bytes(bytes(room + 4))
        assert raised.value.status == Status.FAILED_TRANSACTION
        assert root.add_ints(1, 2) == 3


def test_replies_beyond_600_kib_become_errors() -> None:
    class Big(Echo):
        def echo_bytes(self, value: bytes) -> bytes:
            return bytes(int.from_bytes(value, "little"))

    _, _, root = with_root(Big(), version=2)
    fits = wire.MAX_BODY_2 - 8
    assert len(root.echo_bytes(fits.to_bytes(4, "little"))) == fits
    with pytest.raises(StatusError) as raised:
        root.echo_bytes((fits + 4).to_bytes(4, "little"))
    assert raised.value.status == Status.FAILED_TRANSACTION


@pytest.mark.parametrize("version", [0, 1, 2])
def test_what_may_come_does_not_depend_on_the_version(serve: Serve, version: int) -> None:
    sock = serve(max_version=2).raw()
    sock.sendall(struct.pack("<I", version) + HELLO[4:])
    assert read_exactly(sock, 8) == struct.pack("<II", version, 0)
    sock.sendall(frame(wire.TRANSACT, transact_body(0, 9, bytes(wire.MAX_RECEIVED - 40))))
    assert struct.unpack_from("<i", read_reply(sock))[0] == Status.UNKNOWN_TRANSACTION
    sock.sendall(struct.pack("<IIQ", wire.TRANSACT, wire.MAX_RECEIVED + 1, 0))
    assert is_closed(sock)
