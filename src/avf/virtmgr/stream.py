"""One stream of what a VM says: to its owner, and to those who listen."""

import os
import socket
from collections.abc import Callable
from contextlib import ExitStack

from avf.virtmgr.owner import Owner

RECENT_SIZE = 64 << 10
"""How much is kept of each, and how much of it may wait for a listener."""


class Listener:
    """One who listens, at the other end of a socket."""

    def __init__(self, recent: bytearray, live: bool) -> None:
        self.sock, self.peer = socket.socketpair()
        self.sock.setblocking(False)
        self.pending = bytearray(recent)
        self.live = live
        self.listens_only = False
        """It has ended its own side."""
        self._skipped = 0

    def take(self, data: bytes) -> None:
        if not self.live:
            return
        self.pending += data
        if (excess := len(self.pending) - RECENT_SIZE) > 0:
            del self.pending[:excess]
            self._skipped += excess

    def flush(self) -> bool:
        """Sends what can be sent; False if nobody listens any more."""
        if self._skipped:
            self.pending[:0] = b"\r\n[%d bytes skipped]\r\n" % self._skipped
            self._skipped = 0
        try:
            while self.pending:
                del self.pending[: self.sock.send(self.pending)]
        except BlockingIOError:
            pass
        except OSError:
            return False
        return True

    def close(self) -> None:
        self.sock.close()


class Stream:
    """The console or the log. `spoken` is false for one that goes nowhere."""

    def __init__(self, spoken: bool) -> None:
        self.spoken = spoken
        self.recent = bytearray()
        self.listeners: list[Listener] = []
        self.source: int | None = None
        self.owner: Owner | None = None
        self.lost = ""
        """Why its owner lacks some of it; empty if it does not."""
        self.ended = not spoken

    def open(self, fd: int | None, stack: ExitStack) -> int | None:
        """Where the VMM is to write to, for an owner at `fd`; `stack` closes it."""
        if fd is None or not self.spoken:
            return None
        self.source, sink = os.pipe2(os.O_CLOEXEC)
        stack.callback(os.close, sink)
        self.owner = Owner(fd)
        return sink

    @property
    def settled(self) -> bool:
        """Nothing is to come, and the owner has taken all."""
        return self.source is None and self.owner is None

    def flush_owner(self) -> None:
        if self.owner is not None:
            alive = self.owner.flush()
            self.lost = self.owner.problem or self.lost
            if not alive or (self.ended and not self.owner.waits):
                self.owner.close()
                self.owner = None

    @property
    def door(self) -> int | None:
        """Where the guest is to connect to say something, as long as it can."""
        return None

    def admit(self) -> None:
        """Takes the connection that has come to the door."""

    def expect_no_more(self) -> None:
        """The VMM is gone: whoever has not come to the door will not."""

    def read(self, size: int) -> bytes:
        """What there is at the source; nothing at its end, or if it has broken."""
        assert self.source is not None
        try:
            return os.read(self.source, size)
        except OSError:
            return b""

    def say(self, data: bytes) -> None:
        if self.owner is not None:
            self.owner.give(data)
        self.record(data)

    def record(self, data: bytes) -> None:
        """Keeps it for those who listen."""
        self.recent += data
        del self.recent[:-RECENT_SIZE]
        for listener in self.listeners:
            listener.take(data)

    def end(self) -> None:
        self.ended = True
        if self.source is not None:
            os.close(self.source)
            self.source = None

    def dismiss(self, *, everybody: bool) -> None:
        """Lets those go who have heard all that they are to hear, or everybody."""
        for listener in list(self.listeners):
            alive = listener.flush()
            done = (self.ended or not listener.live) and not listener.pending
            if done or everybody or not alive:
                self.remove(listener)

    def remove(self, listener: Listener) -> None:
        self.listeners.remove(listener)
        listener.close()


class ErrorStream(Stream):
    """The payload's standard error, which the guest brings by a connection. Who listens to the log hears it."""

    def __init__(
        self,
        owner: int,
        listener: socket.socket,
        accepts: Callable[[socket.socket], bool],
    ) -> None:
        """`owner` stays the caller's. Takes over `listener`, to which the guest, whom `accepts` tells, connects."""
        super().__init__(True)
        self._owner_fd = owner
        self._listener: socket.socket | None = listener
        self._accepts = accepts
        self.log: Stream | None = None
        listener.setblocking(False)

    def begin(self) -> None:
        """Raises OSError."""
        self.owner = Owner(self._owner_fd)

    @property
    def door(self) -> int | None:
        return None if self._listener is None else self._listener.fileno()

    def admit(self) -> None:
        assert self._listener is not None
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return
        if not self._accepts(sock):
            sock.close()
            return
        self.source = sock.detach()
        self._close_door()

    def expect_no_more(self) -> None:
        if self._listener is not None:
            self.admit()
        if self.source is None:
            self.end()

    def record(self, data: bytes) -> None:
        if self.log is not None and self.log.spoken:
            self.log.record(data)

    def end(self) -> None:
        super().end()
        self._close_door()

    def _close_door(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
