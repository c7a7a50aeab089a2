"""Verify the v1 scheme: JAR signatures as Android takes them.

META-INF/MANIFEST.MF holds digests of the entries, META-INF/NAME.SF digests of the manifest's sections, and
META-INF/NAME.RSA (.DSA, .EC) is a PKCS #7 signature over that file. Source:
https://source.android.com/docs/security/features/apksigning, and `V1SchemeVerifier` of AOSP's tools/apksig.
"""

import hashlib
from collections.abc import Collection, Sequence
from itertools import islice
from typing import BinaryIO, NamedTuple

from avf.apk.errors import SchemeNotFound
from avf.apk.signers import MAX_SDK
from avf.apk.source import Progress, Source, open_source
from avf.apk.v1.archive import Archive, Pair
from avf.apk.v1.blocks import verify_block
from avf.apk.v1.entries import verify_entries
from avf.apk.v1.files import Ignored, verify_signature_file
from avf.apk.v1.manifest import MANIFEST, Manifest
from avf.apk.v1.mechanisms import Mechanism, SdkRange
from avf.apk.verify import Scheme
from avf.apk.zip import ZipSections, find_sections

MAX_WARNINGS = 100


class V1Signer(NamedTuple):
    """What one signer of a v1 signature has proved."""

    name: str
    """Of the signature block, without META-INF/: CERT.RSA."""
    certificates: tuple[bytes, ...]
    """X.509, DER; the signer's own first."""
    public_key: bytes
    """SubjectPublicKeyInfo, DER."""
    mechanism: Mechanism


class VerifiedV1(NamedTuple):
    """What a verified v1 signature has proved: every entry outside META-INF is signed by all of `signers`."""

    signers: tuple[V1Signer, ...]
    warnings: tuple[str, ...]
    """Sentences, at most 100: signatures that platforms ignore, entries in META-INF that are not protected."""
    size: int
    """True length of the APK in bytes."""
    manifest_sha256: bytes
    """Of META-INF/MANIFEST.MF, which a source stamp signs."""

    @property
    def scheme(self) -> Scheme:
        """Always `Scheme.V1`."""
        return Scheme.V1


def verify_v1(
    apk: int | BinaryIO,
    *,
    min_sdk: int,
    max_sdk: int = MAX_SDK,
    size: int | None = None,
    progress: Progress | None = None,
) -> VerifiedV1:
    """Check the v1 signature and all entries for the platforms of a range, whatever other signatures there are.

    A platform from SDK 24 on looks at a v1 signature only where it finds no other: `verify_range` chooses. Raises an
    ApkError that says which step failed; SchemeNotFound if there is no v1 signature.
    """
    source = open_source(apk, size, progress)
    sections = find_sections(source, strict=False)
    verified = verify_sections(source, sections, (2, 3), (min_sdk, max_sdk))
    source.check_unchanged()
    return verified


def verify_sections(
    source: Source, sections: ZipSections, found_schemes: Collection[int], sdks: SdkRange
) -> VerifiedV1:
    """As `verify_v1`, of an APK that is signed with the schemes of these numbers (2, 3) too."""
    archive = Archive(source, sections)
    data = archive.manifest()
    manifest = Manifest(data)
    signers: list[V1Signer] = []
    pairs: list[Pair] = []
    covers: list[bytes] = []
    for pair in archive.pairs:
        signer, covered = _verify_signer(archive, pair, manifest, found_schemes, sdks)
        if isinstance(covered, Ignored):
            archive.warnings.append(f"{pair.name} is ignored: {covered.reason}")
            continue
        signers.append(signer)
        pairs.append(pair)
        covers.append(covered)
    if not signers:
        raise SchemeNotFound(f"The APK has no v1 signature that counts: {archive.warnings[-1]}")
    counting = verify_entries(archive, manifest, covers, sdks)
    warnings = [*archive.warnings, *_unprotected(archive, [pairs[place] for place in counting])]
    return VerifiedV1(
        tuple([signers[place] for place in counting]),
        tuple(warnings[:MAX_WARNINGS]),
        sections.size,
        hashlib.sha256(data).digest(),
    )


def _verify_signer(
    archive: Archive,
    pair: Pair,
    manifest: Manifest,
    found_schemes: Collection[int],
    sdks: SdkRange,
) -> tuple[V1Signer, bytes | Ignored]:
    """Who signed the signature file of a pair, and what that covers. The file itself is not kept."""
    data = archive.signature_file(pair)
    found = verify_block(archive.block(pair), data, sdks, pair.block.name)
    covered = verify_signature_file(data, pair.file.name, manifest, found_schemes, sdks)
    return V1Signer(pair.name, *found), covered


def _unprotected(archive: Archive, pairs: Sequence[Pair]) -> list[str]:
    """What platforms do not check, nor use as the code of an app."""
    used = {MANIFEST} | {entry.name for pair in pairs for entry in pair}
    others = (name for name in archive.meta_inf if name not in used)
    return [f"ZIP entry {name!r} is not protected" for name in islice(others, MAX_WARNINGS)]
