"""The content digest that the signature schemes sign. Source: the v2 scheme, "Integrity-protected contents".

The digested parts are all before the signing block, the central directory, and the EOCD with its central directory
offset replaced by the start of the signing block.
"""

import hashlib

from avf.apk import merkle
from avf.apk.algorithms import ContentDigest
from avf.apk.errors import VerificationError
from avf.apk.fields import u32, u64
from avf.apk.signing_block import SignedApk
from avf.apk.source import Source, page_buffer
from avf.apk.zip import EOCD_CD_OFFSET_FIELD
from avf.named import NamedTuple

CHUNK_SIZE = 1 << 20
_CHUNK_PREFIX = b"\xa5"
_TOP_PREFIX = b"\x5a"
_VERITY_SALT = bytes(8)


class Contents(NamedTuple):
    """The signed parts of a file: `[0, front)`, `[cd_offset, cd_offset + cd_size)` and an edited EOCD."""

    source: Source
    front: int
    cd_offset: int
    cd_size: int
    eocd: bytes


def contents_of(apk: SignedApk) -> Contents:
    """What the signatures of `apk` cover."""
    eocd = apk.source.read_at(apk.zip.eocd_offset, apk.zip.eocd_size)
    return make_contents(apk.source, apk.block_offset, apk.zip.cd_offset, apk.zip.cd_size, eocd)


def make_contents(
    source: Source, front: int, cd_offset: int, cd_size: int, eocd: bytes
) -> Contents:
    field = EOCD_CD_OFFSET_FIELD
    return Contents(
        source, front, cd_offset, cd_size, eocd[:field] + u32(front) + eocd[field + 4 :]
    )


def content_digest(contents: Contents, kind: ContentDigest) -> bytes:
    """The digest of `kind`, as a signer records it."""
    if kind is ContentDigest.VERITY_SHA256:
        return _verity_digest(contents)
    return _chunked_digest(contents, "sha256" if kind is ContentDigest.CHUNKED_SHA256 else "sha512")


def _chunked_digest(contents: Contents, hash_name: str) -> bytes:
    sizes = (contents.front, contents.cd_size, len(contents.eocd))
    chunk_count = sum(-(-size // CHUNK_SIZE) for size in sizes)
    top = hashlib.new(hash_name, _TOP_PREFIX + u32(chunk_count))
    buffer = page_buffer(CHUNK_SIZE)
    for start, size in ((0, contents.front), (contents.cd_offset, contents.cd_size)):
        for offset in range(start, start + size, CHUNK_SIZE):
            chunk = buffer[: min(CHUNK_SIZE, start + size - offset)]
            contents.source.read_into(chunk, offset)
            top.update(_chunk_digest(chunk, hash_name))
    top.update(_chunk_digest(memoryview(contents.eocd), hash_name))
    return top.digest()


def _chunk_digest(chunk: memoryview, hash_name: str) -> bytes:
    digest = hashlib.new(hash_name, _CHUNK_PREFIX + u32(len(chunk)))
    digest.update(chunk)
    return digest.digest()


def _verity_digest(contents: Contents) -> bytes:
    """Root hash of the Merkle tree over the parts joined, then their length as u64.

    As `apksigner` computes it: the salt (8 zero bytes) is not padded, and even a single block gets a tree level.
    """
    if contents.front % merkle.BLOCK_SIZE:
        raise VerificationError(
            "APK Signing Block does not start on a 4096-byte boundary, as a verity digest requires"
        )
    if (contents.cd_offset - contents.front) % merkle.BLOCK_SIZE:
        raise VerificationError(
            "APK Signing Block has a size that is no multiple of 4096, as a verity digest requires"
        )
    joined = _Joined(contents)
    sizes = merkle.level_sizes(joined.size) or [merkle.BLOCK_SIZE]
    tree = merkle.TreeBuilder(sizes, _VERITY_SALT, _forget)
    for offset in range(0, joined.size, merkle.READ_SIZE):
        data = joined.read_at(offset, min(merkle.READ_SIZE, joined.size - offset))
        tree.add(memoryview(data + bytes(-len(data) % merkle.BLOCK_SIZE)))
    return tree.finish() + u64(joined.size)


def _forget(offset: int, blocks: bytes) -> None:
    """The tree itself is not wanted."""


class _Joined:
    """The signed parts as one run of bytes."""

    def __init__(self, contents: Contents) -> None:
        self._contents = contents
        self.size = contents.front + contents.cd_size + len(contents.eocd)

    def read_at(self, offset: int, length: int) -> bytes:
        contents = self._contents
        pieces = []
        for size, start in ((contents.front, 0), (contents.cd_size, contents.cd_offset)):
            take = max(0, min(length, size - offset))
            if take:
                pieces.append(contents.source.read_at(start + offset, take))
                length -= take
                offset += take
            offset -= size
        pieces.append(contents.eocd[max(offset, 0) : max(offset, 0) + length])
        return b"".join(pieces)
