"""Hostile and unusual queues: whatever the guest writes, only its own traffic ends."""

import os
import struct

import pytest

from avf.vsock.device.packet import HEADER_SIZE, Op
from avf.vsock.device.vhost_user import FEATURE_EVENT_IDX, FEATURES
from tests.vsock.frontend import (
    INDIRECT,
    MEMORY,
    NEXT,
    RX,
    SIZE,
    TX,
    WRITE,
    Descriptor,
    Guest,
)

PLACE = 2 << 20
HALF = MEMORY // 2
PACKET = HEADER_SIZE

BAD_CHAINS = {
    "address beyond memory": [Descriptor(HALF, PACKET)],
    "address in the hole": [Descriptor(0x8000_0000, PACKET)],
    "address at the end of everything": [Descriptor((1 << 64) - 16, PACKET)],
    "address that wraps": [Descriptor((1 << 64) - 1, 2)],
    "end beyond memory": [Descriptor(HALF - 43, PACKET)],
    "giant length": [Descriptor(PLACE, 0xFFFF_FFFF)],
    "giant length of data": [Descriptor(PLACE, PACKET, NEXT, 1), Descriptor(PLACE, 0xFFFF_FFFF)],
    "no length": [Descriptor(PLACE, 0)],
    "half a header": [Descriptor(PLACE, PACKET - 1)],
    "half a header in pieces": [Descriptor(PLACE, 20, NEXT, 1), Descriptor(PLACE, 23)],
    "writable": [Descriptor(PLACE, PACKET, WRITE)],
    "writable at the end": [Descriptor(PLACE, PACKET, NEXT, 1), Descriptor(PLACE, 8, WRITE)],
    "indirect": [Descriptor(PLACE, 16 * 4, INDIRECT)],
    "next to itself": [Descriptor(PLACE, PACKET, NEXT, 0)],
    "loop of two": [Descriptor(PLACE, PACKET, NEXT, 1), Descriptor(PLACE, 1, NEXT, 0)],
    "loop of nothing": [Descriptor(PLACE, 0, NEXT, 1), Descriptor(PLACE, 0, NEXT, 0)],
    "next out of the table": [Descriptor(PLACE, PACKET, NEXT, SIZE)],
    "next far out of the table": [Descriptor(PLACE, PACKET, NEXT, 0xFFFF)],
}


def assert_broken(guest: Guest, capfd: pytest.CaptureFixture[str]) -> None:
    """One line of log, no further traffic, the host's sockets closed, and the process alive."""
    assert guest.process.device.broken
    log = capfd.readouterr().err
    assert log.startswith("vsock device: the guest's vsock traffic ends: ")
    assert log.count("\n") == 1
    used = guest.rings[TX].used_index
    guest.packet(Op.REQUEST, 1, 1)
    assert guest.rings[TX].used_index == used
    with guest.knock(b"CONNECT 1\n") as sock:
        assert sock.recv(1) == b""
    assert capfd.readouterr().err == ""


def assert_works(guest: Guest) -> None:
    with guest.listener(80) as listener, guest.dial(listener, 80, 1) as sock:
        guest.packet(Op.RW, 80, 1, b"alive")
        assert sock.recv(16) == b"alive"


@pytest.mark.parametrize("name", BAD_CHAINS)
def test_a_bad_chain_ends_the_traffic(
    guest: Guest, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    with guest.listener(99) as listener:
        sock = guest.dial(listener, 99, 1)
    guest.write(PLACE, guest.header(Op.REQUEST, 80, 1))
    guest.transmit(BAD_CHAINS[name])
    assert sock.recv(1) == b""
    assert_broken(guest, capfd)
    guest.reboot()
    assert_works(guest)


@pytest.mark.parametrize("head", [SIZE, 0x7FFF, 0xFFFF])
def test_a_head_out_of_the_table(
    guest: Guest, capfd: pytest.CaptureFixture[str], head: int
) -> None:
    guest.rings[TX].offer(head)
    guest.rings[TX].kick_anyway()
    guest.settle()
    assert_broken(guest, capfd)


@pytest.mark.parametrize("index", [SIZE + 1, 0x8000, 0xFFFF])
def test_an_available_index_that_runs_wild(
    guest: Guest, capfd: pytest.CaptureFixture[str], index: int
) -> None:
    guest.rings[TX].set_avail_index(index)
    guest.rings[TX].kick_anyway()
    guest.settle()
    assert_broken(guest, capfd)


def test_the_receive_index_runs_wild(guest: Guest, capfd: pytest.CaptureFixture[str]) -> None:
    guest.keep_receiving = False
    for port in range(SIZE):
        guest.packet(Op.RW, 1, port)
    guest.rings[RX].set_avail_index(guest.rings[RX].avail_index + SIZE + 1)
    guest.packet(Op.RW, 1, 99)
    assert_broken(guest, capfd)


@pytest.mark.parametrize(
    "descriptor",
    [
        Descriptor(1 << 20, HEADER_SIZE, WRITE),
        Descriptor(1 << 20, 0, WRITE),
        Descriptor(1 << 20, 4096),
        Descriptor(HALF - 100, 4096, WRITE),
        Descriptor(1 << 20, 4096, WRITE | NEXT, 0),
        Descriptor(1 << 20, 4096, WRITE | INDIRECT),
    ],
)
def test_a_bad_receive_buffer_ends_the_traffic(
    fresh: Guest, capfd: pytest.CaptureFixture[str], descriptor: Descriptor
) -> None:
    fresh.negotiate()
    fresh.share_memory()
    fresh.start_ring(RX)
    fresh.start_ring(TX)
    fresh.rings[RX].describe(0, descriptor)
    fresh.rings[RX].offer(0)
    fresh.packet(Op.RW, 1, 1)
    assert_broken(fresh, capfd)


def test_more_data_claimed_than_there_is(guest: Guest, capfd: pytest.CaptureFixture[str]) -> None:
    with guest.listener(80) as listener, guest.dial(listener, 80, 1):
        guest.packet(Op.RW, 80, 1, b"abc", length=4)
        assert_broken(guest, capfd)


def test_less_data_claimed_than_there_is(guest: Guest) -> None:
    with guest.listener(80) as listener, guest.dial(listener, 80, 1) as sock:
        guest.packet(Op.RW, 80, 1, b"abcdef", length=3)
        guest.packet(Op.RW, 80, 1, b"ghi", length=0)
        guest.packet(Op.RW, 80, 1, b"jkl")
        assert sock.recv(16) == b"abcjkl"


def test_data_may_lie_in_the_second_region(guest: Guest) -> None:
    with guest.listener(80) as listener, guest.dial(listener, 80, 1) as sock:
        guest.write(PLACE, guest.header(Op.RW, 80, 1, 5))
        guest.write(HALF + 100, b"above")
        guest.transmit([Descriptor(PLACE, 44, NEXT, 1), Descriptor((1 << 32) + 100, 5)])
        assert sock.recv(16) == b"above"


def test_buffers_over_the_rings_hurt_only_the_guest(guest: Guest) -> None:
    """Received data lands on the transmit ring; the device must survive whatever that then says."""
    guest.keep_receiving = False
    guest.received()
    for head in range(SIZE):
        guest.rings[RX].describe(head, Descriptor(guest.rings[TX].desc, 4096, WRITE))
    with guest.listener(80) as listener:
        guest.packet(Op.REQUEST, 80, 1)
        sock = guest.accept(listener)
        sock.sendall(os.urandom(16384))
        guest.settle()
        guest.rings[TX].notify()
        guest.settle()
    guest.rings[RX].restart()
    guest.reboot()
    guest.keep_receiving = True
    assert_works(guest)


def test_indices_wrap_around(guest: Guest) -> None:
    with guest.listener(80) as listener, guest.dial(listener, 80, 1) as sock:
        for ring in guest.rings:
            guest.stop_ring(guest.rings.index(ring))
            ring.restart()
            ring.avail_index = ring.seen = ring.notified = 0xFFFA
            ring.set_avail_index(0xFFFA)
            struct.pack_into("<H", guest.memory, ring.used + 2, 0xFFFA)
        guest.start_ring(RX, 0xFFFA)
        guest.start_ring(TX, 0xFFFA)
        guest.supply(SIZE)
        sock.close()
        with guest.dial(listener, 80, 2) as second:
            for number in range(40):
                guest.packet(Op.RW, 80, 2, b"%02d" % number)
                assert second.recv(8) == b"%02d" % number
                second.sendall(b"%02d" % number)
                guest.settle()
                assert guest.only().data == b"%02d" % number


def test_interrupts_follow_the_used_event(guest: Guest) -> None:
    ring = guest.rings[TX]
    ring.calls()
    ring.set_used_event(ring.used_index + 2)
    calls = []
    for port in range(4):
        guest.packet(Op.RST, 80, port)
        calls.append(ring.calls())
    assert calls == [0, 0, 1, 0]


def test_without_event_indices_the_flag_decides(fresh: Guest) -> None:
    fresh.boot(FEATURES & ~FEATURE_EVENT_IDX)
    ring = fresh.rings[TX]
    fresh.packet(Op.RST, 80, 1)
    assert ring.calls() == 1
    struct.pack_into("<H", fresh.memory, ring.avail, 1)
    fresh.packet(Op.RST, 80, 1)
    assert ring.calls() == 0


def test_the_device_asks_to_be_kicked_when_it_has_nothing_left(guest: Guest) -> None:
    guest.packet(Op.RST, 80, 1)
    assert guest.rings[TX].avail_event == guest.rings[TX].avail_index


def test_without_receive_buffers_the_other_direction_goes_on(fresh: Guest) -> None:
    fresh.negotiate()
    fresh.share_memory()
    fresh.start_ring(RX)
    fresh.start_ring(TX)
    with fresh.listener(80) as listener:
        fresh.packet(Op.REQUEST, 80, 1)
        sock = fresh.accept(listener)
        for number in range(100):
            fresh.packet(Op.RW, 80, 1, b"%02d" % number)
            assert sock.recv(8) == b"%02d" % number
        sock.sendall(b"waits")
        fresh.settle()
        assert fresh.received() == []
        fresh.supply(SIZE)
        assert b"".join(packet.data for packet in fresh.received()) == b"waits"


def test_the_device_asks_to_be_kicked_when_buffers_are_missing(guest: Guest) -> None:
    guest.keep_receiving = False
    for port in range(SIZE + 3):
        guest.packet(Op.RW, 1, port)
    assert len(guest.received()) == SIZE
    for _ in range(3):
        assert guest.rings[RX].avail_event == guest.rings[RX].avail_index
        guest.rings[RX].offer(0)
        guest.rings[RX].notify()
        guest.settle()
        assert guest.only().op is Op.RST


def test_connections_end_when_the_guest_reboots(guest: Guest) -> None:
    with guest.listener(80) as listener, guest.dial(listener, 80, 1) as sock:
        guest.reboot()
        assert sock.recv(1) == b""
        assert_works_again = guest.dial(listener, 80, 1)
        guest.packet(Op.RW, 80, 1, b"second life")
        assert assert_works_again.recv(32) == b"second life"


def test_connections_outlive_a_pause(guest: Guest) -> None:
    with guest.listener(80) as listener, guest.dial(listener, 80, 1) as sock:
        bases = [guest.stop_ring(index) for index in (RX, TX)]
        sock.sendall(b"meanwhile")
        guest.settle()
        assert guest.rings[RX].take_used() == []
        for index in (RX, TX):
            guest.start_ring(index, bases[index])
        guest.settle()
        assert guest.only().data == b"meanwhile"
        guest.packet(Op.RW, 80, 1, b"after")
        assert sock.recv(16) == b"after"


def test_the_host_may_knock_before_the_guest_is_up(fresh: Guest) -> None:
    with fresh.knock(b"CONNECT 7\n") as sock:
        fresh.boot()
        request = fresh.only()
        fresh.packet(Op.RESPONSE, request.header.src_port, 7)
        assert sock.recv(32).startswith(b"OK ")


def test_what_was_sent_before_the_queue_stopped_is_delivered(guest: Guest) -> None:
    with guest.listener(80) as listener, guest.dial(listener, 80, 1) as sock:
        guest.write(PLACE, guest.header(Op.RW, 80, 1, 4) + b"last")
        guest.rings[TX].describe(0, Descriptor(PLACE, 48))
        guest.rings[TX].offer(0)
        guest.stop_ring(TX)
        assert sock.recv(16) == b"last"
