"""The door for a debugger: a unix socket in the VM's directory, and a TCP port if one was asked for.

The socket is QEMU's own gdb server, which takes QEMU's monitor too; whoever can open it owns the VM's QEMU anyway. The
port is served here: for processes of the VM's owner and of root, and without the monitor.
"""

import contextlib
import logging
import os
import select
import socket
import sys
import threading
from collections.abc import Callable

from avf.causes import words
from avf.virtmgr.rsp import PacketFilter, RspError

DEBUGGER_SOCKET_NAME = "gdb.sock"
LOOPBACK = "127.0.0.1"
_CHUNK = 64 << 10
_ESTABLISHED = "01"
_MAPPED = "0000000000000000FFFF0000"
"""How /proc/net/tcp6 writes the beginning of an IPv4 address."""

log = logging.getLogger(__name__)


class DebuggerPort:
    """A TCP port of the loopback interface that leads to a VM's gdb server, for one debugger at a time."""

    def __init__(self, port: int, connect: Callable[[], socket.socket]) -> None:
        """`connect` makes a connection to the gdb server, without waiting. Raises OSError, also if `port` is in use."""
        self._connect = connect
        self._client: _Client | None = None
        self._wake = -1
        self._listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._listener.bind((LOOPBACK, port))
            self._listener.listen(8)
            self._listener.setblocking(False)
            self._wake = os.eventfd(0, os.EFD_CLOEXEC)
            self._thread = threading.Thread(target=self._serve, name=f"gdb-{port}", daemon=True)
            self._thread.start()
        except (OSError, RuntimeError) as e:
            self._listener.close()
            if self._wake >= 0:
                os.close(self._wake)
            raise OSError(
                getattr(e, "errno", None), f"cannot listen on {LOOPBACK}:{port}: {words(e)}"
            ) from e

    def close(self) -> None:
        """Ends every connection. Once."""
        os.eventfd_write(self._wake, 1)
        self._thread.join()
        os.close(self._wake)

    def _serve(self) -> None:
        with self._listener:
            while self._wake not in (ready := self._wait()):
                if self._client is not None and not self._client.serve(ready):
                    self._drop()
                if self._listener.fileno() in ready:
                    self._accept()
            self._drop()

    def _wait(self) -> dict[int, int]:
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        poll.register(self._listener, select.POLLIN)
        if self._client is not None:
            self._client.register(poll)
        return dict(poll.poll())

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
            if not _may_debug(sock):
                log.warning("a process of another user tried to debug a VM")
                sock.close()
                return
        except OSError as e:
            log.warning("a debugger could not connect: %s", e)
            return
        if self._client is not None and self._client.is_debugger:
            sock.close()  # one at a time
            return
        self._drop()
        self._client = _Client(sock, self._connect)

    def _drop(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None


class _Client:
    """One connection; the gdb server hears of it when it has sent a whole packet."""

    def __init__(self, sock: socket.socket, connect: Callable[[], socket.socket]) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._connect = connect
        self._stub: socket.socket | None = None
        self._filter = PacketFilter()
        self._to_stub = bytearray()
        self._to_debugger = bytearray()

    @property
    def is_debugger(self) -> bool:
        """Whether it has talked like one."""
        return self._stub is not None

    def register(self, poll: select.poll) -> None:
        hears = not self._to_stub and len(self._to_debugger) < _CHUNK
        poll.register(self._sock, _events(hears, bool(self._to_debugger)))
        if self._stub is not None:
            answers = len(self._to_debugger) < _CHUNK
            poll.register(self._stub, _events(answers, bool(self._to_stub)))

    def serve(self, ready: dict[int, int]) -> bool:
        """False if the connection has ended."""
        try:
            return self._hear(ready) and self._answer(ready) and self._flush()
        except BlockingIOError:
            return True
        except RspError as e:
            log.warning("a debugger's connection is closed: %s", e)
        except OSError as e:
            log.info("a debugger's connection has ended: %s", e)
        return False

    def _hear(self, ready: dict[int, int]) -> bool:
        events = ready.get(self._sock.fileno(), 0)
        if not events & select.POLLIN:
            return not events & (select.POLLHUP | select.POLLERR)
        data = self._sock.recv(_CHUNK)
        passed = self._filter.feed(data)
        self._to_stub += passed.to_stub
        self._to_debugger += passed.to_debugger
        if self._stub is None and b"$" in passed.to_stub:
            self._stub = self._reach_stub()
        return bool(data)

    def _reach_stub(self) -> socket.socket:
        try:
            stub = self._connect()
        except BlockingIOError as e:
            raise ConnectionError("too many debuggers wait at the gdb server") from e
        stub.setblocking(False)
        return stub

    def _answer(self, ready: dict[int, int]) -> bool:
        if self._stub is None:
            return True
        events = ready.get(self._stub.fileno(), 0)
        if events & select.POLLIN:
            data = self._stub.recv(_CHUNK)
            self._to_debugger += data
            return bool(data)
        return not events & (select.POLLHUP | select.POLLERR)

    def _flush(self) -> bool:
        for sock, pending in ((self._sock, self._to_debugger), (self._stub, self._to_stub)):
            if sock is not None and pending:
                with contextlib.suppress(BlockingIOError):
                    del pending[: sock.send(pending)]
        if self._stub is None:
            self._to_stub.clear()  # acknowledgements of nothing
        return True

    def close(self) -> None:
        self._sock.close()
        if self._stub is not None:
            self._stub.close()


def _events(reads: bool, writes: bool) -> int:
    return (select.POLLIN if reads else 0) | (select.POLLOUT if writes else 0)


def _may_debug(sock: socket.socket) -> bool:
    return uid_of_peer(sock) in (0, os.getuid())


def uid_of_peer(sock: socket.socket) -> int | None:
    """Whose process is at the other end of a connection over the loopback interface; None if that cannot be told."""
    wanted = (_address(*sock.getpeername()), _address(*sock.getsockname()))
    for table in ("tcp", "tcp6"):
        with (
            contextlib.suppress(OSError),
            open(f"/proc/self/net/{table}", encoding="ascii") as file,
        ):
            for line in file:
                fields = line.split()
                ends = tuple(field.removeprefix(_MAPPED) for field in fields[1:3])
                # A socket that was closed belongs to nobody, which is shown as 0.
                if ends == wanted and fields[3] == _ESTABLISHED:
                    return int(fields[7])
    return None


def _address(host: str, port: int) -> str:
    """As /proc/net/tcp writes it."""
    return f"{int.from_bytes(socket.inet_aton(host), sys.byteorder):08X}:{port:04X}"
