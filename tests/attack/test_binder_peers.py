"""Peers of a binder server that take all they can, while an honest one is served."""

import os
import select
import socket
import struct
from collections.abc import Callable

import pytest

from avf.binder import PARTY_LIMITS, Budget, ExceptionCode, wire
from tests.binder.conftest import Serve, serve
from tests.binder.test_core import ROOT, oneway_body, transact_body
from tests.binder.test_hostile import (
    HELLO,
    HELLO_UNIX,
    add_works,
    descriptors_left,
    frame,
    is_closed,
    read_exactly,
    read_reply,
    send_with_fds,
    session,
    session_id,
    special,
)
from tests.eventually import eventually

from .binder_target import BROKEN, FACES, Attacked, Target, array_of, attacked, call

__all__ = ["attacked", "serve"]

MIB = 1024
"""In KiB, as the kernel counts."""
HELLO_2 = b"\2" + HELLO_UNIX[1:4] + b"\0\0" + HELLO_UNIX[6:]


IDLE_READER = 2
"""Descriptors of the thread that reads idle connections, one thread for the process."""


def until_refused(attack: Callable[[], None], times: int) -> int:
    """Attacks until the server hangs up; how often it went well."""
    for done in range(times):
        try:
            attack()
        except BROKEN:
            return done
    return times


def assert_all_is_given_back(target: Target, socks: list[socket.socket]) -> None:
    for sock in socks:
        sock.close()
    assert target.left_when_all_have_gone() == [0, 0, 0]


@pytest.mark.parametrize("face", FACES)
def test_descriptors_with_every_byte_of_a_header(attacked: Attacked, face: str) -> None:
    target = attacked(face)
    before = target.descriptors()
    socks = []
    with open("/dev/null", "rb") as null:
        fds = [null.fileno()] * wire.MAX_FDS
        for _ in range(30):
            try:
                socks.append(target.session(HELLO_UNIX))
                for byte in frame(wire.TRANSACT, b"")[:15]:
                    send_with_fds(socks[-1], bytes([byte]), fds)
            except BROKEN:
                continue
    assert target.descriptors() - before < PARTY_LIMITS.descriptors + len(socks)
    assert all(is_closed(sock) for sock in socks)
    target.assert_serves_others()
    eventually(lambda: target.descriptors() <= before, True)
    assert_all_is_given_back(target, socks)


@pytest.mark.parametrize("face", FACES)
def test_as_many_descriptors_as_a_frame_may_have_in_many_sessions(
    attacked: Attacked, face: str
) -> None:
    """With headers that are never completed."""
    target = attacked(face)
    before = target.descriptors()
    socks = []
    with open("/dev/null", "rb") as null:
        for _ in range(40):
            try:
                socks.append(target.session(HELLO_UNIX))
                send_with_fds(socks[-1], b"\0", [null.fileno()] * wire.MAX_FDS)
            except BROKEN:
                continue
    target.assert_serves_others()
    held = target.descriptors() - before
    assert 0 < held <= PARTY_LIMITS.descriptors + len(socks)
    assert_all_is_given_back(target, socks)


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("parcel", [0, 40_000], ids=["small", "large"])
def test_oneway_calls_with_numbers_of_the_future(
    attacked: Attacked, face: str, parcel: int
) -> None:
    """In more sessions than one: the bound is the party's."""
    target = attacked(face)
    before = target.resident_kib()
    socks = []
    for _ in range(12):
        sock = target.session()
        socks.append(sock)
        numbers = iter(range(1, 1 << 30))

        def flood(sock: socket.socket = sock, numbers: "iter[int]" = numbers) -> None:
            number = next(numbers)
            body = oneway_body(number, 0) + bytes(parcel)
            body = body[:24] + struct.pack("<I", len(body) - 40) + body[28:]
            sock.sendall(frame(wire.TRANSACT, body))

        until_refused(flood, 9_000)
        target.assert_serves_others()
    assert target.resident_kib() - before < 64 * MIB
    assert_all_is_given_back(target, socks)


@pytest.mark.parametrize("face", FACES)
def test_half_frames_of_the_largest_size(attacked: Attacked, face: str) -> None:
    target = attacked(face, max_version=2)
    before = target.resident_kib()
    socks = []
    size = wire.MAX_BODY_2

    def half_a_frame() -> None:
        sock = target.session(HELLO_2)
        socks.append(sock)
        sock.sendall(struct.pack("<IIQ", wire.TRANSACT, size, 0) + bytes(size - 1))

    until_refused(half_a_frame, 150)
    target.assert_serves_others()
    most = PARTY_LIMITS.memory // size
    open_ones = [sock for sock in socks if not select.select([sock], [], [], 0)[0]]
    assert 0 < len(open_ones) <= most
    assert target.resident_kib() - before < 64 * MIB
    assert_all_is_given_back(target, socks)


@pytest.mark.parametrize("face", FACES)
def test_replies_nobody_reads(attacked: Attacked, face: str) -> None:
    """Nor do calls that come meanwhile make it more than a few frames for each connection."""
    target = attacked(face)
    before = target.resident_kib()
    echo = call(3, array_of(90_000))
    socks = []
    for _ in range(60):
        sock = target.session()
        socks.append(sock)
        sock.setblocking(False)
        data = memoryview(echo * 40)
        try:
            while data and select.select([], [sock], [], 0.2)[1]:
                data = data[sock.send(data) :]
        except BROKEN:
            pass
    target.assert_serves_others()
    assert target.resident_kib() - before < 80 * MIB
    assert_all_is_given_back(target, socks)


@pytest.mark.parametrize("face", FACES)
def test_a_reader_that_takes_a_byte_at_a_time(attacked: Attacked, face: str) -> None:
    """A frame has one deadline, however often something of it is taken."""
    target = attacked(face, frame_timeout=0.5)
    threads = target.threads()
    sock = target.session()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    data = memoryview(call(3, array_of(90_000)) * 20)
    while data and select.select([], [sock], [], 0.2)[1]:
        data = data[sock.send(data) :]

    def given_up() -> bool:
        sock.recv(1)
        return target.threads() <= threads

    eventually(given_up, True)
    target.assert_serves_others()
    assert_all_is_given_back(target, [sock])


@pytest.mark.parametrize("face", FACES)
def test_objects_that_are_never_given_back(attacked: Attacked, face: str) -> None:
    target = attacked(face)
    before = target.resident_kib()
    got = 0
    socks = [target.session() for _ in range(4)]
    for sock in socks:
        for _ in range(10):
            sock.sendall(call(4, b"") * 1000)
            replies = [read_reply(sock) for _ in range(1000)]
            got += sum(len(reply) > 24 for reply in replies)
            statuses = {struct.unpack_from("<i", reply)[0] for reply in replies}
            assert statuses <= {0, -12}
    assert 20_000 < got < 27_000
    target.assert_serves_others()
    assert target.resident_kib() - before < 160 * MIB  # an Echo takes 4 KiB itself
    assert_all_is_given_back(target, socks)


@pytest.mark.parametrize("face", FACES)
def test_connections_in_both_directions(attacked: Attacked, face: str) -> None:
    """Those for calls to the client count as well."""
    target = attacked(face, party={"connections": 40})
    descriptors, threads = target.descriptors(), target.threads()
    socks: list[socket.socket] = []

    def attach() -> None:
        if len(socks) % 30 == 0:
            socks.append(target.session())
            return
        first = socks[len(socks) // 30 * 30]
        sock = target.raw()
        socks.append(sock)
        sock.sendall(b"\1\0\0\0\1" + bytes(9) + b"\x20\0" + session_id(first))
        read_exactly(sock, 8)

    assert until_refused(attach, 100) == 40
    assert 38 <= target.descriptors() - descriptors <= 40 + IDLE_READER
    for _ in range(200):
        target.raw()
    target.assert_serves_others()
    assert target.threads() - threads <= 40
    assert_all_is_given_back(target, socks)


def test_handshakes_that_never_end_take_no_more_than_the_partys_connections(
    attacked: Attacked,
) -> None:
    target = attacked(party={"connections": 40})
    descriptors = target.descriptors()
    socks = [target.raw() for _ in range(300)]
    target.assert_serves_others()
    eventually(lambda: target.descriptors() - descriptors <= 40, True)
    assert_all_is_given_back(target, socks)


@pytest.mark.parametrize("face", FACES)
def test_errors_that_a_peer_provokes_fill_no_log(attacked: Attacked, face: str) -> None:
    target = attacked(face)
    sock = target.session()
    message = struct.pack("<ii", 0, 3) + "xyz\0".encode("utf-16-le")
    for _ in range(500):
        sock.sendall(call(10, message))
        assert struct.unpack_from("<i16xi", read_reply(sock)) == (0, ExceptionCode.ILLEGAL_ARGUMENT)
    for _ in range(500):
        target.raw().close()
    target.assert_serves_others()
    assert_all_is_given_back(target, [sock])
    printed = target.stderr.read_text()
    assert 0 < printed.count("ValueError: xyz") <= 15
    assert len(printed) < 40_000


def test_a_long_error_is_cut_in_the_log(attacked: Attacked) -> None:
    target = attacked()
    sock = target.session()
    text = "x" * 40_000 + "\0\0"
    sock.sendall(call(10, struct.pack("<ii", 0, 40_000) + text.encode("utf-16-le")))
    read_reply(sock)
    assert_all_is_given_back(target, [sock])
    assert 0 < len(target.stderr.read_text()) < 3000


@pytest.mark.parametrize("face", FACES)
def test_a_storm_of_broken_sessions(attacked: Attacked, face: str) -> None:
    """Ended in the middle of everything; what they had is given back, and others have not noticed."""
    target = attacked(face, max_version=2, arrivals=[10_000, 10_000])
    endings: list[Callable[[socket.socket], object]] = [
        lambda sock: sock.sendall(frame(wire.TRANSACT, oneway_body(5, 5))),
        lambda sock: sock.sendall(
            frame(wire.TRANSACT, transact_body(ROOT, 3, bytes(60_000)))[:700]
        ),
        lambda sock: sock.sendall(call(3, array_of(80_000)) * 3),
        lambda sock: sock.sendall(call(4, b"") * 20),
        lambda sock: sock.sendall(special(0) + b"\0\0"),
        lambda sock: send_with_fds(sock, b"\0\0", [0] * 20),
        lambda sock: sock.sendall(frame(9, b"")),
    ]
    for turn in range(140):
        hello = (HELLO_UNIX, HELLO_2, HELLO_UNIX[:5] + b"\0" + HELLO_UNIX[6:])[turn % 3]
        try:
            sock = target.session(hello)
            sock.setblocking(False)
            endings[turn % len(endings)](sock)
        except BROKEN:
            pass
        sock.close()
    target.assert_serves_others()
    assert_all_is_given_back(target, [])


def test_that_the_attacker_is_another_party(attacked: Attacked) -> None:
    """Else the tests above would show nothing."""
    target = attacked(party={"connections": 2})  # the other's last may not have ended yet
    target.session()
    target.session()
    with pytest.raises(BROKEN):
        target.session()
    target.assert_serves_others()
    assert os.getpid() != target.process.pid


def test_a_server_without_descriptors_accepts_the_privileged_and_turns_the_others_away(
    serve: Serve, capfd: pytest.CaptureFixture[str]
) -> None:
    """Behind any number of others that wait to be accepted."""
    parties = iter(["other"] * 40 + ["root"] * 10)
    budget = Budget(privileged=lambda party: party == "root")
    served = serve(budget=budget, party=lambda peer: next(parties))
    session(served).close()
    eventually(lambda: served.server.sessions, 0)
    socks = [socket.socket(socket.AF_UNIX) for _ in range(40)]
    try:
        with descriptors_left(0):
            for sock in socks[:39]:
                sock.connect(str(served.path))
            socks[39].connect(str(served.path))
            socks[39].settimeout(20)
            socks[39].sendall(HELLO + special(0))
            read_exactly(socks[39], 8)
            assert add_works_after_root(socks[39])
        assert all(is_closed(sock) for sock in socks[:39])
    finally:
        for sock in socks:
            sock.close()
    assert capfd.readouterr().err.count("\n") <= 5


def add_works_after_root(sock: socket.socket) -> bool:
    read_reply(sock)
    return add_works(sock)
