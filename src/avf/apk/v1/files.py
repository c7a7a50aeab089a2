"""Signature files (`*.SF`): what they say of the manifest, and of the schemes that the APK is signed with."""

import re
from collections.abc import Collection, Iterator
from typing import NamedTuple

from avf.apk.errors import ApkError, DigestMismatch, SignatureStripped, V1SignatureError
from avf.apk.v1.digests import digests_to_check
from avf.apk.v1.manifest import Manifest
from avf.apk.v1.mechanisms import SdkRange
from avf.apk.v1.sections import Section, sections

_KNOWN_SCHEMES = {2: 24, 3: 28}
"""The number of a scheme in signature files and the first SDK that knows it."""
_STRIPPING_SDK = 24
_NUMBER = re.compile(r"[+-]?0*\d{1,9}")
_TRIMMED = "".join(map(chr, range(0x21)))
"""What Java removes around a number."""
_OLD_TOOL = "signtool"


class Ignored(NamedTuple):
    """Why platforms pass over a signature file."""

    reason: str


def verify_signature_file(
    data: bytes, name: str, manifest: Manifest, found_schemes: Collection[int], sdks: SdkRange
) -> "bytes | Ignored":
    """Which entries of the manifest the file `name` covers: a byte for each section, not zero if it does.

    `found_schemes` are the numbers (2, 3) of the schemes that the APK is signed with besides. Raises SignatureStripped
    if the file names another one, DigestMismatch if it is of another manifest, V1SignatureError if it is broken.
    """
    parts = sections(data)
    main = next(parts, None)
    attributes = main.attributes() if main else {}
    if "signature-version" not in attributes:
        return Ignored(f"{name} has no Signature-Version")
    if sdks[1] >= _STRIPPING_SDK:
        _check_not_stripped(attributes.get("x-android-apk-signed"), name, found_schemes, sdks[1])
    checks = _Checks(name, manifest, sdks, _OLD_TOOL in attributes.get("created-by", ""))
    whole = checks.is_of_whole(attributes)
    if not checks.old_tool:
        checks.check_main(attributes)
    return _covered(parts, checks, whole)


def _covered(parts: Iterator[Section], checks: "_Checks", whole: bool) -> "bytes | Ignored":
    manifest = checks.manifest
    covered = bytearray(len(manifest))
    others: set[str] = set()
    fault: ApkError | None = None
    for part in parts:
        entry = part.name
        if entry is None:
            return Ignored(f"{checks.name} has a section without a name")
        index = manifest.index(entry)
        if entry in others or (index is not None and covered[index]):
            return Ignored(f"{checks.name} names {entry!r} twice")
        if index is None:
            others.add(entry)
            continue
        covered[index] = 1
        if not whole:
            fault = fault or checks.fault_of_section(part, manifest.section(index), entry)
    if others and not whole:
        return Ignored(f"{checks.name} names {min(others)!r}, but the manifest does not")
    if fault:
        raise fault
    return bytes(covered)


class _Checks(NamedTuple):
    """Compares the digests in one signature file with the manifest."""

    name: str
    manifest: Manifest
    sdks: SdkRange
    old_tool: bool
    """Written by a tool that hashed other bytes."""

    def is_of_whole(self, attributes: dict[str, str]) -> bool:
        """Does the file have a digest of the whole manifest, and is it right?"""
        suffix = "-digest" if self.old_tool else "-digest-manifest"
        expected = digests_to_check(attributes, suffix, self.sdks)
        return bool(expected) and all(item.is_of(self.manifest.data) for item in expected)

    def check_main(self, attributes: dict[str, str]) -> None:
        suffix = "-digest-manifest-main-attributes"
        main = self.manifest.main.encoded
        if not all(item.is_of(main) for item in digests_to_check(attributes, suffix, self.sdks)):
            raise DigestMismatch(f"{self.name}: the manifest's main section is another one")

    def fault_of_section(self, part: Section, section: Section, entry: str) -> ApkError | None:
        """None if the file has the right digest of this section of the manifest."""
        expected = digests_to_check(part.attributes(), "-digest", self.sdks)
        if not expected:
            return V1SignatureError(f"{self.name}: no usable digest for {entry!r}")
        encoded = section.encoded
        if self.old_tool and encoded.endswith(b"\n\n"):
            encoded = encoded[:-1]
        if all(item.is_of(encoded) for item in expected):
            return None
        return DigestMismatch(f"{self.name}: the manifest says something else of {entry!r}")


def _check_not_stripped(
    listed: str | None, name: str, found_schemes: Collection[int], max_sdk: int
) -> None:
    for text in (listed or "").split(","):
        number = _number(text)
        since = _KNOWN_SCHEMES.get(number)
        if since is not None and since <= max_sdk and number not in found_schemes:
            raise SignatureStripped(
                f"{name} says that the APK is signed with v{number}, but it is not"
            )


def _number(text: str) -> int:
    """The number of a scheme as Java reads it, 0 if it is none."""
    trimmed = text.strip(_TRIMMED)
    return int(trimmed) if _NUMBER.fullmatch(trimmed) else 0
