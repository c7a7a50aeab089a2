"""Kernel modules without the calls by which functions are traced, as the kernel itself makes them when it loads them.

A guest traces nothing. The kernel would look for each of these calls by the name of the function it is in.
"""

import struct
from typing import NamedTuple

from avf.image.errors import KernelError

_TRACER = b"__fentry__"
_CALL = 0xE8
_NOP = bytes.fromhex("0f1f440000")
"""Of five bytes, as long as a call."""
_SYMTAB, _RELA = 2, 4
_PC32, _PLT32 = 2, 4
_SECTION = struct.Struct("<II8xQQQIIQQ")
_SYMBOL_SIZE, _RELOCATION_SIZE = 24, 24


class _Section(NamedTuple):
    """What is used of an Elf64_Shdr."""

    name: int
    kind: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    alignment: int
    entry_size: int


def without_tracing(image: bytes) -> bytes:
    """The module, each call of the tracer replaced by as many bytes that do nothing. Raises KernelError.

    Source: the ELF-64 format and the AMD64 ABI's relocations; ftrace_make_nop in arch/x86/kernel/ftrace.c of Linux.
    """
    changed = bytearray(image)
    try:
        sections = _sections(image)
        for section in sections:
            if section.kind == _RELA and sections[section.link].kind == _SYMTAB:
                _replace(changed, sections, section)
    except (struct.error, IndexError, ValueError) as error:
        raise KernelError(f"not a 64-bit ELF module: {error}") from error
    return bytes(changed)


def _sections(image: bytes) -> list[_Section]:
    if image[:6] != b"\x7fELF\x02\x01":
        raise ValueError("no ELF64 little-endian header")
    (table,) = struct.unpack_from("<Q", image, 0x28)
    size, count = struct.unpack_from("<HH", image, 0x3A)
    if size < _SECTION.size or table + count * size > len(image):
        raise ValueError("section headers outside of the file")
    return [_Section(*_SECTION.unpack_from(image, table + index * size)) for index in range(count)]


def _replace(image: bytearray, sections: list[_Section], relocations: _Section) -> None:
    """Those calls of which `relocations` are. A relocation that is taken out becomes one of no kind."""
    symbols, code = sections[relocations.link], sections[relocations.info]
    names = sections[symbols.link].offset
    end = relocations.offset + relocations.size
    for at in range(relocations.offset, end, _RELOCATION_SIZE):
        place, kind, symbol = struct.unpack_from("<QII", image, at)
        (name,) = struct.unpack_from("<I", image, symbols.offset + symbol * _SYMBOL_SIZE)
        call = code.offset + place - 1
        if (
            kind in (_PC32, _PLT32)
            and image.startswith(_TRACER + b"\0", names + name)
            and 0 < place <= code.size - 4
            and image[call] == _CALL
        ):
            image[call : call + len(_NOP)] = _NOP
            image[at + 8 : at + 16] = bytes(8)
