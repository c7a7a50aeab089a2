"""What a received frame must be: checks that need no socket."""

import array
import socket

from . import wire
from .errors import ProtocolError

ReceivedFrame = tuple[int, "bytes | bytearray", "list[int] | None"]
"""command, body, descriptors"""


class TooMuchData(ProtocolError):
    """A frame beyond the limit: this connection cannot be read any further."""


def check_frame(command: int, size: int) -> None:
    """Raises ProtocolError for a frame that is not to be read."""
    if command == wire.TRANSACT:
        if size > wire.MAX_RECEIVED:
            raise TooMuchData(f"TRANSACT of {size} bytes")
    elif command == wire.REPLY:
        if size > wire.MAX_RECEIVED + wire.REPLY_BODY.size:
            raise TooMuchData(f"REPLY of {size} bytes")
    elif command != wire.DEC_STRONG:
        raise ProtocolError(f"unknown command {command}")
    elif size != wire.DEC_STRONG_SIZE:
        raise ProtocolError(f"DEC_STRONG of {size} bytes")


def received_fds(control: list[tuple[int, int, bytes]]) -> list[int]:
    """The descriptors in a control message."""
    fds = array.array("i")
    for level, kind, data in control:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return list(fds)
