"""Runs one command for the host: its streams become frames, and what the host types or sends goes to it.

This process stays root, out of the command's reach, and does no more than copy. When the host leaves, the command gets
SIGHUP, as it would from a terminal that was closed.
"""

import os
import select
import socket

from avf.guest.ending import finish
from avf.guest.spawn import Spawned, SpawnError, spawn
from avf.shell import (
    MAX_PAYLOAD,
    WINDOW,
    Decoder,
    Failure,
    Frame,
    Kind,
    Outlet,
    ProtocolError,
    Request,
    encode,
)

_OUTPUTS = {1: Kind.OUTPUT, 2: Kind.ERRORS}
_MAX_LEFT = 128 << 10
"""What a pipe or terminal can hold: read once the command has ended, whoever goes on writing there."""
_MAX_UNSENT = 256 << 10
"""Output of the command that waits for the host, after which the command has to wait."""


def run_command(connection: socket.socket, request: Request) -> None:
    """Returns once the host has been told how the command ended, or is gone. Raises ProtocolError or OSError."""
    connection.setblocking(False)
    try:
        spawned = spawn(request)
    except SpawnError as error:
        connection.setblocking(True)
        connection.sendall(encode(Kind.FAILED, Failure(error.status, str(error)).encode()))
        finish(connection)
        return
    with spawned:
        try:
            Relay(connection, spawned).run()
        finally:
            spawned.hang_up()


class Relay:
    """Between the host's connection and a command's streams, in one thread."""

    def __init__(self, connection: socket.socket, command: Spawned) -> None:
        self._connection = connection
        self._command = command
        self._decoder = Decoder()
        self._outgoing = Outlet(connection)
        self._input = None if command.input is None else Outlet(command.input)
        self._input_ends = False
        self._granted = WINDOW
        """Bytes the host may still send, those that wait here not counted."""
        self._outgoing.give(encode(Kind.GRANT, WINDOW.to_bytes(4, "little")))
        self._host_is_there = True

    def run(self) -> None:
        """Until the command has ended and the host has all of its output, or is gone."""
        while not self._step():
            pass
        if self._host_is_there:
            self._drain()
            self._tell_end()

    def _step(self) -> bool:
        """Waits for something to happen, and does what is to be done; True at the end."""
        poll = select.poll()
        events = select.POLLIN | (select.POLLOUT if self._outgoing else 0)
        poll.register(self._connection, events)
        poll.register(self._command.ended, select.POLLIN)
        if self._input is not None and self._input:
            poll.register(self._input, select.POLLOUT)
        if len(self._outgoing) < _MAX_UNSENT:
            for fd in self._command.outputs.values():
                poll.register(fd, select.POLLIN)
        happened = dict(poll.poll())
        if self._connection.fileno() in happened:
            self._receive()
        if not self._host_is_there:
            return True
        self._feed()
        for number, fd in list(self._command.outputs.items()):
            if fd in happened:
                self._read(number, fd)
        self._outgoing.flush()
        return self._command.ended in happened

    def _receive(self) -> None:
        try:
            data = self._connection.recv(MAX_PAYLOAD)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._host_is_there = False
        for frame in self._decoder.feed(data):
            self._accept(frame)

    def _accept(self, frame: Frame) -> None:
        match frame.kind:
            case Kind.INPUT:
                self._granted -= len(frame.payload)
                if self._granted < 0:
                    raise ProtocolError("the host sent more input than it was granted")
                if self._input is not None and not self._input_ends:
                    self._input.give(frame.payload)
                else:
                    self._grant(len(frame.payload))
            case Kind.INPUT_END:
                self._input_ends = True
            case Kind.UNREAD if len(frame.payload) == 1:
                self._command.close_output(frame.payload[0])
            case Kind.SIGNAL if len(frame.payload) == 1:
                self._command.signal(frame.payload[0])
            case Kind.RESIZE if len(frame.payload) == 4:
                self._command.resize(frame.payload)
            case other:
                raise ProtocolError(f"the host sent {other.name} of {len(frame.payload)} bytes")

    def _feed(self) -> None:
        """Hands input to the command, and its end; one that reads no more costs nothing but its input."""
        if self._input is None:
            return
        before = len(self._input)
        try:
            self._input.flush()
        except OSError:
            self._input.clear()
            self._input_ends = True
        self._grant(before - len(self._input))
        if self._input_ends and not self._input:
            self._input = None
            self._command.end_input()

    def _grant(self, count: int) -> None:
        if count:
            self._granted += count
            self._outgoing.give(encode(Kind.GRANT, count.to_bytes(4, "little")))

    def _read(self, number: int, fd: int) -> int:
        """How many bytes there were."""
        try:
            data = os.read(fd, MAX_PAYLOAD)
        except BlockingIOError:
            return 0
        except OSError:  # EIO: no process has the terminal open any more
            data = b""
        if not data:
            self._command.close_output(number)
        else:
            self._outgoing.give(encode(_OUTPUTS[number], data))
        return len(data)

    def _drain(self) -> None:
        """What the command has written; processes it leaves behind are not waited for."""
        self._connection.setblocking(True)
        for number, fd in list(self._command.outputs.items()):
            left = _MAX_LEFT
            while left > 0 and (count := self._read(number, fd)):
                left -= count
                self._send()

    def _tell_end(self) -> None:
        status = self._command.wait()
        if os.WIFSIGNALED(status):
            self._outgoing.give(encode(Kind.KILLED, bytes([os.WTERMSIG(status)])))
        else:
            self._outgoing.give(encode(Kind.EXITED, bytes([os.WEXITSTATUS(status)])))
        self._send()
        finish(self._connection)

    def _send(self) -> None:
        """Waits for the host to take everything, or to go."""
        while self._outgoing:
            self._outgoing.flush()
