"""vsock packets as they lie in the queues (VIRTIO 1.2, section 5.10.6)."""

import struct
from enum import IntEnum
from typing import NamedTuple

from avf.vsock.device.errors import GuestError
from avf.vsock.device.virtqueue import Chain

HEADER = struct.Struct("<QQIIIHHIII")
HEADER_SIZE = HEADER.size
TYPE_STREAM = 1


class Op(IntEnum):
    """What a packet asks for."""

    REQUEST = 1
    RESPONSE = 2
    RST = 3
    SHUTDOWN = 4
    RW = 5
    CREDIT_UPDATE = 6
    CREDIT_REQUEST = 7


# Flags of SHUTDOWN: what its sender will not do any more. Plain integers, since every packet looks at them.
NO_RECEIVE = 1
NO_SEND = 2
NEITHER = NO_RECEIVE | NO_SEND


class Header(NamedTuple):
    """The head of a packet; 32-bit counters wrap around."""

    src_cid: int
    dst_cid: int
    src_port: int
    dst_port: int
    length: int
    type: int
    op: int
    flags: int
    buf_alloc: int
    fwd_cnt: int


def reset_of(header: Header) -> Header:
    """The packet that refuses another, from where that one wanted to go to where it came from."""
    return Header(
        src_cid=header.dst_cid,
        dst_cid=header.src_cid,
        src_port=header.dst_port,
        dst_port=header.src_port,
        length=0,
        type=header.type,
        op=Op.RST,
        flags=0,
        buf_alloc=0,
        fwd_cnt=0,
    )


def parse(chain: Chain) -> tuple[Header, list[memoryview]]:
    """The header in a buffer of the guest and the payload, cut to the length the header tells. Raises GuestError.

    Of a payload that is longer than any window there may be less.
    """
    if chain.size < HEADER_SIZE:
        raise GuestError(f"a packet of {chain.size} bytes has no room for a header")
    first = chain.segments[0]
    if len(first) >= HEADER_SIZE:
        header = Header._make(HEADER.unpack_from(first))
    else:
        header = Header._make(HEADER.unpack(_gather(chain.segments)))
    if header.length > chain.size - HEADER_SIZE:
        raise GuestError(f"a packet of {chain.size} bytes claims {header.length} bytes of data")
    return header, cut(chain.segments, HEADER_SIZE, header.length) if header.length else []


def write_header(chain: Chain, header: Header) -> None:
    """Puts `header` at the start of a writable buffer of at least HEADER_SIZE bytes."""
    first = chain.segments[0]
    if len(first) >= HEADER_SIZE:
        HEADER.pack_into(first, 0, *header)
        return
    raw = HEADER.pack(*header)
    done = 0
    for piece in cut(chain.segments, 0, HEADER_SIZE):
        piece[:] = raw[done : done + len(piece)]
        done += len(piece)


def cut(segments: list[memoryview], skip: int, length: int) -> list[memoryview]:
    """At most `length` bytes of a list of segments after the first `skip`, without empty pieces."""
    pieces = []
    for segment in segments:
        size = len(segment)
        if skip >= size:
            skip -= size
            continue
        if length <= 0:
            break
        piece = segment[skip : skip + length]
        skip = 0
        length -= len(piece)
        pieces.append(piece)
    return pieces


def _gather(segments: list[memoryview]) -> bytes:
    return b"".join(cut(segments, 0, HEADER_SIZE))
