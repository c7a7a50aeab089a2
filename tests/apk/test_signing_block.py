"""The signing block's frame, with every field set wrong."""

import io
import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avf.apk import SchemeNotFound, SigningBlockError, verify
from avf.apk.fields import u64
from avf.apk.signing_block import BlockId, encode, find_signing_block
from avf.apk.source import FileSource
from tests.apk.forge import Anatomy

MAGIC = b"APK Sig Block 42"


def frame(body: bytes, *, header: int = 0, footer: int = 0, magic: bytes = MAGIC) -> bytes:
    size = len(body) + 24
    return u64(size + header) + body + u64(size + footer) + magic


def pair(length: int, pair_id: int = 1, value: bytes = b"") -> bytes:
    return struct.pack("<QI", length, pair_id) + value


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (frame(b"", magic=b"x" * 16), "No APK Signing Block before ZIP Central Directory"),
        (frame(b"", header=1), "do not match: 25 vs 24"),
        (frame(b"", header=1, footer=1 << 40), "size out of range: 1099511627800"),
        (frame(b"", footer=-1), "size out of range: 23"),
        (frame(b"1234567"), "pair 0 is cut short"),
        (frame(pair(4) + b"1"), "pair 1 is cut short"),
        (frame(pair(3)), "pair 0 has length 3"),
        (frame(pair(5)), "pair 0 has length 5"),
        (frame(pair((1 << 64) - 1)), "pair 0 has length 18446744073709551615"),
        (frame(pair(4) * 1025), "more than 1024 pairs"),
        (frame(pair(4)), "no value with ID 4031998144"),
        (frame(pair((5 << 20) + 4, BlockId.V3, bytes(5 << 20))), "at most 4194304 allowed"),
    ],
)
def test_a_wrong_field_is_named(anatomy: Anatomy, block: bytes, message: str) -> None:
    with pytest.raises(SigningBlockError, match=message):
        verify(io.BytesIO(anatomy.build(block)))


def test_an_apk_that_is_too_small(anatomy: Anatomy) -> None:
    small = replace(anatomy, front=b"x").build(b"")
    with pytest.raises(SigningBlockError, match="APK too small for APK Signing Block"):
        verify(io.BytesIO(small))


def test_the_first_value_with_an_id_counts(anatomy: Anatomy) -> None:
    data = anatomy.with_pairs((7, b"first"), (7, b"second"), (8, b"")).build()
    apk = find_signing_block(FileSource(io.BytesIO(data)))
    assert apk.ids() == [7, 7, 8]
    assert apk.find(7)[0] == b"first"  # type: ignore[arg-type]
    with pytest.raises(SchemeNotFound):
        apk.find(BlockId.V3_1)


def test_encode_is_what_find_reads(anatomy: Anatomy) -> None:
    block = encode(anatomy.pairs)
    assert len(block) % 4096 == 0
    apk = find_signing_block(FileSource(io.BytesIO(anatomy.build(block))))
    assert (apk.block_offset, apk.block_size) == (len(anatomy.front), len(block))


@given(st.lists(st.tuples(st.integers(0, 0xFFFFFFFF), st.binary(max_size=300)), max_size=20))
def test_any_values_come_back(values: list[tuple[int, bytes]]) -> None:
    data = Anatomy(b"x" * 8, values, b"", EMPTY_EOCD).build()
    apk = find_signing_block(FileSource(io.BytesIO(data)))
    assert [(pair_id, data[at : at + size]) for pair_id, at, size in apk.pairs()] == values


EMPTY_EOCD = b"PK\5\6" + bytes(18)


def test_errors_tell_the_place(anatomy: Anatomy) -> None:
    start = len(anatomy.front)
    for block, offset in [
        (frame(b"", magic=b"x" * 16), start + 16),
        (frame(b"", header=1), start),
        (frame(b"", footer=-1), start + 8),
        (frame(pair(4) + b"1"), start + 8 + 12),
        (frame(pair(3)), start + 8),
        (frame(pair(8, BlockId.V3, b"\1\0\0\0")), start + 8 + 12 + 4),
    ]:
        with pytest.raises(SigningBlockError) as caught:
            verify(io.BytesIO(anatomy.build(block)))
        assert caught.value.offset == offset
