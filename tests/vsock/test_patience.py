"""What takes too long comes to an end, by a clock that the test turns; limits on the host's side."""

import os
import resource
import socket

import pytest

from avf.vsock.device import acceptor
from avf.vsock.device.acceptor import GREETING_SECONDS, GREETINGS_MAX
from avf.vsock.device.connections import ANSWER_SECONDS, DIAL_SECONDS, LINGER_SECONDS
from avf.vsock.device.packet import NO_RECEIVE, Op
from tests.vsock.frontend import Guest


class Clock:
    """The device's time."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self.now = 1000.0
        deadlines = guest.process.connections._deadlines
        deadlines._clock = lambda: self.now  # type: ignore[method-assign]
        deadlines._next = 0.0
        guest.process.acceptor._clock = lambda: self.now  # type: ignore[method-assign]

    def advance(self, seconds: float) -> None:
        self.now += seconds
        self._guest.settle()


@pytest.fixture
def clock(guest: Guest) -> Clock:
    return Clock(guest)


def assert_idle(guest: Guest) -> None:
    """Nothing is being waited for: the process would sleep without a limit."""
    assert guest.process.connections.patience is None
    assert guest.process.acceptor.patience is None


def test_an_idle_device_sleeps(guest: Guest) -> None:
    assert_idle(guest)
    with guest.listener(80) as listener, guest.dial(listener, 80, 1):
        assert_idle(guest)


def test_a_guest_that_does_not_answer(guest: Guest, clock: Clock) -> None:
    with guest.knock(b"CONNECT 7\n") as sock:
        assert guest.only().op is Op.REQUEST
        clock.advance(ANSWER_SECONDS - 0.1)
        assert guest.received() == []
        clock.advance(0.6)
        assert guest.only().op is Op.RST
        assert sock.recv(1) == b""
    assert_idle(guest)


def test_a_guest_that_never_came_up(fresh: Guest) -> None:
    clock = Clock(fresh)
    with fresh.knock(b"CONNECT 7\n") as sock:
        clock.advance(ANSWER_SECONDS + 0.5)
        assert sock.recv(1) == b""
    fresh.boot()
    assert fresh.received() == []


def test_a_listener_that_stays_busy(guest: Guest, clock: Clock) -> None:
    with guest.listener(80, backlog=0):
        guest.packet(Op.REQUEST, 80, 1)
        assert guest.only().op is Op.RESPONSE
        guest.packet(Op.REQUEST, 80, 2)
        clock.advance(DIAL_SECONDS - 0.1)
        assert guest.received() == []
        clock.advance(0.6)
        assert guest.only().op is Op.RST
    assert_idle(guest)


@pytest.mark.parametrize("op", [Op.RST, Op.SHUTDOWN, Op.RW])
def test_the_guest_gives_up_on_a_busy_listener(guest: Guest, clock: Clock, op: Op) -> None:
    with guest.listener(80, backlog=0):
        guest.packet(Op.REQUEST, 80, 1)
        guest.received()
        guest.packet(Op.REQUEST, 80, 2)
        guest.packet(op, 80, 2)
        assert [packet.op for packet in guest.received()] == ([] if op is Op.RST else [Op.RST])
    assert_idle(guest)


def test_a_guest_that_ignores_the_end(guest: Guest, clock: Clock) -> None:
    with guest.listener(80) as listener:
        guest.dial(listener, 80, 1).close()
        guest.settle()
        assert guest.only().op is Op.SHUTDOWN
        guest.packet(Op.RW, 80, 1, b"into the void")
        guest.packet(Op.SHUTDOWN, 80, 1, flags=NO_RECEIVE)
        clock.advance(LINGER_SECONDS - 0.1)
        assert guest.received() == []
        clock.advance(0.6)
        assert guest.only().op is Op.RST
    assert_idle(guest)


def test_one_who_says_nothing(guest: Guest, clock: Clock) -> None:
    with guest.knock(b"CONN") as sock:
        clock.advance(GREETING_SECONDS + 0.1)
        assert sock.recv(1) == b""
    assert_idle(guest)


def test_a_crowd_that_says_nothing_keeps_others_waiting_for_a_while(
    guest: Guest, clock: Clock
) -> None:
    for _ in range(GREETINGS_MAX):
        guest.knock(b"")
    late = guest.knock(b"CONNECT 7\n")
    clock.advance(0.6)
    assert guest.received() == []
    clock.advance(GREETING_SECONDS)
    clock.advance(0.6)
    assert guest.only().header.dst_port == 7
    late.close()


def test_no_descriptors_left(guest: Guest, clock: Clock) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    client = socket.socket(socket.AF_UNIX)
    with client, guest.listener(80):
        client.connect(str(guest.base))
        client.sendall(b"CONNECT 7\n")
        spare = os.dup(client.fileno())
        os.close(spare)
        resource.setrlimit(resource.RLIMIT_NOFILE, (spare, limits[1]))
        try:
            guest.settle()
            guest.packet(Op.REQUEST, 80, 1)
            assert guest.only().op is Op.RST
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        clock.advance(acceptor._TICK_INTERVAL)
        assert guest.only().header.dst_port == 7
