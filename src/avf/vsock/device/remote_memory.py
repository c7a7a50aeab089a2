"""The guest's memory where it cannot be mapped: read and written through a descriptor of the front-end's own memory.

The front-end may have its guest's memory to itself, as private pages that no file holds. /proc/PID/mem of the
front-end, handed over open by who started it, is then the way to them. All addresses are checked against the table of
regions, so that the guest leads nowhere but into its own memory.
"""

import os

from avf.vsock.device.errors import FrontEndError, GuestError, MemoryGone

_ADDRESS_SPACE = 1 << 64
_OFFSETS = 1 << 63
"""What pread takes."""


class RemoteMemory:
    """All regions of one guest, in another process."""

    __slots__ = ("_by_guest", "_by_user", "_fd")

    def __init__(self, fd: int, regions: list[tuple[int, int, int]]) -> None:
        """`fd` stays the caller's; a region is (guest-physical address, size, front-end address).

        Raises FrontEndError.
        """
        self._fd = fd
        for gpa, size, user in regions:
            if not size or gpa + size > _ADDRESS_SPACE or user + size > _OFFSETS:
                raise FrontEndError(f"memory region at {gpa:#x}: size {size:#x} is out of range")
        self._by_guest = sorted((gpa, gpa + size, user - gpa) for gpa, size, user in regions)
        self._by_user = [(user, user + size) for _, size, user in regions]
        for lower, upper in zip(self._by_guest, self._by_guest[1:], strict=False):
            if upper[0] < lower[1]:
                raise FrontEndError(f"memory regions overlap at {upper[0]:#x}")

    def place(self, gpa: int, length: int) -> int:
        """The front-end's address of `length` bytes. Raises GuestError unless one region holds them all."""
        for start, end, offset in self._by_guest:
            if start <= gpa and gpa + length <= end:
                return gpa + offset
        raise GuestError(f"no memory at guest address {gpa:#x} for {length} bytes")

    def check_ring(self, user: int, length: int) -> int:
        """The same address of the front-end. Raises FrontEndError unless one region holds all the bytes there."""
        for start, end in self._by_user:
            if start <= user and user + length <= end:
                return user
        raise FrontEndError(f"no memory at address {user:#x} for {length} bytes")

    def read(self, user: int, length: int) -> bytes:
        """Raises GuestError or MemoryGone."""
        try:
            data = os.pread(self._fd, length, user)
        except OSError as error:
            raise GuestError(f"its memory cannot be read: {error}") from None
        if len(data) != length:
            raise MemoryGone("its memory has gone")
        return data

    def read_into(self, user: int, buffer: memoryview) -> None:
        """Fills `buffer`. Raises GuestError or MemoryGone."""
        try:
            count = os.preadv(self._fd, [buffer], user)
        except OSError as error:
            raise GuestError(f"its memory cannot be read: {error}") from None
        if count != len(buffer):
            raise MemoryGone("its memory has gone")

    def write(self, user: int, data: bytes | memoryview) -> None:
        """Raises GuestError or MemoryGone."""
        try:
            count = os.pwrite(self._fd, data, user)
        except OSError as error:
            raise GuestError(f"its memory cannot be written: {error}") from None
        if count != len(data):
            raise MemoryGone("its memory has gone")

    def close(self) -> None:
        """Nothing is held."""
