"""One thing wrong at a time: every field of a good APK and of a good idsig, and the error that names it."""

import io
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from avf.apk import (
    ApkError,
    Idsig,
    SignatureAlgorithm,
    SigningKey,
    sign_idsig,
    verify,
    verify_idsig,
)
from avf.apk.signing_block import BlockId, find_signing_block
from avf.apk.source import FileSource
from tests.apk.forge import Anatomy, Forger

ECDSA = SignatureAlgorithm.ECDSA_SHA256
SDK = 34


class Field(NamedTuple):
    """Where a field lies."""

    name: str
    offset: int
    size: int


APK_CODES: dict[str, set[str]] = {
    # the container
    "eocd signature": {"zip"},
    "eocd disk": {"zip"},
    "eocd directory disk": {"zip"},
    "eocd disk entries": {"zip"},
    "eocd entries": {"zip"},
    "eocd directory size": {"zip"},
    "eocd directory offset": {"zip"},
    "eocd comment length": {"zip"},
    "directory": {"digest-mismatch"},
    "contents": {"digest-mismatch"},
    # the signing block
    "block size": {"signing-block"},
    "block footer size": {"signing-block"},
    "block magic": {"scheme-not-found"},
    "pair length": {"signing-block", "scheme-not-found", "accepted"},
    "pair id": {"scheme-not-found"},
    "padding length": {"accepted"},
    "padding id": set(),
    # the v3 signer
    "signers length": {"signing-block", "no-signer"},
    "signer length": {"signing-block"},
    "signed data length": {"signing-block"},
    "digests length": {"signature-invalid"},
    "digest item length": {"signature-invalid"},
    "digest algorithm": {"signature-invalid"},
    "digest length": {"signature-invalid"},
    "digest": {"signature-invalid"},
    "certificates length": {"signature-invalid"},
    "certificate length": {"signature-invalid"},
    "certificate": {"signature-invalid"},
    "signed min SDK": {"signature-invalid"},
    "signed max SDK": {"signature-invalid"},
    "attributes length": {"signature-invalid"},
    "min SDK": {"signer-mismatch", "no-signer"},
    "max SDK": {"signer-mismatch", "no-signer"},
    "signatures length": {"signing-block", "unsupported-algorithm"},
    "signature item length": {"signing-block"},
    "signature algorithm": {"unsupported-algorithm", "signature-invalid"},
    "signature length": {"signing-block", "signature-invalid"},
    "signature": {"signature-invalid"},
    "public key length": {"signing-block", "public-key"},
    "public key": {"public-key", "signature-invalid"},
}

IDSIG_CODES: dict[str, set[str]] = {
    "version": {"idsig"},
    "hashing info length": {"idsig"},
    "hash algorithm": {"idsig"},
    "log2 of block size": {"idsig"},
    "salt length": {"idsig"},
    "root hash length": {"idsig"},
    "root hash": {"signature-invalid"},
    "signing info length": {"idsig"},
    "APK digest length": {"idsig"},
    "APK digest": {"idsig-mismatch"},
    "certificate length": {"idsig"},
    "certificate": {"signature-invalid"},
    "additional data length": {"idsig"},
    "public key length": {"idsig"},
    "public key": {"public-key", "signature-invalid"},
    "signature algorithm": {"idsig", "signature-invalid"},
    "signature length": {"idsig", "signature-invalid"},
    "signature": {"signature-invalid"},
    "tree size": {"idsig", "idsig-mismatch"},
    "tree": {"tree-mismatch"},
}


class Walk:
    """Steps over fields and notes where they are."""

    def __init__(self, data: bytes, position: int) -> None:
        self._data = data
        self.position = position
        self.fields: list[Field] = []

    def take(self, name: str, size: int) -> bytes:
        start = self.position
        self.fields.append(Field(name, start, size))
        self.position += size
        return self._data[start : self.position]

    def length(self, name: str) -> int:
        return int.from_bytes(self.take(f"{name} length", 4), "little")

    def lp32(self, name: str) -> None:
        size = self.length(name)
        if size:
            self.take(name, size)


@pytest.fixture
def apk(anatomy: Anatomy, key: SigningKey) -> bytes:
    """With v3 alone."""
    signer = Forger(key, [(ECDSA, anatomy.digest(ECDSA))])
    return anatomy.with_pairs((BlockId.V3, signer.block()), (BlockId.VERITY_PADDING, b"0")).build()


@pytest.fixture
def idsig(apk: bytes, key: SigningKey) -> bytes:
    made = Idsig.create(io.BytesIO(apk))
    sign_idsig(made, len(apk), key)
    return made.header() + bytes(made.tree or b"")


def apk_fields(data: bytes) -> list[Field]:
    found = find_signing_block(FileSource(io.BytesIO(data)))
    walk = Walk(data, 0)
    walk.take("contents", found.block_offset)
    walk.take("block size", 8)
    walk.take("pair length", 8)
    walk.take("pair id", 4)
    _walk_v3(walk)
    walk.take("padding length", 8)
    walk.take("padding id", 4)
    walk.position += 1
    walk.take("block footer size", 8)
    walk.take("block magic", 16)
    walk.take("directory", found.zip.cd_size)
    _walk_eocd(walk)
    assert walk.position == len(data)
    return walk.fields


def _walk_v3(walk: Walk) -> None:
    for name in ("signers", "signer", "signed data", "digests", "digest item"):
        walk.length(name)
    walk.take("digest algorithm", 4)
    walk.lp32("digest")
    walk.length("certificates")
    walk.lp32("certificate")
    walk.take("signed min SDK", 4)
    walk.take("signed max SDK", 4)
    walk.length("attributes")
    walk.take("min SDK", 4)
    walk.take("max SDK", 4)
    walk.length("signatures")
    walk.length("signature item")
    walk.take("signature algorithm", 4)
    walk.lp32("signature")
    walk.lp32("public key")


def _walk_eocd(walk: Walk) -> None:
    for name, size in (
        ("signature", 4),
        ("disk", 2),
        ("directory disk", 2),
        ("disk entries", 2),
        ("entries", 2),
        ("directory size", 4),
        ("directory offset", 4),
        ("comment length", 2),
    ):
        walk.take(f"eocd {name}", size)


def idsig_fields(data: bytes) -> list[Field]:
    walk = Walk(data, 0)
    walk.take("version", 4)
    walk.length("hashing info")
    walk.take("hash algorithm", 4)
    walk.take("log2 of block size", 1)
    walk.lp32("salt")
    walk.lp32("root hash")
    walk.length("signing info")
    for name in ("APK digest", "certificate", "additional data", "public key"):
        walk.lp32(name)
    walk.take("signature algorithm", 4)
    walk.lp32("signature")
    walk.take("tree", int.from_bytes(walk.take("tree size", 4), "little"))
    assert walk.position == len(data)
    return walk.fields


def corruptions(data: bytes, field: Field) -> Iterator[bytes]:
    """Bits flipped at both ends and in the middle; all zeros; all ones; one more and one less."""
    start, end = field.offset, field.offset + field.size
    old = data[start:end]
    new = [bytes(field.size), b"\xff" * field.size]
    for position in {0, field.size // 2, field.size - 1}:
        for bit in (0x01, 0x80):
            flipped = bytearray(old)
            flipped[position] ^= bit
            new.append(bytes(flipped))
    if field.size in (2, 4, 8):
        number = int.from_bytes(old, "little")
        near = [(number + change) % (1 << 8 * field.size) for change in (1, -1)]
        new += [other.to_bytes(field.size, "little") for other in near]
    for value in new:
        if value != old:
            yield data[:start] + value + data[end:]


Check = Callable[[bytes], object]


def outcomes(data: bytes, field: Field, check: Check) -> set[str]:
    """The codes of all errors; `accepted` where there was none."""
    found = set()
    for bad in corruptions(data, field):
        try:
            check(bad)
            found.add("accepted")
        except ApkError as error:
            assert str(error)
            found.add(error.code)
    return found


def test_every_field_of_an_apk(apk: bytes) -> None:
    def check(data: bytes) -> object:
        return verify(io.BytesIO(data), sdk=SDK)

    check(apk)
    fields = apk_fields(apk)
    assert {field.name for field in fields} == set(APK_CODES)
    for field in fields:
        expected = APK_CODES[field.name] or {"accepted"}
        assert outcomes(apk, field, check) <= expected, field


def test_every_field_of_an_idsig(apk: bytes, idsig: bytes) -> None:
    def check(data: bytes) -> object:
        return verify_idsig(io.BytesIO(apk), io.BytesIO(data))

    check(idsig)
    fields = idsig_fields(idsig)
    assert {field.name for field in fields} == set(IDSIG_CODES)
    for field in fields:
        assert outcomes(idsig, field, check) <= IDSIG_CODES[field.name], field


def test_every_truncation(apk: bytes, idsig: bytes) -> None:
    for size in [*range(0, len(apk), 211), *range(len(apk) - 300, len(apk))]:
        with pytest.raises(ApkError):
            verify(io.BytesIO(apk[:size]))
    for size in range(len(idsig)):
        with pytest.raises(ApkError):
            verify_idsig(io.BytesIO(apk), io.BytesIO(idsig[:size]))


def test_counts_and_lengths_size_nothing(apk: bytes) -> None:
    """Absurd lengths everywhere at once: refused by what is there, not by running out of memory."""
    block = struct.pack("<IIIII", *[0xFFFFFFF0] * 5)
    anatomy = Anatomy.of(apk)
    for block_id in (BlockId.V3, BlockId.V3_1, BlockId.V2):
        with pytest.raises(ApkError, match="does not fit"):
            verify(io.BytesIO(anatomy.with_pairs((block_id, block)).build()), allow_v2=True)
