"""Random access to what an image holds, whatever its format; nothing here writes.

An image may change or shrink while it is read: a reader then raises ImageError or returns what is there, and never
reads outside the image file.
"""

import errno
import os
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from avf.disk.errors import ImageError
from avf.disk.files import describe, read_at, stored_size, write_at
from avf.disk.record import RAW, record_format

CHUNK = 1 << 20


class ImageReader(ABC):
    """The bytes of a disk or of a part of one. A context manager; closing it twice does no harm."""

    def __init__(self, name: str, size: int) -> None:
        self.name = name
        """For messages: where the bytes come from."""
        self.size = size

    def pread(self, size: int, offset: int) -> bytes:
        """The `size` bytes at `offset`, fewer only where the disk ends. Raises ImageError; ValueError below 0."""
        if size < 0 or offset < 0:
            raise ValueError(f"{size} bytes at {offset}")
        return self._read(offset, max(0, min(size, self.size - offset)))

    def chunks(self) -> Iterator[tuple[int, bytes]]:
        """(offset, bytes) from start to end, at most 1 MiB each; chunks of zeros are left out, holes not even read."""
        offset = 0
        while (offset := self.next_data(offset)) < self.size:
            data = self.pread(CHUNK, offset)
            if data.count(0) != len(data):
                yield offset, data
            offset += CHUNK

    def next_data(self, offset: int) -> int:
        """`offset`, or a later one, at most `size`, up to which there are certainly only zeros."""
        return min(offset, self.size)

    def close(self) -> None:  # noqa: B027
        """Gives back what the reader opened itself; borrowed descriptors stay open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @abstractmethod
    def _read(self, offset: int, size: int) -> bytes:
        """Exactly `size` bytes, all of them inside the disk."""


class RawReader(ImageReader):
    """A raw image in a borrowed descriptor."""

    def __init__(self, fd: int) -> None:
        super().__init__(describe(fd), stored_size(fd))
        self.fd = fd

    def _read(self, offset: int, size: int) -> bytes:
        data = read_at(self.fd, offset, size)
        if len(data) != size:
            raise ImageError(f"{self.name}: became shorter while it was read")
        return data

    def next_data(self, offset: int) -> int:
        try:
            own = os.open(f"/proc/self/fd/{self.fd}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return min(offset, self.size)
        try:
            return min(os.lseek(own, offset, os.SEEK_DATA), self.size)
        except OSError as error:
            return self.size if error.errno == errno.ENXIO else min(offset, self.size)
        finally:
            os.close(own)


class BytesReader(ImageReader):
    """Bytes in memory."""

    def __init__(self, name: str, content: bytes) -> None:
        super().__init__(name, len(content))
        self._content = content

    def _read(self, offset: int, size: int) -> bytes:
        return self._content[offset : offset + size]


class PartReader(ImageReader):
    """A range of another reader, which it borrows."""

    def __init__(self, whole: ImageReader, offset: int, size: int, label: str) -> None:
        """Raises ImageError if the range is not inside `whole`."""
        super().__init__(f"{whole.name}: {label}", size)
        if offset < 0 or size < 0 or offset + size > whole.size:
            raise ImageError(f"{self.name}: {size} bytes at {offset} are not inside the disk")
        self._whole, self._offset = whole, offset

    def next_data(self, offset: int) -> int:
        return min(self._whole.next_data(self._offset + offset) - self._offset, self.size)

    def _read(self, offset: int, size: int) -> bytes:
        return self._whole.pread(size, self._offset + offset)


@dataclass(frozen=True, slots=True)
class Section:
    """A range of an assembled disk: it begins with what `content` has from `start` on, zeros follow."""

    offset: int
    content: ImageReader
    start: int = 0


class AssembledReader(ImageReader):
    """A disk put together from sections in order, each up to where the next begins; it owns their readers."""

    def __init__(self, name: str, size: int, sections: Sequence[Section]) -> None:
        super().__init__(name, size)
        self._sections = tuple(sections)
        self._starts = [section.offset for section in sections]

    def close(self) -> None:
        for section in self._sections:
            section.content.close()

    def next_data(self, offset: int) -> int:
        index = bisect_right(self._starts, offset) - 1
        while offset < self.size:
            section, limit = self._sections[index], self._end(index)
            inside = section.start + offset - section.offset
            if inside < section.content.size:
                found = offset + section.content.next_data(inside) - inside
                if found < limit:
                    return found
            offset, index = limit, index + 1
        return self.size

    def _end(self, index: int) -> int:
        return self._starts[index + 1] if index + 1 < len(self._starts) else self.size

    def _read(self, offset: int, size: int) -> bytes:
        parts = []
        index = bisect_right(self._starts, offset) - 1
        end = offset + size
        while offset < end:
            section, limit = self._sections[index], self._end(index)
            index += 1
            length = min(end, limit) - offset
            data = section.content.pread(length, section.start + offset - section.offset)
            parts.append(data.ljust(length, b"\0"))
            offset += length
        return b"".join(parts)


def copy_image(image: ImageReader, fd: int) -> None:
    """Makes the regular file `fd` a sparse raw copy of `image`; earlier content is gone."""
    os.ftruncate(fd, 0)
    record_format(fd, RAW)
    os.ftruncate(fd, image.size)
    for offset, data in image.chunks():
        write_at(fd, offset, data)
