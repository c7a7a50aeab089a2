"""The bytes of RPC Binder: connection headers, frames, limits (versions 0 to 2, little endian).

A connection begins with a header and an init message (see `handshake`); afterwards it carries frames of a 16-byte
header (command, body size, 8 reserved bytes) and a body. Version 0 is Android 13's, version 1 that of Android 14 and
15. Version 2, Android 16's, is experimental here: its object table lists binders, too, and a body may be larger.
"""

import enum
import struct

MAX_VERSION = 2
DEFAULT_VERSION = 1
"""The highest one offered unless more is asked for."""
BINDERS_LISTED = 2
"""The version from which on object tables list binders."""

MAX_BODY = 100_000
"""Of a TRANSACT body, and of parcel plus object table of a REPLY, that is sent."""
MAX_BODY_2 = 600 << 10
"""The same from version 2 on."""
MAX_RECEIVED = MAX_BODY_2
"""The same of what comes, whatever the version: Android 16 sends as much in version 1, too."""
MAX_FDS = 253
"""Descriptors per message (SCM_MAX_FD)."""
MAX_BINDERS = 100_000
"""Objects one session may know."""
MAX_QUEUED_ONEWAY = 10_000
"""Early oneway calls one object may have waiting."""
MAX_NESTED_CALLS = 50
"""Calls served within one another by one thread."""
MAX_NESTED_VALUES = 64
"""Parcelables and unions within one another."""

HEADER_SIZE = 16
TRANSACT_SIZE = 40
DEC_STRONG_SIZE = 16

FRAME_HEADER = struct.Struct("<II8x")
TRANSACT_FRAME = struct.Struct("<II8xQIIQI12x")
"""command, body size; address, code, flags, async number, parcel size"""
TRANSACT_BODY = struct.Struct("<QIIQI12x")
REPLY_FRAME = struct.Struct("<II8xiI12x")
"""command, body size; status, parcel size"""
REPLY_FRAME_V0 = struct.Struct("<II8xi")
ANSWER_FRAME = struct.Struct("<II8xQI4xII8xiI12x")
"""What a call is answered with most often: a DEC_STRONG frame and the head of a REPLY (from version 1 on)."""
REPLY_BODY = struct.Struct("<iI12x")
REPLY_BODY_V0 = struct.Struct("<i")
DEC_STRONG_FRAME = struct.Struct("<II8xQI4x")
"""command, body size; address, amount"""
DEC_STRONG_BODY = struct.Struct("<QI4x")

TRANSACT = 0
REPLY = 1
DEC_STRONG = 2

FLAG_ONEWAY = 0x01

NO_ADDRESS = 0
"""The address of special transactions."""
ADDRESS_CREATED = 1
ADDRESS_FOR_SERVER = 2
ADDRESS_OPTIONS = ADDRESS_CREATED | ADDRESS_FOR_SERVER

SPECIAL_GET_ROOT = 0
SPECIAL_GET_MAX_THREADS = 1
SPECIAL_GET_SESSION_ID = 2

MAX_USER_CODE = 0x00FF_FFFF
META_CODES = frozenset({0x00FF_FFFF, 0x00FF_FFFE})
"""getInterfaceVersion and getInterfaceHash of AIDL's versioned interfaces."""
PING = 0x5F504E47
INTERFACE = 0x5F4E5446
EXTENSION = 0x5F455854
DEBUG_PID = 0x5F504944
DUMP = 0x5F444D50
SHELL = 0x5F434D44
SYSPROPS = 0x5F535052
SET_RPC_CLIENT = 0x5F525043


class Stability(enum.IntEnum):
    """Who may rely on an object's interface to stay as it is, on Android. It travels with the object."""

    VENDOR = 3
    SYSTEM = 12
    """What is built together; the default of this package, as of libbinder outside of a vendor's part."""
    VINTF = 63
    """Everybody: `@VintfStability` in AIDL."""


STABILITIES = frozenset(map(int, Stability))


class FdMode(enum.IntEnum):
    """How file descriptors travel in a session."""

    NONE = 0
    UNIX = 1


def max_body(version: int) -> int:
    return MAX_BODY if version < 2 else MAX_BODY_2


def address(number: int, *, for_server: bool) -> int:
    """The 64-bit address of the `number`th object of one side."""
    options = ADDRESS_CREATED | (ADDRESS_FOR_SERVER if for_server else 0)
    return options | (number & 0xFFFF_FFFF) << 32


def dec_strong(target: int, amount: int) -> bytes:
    return DEC_STRONG_FRAME.pack(DEC_STRONG, DEC_STRONG_SIZE, target, amount)


def plain_answer(piece: bytes) -> tuple[int, int] | None:
    """What is given back before the reply that is all the rest of the bytes, without an object table; else None."""
    if len(piece) < ANSWER_FRAME.size:
        return None
    command, body, address, amount, second, size, status, parcel = ANSWER_FRAME.unpack_from(piece)
    if command != DEC_STRONG or second != REPLY or status or not amount:
        return None
    whole = body == DEC_STRONG_SIZE and size == REPLY_BODY.size + parcel
    return (address, amount) if whole and len(piece) == ANSWER_FRAME.size + parcel else None
