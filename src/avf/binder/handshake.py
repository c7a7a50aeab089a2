"""How a connection begins, as values: no sockets here.

The connecting side sends a ConnectionHeader and, for a session that exists, its 32-byte id. A new session is answered
by the version in use. The side that will originate calls on the connection then sends INIT.
"""

import struct

from .errors import ProtocolError

HEADER = struct.Struct("<IBB8xH")
RESPONSE = struct.Struct("<I4x")
INIT = b"cci\0" + bytes(4)
SESSION_ID_SIZE = 32

OPTION_INCOMING = 1


class ConnectionHeader:
    """The first 16 bytes of every connection, checked."""

    __slots__ = ("fd_mode", "incoming", "new_session", "version")

    def __init__(self, version: int, *, incoming: bool, fd_mode: int, new_session: bool) -> None:
        self.version = version
        self.incoming = incoming
        self.fd_mode = fd_mode
        self.new_session = new_session

    def pack(self) -> bytes:
        size = 0 if self.new_session else SESSION_ID_SIZE
        return HEADER.pack(self.version, OPTION_INCOMING * self.incoming, self.fd_mode, size)

    @classmethod
    def unpack(cls, raw: bytes) -> "ConnectionHeader":
        """Raises ProtocolError for a session id of a wrong size."""
        version, options, fd_mode, size = HEADER.unpack(raw)
        if size not in (0, SESSION_ID_SIZE):
            raise ProtocolError(f"connection header: session id of {size} bytes")
        return cls(
            version,
            incoming=bool(options & OPTION_INCOMING),
            fd_mode=fd_mode,
            new_session=size == 0,
        )


def negotiate(offered: int, own_max: int) -> int:
    """The version a server answers with."""
    return min(offered, own_max)


def pack_response(version: int) -> bytes:
    return RESPONSE.pack(version)


def check_response(raw: bytes, own_max: int) -> int:
    """The version of a new session. Raises ProtocolError if the server chose one that was not offered."""
    version: int = RESPONSE.unpack(raw)[0]
    if version > own_max:
        raise ProtocolError(f"the server answered version {version}, offered was {own_max}")
    return version


def check_init(raw: bytes) -> None:
    if raw[:4] != INIT[:4]:
        raise ProtocolError(f"connection init: {raw[:4]!r} instead of {INIT[:4]!r}")
