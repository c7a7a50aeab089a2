"""A connected socket with TLS over it, for one thread at a time.

It has the methods of a socket that a `Connection` uses, and their meaning, also that of MSG_DONTWAIT. All that can be
decrypted is decrypted at once: when `pending` is 0, whatever else is to be read is still to come from the socket.
"""

import select
import socket
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ssl  # slow to import, and hardly ever needed

_PIECE = 65536
_RECORD = 16384
"""Bytes encrypted in one go."""
_RECORD_HEADER = 5
"""Bytes before each record: its type, a version and, in the last two, how many bytes follow (RFC 8446, 5.1)."""
_DONTWAIT = int(socket.MSG_DONTWAIT)
_SEND_FLAGS = int(socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
_LINGER = 1.0
"""Seconds for which a peer that was refused may take to hear why."""
_MAX_LINGER = 65536
"""Bytes read of it meanwhile."""


class TlsSocket:
    """Owns a connected stream socket; `handshake` comes first.

    What it raises are OSErrors: ssl.SSLError is one.
    """

    def __init__(
        self, sock: socket.socket, context: "ssl.SSLContext", server_name: str | None = None
    ) -> None:
        import ssl

        self._sock = sock
        self._want_read = ssl.SSLWantReadError
        self._closed_by_peer = (ssl.SSLZeroReturnError, ssl.SSLEOFError)
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=context.protocol == ssl.PROTOCOL_TLS_SERVER,
            server_hostname=server_name,
        )
        self._plain = b""
        self._head = b""
        """The part of a record's header that has come."""
        self._to_come = 0
        """Bytes of a record that are still to come."""
        self._unsent = b""
        """Encrypted bytes that the socket has not taken."""
        self._claimed = 0
        """Bytes of the caller's that are encrypted in them: the next `send` begins with these."""
        self._ended = False
        self._until: float | None = None
        self.certificate: bytes | None = None
        """The peer's, as DER, if the context has verified it."""
        self.common_name: str | None = None
        """Its subject's common name."""

    @property
    def family(self) -> socket.AddressFamily:
        return socket.AddressFamily(self._sock.family)

    @property
    def pending(self) -> int:
        """Bytes that `recv` has without asking the socket."""
        return len(self._plain)

    @property
    def in_record(self) -> bool:
        """Whether a part of a record has come, which cannot be decrypted yet."""
        return bool(self._head or self._to_come)

    def fileno(self) -> int:
        return self._sock.fileno()

    def getpeername(self) -> object:
        return self._sock.getpeername()

    def settimeout(self, seconds: float | None) -> None:
        """From so many seconds on from now, whatever waits raises TimeoutError."""
        self._until = None if seconds is None else time.monotonic() + seconds
        if seconds is None:
            self._sock.settimeout(None)

    def handshake(self) -> None:
        """Raises OSError, TimeoutError, EOFError. A peer that is refused hears why."""
        while True:
            try:
                self._tls.do_handshake()
            except self._want_read:
                self._flush_all()
                if not self._fill(0):
                    raise EOFError("the peer closed the connection") from None
            except OSError:
                self._say_why()
                raise
            else:
                break
        self._flush_all()
        self._sock.settimeout(None)
        self._learn_certificate()
        self._decrypt()

    def _learn_certificate(self) -> None:
        known = self._tls.getpeercert()
        if not known:
            return  # there is none, or nobody has verified it
        self.certificate = self._tls.getpeercert(True)
        subject: Any = known.get("subject", ())
        names = [value for part in subject for name, value in part if name == "commonName"]
        self.common_name = names[0] if len(names) == 1 else None

    def _say_why(self) -> None:
        """Sends the alert that is due. Bytes that are not read would take it away again when the socket is closed."""
        deadline = time.monotonic() + _LINGER
        try:
            self._flush(_SEND_FLAGS)
            self._sock.shutdown(socket.SHUT_WR)
            left = _MAX_LINGER
            while left > 0 and (wait := deadline - time.monotonic()) > 0:
                self._sock.settimeout(wait)
                piece = self._sock.recv(left)
                if not piece:
                    return
                left -= len(piece)
        except OSError:
            pass  # the handshake's own error is raised

    # Receiving

    def recv(self, size: int, flags: int = 0) -> bytes:
        while not self._plain:
            if not self._fill(flags):
                return b""
        piece, self._plain = self._plain[:size], self._plain[size:]
        return piece

    def recv_into(self, buffer: memoryview, size: int = 0, flags: int = 0) -> int:
        piece = self.recv(size or len(buffer), flags)
        buffer[: len(piece)] = piece
        return len(piece)

    def _fill(self, flags: int) -> bool:
        """One receive of the socket; False at the end of what the peer sends."""
        if self._ended:
            return False
        if not flags & _DONTWAIT:
            self._sock.settimeout(self._left())
        data = self._sock.recv(_PIECE, flags)
        if not data:
            self._ended = True
            return False
        self._follow(data)
        self._incoming.write(data)
        if self._tls.version() is not None:
            self._decrypt()
        return True

    def _follow(self, data: bytes) -> None:
        """Finds out where records end."""
        at = 0
        while at < len(data):
            if not self._to_come:
                head = self._head + data[at : at + _RECORD_HEADER - len(self._head)]
                at += len(head) - len(self._head)
                whole = len(head) == _RECORD_HEADER
                self._head = b"" if whole else head
                self._to_come = int.from_bytes(head[-2:]) if whole else 0
            step = min(self._to_come, len(data) - at)
            self._to_come -= step
            at += step

    def _decrypt(self) -> None:
        pieces = [self._plain]
        try:
            while piece := self._tls.read(_PIECE):
                pieces.append(piece)
            self._ended = True
        except self._want_read:
            pass
        except self._closed_by_peer:
            self._ended = True
        self._plain = b"".join(pieces)

    # Sending

    def send(self, data: bytes | bytearray | memoryview, flags: int = 0) -> int:
        """Bytes taken. What follows after BlockingIOError or a short count must begin with the bytes not taken."""
        taken, view = 0, memoryview(data)
        while True:
            if not self._claimed:
                piece = view[taken : taken + _RECORD]
                if not piece:
                    return taken
                self._claimed = self._tls.write(piece)
            try:
                self._flush(flags | _SEND_FLAGS)
            except BlockingIOError:
                if taken:
                    return taken
                raise
            taken += self._claimed
            self._claimed = 0

    def sendall(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self.send(rest) :]
            except BlockingIOError:
                self._wait_to_send()

    def _flush(self, flags: int) -> None:
        """Raises BlockingIOError with something left in `_unsent`."""
        self._unsent += self._outgoing.read()
        while self._unsent:
            self._unsent = self._unsent[self._sock.send(self._unsent, flags) :]

    def _flush_all(self) -> None:
        while True:
            try:
                return self._flush(_SEND_FLAGS)
            except BlockingIOError:
                self._wait_to_send()

    def _wait_to_send(self) -> None:
        poll = select.poll()
        poll.register(self._sock, select.POLLOUT)
        left = self._left()
        poll.poll(None if left is None else 1000 * left)

    def _left(self) -> float | None:
        if self._until is None:
            return None
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError("the peer did not answer in time")
        return left

    # Ending

    def shutdown(self, how: int) -> None:
        """Of the socket; from any thread."""
        self._sock.shutdown(how)

    def close(self) -> None:
        """Says goodbye if the socket takes that at once."""
        try:
            if not self._claimed and self._sock.fileno() >= 0:
                self._tls.unwrap()
        except (OSError, ValueError):
            pass  # the peer has not answered, which nobody waits for
        try:
            self._flush(_SEND_FLAGS)
        except (OSError, ValueError):
            pass
        self._sock.close()
