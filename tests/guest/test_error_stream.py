"""How a payload's standard error gets from its pipe to the host."""

import os
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from avf.guest.error_stream import ErrorStream

SECONDS = 20
PIPE = 64 << 10
"""What a pipe holds, and what is taken out of it at once."""


class Connection(socket.socket):
    """To the host. Whenever something is sent, somebody writes a byte to `pipe`, `times` at most."""

    pipe, times = -1, 0

    def sendall(self, data: bytes, *_flags: int) -> None:  # type: ignore[override]
        super().sendall(data)
        if self.pipe >= 0:
            assert self.times, "this has no end"
            self.times -= 1
            os.write(self.pipe, b"y")


class Ends:
    """The payload's end of the pipe, the guest's and the host's of the connection."""

    def __init__(self, stack: ExitStack) -> None:
        source, self.payload = os.pipe()
        stack.callback(os.close, self.payload)
        host, guest = socket.socketpair()
        self.host = stack.enter_context(host)
        self.host.settimeout(SECONDS)
        self.guest = Connection(fileno=guest.detach())
        self.guest.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)  # as small as can be
        self.stream = ErrorStream(source, self.guest)

    def finish(self) -> bytes:
        """What the host gets from when the payload has ended."""
        finishing = threading.Thread(target=self.stream.finish)
        finishing.start()
        select.select([self.stream._payload_ended], [], [], SECONDS)
        with self.host, self.host.makefile("rb") as file:
            data = file.read()
        finishing.join(SECONDS)
        assert not finishing.is_alive()
        return data


@pytest.fixture
def ends() -> Iterator[Ends]:
    with ExitStack() as stack:
        yield Ends(stack)


def test_all_that_the_payload_wrote_comes_before_the_end(ends: Ends) -> None:
    os.write(ends.payload, b"first")
    assert ends.host.recv(5) == b"first"
    os.write(ends.payload, b"x" * PIPE)
    assert ends.finish() == b"x" * PIPE


def test_who_is_left_behind_and_goes_on_writing_is_not_waited_for(ends: Ends) -> None:
    os.write(ends.payload, b"x" * PIPE)
    os.write(ends.payload, b"x" * PIPE)  # there is room once the first are being sent
    os.read(ends.stream._source, PIPE // 2)
    ends.guest.pipe, ends.guest.times = ends.payload, 10
    assert ends.finish() == b"x" * (PIPE + PIPE // 2) + b"y"


def test_a_host_that_goes_away_holds_nothing_up(ends: Ends) -> None:
    ends.host.close()
    os.write(ends.payload, b"for nobody")
    ends.stream.finish()
