"""Streams through the device, as the two ends see them: opening, data, credit, half-close, endings."""

import itertools
import os
import resource
import socket
from collections.abc import Callable, Iterator

import pytest

from avf.vsock import expect_reset, guest_address
from avf.vsock.device.connection import Connection, State
from avf.vsock.device.connections import CONNECTIONS_MAX
from avf.vsock.device.packet import NEITHER, NO_RECEIVE, NO_SEND, Header, Op
from tests.vsock.frontend import RX, SIZE, WINDOW, Descriptor, Guest
from tests.vsock.frontend import guest as make_guest


def assert_closed(sock: socket.socket) -> None:
    sock.settimeout(10)
    assert sock.recv(1) == b""


def assert_reset(sock: socket.socket) -> None:
    sock.settimeout(10)
    with pytest.raises(ConnectionResetError):
        sock.recv(1)


def test_the_guest_reaches_a_listener_of_its_own(guest: Guest) -> None:
    with guest.listener(80) as listener, guest.dial(listener, 80, 5000) as sock:
        guest.packet(Op.RW, 80, 5000, b"from the guest")
        assert sock.recv(64) == b"from the guest"
        sock.sendall(b"from the host")
        guest.settle()
        packet = guest.only()
        assert (packet.op, packet.data) == (Op.RW, b"from the host")
        assert packet.header[:4] == (2, 3000, 80, 5000)
        assert packet.header.fwd_cnt == len("from the guest")


def test_the_guest_reaches_a_listener_of_the_host(guest: Guest) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(guest.host_dir / "2000"))
        listener.listen()
        with guest.dial(listener, 2000, 0xFFFF_FFFF) as sock:
            assert guest_address(sock) == (3000, 0xFFFF_FFFF)


def test_a_listener_of_the_vm_comes_before_one_of_the_host(guest: Guest) -> None:
    with socket.socket(socket.AF_UNIX) as common, guest.listener(2000) as own:
        common.bind(str(guest.host_dir / "2000"))
        common.listen()
        with guest.dial(own, 2000, 1):
            common.setblocking(False)
            with pytest.raises(BlockingIOError):
                common.accept()


def test_nobody_listens(guest: Guest) -> None:
    guest.packet(Op.REQUEST, 81, 5000)
    packet = guest.only()
    assert (packet.op, packet.header.src_port, packet.header.dst_port) == (Op.RST, 81, 5000)


def test_the_host_connects(guest: Guest) -> None:
    sock, host = guest.call(7)
    with sock:
        sock.sendall(b"ping")
        guest.settle()
        assert guest.only().data == b"ping"
        guest.packet(Op.RW, host, 7, b"pong")
        assert sock.recv(16) == b"pong"


def test_data_right_behind_the_connect_line_is_the_guests(guest: Guest) -> None:
    with guest.knock(b"CONNECT 7\nearly") as sock:
        request = guest.only()
        guest.packet(Op.RESPONSE, request.header.src_port, 7)
        assert sock.recv(32).startswith(b"OK ")
        assert guest.only().data == b"early"


def test_the_guest_refuses(guest: Guest) -> None:
    with guest.knock(b"CONNECT 7\n") as sock:
        host = guest.only().header.src_port
        guest.packet(Op.RST, host, 7)
        assert_closed(sock)
    assert guest.received() == []


@pytest.mark.parametrize("op", [Op.SHUTDOWN, Op.RW, Op.REQUEST])
def test_an_answer_that_is_none_counts_as_refusal(guest: Guest, op: Op) -> None:
    with guest.knock(b"CONNECT 7\n") as sock:
        host = guest.only().header.src_port
        guest.packet(op, host, 7)
        assert_closed(sock)
    assert guest.only().op is Op.RST


def test_the_host_leaves_before_the_answer(guest: Guest) -> None:
    guest.knock(b"CONNECT 7\n").close()
    guest.settle()
    assert [packet.op for packet in guest.received()] == [Op.REQUEST, Op.RST]


def test_parallel_calls_to_one_port_are_kept_apart(guest: Guest) -> None:
    calls = [guest.call(7) for _ in range(20)]
    assert len({host for _, host in calls}) == 20
    for number, (sock, host) in enumerate(calls):
        guest.packet(Op.RW, host, 7, b"%d" % number)
        assert sock.recv(16) == b"%d" % number
        sock.close()


@pytest.mark.parametrize(
    "line",
    [
        b"CONNECT\n",
        b"CONNECT x\n",
        b"CONNECT 4294967295\n",
        b"CONNECT -1\n",
        b"CONNECT \xb2\n",
        b"CONNECT " + b"1" * 30 + b"\n",
        b"HELLO 5\n",
        b"\n",
        b"\0" * 10 + b"\n",
        b"C" * 64,
    ],
)
def test_a_bad_connect_line_is_turned_away(guest: Guest, line: bytes) -> None:
    with guest.knock(line) as sock:
        try:
            assert sock.recv(1) == b""
        except ConnectionResetError:
            pass  # closed with bytes of ours unread
    assert guest.received() == []


def test_a_connect_line_may_come_in_pieces(guest: Guest) -> None:
    with guest.knock(b"CON") as sock:
        for piece in (b"NECT", b" ", b"7", b"\n"):
            assert guest.received() == []
            sock.sendall(piece)
            guest.settle()
        assert guest.only().header.dst_port == 7


def test_the_guest_half_closes(guest: Guest) -> None:
    with guest.listener(80) as listener, guest.dial(listener, 80, 1) as sock:
        guest.packet(Op.RW, 80, 1, b"last words")
        guest.packet(Op.SHUTDOWN, 80, 1, flags=NO_SEND)
        assert sock.recv(64) == b"last words"
        assert_closed(sock)
        sock.sendall(b"answer")
        guest.settle()
        assert guest.only().data == b"answer"


def test_the_host_half_closes(guest: Guest) -> None:
    with guest.listener(80) as listener, guest.dial(listener, 80, 1) as sock:
        sock.sendall(b"last words")
        sock.shutdown(socket.SHUT_WR)
        guest.settle()
        data, shutdown = guest.received()
        assert data.data == b"last words"
        assert (shutdown.op, shutdown.header.flags) == (Op.SHUTDOWN, NO_SEND)
        guest.packet(Op.RW, 80, 1, b"answer")
        assert sock.recv(64) == b"answer"


def test_the_guest_stops_reading(guest: Guest) -> None:
    with guest.listener(80) as listener, guest.dial(listener, 80, 1) as sock:
        guest.packet(Op.SHUTDOWN, 80, 1, flags=NO_RECEIVE)
        with pytest.raises(BrokenPipeError):
            sock.sendall(b"unwanted")
        guest.packet(Op.RW, 80, 1, b"still there")
        assert sock.recv(64) == b"still there"


def test_the_guest_closes(guest: Guest) -> None:
    with guest.listener(80) as listener, guest.dial(listener, 80, 1) as sock:
        guest.packet(Op.SHUTDOWN, 80, 1, flags=NEITHER)
        assert_closed(sock)
        assert guest.only().op is Op.RST
        guest.packet(Op.RW, 80, 1, b"too late")
        assert guest.only().op is Op.RST


def test_the_host_closes(guest: Guest) -> None:
    with guest.listener(80) as listener, guest.dial(listener, 80, 1) as sock:
        sock.sendall(b"bye")
    guest.settle()
    data, shutdown = guest.received()
    assert data.data == b"bye"
    assert (shutdown.op, shutdown.header.flags) == (Op.SHUTDOWN, NEITHER)
    guest.packet(Op.RW, 80, 1, b"unread")
    guest.packet(Op.RST, 80, 1)
    assert guest.received() == []


def test_the_host_closes_after_half_closing(guest: Guest) -> None:
    with guest.listener(80) as listener:
        sock = guest.dial(listener, 80, 1)
        sock.shutdown(socket.SHUT_WR)
        guest.settle()
        assert guest.only().header.flags == NO_SEND
        sock.close()
        guest.settle()
        assert guest.only().header.flags == NEITHER


def test_the_host_stops_reading(guest: Guest) -> None:
    with guest.listener(80) as listener, guest.dial(listener, 80, 1) as sock:
        sock.shutdown(socket.SHUT_RD)
        guest.packet(Op.RW, 80, 1, b"unwanted")
        shutdown = guest.only()
        assert (shutdown.op, shutdown.header.flags) == (Op.SHUTDOWN, NO_RECEIVE)
        sock.sendall(b"but listen")
        guest.settle()
        assert guest.only().data == b"but listen"


def test_what_the_guest_sent_arrives_after_it_closed(guest: Guest) -> None:
    with guest.listener(80) as listener, guest.dial(listener, 80, 1) as sock:
        sent = fill(guest, 80, 1)
        guest.packet(Op.SHUTDOWN, 80, 1, flags=NEITHER)
        assert Op.RST not in [packet.op for packet in guest.received()]
        assert drain(guest, sock) == sent
        assert Op.RST in [packet.op for packet in guest.received()]


def test_what_the_guest_sent_arrives_after_it_reset(guest: Guest) -> None:
    with guest.listener(80) as listener, guest.dial(listener, 80, 1) as sock:
        sent = fill(guest, 80, 1)
        guest.packet(Op.RST, 80, 1)
        with guest.dial(listener, 80, 1):
            assert drain(guest, sock) == sent


ENDS: dict[str, Callable[[Guest, int], object]] = {
    "reset by the guest": lambda guest, host: guest.packet(Op.RST, host, 7),
    "an offence": lambda guest, host: guest.packet(99, host, 7),
    "the guest boots anew": lambda guest, host: guest.reboot(),
    "the front-end leaves": lambda guest, host: leave(guest),
    "the device finds a fault": lambda guest, host: guest.process.device.fail("a fault"),
}
"""How a stream is cut, by guest and host port."""


def leave(guest: Guest) -> None:
    guest.control.close()
    assert guest.process.run() == 0


def cut(guest: Guest, end: str, host: int) -> None:
    ENDS[end](guest, host)
    for _ in range(2):  # what one step closes, the next one's beginning really closes
        guest.process.step(0)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("said", [0, 1, 100_000])
def test_a_stream_that_is_cut_ends_in_a_reset(guest: Guest, end: str, said: int) -> None:
    sock, host = guest.call(7)
    sock.sendall(bytes(said))
    guest.settle()
    guest.packet(Op.RW, host, 7, b"the first half")
    cut(guest, end, host)
    assert sock.recv(64) == b"the first half"
    assert_reset(sock)


@pytest.mark.parametrize("end", ENDS)
def test_a_stream_of_the_guest_that_is_cut_after_a_word_of_the_host(guest: Guest, end: str) -> None:
    with guest.listener(80) as listener, guest.dial(listener, 80, 7) as sock:
        sock.sendall(b"?")
        guest.settle()
        assert guest.only().data == b"?"
        cut(guest, end, 80)
        assert_reset(sock)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("noticed", [False, True])
def test_a_host_that_only_listens_may_ask_to_be_reset(
    guest: Guest, end: str, noticed: bool
) -> None:
    with guest.listener(80) as listener, guest.dial(listener, 80, 7) as sock:
        expect_reset(sock)
        if noticed:
            guest.settle()
        assert guest.received() == []
        guest.packet(Op.RW, 80, 7, b"the first half")
        cut(guest, end, 80)
        assert sock.recv(64) == b"the first half"
        assert_reset(sock)


@pytest.mark.parametrize("flags", [NO_SEND, NEITHER])
@pytest.mark.parametrize("noticed", [False, True])
def test_a_host_that_asked_to_be_reset_reads_the_end_of_what_is_whole(
    guest: Guest, flags: int, noticed: bool
) -> None:
    with guest.listener(80) as listener, guest.dial(listener, 80, 7) as sock:
        if noticed:
            expect_reset(sock)
            guest.settle()
        guest.packet(Op.RW, 80, 7, b"all of it")
        if not noticed:
            expect_reset(sock)
        guest.packet(Op.SHUTDOWN, 80, 7, flags=flags)
        if flags == NO_SEND:
            sock.sendall(b"answer")
            guest.settle()
            assert [packet.data for packet in guest.received()] == [b"answer"]
        cut(guest, "the front-end leaves", 80)
        assert sock.recv(64) == b"all of it"
        assert_closed(sock)


def test_what_a_host_says_after_asking_reaches_the_guest(guest: Guest) -> None:
    with guest.listener(80) as listener, guest.dial(listener, 80, 7) as sock:
        expect_reset(sock)
        sent = os.urandom(50_000)
        sock.sendall(sent)
        guest.settle()
        assert b"".join(packet.data for packet in guest.received()) == sent


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("flags", [NO_SEND, NEITHER])
def test_a_stream_that_the_guest_ended_is_whole_whatever_comes_then(
    guest: Guest, end: str, flags: int
) -> None:
    sock, host = guest.call(7)
    sock.sendall(b"question")
    guest.settle()
    guest.received()
    guest.packet(Op.RW, host, 7, b"all of it")
    guest.packet(Op.SHUTDOWN, host, 7, flags=flags)
    cut(guest, end, host)
    assert sock.recv(64) == b"all of it"
    assert_closed(sock)


def test_a_guest_that_closes_without_having_read_all_ends_the_stream_all_the_same(
    guest: Guest,
) -> None:
    sock, host = guest.call(7)
    guest.packet(Op.CREDIT_UPDATE, host, 7, buf_alloc=1)
    sock.sendall(bytes(10_000))
    guest.packet(Op.RW, host, 7, b"all of it")
    guest.packet(Op.SHUTDOWN, host, 7, flags=NEITHER)
    assert sock.recv(64) == b"all of it"
    assert_closed(sock)


def test_what_the_guest_sent_before_it_died_arrives_before_the_reset(guest: Guest) -> None:
    sock, host = guest.call(7)
    sent = fill(guest, host, 7)
    guest.packet(Op.RST, host, 7)
    with pytest.raises(ConnectionResetError):
        drain(guest, sock)
    sock, host = guest.call(7)
    sent = fill(guest, host, 7)
    guest.packet(Op.SHUTDOWN, host, 7, flags=NEITHER)
    guest.packet(Op.RST, host, 7)
    assert drain(guest, sock) == sent


def test_bytes_of_the_host_reach_the_guest_once_each(guest: Guest) -> None:
    sock, _host = guest.call(7)
    sent = os.urandom(100_000)
    got = b""
    for start in range(0, len(sent), 7919):
        sock.sendall(sent[start : start + 7919])
        guest.settle()
        got += b"".join(packet.data for packet in guest.received())
    assert got == sent


def fill(guest: Guest, host: int, port: int) -> bytes:
    """Uses up all credit while the host does not read, so that the device holds a full window."""
    sent = b""
    forwarded = 0
    while len(sent) - forwarded < WINDOW:
        piece = os.urandom(32 * 1024)
        guest.packet(Op.RW, host, port, piece)
        sent += piece
        for packet in guest.received():
            assert packet.op is Op.CREDIT_UPDATE
            forwarded = packet.header.fwd_cnt
    return sent


def drain(guest: Guest, sock: socket.socket) -> bytes:
    """All the host gets until end of file."""
    got = b""
    while data := sock.recv(1 << 20):
        got += data
        guest.settle()
    return got


def test_a_host_that_does_not_read_holds_up_nobody_else(guest: Guest) -> None:
    with guest.listener(80) as listener:
        stalled = guest.dial(listener, 80, 1)
        fill(guest, 80, 1)
        other = guest.dial(listener, 80, 2)
        guest.packet(Op.RW, 80, 2, b"passes")
        assert other.recv(64) == b"passes"
        stalled.close()
        other.close()


def test_more_than_the_window_is_an_offence(guest: Guest) -> None:
    with guest.listener(80) as listener, guest.dial(listener, 80, 1):
        sent = fill(guest, 80, 1)
        guest.packet(Op.CREDIT_REQUEST, 80, 1)
        room = WINDOW - (len(sent) - guest.only().header.fwd_cnt)
        guest.packet(Op.RW, 80, 1, bytes(room))
        assert guest.received() == []
        guest.packet(Op.RW, 80, 1, b"!")
        assert guest.only().op is Op.RST


def test_credit_is_told_as_the_host_reads(guest: Guest) -> None:
    with guest.listener(80) as listener, guest.dial(listener, 80, 1) as sock:
        told = []
        for _ in range(8):
            guest.packet(Op.RW, 80, 1, bytes(32 * 1024))
            assert len(sock.recv(32 * 1024, socket.MSG_WAITALL)) == 32 * 1024
            told += [(packet.op, packet.header.fwd_cnt) for packet in guest.received()]
        assert told == [(Op.CREDIT_UPDATE, 96 * 1024), (Op.CREDIT_UPDATE, 192 * 1024)]


def test_credit_is_told_by_the_smaller_window(guest: Guest) -> None:
    with guest.listener(80) as listener, guest.dial(listener, 80, 1, buf_alloc=4096) as sock:
        guest.packet(Op.RW, 80, 1, bytes(1500), buf_alloc=4096)
        sock.recv(1500)
        assert guest.only().op is Op.CREDIT_UPDATE


def test_credit_is_told_when_asked_for(guest: Guest) -> None:
    with guest.listener(80) as listener, guest.dial(listener, 80, 1):
        guest.packet(Op.CREDIT_REQUEST, 80, 1)
        packet = guest.only()
        assert (packet.op, packet.header.buf_alloc) == (Op.CREDIT_UPDATE, WINDOW)


def test_the_guest_gets_no_more_than_its_credit(guest: Guest) -> None:
    with guest.listener(80) as listener, guest.dial(listener, 80, 1, buf_alloc=10) as sock:
        sock.sendall(b"0123456789abcdef")
        guest.settle()
        data, request = guest.received()
        assert data.data == b"0123456789"
        assert request.op is Op.CREDIT_REQUEST
        guest.packet(Op.CREDIT_UPDATE, 80, 1, buf_alloc=10, fwd_cnt=4)
        data = guest.received()[0]
        assert data.data == b"abcd"
        guest.packet(Op.CREDIT_UPDATE, 80, 1, buf_alloc=10, fwd_cnt=2)
        assert guest.received() == []
        guest.packet(Op.CREDIT_UPDATE, 80, 1, buf_alloc=10, fwd_cnt=14)
        assert guest.only().data == b"ef"


def test_a_window_that_shrinks_below_what_is_under_way(guest: Guest) -> None:
    with guest.listener(80) as listener, guest.dial(listener, 80, 1) as sock:
        sock.sendall(bytes(100))
        guest.settle()
        assert len(guest.only().data) == 100
        guest.packet(Op.CREDIT_UPDATE, 80, 1, buf_alloc=10, fwd_cnt=50)
        sock.sendall(b"more")
        guest.settle()
        assert guest.only().op is Op.CREDIT_REQUEST
        guest.packet(Op.CREDIT_UPDATE, 80, 1, buf_alloc=10, fwd_cnt=100)
        assert guest.only().data == b"more"


def test_acknowledging_what_was_never_sent_is_an_offence(guest: Guest) -> None:
    with guest.listener(80) as listener, guest.dial(listener, 80, 1) as sock:
        guest.packet(Op.CREDIT_UPDATE, 80, 1, fwd_cnt=1)
        assert guest.only().op is Op.RST
        assert_closed(sock)


@pytest.mark.parametrize(
    ("op", "changes"),
    [
        (Op.REQUEST, {}),
        (Op.RESPONSE, {}),
        (0, {}),
        (99, {}),
        (Op.RW, {"type": 2}),
        (Op.RW, {"dst_cid": 1}),
    ],
)
def test_a_packet_out_of_place_is_answered_with_a_reset(
    guest: Guest, op: int, changes: dict[str, int]
) -> None:
    with guest.listener(80) as listener, guest.dial(listener, 80, 1):
        guest.packet(op, 80, 1, **changes)
        packet = guest.only()
        assert packet.op is Op.RST
        assert packet.header.src_cid == changes.get("dst_cid", 2)
        assert packet.header.type == changes.get("type", 1)


def test_data_after_a_shutdown_is_an_offence(guest: Guest) -> None:
    with guest.listener(80) as listener, guest.dial(listener, 80, 1):
        guest.packet(Op.SHUTDOWN, 80, 1, flags=NO_SEND)
        guest.packet(Op.RW, 80, 1, b"more")
        assert guest.only().op is Op.RST


@pytest.mark.parametrize("op", [*Op, 0, 77])
def test_a_packet_of_no_connection(guest: Guest, op: int) -> None:
    guest.packet(op, 80, 1)
    ops = [packet.op for packet in guest.received()]
    assert ops == ([] if op == Op.RST else [Op.RST])


def test_a_foreign_source_is_ignored(guest: Guest) -> None:
    with guest.listener(80) as listener:
        for cid in (2, CID_OF_ANOTHER, 0, 1, (1 << 64) - 1, 3000 + (1 << 32)):
            guest.packet(Op.REQUEST, 80, 1, src_cid=cid)
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert guest.received() == []


CID_OF_ANOTHER = 3001


@pytest.fixture
def as_many_descriptors_as_may_be() -> Iterator[None]:
    """As the device's own program sees to."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("as_many_descriptors_as_may_be")
def test_there_is_an_end_to_connections(guest: Guest) -> None:
    with guest.listener(80, backlog=2000):
        for port in range(CONNECTIONS_MAX):
            guest.packet(Op.REQUEST, 80, port)
            assert guest.only().op is Op.RESPONSE
        guest.packet(Op.REQUEST, 80, 5000)
        assert guest.only().op is Op.RST
        with guest.knock(b"CONNECT 7\n") as sock:
            assert_closed(sock)
        guest.packet(Op.RST, 80, 0)
        guest.packet(Op.REQUEST, 80, 5000)
        assert guest.only().op is Op.RESPONSE


def test_a_busy_listener_is_tried_again(guest: Guest) -> None:
    with guest.listener(80, backlog=0) as listener:
        guest.packet(Op.REQUEST, 80, 1)
        guest.packet(Op.REQUEST, 80, 2)
        assert [packet.header.dst_port for packet in guest.received()] == [1]
        guest.accept(listener)
        while not (answers := guest.received()):
            guest.process.step(1)
        assert (answers[0].op, answers[0].header.dst_port) == (Op.RESPONSE, 2)
        guest.accept(listener)


def test_refusals_pile_up_to_a_limit_only(guest: Guest) -> None:
    guest.keep_receiving = False
    guest.received()
    for _ in range(16):
        guest.packet(Op.RW, 1, 1)
    assert len(guest.received()) == 16
    transmitted = guest.rings[1].used_index
    for _ in range(16 * 40):
        guest.rings[1].offer(0)
        if (guest.rings[1].avail_index - guest.rings[1].used_index) & 0xFFFF >= 16:
            break
        guest.rings[1].notify()
        guest.settle()
    assert guest.rings[1].used_index - transmitted <= 256
    guest.keep_receiving = True
    guest.supply(16)
    refusals = len(guest.received())
    assert refusals == guest.rings[1].used_index - transmitted
    assert guest.rings[1].used_index == guest.rings[1].avail_index


def test_buffers_in_pieces(guest: Guest) -> None:
    """The header and the data need not begin where a descriptor begins."""
    with guest.listener(80) as listener, guest.dial(listener, 80, 1) as sock:
        raw = guest.header(Op.RW, 80, 1, 11) + b"hello world" + b"junk"
        guest.write(2 << 20, raw)
        cuts = [0, 1, 20, 43, 46, 50, 50, len(raw)]
        pieces = [
            Descriptor((2 << 20) + begin, end - begin, 1, index + 1)
            for index, (begin, end) in enumerate(itertools.pairwise(cuts))
        ]
        pieces[-1].flags = 0
        guest.transmit(pieces)
        assert sock.recv(64) == b"hello world"


def test_receive_buffers_in_pieces() -> None:
    with make_guest() as machine:
        machine.negotiate()
        machine.share_memory()
        machine.start_ring(RX)
        machine.start_ring(1)
        ring = machine.rings[RX]
        for head in (0, 4, 8):
            start = machine.rx_address(head)
            for index, (begin, end) in enumerate([(0, 10), (10, 44), (44, 47), (47, 60)]):
                flags = 2 | (1 if index < 3 else 0)
                ring.describe(
                    head + index, Descriptor(start + begin, end - begin, flags, head + index + 1)
                )
            ring.offer(head)
        ring.notify()
        with machine.listener(80) as listener:
            machine.packet(Op.REQUEST, 80, 1)
            sock = machine.accept(listener)
            sock.sendall(b"0123456789abcdefghij")
            machine.settle()
            machine.keep_receiving = False
            assert [packet.data for packet in machine.received()] == [
                b"",
                b"0123456789abcdef",
                b"ghij",
            ]


def test_a_giant_window_is_used_by_half() -> None:
    """Otherwise a count that wraps could not be told from one that acknowledges too much."""
    connection = Connection(3000, 80, 1, State.OPEN, WINDOW)
    header = Header(3000, 2, 1, 80, 0, 1, Op.CREDIT_UPDATE, 0, 0xFFFF_FFFF, 0)
    assert connection.learn(header)
    assert connection.credit == 0x7FFF_FFFF
    assert not connection.learn(header._replace(fwd_cnt=1))


def test_connections_take_turns(guest: Guest) -> None:
    with guest.listener(80) as listener:
        socks = [guest.dial(listener, 80, port) for port in (1, 2)]
        guest.keep_receiving = False
        for port in range(SIZE):
            guest.packet(Op.RW, 1, port)
        for sock in socks:
            sock.sendall(bytes(100_000))
        assert {packet.op for packet in guest.received()} == {Op.RST}
        guest.keep_receiving = True
        guest.supply(SIZE)
        ports = [packet.header.dst_port for packet in guest.received()]
    half = len(ports) // 2
    assert set(ports[:half]) == set(ports[half:]) == {1, 2}
