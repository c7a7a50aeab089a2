"""What each target does with one input, which is any bytes."""

import io
import struct
import sys
from collections.abc import Callable
from unittest import mock

from avf.apk import (
    ApkError,
    EntryError,
    Idsig,
    SigningError,
    V1SignatureError,
    entries,
    idsig_verify,
    jks,
    lineage,
    pkcs12,
    read_entry,
    verify_idsig,
    verify_v1,
)
from avf.apk import verify as verify_apk
from avf.apk.axml_reader import read_manifest, read_package
from avf.apk.crypto import certificate_public_key, read_public_key
from avf.apk.crypto.names import certificate_subject
from avf.apk.rewrite import rewrite
from avf.apk.source import FileSource
from avf.apk.tree_check import CheckedReader, Tree
from avf.apk.v1 import blocks
from avf.apk.v1.ber import BadBer
from avf.apk.v1.certificates import parse_certificate
from avf.apk.v1.pkcs7 import parse_attributes, parse_signed_data
from avf.apk.zip import find_sections

LIMIT = 1 << 16
PASSWORD = "swordfish"
_VERIFY = sys.modules["avf.apk.verify"]
"""The module; the face has the function of that name."""


class _Any(bytes):
    """Equal to everything: the digest that the APK claims is taken for right."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False


def verify(data: bytes) -> None:
    """All of `verify`, with signatures and digests that are always right: no fuzzer finds a real one."""
    with (
        mock.patch.object(_VERIFY, "verify_signature"),
        mock.patch.object(lineage, "verify_signature"),
        mock.patch.object(_VERIFY, "content_digest", return_value=_Any()),
    ):
        verified = verify_apk(io.BytesIO(data), allow_v2=True)
    assert verified.signers
    assert verified.size <= len(data)


def zip_entries(data: bytes) -> None:
    """The container and the contents of all its entries."""
    file = io.BytesIO(data)
    for entry in entries(file):
        try:
            assert len(read_entry(file, entry.name, limit=LIMIT)) == entry.size <= LIMIT
        except ApkError:
            continue


def idsig(data: bytes) -> None:
    """What is read is what is there, byte for byte."""
    found = Idsig.parse(io.BytesIO(data))
    assert found.header() == data[: found.tree_offset]
    assert found.tree_offset + found.tree_size <= len(data)


def idsig_of_apk(data: bytes) -> None:
    """An idsig against an APK: both are in the input, the idsig first."""
    split = int.from_bytes(data[:4], "little") % (len(data) + 1)
    with mock.patch.object(idsig_verify, "verify_signature"):
        verify_idsig(io.BytesIO(data[split:]), io.BytesIO(data[4:split]))


def proof_of_rotation(data: bytes) -> None:
    """Reading and writing a lineage."""
    nodes = lineage.parse_lineage(data)
    assert lineage.parse_lineage(lineage.encode_lineage(nodes)) == nodes
    with mock.patch.object(lineage, "verify_signature"):
        lineage.verify_lineage(nodes)


def certificate(data: bytes) -> None:
    """The key in a certificate is a part of it."""
    assert certificate_public_key(data) in data


def tree(data: bytes) -> None:
    """Reading through a tree that is of some other file."""
    size = int.from_bytes(data[:3], "little") % (1 << 21)
    source = FileSource(io.BytesIO(data.ljust(size + 3, b"\0")), size)
    reader = CheckedReader(source, Tree(FileSource(io.BytesIO(data[35:])), 0, size, data[3:35]))
    reader.read()


def manifest(data: bytes) -> None:
    """The package and the SDKs that a binary manifest names."""
    try:
        package = read_package(data)
        assert 0 < len(package.name) < 256
        assert 0 <= package.version < 1 << 64
    except EntryError:
        pass
    sdks = read_manifest(data)
    assert abs(sdks.min_sdk) < 1 << 31


def public_key(data: bytes) -> None:
    """The one encoding of a key is its own encoding."""
    key = read_public_key(data)
    assert read_public_key(key.der) == key


def rewritten(data: bytes) -> None:
    """A ZIP without v1 files has the same other entries, and stays as it is when written again."""
    once, twice = io.BytesIO(), io.BytesIO()
    for source, out in ((FileSource(io.BytesIO(data)), once), (None, twice)):
        source = source or FileSource(io.BytesIO(once.getvalue()))
        sections = find_sections(source)
        directory, count = rewrite(source, sections, sections.cd_offset, out)
        start = out.tell()
        counts = struct.pack("<HHII", count, count, len(directory), start)
        out.write(directory + b"PK\5\6" + bytes(4) + counts + bytes(2))
    assert once.getvalue() == twice.getvalue()


def java_store(data: bytes) -> None:
    """A key store of Java's, whose digests are always right."""
    with mock.patch.object(jks.hmac, "compare_digest", return_value=True):
        for key in jks.read_store(data, PASSWORD).values():
            assert len(jks.decrypt(key, PASSWORD)) <= len(data)


def pkcs12_store(data: bytes) -> None:
    """A store with one key alone is a store with that key."""
    chosen = pkcs12.keys_in(data)
    for choice in chosen:
        assert [again.alias for again in pkcs12.keys_in(choice.store)] == [choice.alias]
    if not chosen:
        raise SigningError("no key was found")


def subject(data: bytes) -> None:
    """The name in a certificate is text."""
    assert isinstance(certificate_subject(data), str)


def signature_block(data: bytes) -> None:
    """A PKCS #7 block, its certificates and its signed attributes."""
    try:
        found = parse_signed_data(data)
        for item in found.certificates:
            assert parse_certificate(item).public_key in item
        for info in found.signers:
            parse_attributes(info.attributes or b"\x31\0")
    except BadBer as error:
        raise V1SignatureError(str(error)) from None


def v1(data: bytes) -> None:
    """All of a v1 signature, with signatures that are always right."""
    with mock.patch.object(blocks, "verify_signature"):
        assert verify_v1(io.BytesIO(data), min_sdk=18).signers


TARGETS: dict[str, Callable[[bytes], None]] = {
    "block": signature_block,
    "certificate": certificate,
    "idsig": idsig,
    "idsig_of_apk": idsig_of_apk,
    "java_store": java_store,
    "lineage": proof_of_rotation,
    "manifest": manifest,
    "pkcs12": pkcs12_store,
    "public_key": public_key,
    "rewrite": rewritten,
    "subject": subject,
    "tree": tree,
    "v1": v1,
    "verify": verify,
    "zip": zip_entries,
}


def run(name: str, data: bytes) -> bool:
    """Run a target; True if it accepted the input, False if it refused it with an ApkError."""
    try:
        TARGETS[name](data)
    except ApkError as error:
        assert error.code
        assert str(error)
        return False
    return True
