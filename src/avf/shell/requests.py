"""What the host asks for, and how a failure is told: counted fields of bytes."""

import struct
from enum import IntEnum
from typing import NamedTuple

from avf.shell.errors import ProtocolError, ShellError
from avf.shell.frames import MAX_PAYLOAD

VERSION = 1
_HEAD = struct.Struct("<BBBHHHH")
_LENGTH = struct.Struct("<I")
_ROOT, _TERMINAL, _INTO = 1, 2, 4


class Action(IntEnum):
    """What a stream is for."""

    RUN = 1
    """Runs a command: INPUT one way, OUTPUT and ERRORS the other."""
    TAKE = 2
    """The guest takes a tree that the host sends."""
    GIVE = 3
    """The guest sends a tree."""


class Request(NamedTuple):
    """What the host asks for, always in the frame that is first on a stream. Nothing may hold a NUL byte."""

    action: Action
    arguments: tuple[bytes, ...] = ()
    """RUN: the command, empty for a login shell. TAKE: the target's path and the name of what comes. GIVE: the path."""
    root: bool = False
    """As root, not as the payload's user."""
    terminal: tuple[int, int] | None = None
    """RUN: rows and columns of a terminal; None: pipes."""
    into: bool = False
    """TAKE: the target must be a folder."""
    environment: tuple[bytes, ...] = ()
    """RUN: NAME=VALUE, added to what the user has."""
    folder: bytes = b""
    """RUN: where the command starts; empty: the user's home."""

    def encode(self) -> bytes:
        """The payload of a REQUEST. Raises ShellError if it does not fit into a frame, ValueError for a NUL byte."""
        flags = self.root * _ROOT | (self.terminal is not None) * _TERMINAL | self.into * _INTO
        rows, columns = self.terminal or (0, 0)
        fields = (self.folder, *self.arguments, *self.environment)
        if any(b"\0" in field for field in fields):
            raise ValueError("a command, a path or a variable holds a NUL byte")
        size = _HEAD.size + sum(_LENGTH.size + len(field) for field in fields)
        if size > MAX_PAYLOAD or len(fields) > 0xFFFF:
            raise ShellError(
                f"the command takes {size} bytes with its arguments, {MAX_PAYLOAD} at most are sent"
            )
        head = _HEAD.pack(
            VERSION,
            self.action,
            flags,
            *(rows, columns),
            *(len(self.arguments), len(self.environment)),
        )
        return head + b"".join(_LENGTH.pack(len(field)) + field for field in fields)

    @classmethod
    def decode(cls, payload: bytes) -> "Request":
        """Raises ProtocolError."""
        try:
            version, action, flags, rows, columns, arguments, variables = _HEAD.unpack_from(payload)
        except struct.error:
            raise ProtocolError("the request is cut short") from None
        if version != VERSION:
            raise ProtocolError(f"the host speaks version {version}, this guest version {VERSION}")
        fields = _split(payload[_HEAD.size :])
        if len(fields) != 1 + arguments + variables or any(b"\0" in field for field in fields):
            raise ProtocolError("the request's fields are not as announced")
        try:
            wanted = Action(action)
        except ValueError:
            raise ProtocolError(f"the request is of the unknown kind {action}") from None
        return cls(
            wanted,
            tuple(fields[1 : 1 + arguments]),
            bool(flags & _ROOT),
            (rows, columns) if flags & _TERMINAL else None,
            bool(flags & _INTO),
            tuple(fields[1 + arguments :]),
            fields[0],
        )


class Failure(NamedTuple):
    """Why a request cannot be served."""

    status: int
    """What a shell would exit with: 127 for a command that is not there, 126 for one that cannot be run, else 1."""
    text: str

    def encode(self) -> bytes:
        """The payload of a FAILED."""
        return bytes([self.status]) + self.text.encode("utf-8", "replace")[:4096]

    @classmethod
    def decode(cls, payload: bytes) -> "Failure":
        """Raises ProtocolError."""
        if not payload:
            raise ProtocolError("a failure without its text")
        return cls(payload[0], payload[1:].decode("utf-8", "replace"))


def _split(data: bytes) -> list[bytes]:
    fields = []
    position = 0
    while position < len(data):
        if len(data) - position < _LENGTH.size:
            raise ProtocolError("the request is cut short")
        (length,) = _LENGTH.unpack_from(data, position)
        position += _LENGTH.size
        if len(data) - position < length:
            raise ProtocolError("the request is cut short")
        fields.append(data[position : position + length])
        position += length
    return fields
