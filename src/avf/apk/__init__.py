"""What an APK proves: its ZIP sections, signing block, signatures (v2, v3, v3.1), Merkle tree and idsig (v4).

Reading and verifying need the standard library only. Building and signing (`ApkBuilder`, `SigningKey`, `sign`) need
`cryptography` and are loaded when first used.
"""

from typing import TYPE_CHECKING

from avf.apk.algorithms import ContentDigest, SignatureAlgorithm
from avf.apk.errors import (
    ApkError,
    EntryError,
    IdsigError,
    InputError,
    SchemeNotFound,
    SigningBlockError,
    SigningError,
    UnsupportedAlgorithm,
    VerificationError,
    ZipFormatError,
)
from avf.apk.idsig import Idsig, create_or_update_idsig
from avf.apk.verify import Scheme, VerifiedApk, claimed_public_key, verify
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
    from avf.apk.signing import SigningKey, sign

__all__ = [
    "ApkBuilder",
    "ApkError",
    "ContentDigest",
    "Entry",
    "EntryError",
    "EntryReader",
    "Idsig",
    "IdsigError",
    "InputError",
    "Scheme",
    "SchemeNotFound",
    "SignatureAlgorithm",
    "SigningBlockError",
    "SigningError",
    "SigningKey",
    "UnsupportedAlgorithm",
    "VerificationError",
    "VerifiedApk",
    "ZipFormatError",
    "claimed_public_key",
    "create_or_update_idsig",
    "entries",
    "entry_offset",
    "find_entry",
    "open_entry",
    "read_entry",
    "sign",
    "verify",
]


def __getattr__(name: str) -> object:
    if name == "ApkBuilder":
        from avf.apk.builder import ApkBuilder

        return ApkBuilder
    if name in ("SigningKey", "sign"):
        from avf.apk import signing

        return getattr(signing, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
