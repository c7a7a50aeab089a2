"""Copies between two streams, both ways at once, each way until its own end."""

import os
import select
from collections.abc import Callable, Sequence

_CHUNK = 64 << 10
_PIECE = select.PIPE_BUF
"""What a pipe that can be written to takes without blocking, even if it is set to block (pipe(7))."""


class Way:
    """One way: what is read from `source` is written to `target`; at the end, and once, `end` is called."""

    def __init__(self, source: int, target: int, end: Callable[[], None]) -> None:
        """The descriptors stay the caller's."""
        self.source = source
        self.target = target
        self._end = end
        self._pending = b""
        self._read_all = False
        self.is_over = False

    @property
    def reads(self) -> bool:
        return not (self._read_all or self._pending or self.is_over)

    @property
    def writes(self) -> bool:
        return bool(self._pending)

    def read(self) -> None:
        """Raises OSError if the source was cut off."""
        try:
            self._pending = os.read(self.source, _CHUNK)
        except BlockingIOError:
            return
        if not self._pending:
            self._read_all = True
            self._finish()

    def write(self) -> None:
        """What nobody takes any more ends this way, and not the other."""
        try:
            count = os.write(self.target, self._pending[:_PIECE])
        except BlockingIOError:
            return
        except OSError:
            self._pending = b""
            self._finish()
            return
        self._pending = self._pending[count:]

    def _finish(self) -> None:
        if not self.is_over:
            self.is_over = True
            self._end()


def splice(ways: Sequence[Way], last: Way | None = None) -> None:
    """Until all ways are over, or `last` is. Raises OSError if a stream was cut off."""
    while not (last.is_over if last else all(way.is_over for way in ways)):
        wanted: dict[int, int] = {}
        for way in ways:
            if way.reads:
                wanted[way.source] = wanted.get(way.source, 0) | select.POLLIN
            if way.writes:
                wanted[way.target] = wanted.get(way.target, 0) | select.POLLOUT
        poll = select.poll()
        for fd, events in wanted.items():
            poll.register(fd, events)
        happened = dict(poll.poll())
        for way in ways:
            if way.writes and happened.get(way.target, 0) & ~select.POLLIN:
                way.write()
            elif way.reads and happened.get(way.source, 0) & ~select.POLLOUT:
                way.read()
