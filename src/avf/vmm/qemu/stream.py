"""QEMU's migration stream, as far as it is needed to take the pages of the guest's memory out of it.

Source: QEMU 7.2, migration/savevm.c (qemu_savevm_state_setup, save_section_header and footer) and migration/ram.c
(ram_save_setup, save_page_header). All numbers are big-endian:

    file       "QEVM", u32 version, [u8 7, u32 length, name of the board], section ...
    section    u8 kind (1 start, 2 part, 3 end), u32 section, start only: string, u32 instance, u32 version;
               records of memory up to the one with END; [u8 0x7E, u32 section]
    record     u64 address | flags; unless SAME_BLOCK: string; PAGE: 4096 bytes, FILL: the byte that fills the page
    string     u8 length, bytes
"""

import struct
from collections.abc import Iterator

PAGE = 4096

_MAGIC = b"QEVM\0\0\0\3"
_BOARD, _FOOTER = 7, 0x7E
_START, _PART, _END = 1, 2, 3
_FILL, _SIZES, _DATA, _LAST, _SAME_BLOCK = 0x02, 0x04, 0x08, 0x10, 0x20
_MEMORY = b"ram"
_U32, _U64 = struct.Struct(">I"), struct.Struct(">Q")


class StreamError(ValueError):
    """This is no migration stream, or not of a form that is known."""


def without_memory(
    stream: memoryview, block: str, memory: memoryview
) -> Iterator[bytes | memoryview]:
    """The pieces of the same stream without the pages of the memory block `block`, which go to their places in
    `memory`, all zeros until then.

    Raises StreamError, maybe after some pieces.
    """
    return _Filter(stream, block.encode(), memory).pieces()


class _Filter:
    def __init__(self, stream: memoryview, block: bytes, memory: memoryview) -> None:
        self._stream = stream
        self._block = block
        self._memory_of_block = memory
        self._at = 0
        self._memory: int | None = None
        self._read_block = self._written_block = b""

    def pieces(self) -> Iterator[bytes | memoryview]:
        try:
            yield self._preamble()
            while self._is_of_memory():
                yield from self._section()
        except (struct.error, IndexError) as error:
            raise StreamError(f"the stream ends within its memory: {error}") from error
        if self._memory is None:
            raise StreamError("the stream does not begin with the guest's memory")
        yield self._stream[self._at :]

    def _take(self, size: int) -> memoryview:
        piece = self._stream[self._at : self._at + size]
        if len(piece) != size:
            raise StreamError(f"the stream ends at byte {len(self._stream)}, within its memory")
        self._at += size
        return piece

    def _number(self, layout: struct.Struct) -> int:
        (number,) = layout.unpack(self._take(layout.size))
        return int(number)

    def _string(self) -> bytes:
        return bytes(self._take(self._take(1)[0]))

    def _preamble(self) -> memoryview:
        if self._take(len(_MAGIC)) != _MAGIC:
            raise StreamError("this is no migration stream of version 3")
        if self._stream[self._at] == _BOARD:
            self._take(1)
            self._take(self._number(_U32))
        return self._stream[: self._at]

    def _is_of_memory(self) -> bool:
        kind, (section,) = self._stream[self._at], _U32.unpack_from(self._stream, self._at + 1)
        if kind == _START and self._memory is None:
            name = self._stream[self._at + 5 :][: 1 + len(_MEMORY)]
            if name == bytes([len(_MEMORY)]) + _MEMORY:
                self._memory = section
        return kind in (_START, _PART, _END) and section == self._memory

    def _section(self) -> Iterator[bytes | memoryview]:
        start = self._at
        kind = self._take(1)[0]
        self._take(_U32.size)
        if kind == _START:
            self._string()
            self._take(2 * _U32.size)
        yield self._stream[start : self._at]
        more = True
        while more:
            word = self._number(_U64)
            flags, address = word & (PAGE - 1), word & ~(PAGE - 1)
            if flags & (_FILL | _DATA):
                yield from self._page(address, flags)
                if self._read_block == self._block:
                    self._copy_pages(self._memory_of_block)
                continue
            yield _U64.pack(word)
            if flags == _SIZES:
                yield self._sizes(address)
            elif flags == _LAST:
                more = False
            else:
                raise StreamError(f"a record with the flags {flags:#x} is not known")
        if self._stream[self._at] == _FOOTER:
            yield self._take(1 + _U32.size)

    def _sizes(self, total: int) -> memoryview:
        start = self._at
        while total > 0:
            self._string()
            total -= self._number(_U64)
        return self._stream[start : self._at]

    def _page(self, address: int, flags: int) -> Iterator[bytes | memoryview]:
        if flags & ~(_FILL | _DATA | _SAME_BLOCK):
            raise StreamError(f"a page with the flags {flags:#x} is not known")
        if not flags & _SAME_BLOCK:
            self._read_block = self._string()
        content = self._take(PAGE if flags & _DATA else 1)
        if self._read_block == self._block:
            if flags & _DATA or content[0]:
                self._put(address, content)
            return
        kind = flags & ~_SAME_BLOCK
        if self._read_block == self._written_block:
            yield _U64.pack(address | kind | _SAME_BLOCK)
        else:
            self._written_block = self._read_block
            yield _U64.pack(address | kind) + bytes([len(self._read_block)]) + self._read_block
        yield content

    def _copy_pages(self, memory: memoryview) -> None:
        """As many of those that follow as are plain pages of the same block: nearly all there are."""
        stream, at, last = self._stream, self._at, len(memory) - PAGE
        unpack, size = _U64.unpack_from, _U64.size
        while at + size + PAGE <= len(stream):
            (word,) = unpack(stream, at)
            address = word & ~(PAGE - 1)
            if word & (PAGE - 1) != _DATA | _SAME_BLOCK or address > last:
                break
            memory[address : address + PAGE] = stream[at + size : at + size + PAGE]
            at += size + PAGE
        self._at = at

    def _put(self, address: int, content: memoryview) -> None:
        memory = self._memory_of_block
        if address + PAGE > len(memory):
            raise StreamError(f"a page at {address:#x} is beyond {len(memory):#x} bytes of memory")
        memory[address : address + PAGE] = (
            content if len(content) == PAGE else bytes(content) * PAGE
        )
