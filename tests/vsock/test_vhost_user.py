"""The control stream: the messages QEMU sends, and those nobody should."""

import os
import socket
import struct
from pathlib import Path

import pytest

from avf.vsock.device.packet import Op
from avf.vsock.device.vhost_user import FEATURES, PROTOCOL_FEATURES, Request
from tests.vsock.frontend import MEMORY, RX, TX, USER, Guest

VERSION_1, PROTOCOL, EVENT_IDX = 1 << 32, 1 << 30, 1 << 29


def u64(value: int) -> bytes:
    return struct.pack("=Q", value)


def state(index: int, number: int) -> bytes:
    return struct.pack("=II", index, number)


def memory(*regions: tuple[int, int, int, int], count: int | None = None) -> bytes:
    payload = struct.pack("=II", len(regions) if count is None else count, 0)
    return payload + b"".join(struct.pack("=QQQQ", *region) for region in regions)


def descriptors() -> set[str]:
    return {entry.name for entry in Path("/proc/self/fd").iterdir()}


def test_what_is_offered(fresh: Guest) -> None:
    assert fresh.ask(Request.GET_FEATURES) == u64(VERSION_1 | PROTOCOL | EVENT_IDX)
    assert fresh.ask(Request.GET_PROTOCOL_FEATURES) == u64(0x209)
    assert fresh.ask(Request.GET_QUEUE_NUM) == u64(3)


def test_the_configuration_is_the_cid(fresh: Guest) -> None:
    request = struct.pack("=III", 0, 8, 0)
    assert fresh.ask(Request.GET_CONFIG, request + bytes(8)) == request + u64(3000)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        struct.pack("=III", 0, 8, 0),
        struct.pack("=III", 0, 9, 0) + bytes(9),
        struct.pack("=III", 8, 8, 0) + bytes(8),
        struct.pack("=III", 0xFFFF_FFFF, 4, 0) + bytes(4),
        struct.pack("=III", 0, 0xFFFF_FFFF, 0) + bytes(8),
    ],
)
def test_there_is_no_other_configuration(fresh: Guest, payload: bytes) -> None:
    assert fresh.ask(Request.GET_CONFIG, payload) == b""


BAD_MESSAGES: dict[str, tuple[int, bytes, int]] = {
    "an unknown request": (99, b"", 0),
    "an unknown request with a descriptor": (99, b"", 1),
    "writing the configuration": (25, struct.pack("=III", 0, 8, 0) + bytes(8), 0),
    "a log": (6, bytes(16), 1),
    "features that were not offered": (Request.SET_FEATURES, u64(FEATURES | 1 << 34), 0),
    "half the features": (Request.SET_FEATURES, bytes(4), 0),
    "protocol features that were not offered": (Request.SET_PROTOCOL_FEATURES, u64(2), 0),
    "memory without a count": (Request.SET_MEM_TABLE, b"", 0),
    "no memory": (Request.SET_MEM_TABLE, memory(), 0),
    "a count without regions": (Request.SET_MEM_TABLE, memory(count=1), 1),
    "a giant count": (Request.SET_MEM_TABLE, memory((0, 4096, USER, 0), count=0xFFFF_FFFF), 1),
    "nine regions": (
        Request.SET_MEM_TABLE,
        memory(*[(n << 12, 4096, USER + (n << 12), 0) for n in range(9)]),
        8,
    ),
    "a region without its descriptor": (Request.SET_MEM_TABLE, memory((0, 4096, USER, 0)), 0),
    "a descriptor too many": (Request.SET_MEM_TABLE, memory((0, 4096, USER, 0)), 2),
    "an empty region": (Request.SET_MEM_TABLE, memory((0, 0, USER, 0)), 1),
    "a giant region": (Request.SET_MEM_TABLE, memory((0, (1 << 64) - 1, USER, 0)), 1),
    "an address that wraps": (
        Request.SET_MEM_TABLE,
        memory(((1 << 64) - 4096, 8192, USER, 0)),
        1,
    ),
    "overlapping regions": (
        Request.SET_MEM_TABLE,
        memory((0, 8192, USER, 0), (4096, 4096, USER + 8192, 0)),
        2,
    ),
    "a fourth queue": (Request.SET_VRING_NUM, state(3, 16), 0),
    "a giant queue number": (Request.SET_VRING_ENABLE, state(0xFFFF_FFFF, 1), 0),
    "no entries": (Request.SET_VRING_NUM, state(0, 0), 0),
    "odd entries": (Request.SET_VRING_NUM, state(0, 24), 0),
    "giant entries": (Request.SET_VRING_NUM, state(0, 1 << 31), 0),
    "a giant base": (Request.SET_VRING_BASE, state(0, 0x10000), 0),
    "a queue over two messages": (Request.SET_VRING_NUM, state(0, 16)[:4], 0),
    "a queue and more": (Request.SET_VRING_NUM, state(0, 16) + b"x", 0),
    "misaligned descriptors": (
        Request.SET_VRING_ADDR,
        struct.pack("=IIQQQQ", 0, 0, USER + 8, USER, USER, 0),
        0,
    ),
    "misaligned used ring": (
        Request.SET_VRING_ADDR,
        struct.pack("=IIQQQQ", 0, 0, USER, USER + 2, USER, 0),
        0,
    ),
    "a log of dirty pages": (
        Request.SET_VRING_ADDR,
        struct.pack("=IIQQQQ", 0, 1, USER, USER, USER, USER),
        0,
    ),
    "a kick without descriptor": (Request.SET_VRING_KICK, u64(0), 0),
    "a kick with two": (Request.SET_VRING_KICK, u64(0), 2),
    "a kick to be polled": (Request.SET_VRING_KICK, u64(0x100), 0),
    "a kick that cannot be waited for": (Request.SET_VRING_KICK, u64(0), 1),
    "a call with unknown bits": (Request.SET_VRING_CALL, u64(0x200), 1),
    "a call that denies its descriptor": (Request.SET_VRING_CALL, u64(0x100), 1),
    "an error descriptor of no queue": (Request.SET_VRING_ERR, u64(7), 1),
}


BAD_FILES: dict[str, bytes] = {
    "a region beyond its file": memory((0, MEMORY + 1, USER, 0)),
    "an offset beyond its file": memory((0, 4096, USER, MEMORY)),
    "a giant offset": memory((0, 4096, USER, (1 << 64) - 4096)),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_memory_that_cannot_be_mapped_is_refused(mapped: Guest, name: str) -> None:
    mapped.negotiate()
    before = descriptors()
    assert not mapped.acknowledged(Request.SET_MEM_TABLE, BAD_FILES[name], [mapped.memfd])
    assert descriptors() == before


@pytest.mark.parametrize("name", BAD_MESSAGES)
def test_a_message_without_sense_is_refused_and_changes_nothing(fresh: Guest, name: str) -> None:
    request, payload, count = BAD_MESSAGES[name]
    fresh.negotiate()
    fresh.share_memory()
    before = descriptors()
    assert not fresh.acknowledged(request, payload, [fresh.memfd] * count)
    fresh.send(request, payload, [fresh.memfd] * count)
    assert descriptors() == before
    fresh.boot()
    fresh.packet(Op.REQUEST, 1, 1)
    assert fresh.only().op is Op.RST


def test_a_queue_outside_of_memory_is_refused(fresh: Guest) -> None:
    fresh.negotiate()
    fresh.share_memory()
    end = USER + (1 << 32) + MEMORY // 2
    for desc, avail, used in [
        (end - 16, USER, USER),
        (USER, end - 8, USER),
        (USER, USER, end - 8),
        (USER - 16, USER, USER),
        (0, 0, 0),
        ((1 << 64) - 16, USER, USER),
    ]:
        fresh.send(Request.SET_VRING_NUM, state(TX, 16))
        fresh.send(Request.SET_VRING_BASE, state(TX, 0))
        fresh.send(Request.SET_VRING_ADDR, struct.pack("=IIQQQQ", TX, 0, desc, used, avail, 0))
        fresh.send(Request.SET_VRING_KICK, u64(TX), [fresh.rings[TX].kick])
        assert not fresh.acknowledged(Request.SET_VRING_ENABLE, state(TX, 1))
        fresh.stop_ring(TX)
    fresh.boot()
    fresh.packet(Op.REQUEST, 1, 1)
    assert fresh.only().op is Op.RST


def test_a_running_queue_keeps_its_size_and_place(guest: Guest) -> None:
    assert not guest.acknowledged(Request.SET_VRING_NUM, state(TX, 8))
    assert not guest.acknowledged(Request.SET_VRING_BASE, state(TX, 3))


def test_memory_may_change_under_running_queues(guest: Guest) -> None:
    with guest.listener(80) as listener, guest.dial(listener, 80, 1) as sock:
        guest.share_memory()
        guest.packet(Op.RW, 80, 1, b"still there")
        assert sock.recv(32) == b"still there"


def test_disabled_queues_rest(guest: Guest) -> None:
    assert guest.acknowledged(Request.SET_VRING_ENABLE, state(TX, 0))
    guest.packet(Op.REQUEST, 1, 1)
    assert guest.received() == []
    assert guest.acknowledged(Request.SET_VRING_ENABLE, state(TX, 1))
    assert guest.only().op is Op.RST


def test_without_an_interrupt_descriptor_nothing_is_signalled(guest: Guest) -> None:
    guest.rings[TX].calls()
    assert guest.acknowledged(Request.SET_VRING_CALL, u64(TX | 0x100))
    guest.rings[TX].set_used_event(guest.rings[TX].used_index)
    guest.packet(Op.RST, 1, 1)
    assert guest.rings[TX].calls() == 0


def test_resetting_the_owner_stops_the_queues(guest: Guest) -> None:
    assert guest.acknowledged(Request.RESET_OWNER)
    guest.packet(Op.REQUEST, 1, 1)
    assert guest.received() == []


def test_a_message_may_come_in_pieces(fresh: Guest) -> None:
    frame = struct.pack("=III", Request.GET_QUEUE_NUM, 1, 0)
    frame += struct.pack("=III", Request.SET_FEATURES, 1, 8) + u64(FEATURES)
    frame += struct.pack("=III", Request.GET_FEATURES, 1, 0)
    for byte in frame:
        fresh.control.send(bytes([byte]))
        fresh.settle()
    replies = fresh.control.recv(100)
    assert replies[12:20] == u64(3)
    assert replies[32:] == u64(FEATURES)


@pytest.mark.parametrize(
    "header",
    [
        struct.pack("=III", Request.GET_FEATURES, 0, 0),
        struct.pack("=III", Request.GET_FEATURES, 2, 0),
        struct.pack("=III", Request.GET_FEATURES, 1, 1025),
        struct.pack("=III", Request.GET_FEATURES, 1, 0xFFFF_FFFF),
        b"\xff" * 12,
    ],
)
def test_a_stream_that_cannot_be_followed_ends_the_device(
    fresh: Guest, capfd: pytest.CaptureFixture[str], header: bytes
) -> None:
    fresh.control.send(header)
    assert fresh.process.run() == 1
    assert "the control stream is lost" in capfd.readouterr().err


def test_too_many_descriptors_end_the_device(fresh: Guest) -> None:
    before = descriptors()
    frame = struct.pack("=III", Request.SET_MEM_TABLE, 1, 0)
    socket.send_fds(fresh.control, [frame], [fresh.memfd] * 20)
    assert fresh.process.run() == 1
    fresh.process.control.close()
    assert descriptors() <= before


def test_a_front_end_that_reads_no_answers_ends_the_device(fresh: Guest) -> None:
    fresh.control.setblocking(False)
    try:
        while fresh.process.running:
            fresh.control.send(struct.pack("=III", Request.GET_FEATURES, 1, 0) * 64)
            fresh.process.step(0)
    except BlockingIOError:
        pytest.fail("the device neither answers nor gives up")
    assert fresh.process.run() == 1


def test_the_end_of_the_stream_ends_the_device(guest: Guest) -> None:
    guest.control.close()
    assert guest.process.run() == 0


def test_the_order_of_qemu(fresh: Guest) -> None:
    """What QEMU 7.2 sends from its start to the driver's, and what it asks at a stop."""
    assert fresh.ask(Request.GET_FEATURES, flags=1) == u64(FEATURES)
    assert fresh.ask(Request.GET_PROTOCOL_FEATURES, flags=1) == u64(PROTOCOL_FEATURES)
    fresh.send(Request.SET_PROTOCOL_FEATURES, u64(PROTOCOL_FEATURES))
    fresh.ask(Request.GET_QUEUE_NUM, flags=1)
    fresh.send(Request.SET_OWNER)
    error = os.eventfd(0)
    for index in (RX, TX):
        fresh.send(Request.SET_VRING_CALL, u64(index), [fresh.rings[index].call])
        fresh.send(Request.SET_VRING_ERR, u64(index), [error])
    os.close(error)
    fresh.boot()
    for index in (RX, TX):
        fresh.send(Request.SET_VRING_ENABLE, state(index, 0))
    assert [fresh.stop_ring(index) for index in (RX, TX)] == [0, 0]
