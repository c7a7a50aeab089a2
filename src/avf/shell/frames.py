"""Frames: a kind (one byte), the length of the payload (four bytes, little endian), the payload.

The codec knows no sockets; `FrameStream` drives it over a blocking one.
"""

import socket
import struct
from enum import IntEnum
from typing import NamedTuple

from avf.shell.errors import ProtocolError

MAX_PAYLOAD = 64 << 10
"""Bytes in a frame at most, so that nobody keeps more than that of a frame that is not complete."""
_HEADER = struct.Struct("<BI")


class Kind(IntEnum):
    """What a frame is. Numbers are little endian."""

    REQUEST = 1
    """Host to guest, first on every stream: a `Request`."""
    FAILED = 2
    """Either way, last: a `Failure`."""
    INPUT = 3
    """Host to guest: bytes for standard input. The host may send as many as the guest has granted."""
    INPUT_END = 4
    """Host to guest: standard input ends here."""
    UNREAD = 5
    """Host to guest: nobody reads the output with this number (one byte: 1 or 2) any more."""
    RESIZE = 6
    """Host to guest: the terminal has this many rows and columns (two bytes each)."""
    SIGNAL = 7
    """Host to guest: send this signal (one byte) to the command's process group."""
    GRANT = 8
    """Guest to host: so many more bytes (four) of INPUT may be sent."""
    OUTPUT = 9
    """Guest to host: bytes of standard output, or of the terminal."""
    ERRORS = 10
    """Guest to host: bytes of standard error."""
    EXITED = 11
    """Guest to host, last: the exit status (one byte)."""
    KILLED = 12
    """Guest to host, last: the number of the signal (one byte) that ended the command."""
    FOLDER = 13
    """Sender of a tree: a folder begins (`Entry`), what follows is in it, until its END."""
    FILE = 14
    """Sender of a tree: a file begins (`Entry`), DATA follows, until its END."""
    LINK = 15
    """Sender of a tree: a symbolic link: the length of its name (two bytes), its name, its target."""
    DATA = 16
    """Sender of a tree: the next bytes of the file."""
    END = 17
    """Sender of a tree: the end of the last folder or file that has begun and not ended."""
    LEFT_OUT = 18
    """Sender of a tree: text (UTF-8) that tells what is not sent and why."""
    DONE = 19
    """Receiver of a tree, last: all of it is in its place."""


class Frame(NamedTuple):
    """One frame."""

    kind: Kind
    payload: bytes


def encode(kind: Kind, payload: bytes = b"") -> bytes:
    """The bytes of a frame. Raises ValueError if the payload is too long."""
    if len(payload) > MAX_PAYLOAD:
        raise ValueError(f"a frame holds {MAX_PAYLOAD} bytes, not {len(payload)}")
    return _HEADER.pack(kind, len(payload)) + payload


def parse_header(header: bytes) -> tuple[Kind, int]:
    """Kind and length. Raises ProtocolError."""
    number, length = _HEADER.unpack(header)
    if length > MAX_PAYLOAD:
        raise ProtocolError(f"the peer sent a frame of {length} bytes; {MAX_PAYLOAD} are allowed")
    try:
        return Kind(number), length
    except ValueError:
        raise ProtocolError(f"the peer sent a frame of the unknown kind {number}") from None


class Decoder:
    """Makes frames of bytes as they come."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that are complete now. Raises ProtocolError."""
        self._data += data
        frames = []
        start = 0
        while len(self._data) - start >= _HEADER.size:
            body = start + _HEADER.size
            kind, length = parse_header(bytes(self._data[start:body]))
            if len(self._data) - body < length:
                break
            frames.append(Frame(kind, bytes(self._data[body : body + length])))
            start = body + length
        del self._data[:start]
        return frames

    @property
    def is_between_frames(self) -> bool:
        """Whether no frame has begun that is not complete."""
        return not self._data


class FrameStream:
    """Frames over a blocking stream socket. The socket stays the caller's."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def send(self, kind: Kind, payload: bytes = b"") -> None:
        """Raises OSError."""
        self._sock.sendall(encode(kind, payload))

    def receive(self) -> Frame | None:
        """The next frame; None at the end of the stream. Raises ProtocolError or OSError."""
        header = self._receive_exactly(_HEADER.size)
        if header is None:
            return None
        kind, length = parse_header(header)
        payload = self._receive_exactly(length)
        if payload is None:
            raise ProtocolError("the stream ends within a frame")
        return Frame(kind, payload)

    def has_input(self) -> bool:
        """Whether `receive` would find something, be it the end of the stream."""
        import select

        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return bool(poll.poll(0))

    def _receive_exactly(self, size: int) -> bytes | None:
        """None if the stream ends before the first byte."""
        data = bytearray(size)
        view = memoryview(data)
        done = 0
        while done < size:
            count = self._sock.recv_into(view[done:])
            if not count:
                if done:
                    raise ProtocolError("the stream ends within a frame")
                return None
            done += count
        return bytes(data)
