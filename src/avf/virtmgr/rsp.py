"""What a debugger may say to QEMU's gdb server by way of a TCP port: the packets that concern the guest.

QEMU's server also takes its whole monitor, which writes files of the host (packet qRcmd). So packets are let through by
an allow list, and only in one form: whatever is let through is encoded anew, lest QEMU reads it in another way than we
do. Format: GDB manual, appendix "Remote Serial Protocol"; QEMU's reader is `gdb_read_byte` in gdbstub.c.
"""

import re
from dataclasses import dataclass

MAX_PACKET = 256 << 10
"""Bytes between `$` and `#`; QEMU asks for 4096 to 131104."""
_ACKS = b"+-"
_INTERRUPT = 0x03
_UNSUPPORTED = b"+$#00"
_SPECIAL = re.compile(rb"[$#}*]")
_ESCAPED = re.compile(rb"}(.)", re.DOTALL)
_PATTERNS = (
    rb"\?",  # why it stopped
    rb"g|G[0-9a-fA-FxX]+|p~A|P~A=[0-9a-fA-F]+",  # registers
    rb"m~A,~A|[MX]~A,~A:.*",  # memory
    rb"[cs](~A)?|[CS]~A(;~A)?|vCont\?|vCont(;[cCsSt][0-9a-fA-F]*(:~T)?)+",  # continue, step
    rb"[zZ][0-4],~A,~A",  # breakpoints
    rb"D(;~A)?",  # detach
    rb"H[cg]~T|T~T|qC|q[fs]ThreadInfo|qThreadExtraInfo,~T|qAttached(:~A)?",  # processors
    rb"qSupported(:[-+=;:,.\w]*)?|qXfer:features:read:[-.\w]+:~A,~A",
    rb"qqemu\.(sstepbits|sstep|PhyMemMode)|Qqemu\.(sstep=~A|PhyMemMode:[01])",
)
"""~A is a number, ~T a thread."""
_ALLOWED = re.compile(
    b"|".join(_PATTERNS).replace(b"~A", b"[0-9a-fA-F]+").replace(b"~T", b"[-p.0-9a-fA-F]+"),
    re.DOTALL,
)


class RspError(ValueError):
    """This is not how a debugger talks."""


@dataclass(frozen=True, slots=True)
class Passed:
    to_stub: bytes = b""
    to_debugger: bytes = b""
    """What is answered here: that a packet is not supported."""


class PacketFilter:
    """Takes what a debugger sends, in pieces of any size, and passes on what it may say."""

    def __init__(self) -> None:
        self._unread = bytearray()
        self._searched = 0
        """How much of it holds no end of a packet."""

    def feed(self, data: bytes) -> Passed:
        """Raises RspError for the first byte that is wrong: nothing more is to be taken from there."""
        self._unread += data
        to_stub, to_debugger = bytearray(), bytearray()
        while self._unread:
            first = self._unread[0]
            if first in _ACKS or first == _INTERRUPT:
                to_stub.append(first)
                del self._unread[0]
                continue
            packet = self._next_packet()
            if packet is None:
                break
            if _ALLOWED.fullmatch(packet):
                to_stub += encode(packet)
            else:
                to_debugger += _UNSUPPORTED
        return Passed(bytes(to_stub), bytes(to_debugger))

    def _next_packet(self) -> bytes | None:
        """The content of the packet that comes next, None if it is not all there."""
        if self._unread[0] != ord("$"):
            raise RspError(f"a packet begins with byte {self._unread[0]:#x}")
        end = self._unread.find(b"#", self._searched)
        if (len(self._unread) if end < 0 else end) > MAX_PACKET:
            raise RspError(f"a packet of more than {MAX_PACKET} bytes")
        if end < 0 or len(self._unread) < end + 3:
            self._searched = len(self._unread) if end < 0 else end
            return None
        body, checksum = bytes(self._unread[1:end]), bytes(self._unread[end + 1 : end + 3])
        del self._unread[: end + 3]
        self._searched = 0
        if not re.fullmatch(rb"[0-9a-fA-F]{2}", checksum) or int(checksum, 16) != sum(body) % 256:
            raise RspError(f"a packet with the checksum {checksum!r}")
        return decode(body)


def decode(body: bytes) -> bytes:
    """The content of a packet from what stands between `$` and `#`. Raises RspError."""
    bare = _ESCAPED.sub(b"", body)
    if _SPECIAL.search(bare):
        raise RspError("a packet with a special character that is not escaped")
    return _ESCAPED.sub(lambda match: bytes([match[1][0] ^ 0x20]), body)


def encode(content: bytes) -> bytes:
    """A whole packet."""
    body = _SPECIAL.sub(lambda match: bytes([ord("}"), match[0][0] ^ 0x20]), content)
    return b"$%b#%02x" % (body, sum(body) % 256)
