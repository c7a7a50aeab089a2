"""What an APK proves: its ZIP sections, signing block, signatures (v2, v3, v3.1), Merkle tree and idsig (v4).

Reading and verifying need the standard library only. Building and signing (`ApkBuilder`, `SigningKey`, `sign`) need
`cryptography` and are loaded when first used.
"""

from typing import TYPE_CHECKING

from avf.apk.algorithms import ContentDigest, SignatureAlgorithm
from avf.apk.errors import (
    ApkError,
    CertificateError,
    DigestMismatch,
    EntryError,
    FileChanged,
    IdsigError,
    IdsigMismatch,
    InputError,
    LineageError,
    NoSigner,
    PublicKeyError,
    SchemeNotFound,
    SignatureInvalid,
    SignatureStripped,
    SignerMismatch,
    SigningBlockError,
    SigningError,
    TreeMismatch,
    UnsupportedAlgorithm,
    VerificationError,
    ZipFormatError,
)
from avf.apk.idsig import Idsig, create_or_update_idsig
from avf.apk.lineage import Capability, LineageNode, encode_lineage_file, parse_lineage_file
from avf.apk.verify import Scheme, VerifiedApk, VerifiedSigner, claimed_public_key, verify
from avf.apk.zip import (
    Entry,
    EntryReader,
    entries,
    entry_offset,
    find_entry,
    open_entry,
    read_entry,
)

if TYPE_CHECKING:
    from avf.apk.builder import ApkBuilder
    from avf.apk.keys import SigningKey
    from avf.apk.signing import Rotation, rotate, sign, sign_idsig

__all__ = [
    "ApkBuilder",
    "ApkError",
    "Capability",
    "CertificateError",
    "ContentDigest",
    "DigestMismatch",
    "Entry",
    "EntryError",
    "EntryReader",
    "FileChanged",
    "Idsig",
    "IdsigError",
    "IdsigMismatch",
    "InputError",
    "LineageError",
    "LineageNode",
    "NoSigner",
    "PublicKeyError",
    "Rotation",
    "Scheme",
    "SchemeNotFound",
    "SignatureAlgorithm",
    "SignatureInvalid",
    "SignatureStripped",
    "SignerMismatch",
    "SigningBlockError",
    "SigningError",
    "SigningKey",
    "TreeMismatch",
    "UnsupportedAlgorithm",
    "VerificationError",
    "VerifiedApk",
    "VerifiedSigner",
    "ZipFormatError",
    "claimed_public_key",
    "create_or_update_idsig",
    "encode_lineage_file",
    "entries",
    "entry_offset",
    "find_entry",
    "open_entry",
    "parse_lineage_file",
    "read_entry",
    "rotate",
    "sign",
    "sign_idsig",
    "verify",
]


def __getattr__(name: str) -> object:
    if name == "ApkBuilder":
        from avf.apk.builder import ApkBuilder

        return ApkBuilder
    if name == "SigningKey":
        from avf.apk.keys import SigningKey

        return SigningKey
    if name in ("Rotation", "rotate", "sign", "sign_idsig"):
        from avf.apk import signing

        return getattr(signing, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
