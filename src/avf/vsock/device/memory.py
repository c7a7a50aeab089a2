"""The guest's memory, mapped from the descriptors the front-end hands over."""

import mmap

from avf.vsock.device.errors import FrontEndError, GuestError

_ADDRESS_SPACE = 1 << 64


class Region:
    """One mapped piece of guest memory. Owns its mapping, not the descriptor it came from."""

    __slots__ = ("_map", "end", "gpa", "size", "user", "view")

    def __init__(self, fd: int, gpa: int, size: int, user: int, offset: int) -> None:
        """Maps `size` bytes from `offset` of `fd`. Raises FrontEndError."""
        if not size or gpa + size > _ADDRESS_SPACE or user + size > _ADDRESS_SPACE:
            raise FrontEndError(f"memory region at {gpa:#x}: size {size:#x} is out of range")
        skip = offset % mmap.ALLOCATIONGRANULARITY
        try:
            # Refuses what lies beyond the end of the file, which would be a SIGBUS later.
            self._map = mmap.mmap(fd, size + skip, mmap.MAP_SHARED, offset=offset - skip)
        except (OSError, ValueError, OverflowError) as error:
            raise FrontEndError(f"memory region at {gpa:#x}: {error}") from None
        self.gpa = gpa
        self.end = gpa + size
        self.user = user
        self.size = size
        self.view = memoryview(self._map)[skip : skip + size]

    def close(self) -> None:
        """Unmaps, or leaves that to the garbage collector if a slice is still in somebody's hands."""
        self.view.release()
        try:
            self._map.close()
        except BufferError:
            pass


class GuestMemory:
    """All regions of one guest. Slices handed out must not outlive `close`."""

    __slots__ = ("_regions", "_spans")

    def __init__(self, regions: list[Region]) -> None:
        """Takes the regions over. Raises FrontEndError, and closes them, if they overlap."""
        self._regions = sorted(regions, key=lambda region: region.gpa)
        self._spans = [(region.gpa, region.end, region.view) for region in self._regions]
        for lower, upper in zip(self._regions, self._regions[1:], strict=False):
            if upper.gpa < lower.end:
                self.close()
                raise FrontEndError(f"memory regions overlap at {upper.gpa:#x}")

    def slice(self, gpa: int, length: int) -> memoryview:
        """`length` bytes at a guest-physical address. Raises GuestError unless one region holds them all."""
        for start, end, view in self._spans:
            if start <= gpa and gpa + length <= end:
                offset = gpa - start
                return view[offset : offset + length]
        raise GuestError(f"no memory at guest address {gpa:#x} for {length} bytes")

    def ring(self, user: int, length: int) -> memoryview:
        """`length` bytes at an address of the front-end. Raises FrontEndError unless one region holds them all."""
        for region in self._regions:
            offset = user - region.user
            if offset >= 0 and offset + length <= region.size:
                return region.view[offset : offset + length]
        raise FrontEndError(f"no memory at address {user:#x} for {length} bytes")

    def close(self) -> None:
        """Unmaps everything."""
        self._spans.clear()
        while self._regions:
            self._regions.pop().close()
