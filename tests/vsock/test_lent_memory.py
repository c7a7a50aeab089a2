"""A device that cannot map its guest's memory, and reads and writes it through a descriptor that it is lent."""

import os
import socket
import struct
from collections.abc import Iterator

import pytest

from avf.vsock.device.errors import FrontEndError, GuestError, MemoryGone
from avf.vsock.device.lender import Lender
from avf.vsock.device.packet import HEADER_SIZE, Op
from avf.vsock.device.remote_memory import RemoteMemory
from avf.vsock.device.vhost_user import Request
from tests.vsock.frontend import MEMORY, NEXT, TX, USER, WINDOW, Descriptor, Guest, guest

PLACE = 2 << 20


@pytest.fixture
def lent(capfd: pytest.CaptureFixture[str]) -> Iterator[Guest]:
    with guest(lent=True) as machine:
        machine.boot()
        yield machine
        assert "Traceback" not in capfd.readouterr().err


def test_memory_that_nobody_has_lent_is_refused() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        lender = Lender(theirs)
        with pytest.raises(FrontEndError, match="nobody has lent"):
            lender.borrow()
        ours.send(b"m")
        with pytest.raises(FrontEndError, match="nobody has lent"):
            lender.borrow()
        with open("/dev/null", "rb") as file:
            socket.send_fds(ours, [b"m"], [file.fileno()])
            assert os.fstat(lender.borrow()).st_rdev == os.fstat(file.fileno()).st_rdev
        assert lender.borrow() == lender.borrow()
        lender.close()


def test_the_table_of_regions_alone_says_where_the_memory_is(lent: Guest) -> None:
    """The descriptors that come with it are not looked at: what is in their files is not this guest's."""
    half = MEMORY // 2
    regions = struct.pack("=QQQQ", 0, half, USER, 1 << 40)
    regions += struct.pack("=QQQQ", 1 << 32, half, lent.second, 1 << 40)
    with open("/dev/null", "rb") as file:
        payload = struct.pack("=II", 2, 0) + regions
        assert lent.acknowledged(Request.SET_MEM_TABLE, payload, [file.fileno()] * 2)
    with lent.listener(80) as listener, lent.dial(listener, 80, 1) as sock:
        lent.packet(Op.RW, 80, 1, b"alive")
        assert sock.recv(16) == b"alive"


def test_of_a_giant_packet_no_more_than_a_window_is_read(lent: Guest) -> None:
    size = WINDOW + 1
    with lent.listener(80) as listener, lent.dial(listener, 80, 1):
        lent.write(PLACE, lent.header(Op.RW, 80, 1, size))
        lent.transmit([Descriptor(PLACE, HEADER_SIZE, NEXT, 1), Descriptor(0, size)])
        assert lent.only().op is Op.RST
    assert not lent.process.device.broken


def test_many_pieces_of_a_packet_come_together(lent: Guest) -> None:
    with lent.listener(80) as listener, lent.dial(listener, 80, 1) as sock:
        lent.write(PLACE, lent.header(Op.RW, 80, 1, 12) + b"abcdefghijkl")
        sizes = [3, 40, 1, 5, 7]
        at, pieces = PLACE, []
        for index, size in enumerate(sizes):
            last = index == len(sizes) - 1
            pieces.append(Descriptor(at, size, 0 if last else NEXT, index + 1))
            at += size
        lent.transmit(pieces)
        assert sock.recv(16) == b"abcdefghijkl"


def test_a_front_end_that_is_gone_is_no_fault_of_the_guest(
    lent: Guest, capfd: pytest.CaptureFixture[str]
) -> None:
    """The end of its control stream tells it; until then nothing is said, and what was taken is delivered."""
    with lent.listener(80) as listener, lent.dial(listener, 80, 1) as sock:
        lent.packet(Op.RW, 80, 1, b"said before")
        os.ftruncate(lent.memfd, 0)
        lent.rings[TX].kick_anyway()
        lent.settle()
        assert sock.recv(16) == b"said before"
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("regions", "problem"),
    [
        ([(0, 0, USER)], "out of range"),
        ([(0, 4096, (1 << 63) - 4095)], "out of range"),
        ([((1 << 64) - 4095, 4096, USER)], "out of range"),
        ([(0, 8192, USER), (4096, 4096, USER + (1 << 32))], "overlap"),
    ],
)
def test_regions_without_sense_are_refused(
    regions: list[tuple[int, int, int]], problem: str
) -> None:
    with pytest.raises(FrontEndError, match=problem):
        RemoteMemory(-1, regions)


def test_memory_that_cannot_be_read_or_written_is_an_error() -> None:
    with open("/proc/self/mem", "r+b", buffering=0) as file:
        memory = RemoteMemory(file.fileno(), [(0, 4096, 0)])
        with pytest.raises(GuestError, match="cannot be read"):
            memory.read(0, 8)
        with pytest.raises(GuestError, match="cannot be written"):
            memory.write(0, b"x")
    with open("/dev/null", "rb") as file:
        memory = RemoteMemory(file.fileno(), [(0, 4096, 0)])
        with pytest.raises(MemoryGone):
            memory.read(0, 8)
        with pytest.raises(MemoryGone):
            memory.read_into(0, memoryview(bytearray(8)))
