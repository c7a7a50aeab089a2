"""The proof of rotation: how each key of an app's signer handed on to the next.

    u32 version = 1, then for each certificate, oldest first, an lp32 node:
    lp32 signed data: lp32 certificate (DER), u32 algorithm that its parent signs with (0 in the first node)
    u32 capabilities, u32 algorithm that this key signs the next with (0 in the last node), lp32 signature

The parent's key signs the signed data. Source: https://source.android.com/docs/security/features/apksigning/v3
"Proof-of-rotation", and `apksigner rotate`, whose files put `u32 magic | u32 version = 1` and an lp32 around it.
"""

from collections.abc import Sequence
from enum import IntFlag
from itertools import pairwise

from avf.apk.algorithms import algorithm_of
from avf.apk.crypto import certificate_public_key, read_public_key, verify_signature
from avf.apk.errors import LineageError, VerificationError
from avf.apk.fields import FieldReader, lp32, u32
from avf.named import NamedTuple

VERSION = 1
FILE_MAGIC = 0x3EFF39D1
MAX_NODES = 64
_WHAT = "proof of rotation"


class Capability(IntFlag):
    """What an old certificate of an app still may do."""

    INSTALLED_DATA = 1
    SHARED_UID = 2
    PERMISSION = 4
    ROLLBACK = 8
    AUTH = 16


class LineageNode(NamedTuple):
    """One certificate in a lineage."""

    certificate: bytes
    """X.509, DER."""
    capabilities: Capability
    parent_algorithm_id: int
    """With it the parent signed this certificate; 0 in the oldest node."""
    algorithm_id: int
    """With it this certificate's key signs the next; 0 in the newest node."""
    signature: bytes
    """The parent's over `signed_data`; empty in the oldest node."""

    @property
    def public_key(self) -> bytes:
        """The certificate's, SubjectPublicKeyInfo (DER), in the form that a VerifiedSigner has it. VerificationError if
        it cannot be read."""
        return read_public_key(certificate_public_key(self.certificate)).der

    @property
    def signed_data(self) -> bytes:
        """What the parent signs: the certificate and `parent_algorithm_id`, in the form of the lineage."""
        return lp32(self.certificate) + u32(self.parent_algorithm_id)


def parse_lineage(data: bytes, offset: int | None = None) -> tuple[LineageNode, ...]:
    """The nodes, oldest first, nothing proved. LineageError if broken."""
    reader = FieldReader(data, _WHAT, LineageError, offset)
    _expect(reader, "version", VERSION)
    nodes: list[LineageNode] = []
    while reader.remaining:
        if len(nodes) == MAX_NODES:
            raise reader.failure(f"more than {MAX_NODES} certificates")
        nodes.append(_parse_node(reader.inner(f"{_WHAT} node")))
    return tuple(nodes)


def _parse_node(node: FieldReader) -> LineageNode:
    signed_data = node.inner(f"{_WHAT}: signed data")
    certificate = signed_data.lp32("certificate")
    parent_algorithm_id = signed_data.u32("parent's algorithm ID")
    if signed_data.remaining:
        raise signed_data.failure(f"{signed_data.remaining} bytes too many")
    capabilities = Capability(node.u32("flags"))
    algorithm_id = node.u32("algorithm ID")
    return LineageNode(
        certificate, capabilities, parent_algorithm_id, algorithm_id, node.lp32("signature")
    )


def verify_lineage(nodes: Sequence[LineageNode]) -> None:
    """Check that each certificate was signed by the one before and none comes twice; LineageError if not."""
    if not nodes:
        raise LineageError(f"{_WHAT}: it holds no certificate")
    if len({node.certificate for node in nodes}) != len(nodes):
        raise LineageError(f"{_WHAT}: a certificate occurs twice")
    for number, (parent, node) in enumerate(pairwise(nodes), 2):
        if parent.algorithm_id != node.parent_algorithm_id:
            raise LineageError(f"{_WHAT}: signing algorithm mismatch for certificate #{number}")
        algorithm = algorithm_of(node.parent_algorithm_id)
        if algorithm is None:
            raise LineageError(
                f"{_WHAT}: certificate #{number} is signed with unknown algorithm "
                f"{node.parent_algorithm_id:#06x}"
            )
        try:
            key = certificate_public_key(parent.certificate)
            verify_signature(algorithm, key, node.signed_data, node.signature)
        except VerificationError as error:
            raise LineageError(f"{_WHAT}: certificate #{number}: {error}") from None


def encode_lineage(nodes: Sequence[LineageNode]) -> bytes:
    """What `parse_lineage` reads."""
    return u32(VERSION) + b"".join([lp32(_encode_node(node)) for node in nodes])


def _encode_node(node: LineageNode) -> bytes:
    return (
        lp32(node.signed_data)
        + u32(node.capabilities)
        + u32(node.algorithm_id)
        + lp32(node.signature)
    )


def parse_lineage_file(data: bytes) -> tuple[LineageNode, ...]:
    """The nodes in a file as `apksigner rotate` writes it; LineageError if broken."""
    reader = FieldReader(data, "lineage file", LineageError, 0)
    _expect(reader, "magic", FILE_MAGIC)
    _expect(reader, "version", VERSION)
    nodes = reader.lp32("lineage")
    if reader.remaining:
        raise reader.failure(f"{reader.remaining} bytes too many")
    return parse_lineage(nodes, len(data) - len(nodes))


def encode_lineage_file(nodes: Sequence[LineageNode]) -> bytes:
    """What `apksigner` reads as `--lineage`."""
    return u32(FILE_MAGIC) + u32(VERSION) + lp32(encode_lineage(nodes))


def _expect(reader: FieldReader, field: str, wanted: int) -> None:
    offset = reader.offset
    found = reader.u32(field)
    if found != wanted:
        raise reader.failure(f"{field} {found:#x}, only {wanted:#x} is supported", offset)
