"""The idsig: APK Signature Scheme v4's file with an APK's Merkle tree.

    u32 version = 2
    lp32 hashing info:  u32 hash algorithm = 1 (SHA-256), u8 log2 of the block size = 12, lp32 salt, lp32 root hash
    lp32 signing info:  lp32 APK digest, lp32 certificate, lp32 additional data, lp32 public key,
                        u32 signature algorithm ID, lp32 signature;
                        then for each other signer: u32 ID of its block in the APK, lp32 signing info
    u32 tree size, tree; an idsig without a tree ends before them, or has a size of 0

Source: https://source.android.com/docs/security/features/apksigning/v4 and `apksigner`'s output. Like the host of
AVF, `Idsig.create` leaves certificate, key and signature empty: trust rests on the root hash and on v3.
"""

import os
from collections.abc import Iterator
from typing import BinaryIO

from avf.apk import merkle
from avf.apk.algorithms import ContentDigest, algorithm_of
from avf.apk.errors import ApkError, IdsigError
from avf.apk.fields import FieldReader, lp32, u32, u64
from avf.apk.signing_block import SignedApk, find_signing_block
from avf.apk.source import Source, open_source
from avf.apk.verify import DEFAULT_SDK, recorded_digest
from avf.named import NamedTuple

VERSION = 2
HASH_SHA256 = 1
_LOG2_BLOCK_SIZE = 12
_MAX_INFO = 64 << 10
_MAX_SALT = 64
_MAX_OTHERS = 64
_TREE_SIZE = 4
"""Bytes in the size of the tree."""
_DIGEST_SIZES = {kind.length for kind in ContentDigest}


class SigningInfo(NamedTuple):
    """What one signer says in an idsig; all but digest and algorithm ID is empty where nobody signed."""

    apk_digest: bytes
    certificate: bytes
    """X.509, DER."""
    additional_data: bytes
    public_key: bytes
    """SubjectPublicKeyInfo, DER."""
    signature_algorithm_id: int
    signature: bytes

    def encode(self) -> bytes:
        """As it stands in an idsig (APK Signature Scheme v4, `signing_info`)."""
        return (
            lp32(self.apk_digest)
            + lp32(self.certificate)
            + lp32(self.additional_data)
            + lp32(self.public_key)
            + u32(self.signature_algorithm_id)
            + lp32(self.signature)
        )


class Idsig:
    """The fields of an idsig. The tree itself stays in the file (or, after `create`, in `tree`)."""

    __slots__ = (
        "additional_data",
        "apk_digest",
        "certificate",
        "hash_algorithm",
        "other_signers",
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
        other_signers: bytes = b"",
        tree_offset: int | None = None,
        tree: bytes | bytearray | None = None,
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
        self.other_signers = other_signers
        """As in the file: what a v3.1 signer adds."""
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
        signed_apk = locate(open_source(apk))
        tree = bytearray(merkle.tree_size(signed_apk.source.size))

        def keep(offset: int, data: bytes) -> None:
            tree[offset : offset + len(data)] = data

        made = describe(signed_apk, salt, sdk, allow_v2)
        made.root_hash = merkle.build(signed_apk.source, salt, keep)
        made.tree = tree
        return made

    @classmethod
    def parse(cls, idsig: int | BinaryIO, *, allow_no_tree: bool = False) -> "Idsig":
        """Read the fields of a file or block device, which may be longer than the idsig. IdsigError if broken.

        With `allow_no_tree` the file may end before the size of the tree, which is 0 then.
        """
        source = open_source(idsig)
        version = _read_u32(source, 0, "version")
        if version != VERSION:
            raise IdsigError(f"idsig: version {version}, only {VERSION} is supported", offset=0)
        hashing, position = _read_info(source, 4, "hashing info")
        signing, position = _read_info(source, position, "signing info")
        treeless = allow_no_tree and position == source.size
        tree_size = 0 if treeless else _read_u32(source, position, "tree size")
        offset = position if treeless else position + _TREE_SIZE
        if tree_size > source.size - offset:
            raise IdsigError(
                f"idsig: tree of {tree_size} bytes does not fit in the {source.size - offset} left",
                offset=position,
            )
        salt, root_hash = _parse_hashing_info(hashing)
        first = parse_signing_info(signing)
        others_offset = signing.offset
        others = signing.take(signing.remaining, "other signers")
        for _ in other_signing_infos(others, others_offset):
            pass
        return cls(
            root_hash=root_hash,
            salt=salt,
            tree_size=tree_size,
            tree_offset=offset,
            **first._asdict(),
            other_signers=others,
        )

    def signing_info(self) -> SigningInfo:
        """The part that the signer adds."""
        return SigningInfo(*[getattr(self, name) for name in SigningInfo._fields])

    def header(self) -> bytes:
        """Everything before the tree."""
        hashing = (
            u32(self.hash_algorithm)
            + bytes([_LOG2_BLOCK_SIZE])
            + lp32(self.salt)
            + lp32(self.root_hash)
        )
        signing = self.signing_info().encode() + self.other_signers
        return u32(VERSION) + lp32(hashing) + lp32(signing) + u32(self.tree_size)

    def signed_bytes(self, apk_size: int, info: SigningInfo | None = None) -> bytes:
        """What a v4 signature covers, for an APK of `apk_size` bytes; `info` is that of another signer."""
        info = info or self.signing_info()
        body = (
            u64(apk_size)
            + u32(self.hash_algorithm)
            + bytes([_LOG2_BLOCK_SIZE])
            + lp32(self.salt)
            + lp32(self.root_hash)
            + lp32(info.apk_digest)
            + lp32(info.certificate)
            + lp32(info.additional_data)
        )
        return u32(len(body) + 4) + body

    def write(self, fd: int, *, with_tree: bool = True) -> None:
        """Replace the contents of a file with this idsig, which `create` must have made.

        Without its tree an idsig ends before the size of the tree, and proves an APK only as a whole.
        """
        if self.tree is None:
            raise IdsigError("idsig: the tree is not in memory")
        os.ftruncate(fd, 0)
        header = self.header()
        if not with_tree:
            header = header[:-_TREE_SIZE]
        pwrite_all(fd, header, 0)
        if with_tree:
            pwrite_all(fd, self.tree, len(header))


def locate(source: Source) -> SignedApk:
    """The sections of an APK; IdsigError if it has none."""
    try:
        return find_signing_block(source)
    except ApkError as error:
        raise IdsigError(f"failed to create idsig: {error}") from None


def describe(apk: SignedApk, salt: bytes, sdk: int, allow_v2: bool) -> Idsig:
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


def _read_u32(source: Source, offset: int, field: str) -> int:
    if source.size - offset < 4:
        raise IdsigError(
            f"idsig: the file ends at byte {source.size}, before its {field}", offset=offset
        )
    return int.from_bytes(source.read_at(offset, 4), "little")


def _read_info(source: Source, offset: int, field: str) -> tuple[FieldReader, int]:
    """A reader over the lp32 at `offset`, and where it ends."""
    length = _read_u32(source, offset, f"length of {field}")
    start = offset + 4
    if length > min(_MAX_INFO, source.size - start):
        raise IdsigError(f"idsig: {field} of {length} bytes is too long", offset=offset)
    reader = FieldReader(source.read_at(start, length), f"idsig {field}", IdsigError, start)
    return reader, start + length


def _parse_hashing_info(reader: FieldReader) -> tuple[bytes, bytes]:
    start = reader.offset
    algorithm = reader.u32("hash algorithm")
    if algorithm != HASH_SHA256:
        raise reader.failure(f"hash algorithm {algorithm}, only {HASH_SHA256} is supported", start)
    start = reader.offset
    log2 = reader.u8("log2 of block size")
    if log2 != _LOG2_BLOCK_SIZE:
        raise reader.failure(
            f"log2 of block size {log2}, only {_LOG2_BLOCK_SIZE} is supported", start
        )
    salt = reader.lp32("salt", _MAX_SALT)
    start = reader.offset
    root_hash = reader.lp32("root hash", merkle.HASH_SIZE)
    if len(root_hash) != merkle.HASH_SIZE:
        raise reader.failure(f"root hash has {len(root_hash)} bytes, not {merkle.HASH_SIZE}", start)
    if reader.remaining:
        raise reader.failure(f"{reader.remaining} bytes too many")
    return salt, root_hash


def parse_signing_info(reader: FieldReader) -> SigningInfo:
    """The fields of one signer."""
    start = reader.offset
    digest = reader.lp32("APK digest")
    if len(digest) not in _DIGEST_SIZES:
        raise IdsigError(f"idsig: APK digest has {len(digest)} bytes", offset=start)
    certificate = reader.lp32("certificate")
    additional_data = reader.lp32("additional data")
    public_key = reader.lp32("public key")
    start = reader.offset
    algorithm_id = reader.u32("signature algorithm ID")
    if algorithm_of(algorithm_id) is None:
        raise IdsigError(f"idsig: unknown signature algorithm ID {algorithm_id:#x}", offset=start)
    signature = reader.lp32("signature")
    return SigningInfo(digest, certificate, additional_data, public_key, algorithm_id, signature)


def other_signing_infos(
    data: bytes, offset: int | None = None
) -> Iterator[tuple[int, FieldReader]]:
    """(ID of the block in the APK, reader over the signing info) of each other signer, at most 64."""
    reader = FieldReader(data, "idsig other signers", IdsigError, offset)
    for _ in range(_MAX_OTHERS):
        if not reader.remaining:
            return
        yield reader.u32("block ID"), reader.inner("signing info")
    if reader.remaining:
        raise reader.failure(f"more than {_MAX_OTHERS} other signers")


def pwrite_all(fd: int, data: bytes | bytearray, offset: int) -> None:
    view = memoryview(data)
    while view:
        count = os.pwrite(fd, view, offset)
        view = view[count:]
        offset += count
