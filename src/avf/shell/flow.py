"""How much may be under way: the grant for standard input, and bytes that wait for a descriptor to take them."""

import os
import socket

from avf.shell.errors import ProtocolError

WINDOW = 256 << 10
"""Bytes of standard input that the guest holds at most, while the command does not read them."""
_PIECE = 64 << 10


class Window:
    """The sender's side of a grant. Starts with nothing; the guest grants WINDOW at first."""

    def __init__(self) -> None:
        self._left = 0

    @property
    def left(self) -> int:
        """Bytes that may be sent now."""
        return self._left

    def grant(self, count: int) -> None:
        """Raises ProtocolError if the peer grants more than WINDOW in all."""
        self._left += count
        if self._left > WINDOW:
            raise ProtocolError(f"the guest wants {self._left} bytes of input at once")

    def use(self, count: int) -> None:
        """`count` bytes are sent."""
        assert count <= self._left
        self._left -= count


class Outlet:
    """Bytes that wait for a non-blocking descriptor."""

    def __init__(self, target: int | socket.socket) -> None:
        self._target = target if isinstance(target, int) else target.fileno()
        self._pending = bytearray()

    def __len__(self) -> int:
        return len(self._pending)

    def fileno(self) -> int:
        """The descriptor, for selectors."""
        return self._target

    def give(self, data: bytes) -> None:
        """Adds bytes to those that wait."""
        self._pending += data

    def clear(self) -> None:
        """Drops the bytes that wait."""
        self._pending.clear()

    def flush(self) -> int:
        """Has the descriptor take what it can; how many bytes that were. Raises OSError."""
        done = 0
        try:
            while self._pending:
                count = os.write(self._target, self._pending[:_PIECE])
                del self._pending[:count]
                done += count
        except BlockingIOError:
            pass
        return done
