"""The idsig: APK Signature Scheme v4's file with an APK's Merkle tree.

    u32 version = 2
    lp32 hashing info:  u32 hash algorithm = 1 (SHA-256), u8 log2 of the block size = 12, lp32 salt, lp32 root hash
    lp32 signing info:  lp32 APK digest, lp32 certificate, lp32 additional data, lp32 public key,
                        u32 signature algorithm ID, lp32 signature; what follows inside is skipped
    u32 tree size, tree

Source: https://source.android.com/docs/security/features/apksigning/v4 and `apksigner`'s output. Like the host of
AVF, `Idsig.create` leaves certificate, key and signature empty: trust rests on the root hash and on v3.
"""

import os
from collections.abc import Callable
from typing import BinaryIO

from avf.apk import merkle
from avf.apk.algorithms import ContentDigest, algorithm_of
from avf.apk.errors import ApkError, IdsigError
from avf.apk.fields import FieldReader, lp32, u32, u64
from avf.apk.signing_block import SignedApk, find_signing_block
from avf.apk.source import FdSource, Source, open_source, require_regular
from avf.apk.verify import DEFAULT_SDK, recorded_digest

VERSION = 2
HASH_SHA256 = 1
_LOG2_BLOCK_SIZE = 12
_MAX_INFO = 64 << 10
_MAX_SALT = 64
_DIGEST_SIZES = {kind.length for kind in ContentDigest}


class Idsig:
    """The fields of an idsig. The tree itself stays in the file (or, after `create`, in `tree`)."""

    __slots__ = (
        "additional_data",
        "apk_digest",
        "certificate",
        "hash_algorithm",
        "public_key",
        "root_hash",
        "salt",
        "signature",
        "signature_algorithm_id",
        "tree",
        "tree_offset",
        "tree_size",
    )

    def __init__(
        self,
        *,
        root_hash: bytes,
        apk_digest: bytes,
        signature_algorithm_id: int,
        tree_size: int,
        salt: bytes = b"",
        certificate: bytes = b"",
        additional_data: bytes = b"",
        public_key: bytes = b"",
        signature: bytes = b"",
        tree_offset: int | None = None,
        tree: bytes | None = None,
    ) -> None:
        self.hash_algorithm = HASH_SHA256
        self.root_hash = root_hash
        self.apk_digest = apk_digest
        self.signature_algorithm_id = signature_algorithm_id
        self.salt = salt
        self.certificate = certificate
        self.additional_data = additional_data
        self.public_key = public_key
        self.signature = signature
        self.tree_size = tree_size
        self.tree = tree
        self.tree_offset = len(self.header()) if tree_offset is None else tree_offset

    @property
    def block_size(self) -> int:
        """Bytes in a block of the tree."""
        return 1 << _LOG2_BLOCK_SIZE

    @classmethod
    def create(
        cls,
        apk: int | BinaryIO,
        *,
        salt: bytes = b"",
        sdk: int = DEFAULT_SDK,
        allow_v2: bool = False,
    ) -> "Idsig":
        """Make one for `apk`, with its tree in memory (1/127 of the APK).

        The APK's own signature is not verified. IdsigError if the APK is not validly laid out, or has no v3
        signature with a supported algorithm.
        """
        signed_apk = _locate(open_source(apk))
        tree = bytearray(merkle.tree_size(signed_apk.source.size))

        def keep(offset: int, data: bytes) -> None:
            tree[offset : offset + len(data)] = data

        made = _describe(signed_apk, salt, sdk, allow_v2)
        made.root_hash = merkle.build(signed_apk.source, salt, keep)
        made.tree = bytes(tree)
        return made

    @classmethod
    def parse(cls, idsig: int | BinaryIO) -> "Idsig":
        """Read the fields of a file or block device, which may be longer than the idsig. IdsigError if broken."""
        source = open_source(idsig)
        version = _read_u32(source, 0, "version")
        if version != VERSION:
            raise IdsigError(f"idsig: version {version}, only {VERSION} is supported")
        hashing, position = _read_info(source, 4, "hashing info")
        signing, position = _read_info(source, position, "signing info")
        tree_size = _read_u32(source, position, "tree size")
        offset = position + 4
        if tree_size > source.size - offset:
            raise IdsigError(
                f"idsig: tree of {tree_size} bytes does not fit in the {source.size - offset} left"
            )
        salt, root_hash = _parse_hashing_info(hashing)
        return cls(
            root_hash=root_hash,
            salt=salt,
            tree_size=tree_size,
            tree_offset=offset,
            apk_digest=_parse_digest(signing),
            certificate=signing.lp32("certificate"),
            additional_data=signing.lp32("additional data"),
            public_key=signing.lp32("public key"),
            signature_algorithm_id=_parse_algorithm(signing),
            signature=signing.lp32("signature"),
        )

    def header(self) -> bytes:
        """Everything before the tree."""
        hashing = (
            u32(self.hash_algorithm)
            + bytes([_LOG2_BLOCK_SIZE])
            + lp32(self.salt)
            + lp32(self.root_hash)
        )
        signing = (
            lp32(self.apk_digest)
            + lp32(self.certificate)
            + lp32(self.additional_data)
            + lp32(self.public_key)
            + u32(self.signature_algorithm_id)
            + lp32(self.signature)
        )
        return u32(VERSION) + lp32(hashing) + lp32(signing) + u32(self.tree_size)

    def signed_bytes(self, apk_size: int) -> bytes:
        """What a v4 signature covers, for an APK of `apk_size` bytes."""
        body = (
            u64(apk_size)
            + u32(self.hash_algorithm)
            + bytes([_LOG2_BLOCK_SIZE])
            + lp32(self.salt)
            + lp32(self.root_hash)
            + lp32(self.apk_digest)
            + lp32(self.certificate)
            + lp32(self.additional_data)
        )
        return u32(len(body) + 4) + body

    def write(self, fd: int) -> None:
        """Replace the contents of a file with this idsig, which `create` must have made."""
        if self.tree is None:
            raise IdsigError("idsig: the tree is not in memory")
        os.ftruncate(fd, 0)
        _pwrite_all(fd, self.header() + self.tree, 0)


def create_or_update_idsig(
    apk_fd: int, idsig_fd: int, *, sdk: int = DEFAULT_SDK, allow_v2: bool = False
) -> bool:
    """Make the file `idsig_fd` the idsig of `apk_fd`; True if it was (re)written, False if it already was.

    Both must be regular files (InputError before anything is read). Neither file's offset matters or moves. The
    tree is written before the header, so that what an interruption leaves is not taken for an idsig. IdsigError if
    the APK cannot have one or the output is not open for writing; the output is then untouched.
    """
    apk_status = require_regular(apk_fd, "input")
    idsig_status = require_regular(idsig_fd, "output")
    if os.path.samestat(apk_status, idsig_status):
        raise IdsigError("input and output are the same file")
    apk = _locate(FdSource(apk_fd))
    wanted = _describe(apk, b"", sdk, allow_v2)
    if _readable(idsig_fd) and _is_current(idsig_fd, wanted, apk):
        return False
    os.ftruncate(idsig_fd, 0)
    base = len(wanted.header())
    os.ftruncate(idsig_fd, base + wanted.tree_size)
    wanted.root_hash = merkle.build(apk.source, b"", _writer(idsig_fd, base))
    _pwrite_all(idsig_fd, wanted.header(), 0)
    return True


def _readable(fd: int) -> bool:
    """May the output be read? IdsigError if it cannot be written at any offset."""
    import fcntl

    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    if flags & os.O_ACCMODE == os.O_RDONLY:
        raise IdsigError("output is not open for writing")
    if flags & os.O_APPEND:
        raise IdsigError("output is open for appending only")
    return flags & os.O_ACCMODE == os.O_RDWR


def _locate(source: Source) -> SignedApk:
    try:
        return find_signing_block(source)
    except ApkError as error:
        raise IdsigError(f"failed to create idsig: {error}") from None


def _describe(apk: SignedApk, salt: bytes, sdk: int, allow_v2: bool) -> Idsig:
    """An idsig with everything but the root hash, which is zeros."""
    if len(salt) > _MAX_SALT:
        raise IdsigError(f"idsig: salt has {len(salt)} bytes, at most {_MAX_SALT} allowed")
    try:
        algorithm, digest = recorded_digest(apk, sdk, allow_v2=allow_v2)
    except ApkError as error:
        raise IdsigError(f"failed to create idsig: {error}") from None
    if len(digest) != algorithm.content_digest.length:
        raise IdsigError(
            f"failed to create idsig: {algorithm.name} with a digest of {len(digest)} bytes"
        )
    return Idsig(
        root_hash=bytes(merkle.HASH_SIZE),
        apk_digest=digest,
        signature_algorithm_id=algorithm,
        tree_size=merkle.tree_size(apk.source.size),
        salt=salt,
    )


def _is_current(fd: int, wanted: Idsig, apk: SignedApk) -> bool:
    """Does the file hold `wanted`?

    Told by header, length, a tree that is whole, and its leaves over everything behind the APK's contents (signing
    block, central directory, EOCD). The recorded digest alone would miss the same contents signed by another key.
    """
    try:
        found = Idsig.parse(fd)
    except ApkError:
        return False
    wanted.root_hash = found.root_hash
    source = FdSource(fd)
    if source.size != found.tree_offset + found.tree_size:
        return False
    if source.read_at(0, found.tree_offset) != wanted.header():
        return False
    return _tree_is_whole(source, found, apk.source) and _tail_matches(source, found, apk)


def _tree_is_whole(idsig: Source, found: Idsig, apk: Source) -> bool:
    """Does every block of the tree, from the leaves to the root hash, have the digest that its parent holds?"""
    if not found.tree_size:
        block = _padded(apk.read_at(0, apk.size))
        return merkle.hash_blocks(memoryview(block)) == found.root_hash
    offsets = [found.tree_offset + offset for offset in merkle.level_offsets(apk.size)]
    for level, size in enumerate(merkle.level_sizes(apk.size)):
        for start in range(0, size, merkle.READ_SIZE):
            data = idsig.read_at(offsets[level] + start, min(merkle.READ_SIZE, size - start))
            digests = merkle.hash_blocks(memoryview(data))
            if level + 1 == len(offsets):
                return digests == found.root_hash
            parent = offsets[level + 1] + start // merkle.BLOCK_SIZE * merkle.HASH_SIZE
            if idsig.read_at(parent, len(digests)) != digests:
                return False
    return False


def _tail_matches(idsig: Source, found: Idsig, apk: SignedApk) -> bool:
    if not found.tree_size:
        return True
    leaves = found.tree_offset + merkle.level_offsets(apk.source.size)[0]
    start = apk.block_offset // merkle.BLOCK_SIZE * merkle.BLOCK_SIZE
    for offset in range(start, apk.source.size, merkle.READ_SIZE):
        length = min(merkle.READ_SIZE, apk.source.size - offset)
        digests = merkle.hash_blocks(memoryview(_padded(apk.source.read_at(offset, length))))
        position = leaves + offset // merkle.BLOCK_SIZE * merkle.HASH_SIZE
        if idsig.read_at(position, len(digests)) != digests:
            return False
    return True


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % merkle.BLOCK_SIZE)


def _read_u32(source: Source, offset: int, field: str) -> int:
    if source.size - offset < 4:
        raise IdsigError(f"idsig: the file ends at byte {source.size}, before its {field}")
    return int.from_bytes(source.read_at(offset, 4), "little")


def _read_info(source: Source, offset: int, field: str) -> tuple[FieldReader, int]:
    """A reader over the lp32 at `offset`, and where it ends."""
    length = _read_u32(source, offset, f"length of {field}")
    start = offset + 4
    if length > min(_MAX_INFO, source.size - start):
        raise IdsigError(f"idsig: {field} of {length} bytes is too long")
    return FieldReader(source.read_at(start, length), f"idsig {field}", IdsigError), start + length


def _parse_hashing_info(reader: FieldReader) -> tuple[bytes, bytes]:
    algorithm = reader.u32("hash algorithm")
    if algorithm != HASH_SHA256:
        raise IdsigError(f"idsig: hash algorithm {algorithm}, only {HASH_SHA256} is supported")
    log2 = reader.u8("log2 of block size")
    if log2 != _LOG2_BLOCK_SIZE:
        raise IdsigError(f"idsig: log2 of block size {log2}, only {_LOG2_BLOCK_SIZE} is supported")
    salt = reader.lp32("salt", _MAX_SALT)
    root_hash = reader.lp32("root hash", merkle.HASH_SIZE)
    if len(root_hash) != merkle.HASH_SIZE:
        raise IdsigError(f"idsig: root hash has {len(root_hash)} bytes, not {merkle.HASH_SIZE}")
    if reader.remaining:
        raise IdsigError(f"idsig: {reader.remaining} bytes too many in the hashing info")
    return salt, root_hash


def _parse_digest(reader: FieldReader) -> bytes:
    digest = reader.lp32("APK digest")
    if len(digest) not in _DIGEST_SIZES:
        raise IdsigError(f"idsig: APK digest has {len(digest)} bytes")
    return digest


def _parse_algorithm(reader: FieldReader) -> int:
    algorithm_id = reader.u32("signature algorithm ID")
    if algorithm_of(algorithm_id) is None:
        raise IdsigError(f"idsig: unknown signature algorithm ID {algorithm_id:#x}")
    return algorithm_id


def _writer(fd: int, base: int) -> Callable[[int, bytes], None]:
    def write(offset: int, data: bytes) -> None:
        _pwrite_all(fd, data, base + offset)

    return write


def _pwrite_all(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        count = os.pwrite(fd, view, offset)
        view = view[count:]
        offset += count
