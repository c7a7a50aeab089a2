"""The last words of a program."""

import os

from avf.pace import Pace

LIMIT = 16 << 10
RATE = 1 << 20
"""Bytes a second that are read in the long run: a guest may be what makes the program talk."""
_ENOUGH = 64 << 10
_LEAST_COST = 1 << 10
"""What a read costs at least, however little it brings."""


class Tail:
    """Keeps the end of what arrives on the non-blocking descriptor `fd`, which it owns."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._kept = b""
        self._pace = Pace(RATE, RATE)

    def pause(self) -> float:
        """Seconds to wait before the next `pump`."""
        return self._pace.pause()

    def pump(self) -> bool:
        """Reads what is there, at most 64 KiB; False at the end of the stream."""
        for _ in range(_ENOUGH // LIMIT):
            try:
                chunk = os.read(self.fd, LIMIT)
            except BlockingIOError:
                return True
            if not chunk:
                return False
            self._pace.spend(max(len(chunk), _LEAST_COST))
            self._kept = (self._kept + chunk)[-LIMIT:]
        return True

    def close(self) -> str:
        """Closes the descriptor and returns what is kept."""
        os.close(self.fd)
        return self._kept.decode("utf-8", "replace")
