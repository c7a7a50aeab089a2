"""Being told to end."""

import signal
import socket


class Signals:
    """Signals that can be waited for.

    Their numbers are written to a socket by the handler in C: one in Python runs in the main thread only, which would
    not wake up for a signal that another thread got.
    """

    def __init__(self, *numbers: signal.Signals) -> None:
        self._numbers = numbers
        self._received, self._written = socket.socketpair()
        self._written.setblocking(False)

    def __enter__(self) -> "Signals":
        signal.set_wakeup_fd(self._written.fileno())
        self._former = [signal.signal(number, lambda *_: None) for number in self._numbers]
        return self

    def __exit__(self, *_: object) -> None:
        for number, former in zip(self._numbers, self._former, strict=True):
            signal.signal(number, former)
        signal.set_wakeup_fd(-1)
        self._received.close()
        self._written.close()

    def within(self, seconds: float | None) -> bool:
        """Whether one comes, or has come already; waits for at most so long."""
        self._received.settimeout(seconds)
        try:
            return self._received.recv(1)[0] in self._numbers
        except TimeoutError:
            return False
