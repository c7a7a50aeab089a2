"""What an APK proves: its ZIP sections, signing block, signatures (v1, v2, v3, v3.1), Merkle tree and idsig (v4).

Reading and verifying need the standard library only. Building and signing (`ApkBuilder`, `SigningKey`, `sign`,
`rotate`) need `cryptography`. What a guest does not need is loaded when first used.
"""

from typing import TYPE_CHECKING

from avf.apk.algorithms import ContentDigest, SignatureAlgorithm
from avf.apk.errors import (
    ApkError,
    CertificateError,
    DigestMismatch,
    EntryError,
    EntryNotSigned,
    FileChanged,
    IdsigError,
    IdsigMismatch,
    InputError,
    LineageError,
    NoSigner,
    OutputError,
    PublicKeyError,
    SchemeNotFound,
    SignatureInvalid,
    SignatureStripped,
    SignerMismatch,
    SigningBlockError,
    SigningError,
    TreeMismatch,
    UnsupportedAlgorithm,
    V1SignatureError,
    VerificationError,
    ZipFormatError,
)
from avf.apk.idsig import Idsig, SigningInfo
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
    from avf.apk.crypto.names import certificate_subject
    from avf.apk.idsig_update import create_or_update_idsig
    from avf.apk.idsig_verify import VerifiedIdsig, open_verified, verify_idsig
    from avf.apk.keys import SigningKey
    from avf.apk.package import Package, read_package
    from avf.apk.sdk_range import PlatformVerdict, manifest_min_sdk, verify_platform, verify_range
    from avf.apk.signing import Rotation, make_signed_idsig, rotate, sign, sign_idsig
    from avf.apk.stamp import SourceStamp, StampStatus, source_stamp
    from avf.apk.stamp_sign import StampSigner
    from avf.apk.v1 import V1Signer, VerifiedV1, verify_v1

__all__ = [
    "ApkBuilder",
    "ApkError",
    "Capability",
    "CertificateError",
    "ContentDigest",
    "DigestMismatch",
    "Entry",
    "EntryError",
    "EntryNotSigned",
    "EntryReader",
    "FileChanged",
    "Idsig",
    "IdsigError",
    "IdsigMismatch",
    "InputError",
    "LineageError",
    "LineageNode",
    "NoSigner",
    "OutputError",
    "Package",
    "PlatformVerdict",
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
    "SigningInfo",
    "SigningKey",
    "SourceStamp",
    "StampSigner",
    "StampStatus",
    "TreeMismatch",
    "UnsupportedAlgorithm",
    "V1SignatureError",
    "V1Signer",
    "VerificationError",
    "VerifiedApk",
    "VerifiedIdsig",
    "VerifiedSigner",
    "VerifiedV1",
    "ZipFormatError",
    "certificate_subject",
    "claimed_public_key",
    "create_or_update_idsig",
    "encode_lineage_file",
    "entries",
    "entry_offset",
    "find_entry",
    "make_signed_idsig",
    "manifest_min_sdk",
    "open_entry",
    "open_verified",
    "parse_lineage_file",
    "read_entry",
    "read_package",
    "rotate",
    "sign",
    "sign_idsig",
    "source_stamp",
    "verify",
    "verify_idsig",
    "verify_platform",
    "verify_range",
    "verify_v1",
]


_MODULES = {
    "ApkBuilder": "builder",
    "Package": "package",
    "PlatformVerdict": "sdk_range",
    "Rotation": "signing",
    "SigningKey": "keys",
    "SourceStamp": "stamp",
    "StampSigner": "stamp_sign",
    "StampStatus": "stamp",
    "V1Signer": "v1",
    "VerifiedIdsig": "idsig_verify",
    "VerifiedV1": "v1",
    "certificate_subject": "crypto.names",
    "create_or_update_idsig": "idsig_update",
    "make_signed_idsig": "signing",
    "manifest_min_sdk": "sdk_range",
    "open_verified": "idsig_verify",
    "read_package": "package",
    "rotate": "signing",
    "sign": "signing",
    "sign_idsig": "signing",
    "source_stamp": "stamp",
    "verify_idsig": "idsig_verify",
    "verify_platform": "sdk_range",
    "verify_range": "sdk_range",
    "verify_v1": "v1",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = __import__(f"avf.apk.{_MODULES[name]}", fromlist=[name])
    return getattr(module, name)
