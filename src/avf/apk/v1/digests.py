"""Which of the digests in a section a platform checks, and what they are."""

import base64
import binascii
import hashlib
from collections.abc import Mapping
from typing import NamedTuple

from avf.apk.errors import V1SignatureError
from avf.apk.v1.mechanisms import SdkRange

_FIRST_WITH_STRONGEST = 18
"""Since this SDK the strongest digest counts; before, the first one of those that `Digest-Algorithms` lists."""
_STRONGEST_FIRST = (
    ("sha-512", "sha512"),
    ("sha-384", "sha384"),
    ("sha-256", "sha256"),
    ("sha1", "sha1"),
)
_OLD_NAMES = {
    "md5": ("md5", 0),
    "sha": ("sha1", 0),
    "sha1": ("sha1", 0),
    "sha-1": ("sha1", 0),
    "sha-256": ("sha256", 0),
    "sha-384": ("sha384", 9),
    "sha-512": ("sha512", 9),
}
"""The hash of each name and the first SDK that knows it."""


class Digest(NamedTuple):
    """What is recorded of some bytes."""

    hash_name: str
    value: bytes

    def is_of(self, data: bytes) -> bool:
        return hashlib.new(self.hash_name, data, usedforsecurity=False).digest() == self.value


def digests_to_check(attributes: Mapping[str, str], suffix: str, sdks: SdkRange) -> list[Digest]:
    """Those that the platforms of a range check, all of which must be right; none if one of these finds none.

    The attributes are `ALGORITHM-suffix`, by name in lower case. V1SignatureError if a digest is not in base64.
    """
    low, high = sdks
    found: list[Digest] = []
    if low < _FIRST_WITH_STRONGEST:
        old = _old_digest(attributes, suffix, low)
        if old is None:
            return []
        found.append(old)
    if high >= _FIRST_WITH_STRONGEST:
        strongest = _strongest_digest(attributes, suffix)
        if strongest is None:
            return []
        if strongest not in found:
            found.append(strongest)
    return found


def _strongest_digest(attributes: Mapping[str, str], suffix: str) -> Digest | None:
    for name, hash_name in _STRONGEST_FIRST:
        text = attributes.get(name + suffix)
        if text is not None:
            return Digest(hash_name, _decode(text))
    return None


def _old_digest(attributes: Mapping[str, str], suffix: str, sdk: int) -> Digest | None:
    for name in attributes.get("digest-algorithms", "SHA SHA1").lower().split():
        text = attributes.get(name + suffix)
        hash_name, since = _OLD_NAMES.get(name, ("", sdk + 1))
        if text is not None and since <= sdk:
            return Digest(hash_name, _decode(text))
    return None


def _decode(text: str) -> bytes:
    """From base64, with or without padding."""
    if "=" not in text:
        text += "=" * (-len(text) % 4)
    try:
        if len(text) % 4:
            raise ValueError
        return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        raise V1SignatureError(f"a digest is not in base64: {text[:100]!r}") from None
