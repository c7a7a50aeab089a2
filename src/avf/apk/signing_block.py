"""The APK Signing Block: `u64 size | pairs | u64 size | magic`, right before the central directory.

A pair is `u64 length | u32 id | value`. Source: https://source.android.com/docs/security/features/apksigning/v2
"APK Signing Block".
"""

import struct
from collections.abc import Iterator
from enum import IntEnum

from avf.apk.errors import SchemeNotFound, SigningBlockError, ZipFormatError
from avf.apk.source import Source
from avf.apk.zip import ZipSections, check_no_gap, find_sections, iter_raw_names
from avf.named import NamedTuple

MAGIC = b"APK Sig Block 42"
MIN_SIZE = 32
NOT_SIGNED = "The APK is not signed"
"""How the error begins if there is neither a signing block nor a v1 signature."""
STAMP_ENTRY = "stamp-cert-sha256"
"""The name of the entry that tells of a source stamp in the signing block."""
_FOOTER = struct.Struct("<Q16s")
_PAIR = struct.Struct("<QI")
_MAX_PAIRS = 1024
_MAX_VALUE = 4 << 20


class BlockId(IntEnum):
    """Ids of the values that this package reads or writes."""

    V2 = 0x7109871A
    V3 = 0xF05368C0
    V3_1 = 0x1B93AD61
    VERITY_PADDING = 0x42726577
    STAMP_V1 = 0x2B09189E
    STAMP_V2 = 0x6DFF800D


class _BrokenPair(SigningBlockError):
    """A pair whose length is out of bounds, so that nothing can be found behind it."""


class SignedApk(NamedTuple):
    """The sections of a signed APK. Contents = [0, block_offset), central directory, EOCD."""

    source: Source
    zip: ZipSections
    block_offset: int
    block_size: int

    def find(self, block_id: BlockId) -> tuple[bytes, int]:
        """The first value with this id and its offset in the file; SchemeNotFound if there is none."""
        for pair_id, offset, length in self.pairs():
            if pair_id == block_id:
                if length > _MAX_VALUE:
                    raise SigningBlockError(
                        f"APK Signing Block: value {pair_id:#x} has {length} bytes, "
                        f"at most {_MAX_VALUE} allowed",
                        offset=offset,
                    )
                return self.source.read_at(offset, length), offset
        raise SchemeNotFound(
            f"APK Signing Block has no value with ID {int(block_id)}", offset=self.block_offset
        )

    def has(self, block_id: BlockId) -> bool:
        """Is there a value with this id, before any pair that is broken? So Android looks for it."""
        try:
            return any(pair_id == block_id for pair_id, _, _ in self.pairs())
        except _BrokenPair:
            return False

    def ids(self) -> list[int]:
        """The ids of all values in order."""
        return [pair_id for pair_id, _, _ in self.pairs()]

    def pairs(self) -> Iterator[tuple[int, int, int]]:
        """(id, offset in the file, length) of every value."""
        position = self.block_offset + 8
        end = self.block_offset + self.block_size - _FOOTER.size
        for index in range(_MAX_PAIRS):
            if position == end:
                return
            if end - position < _PAIR.size:
                raise _BrokenPair(f"APK Signing Block: pair {index} is cut short", offset=position)
            length, pair_id = _PAIR.unpack(self.source.read_at(position, _PAIR.size))
            if not 4 <= length <= end - position - 8:
                raise _BrokenPair(
                    f"APK Signing Block: pair {index} has length {length}", offset=position
                )
            yield pair_id, position + _PAIR.size, length - 4
            position += 8 + length
        if position == end:
            return
        raise SigningBlockError(f"APK Signing Block: more than {_MAX_PAIRS} pairs", offset=position)


def find_signing_block(source: Source, sections: ZipSections | None = None) -> SignedApk:
    """Locate the sections of a signed APK, or take those that were found already.

    SchemeNotFound if there is no signing block, SigningBlockError if it is broken, ZipFormatError.
    """
    sections = sections or find_sections(source)
    check_no_gap(sections)
    end = sections.cd_offset
    if end < MIN_SIZE:
        raise SchemeNotFound(
            f"APK too small for APK Signing Block. ZIP Central Directory offset: {end}", offset=end
        )
    size, magic = _FOOTER.unpack(source.read_at(end - _FOOTER.size, _FOOTER.size))
    if magic != MAGIC:
        raise SchemeNotFound(
            f"{_without_block(source, sections)}: No APK Signing Block before ZIP Central Directory",
            offset=end - len(MAGIC),
        )
    start = end - (size + 8)
    if size < _FOOTER.size or start < 0:
        raise SigningBlockError(
            f"APK Signing Block size out of range: {size}", offset=end - _FOOTER.size
        )
    header = int.from_bytes(source.read_at(start, 8), "little")
    if header != size:
        raise SigningBlockError(
            f"APK Signing Block sizes in header and footer do not match: {header} vs {size}",
            offset=start,
        )
    return SignedApk(source, sections, start, size + 8)


def _without_block(source: Source, sections: ZipSections) -> str:
    """What there is in its place."""
    try:
        names = iter_raw_names(source, sections)
        if any(is_v1_signature(name.decode("latin-1")) for name in names):
            return "The APK has only a v1 (JAR) signature, but v2 or later is asked for"
    except ZipFormatError:
        pass
    return NOT_SIGNED


def is_v1_signature(name: str) -> bool:
    """Is an entry of this name a signature of the v1 scheme, in one of its parts?"""
    folder, _, file = name.upper().partition("/")
    parts = file.endswith((".SF", ".RSA", ".DSA", ".EC")) or file.startswith("SIG-")
    return folder == "META-INF" and "/" not in file and (parts or file == "MANIFEST.MF")


def is_made_by_signing(name: str) -> bool:
    """Is an entry of this name part of a signature, or of the source stamp, that signing anew replaces?"""
    return name == STAMP_ENTRY or is_v1_signature(name)


def encode(pairs: list[tuple[int, bytes]]) -> bytes:
    """A signing block with these values."""
    body = b"".join(_PAIR.pack(len(value) + 4, pair_id) + value for pair_id, value in pairs)
    size = len(body) + _FOOTER.size
    return struct.pack("<Q", size) + body + _FOOTER.pack(size, MAGIC)
