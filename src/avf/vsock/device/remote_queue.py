"""A split virtqueue in memory of another process; see `virtqueue` for one that is mapped, and for the rules.

Each access is a system call. So what is new in a ring is read at once, and what is given back is written at once, when
it is asked whether the guest wants an interrupt.
"""

import struct
from collections import deque
from contextlib import suppress

from avf.vsock.device.connections import WINDOW
from avf.vsock.device.errors import FrontEndError, GuestError, MemoryGone
from avf.vsock.device.packet import HEADER_SIZE
from avf.vsock.device.remote_memory import RemoteMemory
from avf.vsock.device.virtqueue import (
    NO_INTERRUPT,
    Chain,
    RingAddresses,
    check_jump,
    fence,
    walk,
)

READ_MAX = HEADER_SIZE + WINDOW
"""Of one buffer: a packet with more data is refused, whatever they are."""
WRITE_MAX = HEADER_SIZE + (64 << 10)
"""In one buffer; up to 64 are in use at once."""

_U16, _ELEMENT = struct.Struct("<H"), struct.Struct("<II")
_INDEX, _RING = 2, 4
"""Where in the available and the used ring they are."""


class RemoteChain(Chain):
    """A copy of what is in the guest's buffer, or room for what is to be put there."""

    __slots__ = ("places",)

    def __init__(
        self, head: int, segments: list[memoryview], size: int, places: list[tuple[int, int]]
    ) -> None:
        """`places`: addresses of the front-end and lengths."""
        super().__init__(head, segments, size)
        self.places = places


class RemoteQueue:
    """A running queue. A chain that was popped to be read from is valid until the next is popped."""

    def __init__(
        self,
        memory: RemoteMemory,
        addresses: RingAddresses,
        *,
        size: int,
        base: int,
        event_idx: bool,
        writable: bool,
    ) -> None:
        """As of Virtqueue. Raises FrontEndError."""
        self._memory = memory
        self._size = size
        self._mask = size - 1
        self._event_idx = event_idx
        self._writable = writable
        self._desc = memory.check_ring(addresses.desc, 16 * size)
        self._avail = memory.check_ring(addresses.avail, 6 + 2 * size)
        self._used = memory.check_ring(addresses.used, 6 + 8 * size)
        self._next = self._seen = base
        self._heads: deque[int] = deque()
        self._table = b""
        self._given: list[tuple[int, int]] = []
        self._scratch = bytearray(0 if writable else READ_MAX)
        try:
            self._used_index = self._signalled = self._read_index(self._used + _INDEX)
            self._write_index(self._used, 0)
        except GuestError as error:
            raise FrontEndError(str(error)) from None

    @property
    def used_index(self) -> int:
        """See Virtqueue."""
        return self._used_index

    def pop(self) -> Chain | None:
        """The next buffer of the guest, or None. Raises GuestError."""
        if not self._heads and not self._look():
            return None
        chain = self._chain(self._heads[0])
        self._heads.popleft()
        self._next = (self._next + 1) & 0xFFFF
        return chain

    def push(self, chain: Chain, written: int) -> None:
        """Gives a buffer back with `written` bytes in it, which the guest sees at the next `needs_call`."""
        if written:
            assert isinstance(chain, RemoteChain)
            self._put(chain, written)
        self._given.append((chain.head, written))
        self._used_index = (self._used_index + 1) & 0xFFFF
        if len(self._given) >= self._size:
            self._publish()

    def needs_call(self) -> bool:
        """Whether the guest wants an interrupt for what was pushed since the last time this was asked."""
        old, new = self._signalled, self._used_index
        if old == new:
            return False
        self._publish()
        self._signalled = new
        fence()
        if not self._event_idx:
            return not self._read_index(self._avail) & NO_INTERRUPT
        event = self._read_index(self._avail + _RING + 2 * self._size)
        return (new - event - 1) & 0xFFFF < (new - old) & 0xFFFF

    def arm(self) -> bool:
        """Asks to be kicked at the next buffer; returns True if one is there already."""
        if self._heads:
            return True
        if self._event_idx:
            self._write_index(self._used + _RING + 8 * self._size, self._next)
        fence()
        return self._read_index(self._avail + _INDEX) != self._next

    def close(self) -> None:
        """What was pushed is given back."""
        with suppress(GuestError, MemoryGone):
            self._publish()

    def _look(self) -> bool:
        """Reads what the guest has added; whether that is anything."""
        seen = self._read_index(self._avail + _INDEX)
        check_jump(self._next, seen, self._size)
        count = (seen - self._next) & 0xFFFF
        if not count:
            return False
        fence()
        first = self._next & self._mask
        at_the_end = min(count, self._size - first)
        ring = self._avail + _RING
        heads = self._memory.read(ring + 2 * first, 2 * at_the_end)
        if count > at_the_end:
            heads += self._memory.read(ring, 2 * (count - at_the_end))
        self._heads.extend(memoryview(heads).cast("H"))
        self._table = self._memory.read(self._desc, 16 * self._size)
        return True

    def _chain(self, head: int) -> RemoteChain:
        places = []
        total = 0
        for address, length in walk(self._table, head, self._size, writable=self._writable):
            places.append((self._memory.place(address, length), length))
            total += length
        if self._writable:
            total = min(total, WRITE_MAX)
            return RemoteChain(head, [memoryview(bytearray(total))], total, places)
        return RemoteChain(head, [self._get(places, total)], total, places)

    def _get(self, places: list[tuple[int, int]], total: int) -> memoryview:
        buffer = memoryview(self._scratch)[:total]
        done = 0
        for address, length in places:
            piece = buffer[done : done + length]
            if not piece:
                break
            self._memory.read_into(address, piece)
            done += len(piece)
        return buffer

    def _put(self, chain: RemoteChain, written: int) -> None:
        done = 0
        for address, length in chain.places:
            piece = chain.segments[0][done : min(written, done + length)]
            if not piece:
                break
            self._memory.write(address, piece)
            done += len(piece)

    def _publish(self) -> None:
        """Has the guest see all that was pushed."""
        if not self._given:
            return
        first = (self._used_index - len(self._given)) & self._mask
        at_the_end = self._size - first
        for start, given in (
            (first, self._given[:at_the_end]),
            (0, self._given[at_the_end:]),
        ):
            if given:
                elements = b"".join(_ELEMENT.pack(*element) for element in given)
                self._memory.write(self._used + _RING + 8 * start, elements)
        self._given.clear()
        fence()
        self._write_index(self._used + _INDEX, self._used_index)

    def _read_index(self, address: int) -> int:
        (index,) = _U16.unpack(self._memory.read(address, 2))
        return int(index)

    def _write_index(self, address: int, index: int) -> None:
        self._memory.write(address, _U16.pack(index))
