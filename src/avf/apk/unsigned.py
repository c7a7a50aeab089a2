"""Write what is to be signed: an APK's entries, aligned, without old signatures and with the files of new ones."""

import struct
from collections.abc import Callable
from typing import BinaryIO

from avf.apk import signing_block
from avf.apk.append import append_entries
from avf.apk.digest import Contents, make_contents
from avf.apk.errors import ApkError, SigningError
from avf.apk.fields import u32
from avf.apk.rewrite import LIBRARY_PAGE, has_replaced, is_aligned, rewrite
from avf.apk.signing_block import find_signing_block, is_made_by_signing
from avf.apk.source import FileSource, Source, open_source
from avf.apk.v1.sign import SignedFile
from avf.apk.zip import EOCD_CD_OFFSET_FIELD, ZipSections, find_sections

ALIGNMENT = 4096
"""Signing blocks begin and end on these boundaries."""
_COPY_SIZE = 1 << 20
_MAX_ENTRIES = 0xFFFF

FileMaker = Callable[[Source, ZipSections], list[SignedFile]]
"""Makes the entries that are added to those of an APK."""


def write_unsigned(
    apk: int | BinaryIO, out: BinaryIO, page: int | None, make_files: FileMaker
) -> Contents:
    """Copy the entries, aligned where `page` says so, add files, directory and EOCD; the contents to sign."""
    source = open_source(apk)
    try:
        sections = find_sections(source)
        front = _content_end(source, sections.cd_offset)
        misaligned = page is not None and not is_aligned(source, sections, page)
        out.seek(0)
        out.truncate()
        eocd = source.read_at(sections.eocd_offset, sections.eocd_size)
        if misaligned or has_replaced(source, sections):
            directory, count = rewrite(
                source,
                sections,
                front,
                out,
                page or LIBRARY_PAGE,
                is_left_out=is_made_by_signing,
            )
            eocd = _with_directory(eocd, count, len(directory))
        else:
            directory = source.read_at(sections.cd_offset, sections.cd_size)
            count = sections.entry_count
            _copy(source, front, out)
        if files := make_files(source, sections):
            headers = append_entries(out, files)
            directory, count = directory + b"".join(headers), count + len(headers)
            eocd = _with_directory(eocd, count, len(directory))
    except ApkError as error:
        raise SigningError(f"cannot sign: {error}") from error
    front = out.tell()
    padded = front + -front % ALIGNMENT
    out.write(bytes(padded - front))
    out.write(directory)
    out.write(with_cd_offset(eocd, padded))
    out.flush()
    return make_contents(FileSource(out), padded, padded, len(directory), eocd)


def _copy(source: Source, end: int, out: BinaryIO) -> None:
    for offset in range(0, end, _COPY_SIZE):
        out.write(source.read_at(offset, min(_COPY_SIZE, end - offset)))


def _with_directory(eocd: bytes, count: int, size: int) -> bytes:
    """The EOCD for another central directory: twice the number of entries, and the size in bytes."""
    if count > _MAX_ENTRIES:
        raise SigningError(f"cannot sign: {count} entries are more than a ZIP has without ZIP64")
    return eocd[:8] + struct.pack("<HHI", count, count, size) + eocd[16:]


def _content_end(source: Source, cd_offset: int) -> int:
    """Where the entries end: at the signing block, if there is one."""
    has_block = cd_offset >= signing_block.MIN_SIZE and (
        source.read_at(cd_offset - 16, 16) == signing_block.MAGIC
    )
    return find_signing_block(source).block_offset if has_block else cd_offset


def with_cd_offset(eocd: bytes, offset: int) -> bytes:
    """The EOCD for a central directory at byte `offset`."""
    field = EOCD_CD_OFFSET_FIELD
    return eocd[:field] + u32(offset) + eocd[field + 4 :]
