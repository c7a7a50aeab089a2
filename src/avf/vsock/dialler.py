"""Reaching the host's listeners for a guest: at once, or through a process that may open sockets.

The device process in its sandbox opens none. It sends each wish (host port, guest port) over a SOCK_SEQPACKET socket
to a `DialServer`, which answers with (host port, guest port, answer), and the connected socket if there is one.
"""

import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence

from avf import unix_path
from avf.vsock.hybrid import port_socket
from avf.vsock.naming import name_guest

WISH = struct.Struct("=II")
ANSWER = struct.Struct("=IIB")
NOBODY, CONNECTED, BUSY = 0, 1, 2

BURST = 2000
PER_SECOND = 1000.0
"""Wishes of one guest that are looked after: at once, and in the long run. The rest wait."""


class Dialler:
    """Finds what listens for a port of the host: BASE_PORT, which is this VM's own, else DIRECTORY/PORT."""

    def __init__(self, cid: int, base: str, directories: Sequence[str]) -> None:
        self._cid = cid
        self._base = base
        self._directories = directories

    def __call__(self, port: int, guest_port: int) -> socket.socket | None:
        """A connected, non-blocking socket named after the guest's port; None if nobody listens.

        BlockingIOError: the listener's backlog is full.
        """
        candidates = [port_socket(self._base, port)]
        candidates += [f"{directory}/{port}" for directory in self._directories]
        for path in candidates:
            try:
                sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            except OSError:
                return None
            sock.setblocking(False)
            try:
                name_guest(sock, self._cid, guest_port)
                with unix_path.usable(path) as address:
                    sock.connect(address)
            except BlockingIOError:
                sock.close()
                raise
            except OSError:
                sock.close()
            else:
                return sock
        return None


class DialServer:
    """Connects for one device process, in a thread of its own, until that process has ended or `close`."""

    def __init__(
        self,
        dialler: Dialler,
        sock: socket.socket,
        *,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], object] | None = None,
    ) -> None:
        """Takes `sock` over. `pause` waits so many seconds, at most until `close`.

        Raises RuntimeError if there can be no thread; `sock` is closed then.
        """
        self._dialler = dialler
        self._sock = sock
        self._clock = clock
        self._left = float(BURST)
        self._since = clock()
        self._closing = threading.Event()
        self._pause = pause or self._closing.wait
        self._thread = threading.Thread(target=self._serve, name="vsock-dial", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            sock.close()
            raise

    def close(self) -> None:
        """Ends the thread and waits for it. Idempotent."""
        self._closing.set()
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the other end has gone first
        self._thread.join()

    def _serve(self) -> None:
        with self._sock:
            try:
                while wish := self._sock.recv(WISH.size + 1):
                    self._await_turn()
                    if len(wish) == WISH.size and not self._closing.is_set():
                        self._answer(*WISH.unpack(wish))
            except OSError:
                pass  # the device has ended

    def _answer(self, port: int, guest_port: int) -> None:
        try:
            connected = self._dialler(port, guest_port)
        except BlockingIOError:
            self._sock.send(ANSWER.pack(port, guest_port, BUSY))
            return
        if connected is None:
            self._sock.send(ANSWER.pack(port, guest_port, NOBODY))
            return
        with connected:
            answer = ANSWER.pack(port, guest_port, CONNECTED)
            socket.send_fds(self._sock, [answer], [connected.fileno()])

    def _await_turn(self) -> None:
        """Back-pressure: a guest that dials without end takes a bounded share of this process's time."""
        now = self._clock()
        self._left = min(float(BURST), self._left + (now - self._since) * PER_SECOND)
        self._since = now
        if self._left < 1:
            self._pause((1 - self._left) / PER_SECOND)
        self._left -= 1
