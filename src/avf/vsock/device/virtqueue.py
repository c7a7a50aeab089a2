"""A split virtqueue, seen from the device (VIRTIO 1.2, section 2.7).

Little-endian hosts only. The guest can change its rings at any moment, so every field is read once and then checked.
"""

import struct
from _thread import allocate_lock
from typing import Protocol

from avf.vsock.device.errors import FrontEndError, GuestError
from avf.vsock.device.memory import GuestMemory

SIZE_MAX = 32768

_DESCRIPTOR = struct.Struct("<QIHH")
_NEXT = 1
_WRITE = 2
_INDIRECT = 4
NO_INTERRUPT = 1

_barrier = allocate_lock()


def fence() -> None:
    """A full memory barrier: what taking an uncontended lock compiles to on x86."""
    with _barrier:
        pass


class RingAddresses:
    """Where the front-end says the three parts of a ring are, in its own address space."""

    __slots__ = ("avail", "desc", "used")

    def __init__(self, desc: int, avail: int, used: int) -> None:
        if desc % 16 or avail % 2 or used % 4:
            raise FrontEndError(f"ring addresses {desc:#x} {avail:#x} {used:#x} are not aligned")
        self.desc = desc
        self.avail = avail
        self.used = used


class Chain:
    """One buffer of the guest: its pieces in order, `size` bytes in all."""

    __slots__ = ("head", "segments", "size")

    def __init__(self, head: int, segments: list[memoryview], size: int) -> None:
        self.head = head
        self.segments = segments
        self.size = size


class Queue(Protocol):
    """A running queue. A chain that `pop` gave is not looked at after it was pushed, nor one to be read from after the
    next one was popped.
    """

    @property
    def used_index(self) -> int: ...
    def pop(self) -> Chain | None: ...
    def push(self, chain: Chain, written: int) -> None: ...
    def needs_call(self) -> bool: ...
    def arm(self) -> bool: ...
    def close(self) -> None: ...


class Virtqueue:
    """A running queue in memory that is mapped. `pop` takes buffers, `push` gives them back, in the order taken."""

    __slots__ = (
        "_avail",
        "_desc",
        "_event_idx",
        "_mask",
        "_memory",
        "_next",
        "_seen",
        "_signalled",
        "_size",
        "_used",
        "_used_elements",
        "_used_index",
        "_writable",
    )

    def __init__(
        self,
        memory: GuestMemory,
        addresses: RingAddresses,
        *,
        size: int,
        base: int,
        event_idx: bool,
        writable: bool,
    ) -> None:
        """`base` is the index of the first buffer to take, `writable` which kind of buffers the queue has.

        Raises FrontEndError if a part of the ring is not in memory.
        """
        self._memory = memory
        self._size = size
        self._mask = size - 1
        self._event_idx = event_idx
        self._writable = writable
        self._desc = memory.ring(addresses.desc, 16 * size)
        # flags, idx, ring[size], used_event
        self._avail = memory.ring(addresses.avail, 6 + 2 * size).cast("H")
        # flags, idx, {id, len}[size] of 32 bits each, avail_event
        self._used = memory.ring(addresses.used, 6 + 8 * size).cast("H")
        self._used_elements = memory.ring(addresses.used + 4, 8 * size).cast("I")
        self._next = self._seen = base
        self._used_index = self._signalled = self._used[1]
        self._used[0] = 0

    @property
    def used_index(self) -> int:
        """Where the device stands: every buffer before it has been given back."""
        return self._used_index

    def pop(self) -> Chain | None:
        """The next buffer of the guest, or None. Raises GuestError."""
        if self._next == self._seen:
            seen = self._avail[1]
            check_jump(self._next, seen, self._size)
            if seen == self._next:
                return None
            self._seen = seen
            fence()
        head = self._avail[2 + (self._next & self._mask)]
        chain = self._walk(head)
        self._next = (self._next + 1) & 0xFFFF
        return chain

    def push(self, chain: Chain, written: int) -> None:
        """Gives a buffer back with `written` bytes in it."""
        slot = 2 * (self._used_index & self._mask)
        self._used_elements[slot] = chain.head
        self._used_elements[slot + 1] = written
        self._used_index = (self._used_index + 1) & 0xFFFF
        fence()
        self._used[1] = self._used_index

    def needs_call(self) -> bool:
        """Whether the guest wants an interrupt for what was pushed since the last time this was asked."""
        old, new = self._signalled, self._used_index
        if old == new:
            return False
        self._signalled = new
        fence()
        if not self._event_idx:
            return not self._avail[0] & NO_INTERRUPT
        event = self._avail[2 + self._size]
        return (new - event - 1) & 0xFFFF < (new - old) & 0xFFFF

    def arm(self) -> bool:
        """Asks to be kicked at the next buffer; returns True if one is there already."""
        if self._event_idx:
            self._used[2 + 4 * self._size] = self._next
        fence()
        return self._avail[1] != self._next

    def close(self) -> None:
        """Lets go of the guest's memory."""
        for view in (self._desc, self._avail, self._used, self._used_elements):
            view.release()

    def _walk(self, head: int) -> Chain:
        segments: list[memoryview] = []
        total = 0
        for address, length in walk(self._desc, head, self._size, writable=self._writable):
            segments.append(self._memory.slice(address, length))
            total += length
        return Chain(head, segments, total)


def check_jump(start: int, seen: int, size: int) -> None:
    """Raises GuestError if there cannot be as many buffers as the guest's index says."""
    if (seen - start) & 0xFFFF > size:
        raise GuestError(f"available index jumped from {start} to {seen}")


def walk(
    table: memoryview | bytes | bytearray, head: int, size: int, *, writable: bool
) -> list[tuple[int, int]]:
    """Guest-physical address and length of each piece of the chain at `head`, without empty ones. Raises GuestError."""
    places = []
    index = head
    for _ in range(size):
        if index >= size:
            raise GuestError(f"descriptor {index} of a queue of {size}")
        address, length, flags, following = _DESCRIPTOR.unpack_from(table, 16 * index)
        if flags & _INDIRECT:
            raise GuestError(f"descriptor {index} is indirect, which was not negotiated")
        if bool(flags & _WRITE) != writable:
            raise GuestError(f"descriptor {index} has the wrong direction")
        if length:
            places.append((address, length))
        if not flags & _NEXT:
            return places
        index = following
    raise GuestError(f"the chain at descriptor {head} is a loop")
