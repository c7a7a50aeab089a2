"""The last words of a program."""

import os

LIMIT = 16 << 10
_ENOUGH = 1 << 20


class Tail:
    """Keeps the end of what arrives on the non-blocking descriptor `fd`, which it owns."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._kept = b""

    def pump(self) -> bool:
        """Reads what is there, at most 1 MiB; False at the end of the stream."""
        for _ in range(_ENOUGH // LIMIT):
            try:
                chunk = os.read(self.fd, LIMIT)
            except BlockingIOError:
                return True
            if not chunk:
                return False
            self._kept = (self._kept + chunk)[-LIMIT:]
        return True

    def close(self) -> str:
        """Closes the descriptor and returns what is kept."""
        os.close(self.fd)
        return self._kept.decode("utf-8", "replace")
