"""What every platform of a range says of an APK, and the range that its manifest asks for."""

from collections.abc import Sequence
from contextlib import suppress
from typing import BinaryIO, NamedTuple

from avf.apk.axml_reader import MAX_MANIFEST, ManifestSdks, read_manifest
from avf.apk.errors import (
    ApkError,
    EntryError,
    InputError,
    SchemeNotFound,
    SigningBlockError,
    ZipFormatError,
)
from avf.apk.owners import check_owners
from avf.apk.signers import MAX_SDK
from avf.apk.signing_block import NOT_SIGNED, BlockId, SignedApk, find_signing_block
from avf.apk.source import Progress, Source, open_source
from avf.apk.v1 import VerifiedV1, verify_sections
from avf.apk.v1.contents import read_contents
from avf.apk.verify import (
    V2_SDK,
    V3_1_SDK,
    V3_SDK,
    ContentDigests,
    VerifiedApk,
    signers_of,
    verify_for,
)
from avf.apk.zip import ZipSections, check_directory, find_in, find_sections

MANIFEST = "AndroidManifest.xml"
_WITHOUT_MANIFEST = "; without it the lowest SDK must be given"
V4_SDK = 30
"""The first platform that knows v4."""
_SANDBOX_SDK = 26
"""Since then an app for the second sandbox must not have a v1 signature alone."""
_TARGET_SDK = 30
"""Since then an app for this or a later SDK must not have a v1 signature alone."""
_FIRST_SDK = {BlockId.V2: V2_SDK, BlockId.V3: V3_SDK, BlockId.V3_1: V3_1_SDK}
_NUMBERS = {BlockId.V2: 2, BlockId.V3: 3}
"""As a v1 signature calls the schemes."""


class PlatformVerdict(NamedTuple):
    """What the platforms from `min_sdk` to `max_sdk`, both inclusive, say of an APK."""

    min_sdk: int
    max_sdk: int
    apk: VerifiedApk | VerifiedV1


def verify_range(
    apk: int | BinaryIO,
    *,
    min_sdk: int | None = None,
    max_sdk: int = MAX_SDK,
    size: int | None = None,
    progress: Progress | None = None,
) -> tuple[PlatformVerdict, ...]:
    """Check an APK for every platform of a range, with the best scheme that the platform knows: v1, v2, v3 or v3.1.

    `min_sdk` defaults to the manifest's. A v1 signature is checked for the whole range, as apksigner does, and the
    signers must be the same throughout, or a lineage must lead from one to the other. Raises the ApkError of the
    lowest platform that refuses the APK, its message preceded by that platform's SDK unless no platform would accept
    it; InputError if the range is empty.
    """
    low = manifest_min_sdk(apk, size=size) if min_sdk is None else min_sdk
    if not 0 <= low <= max_sdk:
        raise InputError(f"the SDK range {low} to {max_sdk} is empty")
    source = open_source(apk, size, progress)
    subject = _Subject(source, (low, max_sdk))
    verdicts: list[PlatformVerdict] = []
    starts = sorted({sdk for sdk in subject.changes() if low < sdk <= max_sdk} | {low})
    for first, after in zip(starts, [*starts[1:], max_sdk + 1], strict=True):
        try:
            verified = subject.verify(first)
        except ApkError as error:
            if error is not subject.broken:
                error.args = (f"SDK {first}: {error}",)
            raise
        if verdicts and verdicts[-1].apk == verified:
            verdicts[-1] = verdicts[-1]._replace(max_sdk=after - 1)
        else:
            verdicts.append(PlatformVerdict(first, after - 1, verified))
    check_owners(item.apk for item in verdicts)
    check_directory(source, subject.sections)
    source.check_unchanged()
    return tuple(verdicts)


def verify_platform(
    apk: int | BinaryIO, sdk: int, *, size: int | None = None, progress: Progress | None = None
) -> VerifiedApk | VerifiedV1:
    """Check an APK as the platform of one SDK does, with the best scheme that it knows: v1, v2, v3 or v3.1."""
    source = open_source(apk, size, progress)
    subject = _Subject(source, (sdk, sdk))
    verified = subject.verify(sdk)
    check_directory(source, subject.sections)
    source.check_unchanged()
    return verified


class _Subject:
    """An APK, and the range of platforms that are asked for."""

    def __init__(self, source: Source, sdks: tuple[int, int]) -> None:
        self.sections = find_sections(source, strict=False)
        self._source = source
        self._sdks = sdks
        self._v1: VerifiedV1 | None = None
        self._manifest: bytes | None = None
        self._signed: SignedApk | None = None
        self._ids: set[BlockId] = set()
        """The schemes in the signing block, as far as it can be read."""
        self.broken: SigningBlockError | ZipFormatError | None = None
        """Why it cannot be read, or not further."""
        try:
            self._signed = find_signing_block(source, self.sections)
            for pair_id, _, _ in self._signed.pairs():
                if pair_id in _FIRST_SDK:
                    self._ids.add(BlockId(pair_id))
        except (SigningBlockError, ZipFormatError) as error:
            self.broken = error
        self._digests = ContentDigests(self._signed) if self._signed else None

    def changes(self) -> set[int]:
        """The SDKs from which on the verdict can be another than just before; what is broken is left to the verdict."""
        changes = {V2_SDK, _SANDBOX_SDK, V3_SDK, _TARGET_SDK, V3_1_SDK}
        for block_id in self._known(self._sdks[1]) & {BlockId.V3, BlockId.V3_1}:
            assert self._signed
            with suppress(SchemeNotFound, SigningBlockError):
                for signer in signers_of(self._signed, block_id):
                    changes |= {signer.min_sdk, signer.min_sdk + 1, signer.max_sdk + 1}
        return changes

    def verify(self, sdk: int) -> VerifiedApk | VerifiedV1:
        """What the platform says: of the newest scheme that it knows and finds, else of v1.

        What has no manifest is no package, whoever signed it.
        """
        if self._signed and self._digests and self._known(sdk):
            verified = verify_for(self._signed, self._digests, sdk, allow_v2=True, first=True)
            if sdk >= _SANDBOX_SDK:
                self._manifest_data()
            return verified
        if self._v1 is None:
            self._v1 = self._verify_v1(sdk)
        self._check_v1_suffices(sdk)
        return self._v1

    def _known(self, sdk: int) -> set[BlockId]:
        """The schemes of the APK, but for v1, that the platform knows."""
        return {item for item in self._ids if _FIRST_SDK[item] <= sdk}

    def _verify_v1(self, sdk: int) -> VerifiedV1:
        low, high = self._sdks
        if low >= V2_SDK and self._known(high):
            high = min(high, V3_SDK - 1)
        found = {_NUMBERS[item] for item in self._known(high) if item in _NUMBERS}
        try:
            return verify_sections(self._source, self.sections, found, (low, high))
        except SchemeNotFound as error:
            raise self._not_found(sdk, error) from None

    def _not_found(self, sdk: int, error: SchemeNotFound) -> ApkError:
        """Neither v1 nor a scheme that the platform knows."""
        broken = self.broken
        if broken and (
            broken.code in ("signing-block", "zip") or str(broken).startswith(NOT_SIGNED)
        ):
            return broken
        if self._ids:
            known = ["v1", *_names({item for item, since in _FIRST_SDK.items() if since <= sdk})]
            return SchemeNotFound(
                f"a platform of SDK {sdk} knows {', '.join(known)} only, and the APK is signed with "
                f"{', '.join(_names(self._ids))} only"
            )
        return error

    def _manifest_data(self) -> bytes:
        if self._manifest is None:
            self._manifest = _manifest_data(self._source, self.sections)
        return self._manifest

    def _check_v1_suffices(self, sdk: int) -> None:
        if sdk < _SANDBOX_SDK:
            return
        manifest = _parse_manifest(self._manifest_data())
        target = manifest.min_sdk if manifest.target_sdk is None else manifest.target_sdk
        if manifest.target_sandbox > 1:
            raise SchemeNotFound(
                f"the APK has a v1 signature only, but target sandbox {manifest.target_sandbox} asks for v2 or later"
            )
        if sdk >= _TARGET_SDK and target >= _TARGET_SDK:
            raise SchemeNotFound(
                f"the APK has a v1 signature only, but target SDK {target} asks for v2 or later"
            )


def _names(schemes: set[BlockId]) -> list[str]:
    return sorted(item.name.replace("_", ".").lower() for item in schemes)


def v4_platforms(verdicts: Sequence[PlatformVerdict]) -> list[int]:
    """One platform of each verdict that knows v4; where none does, the first one that does."""
    known = [max(item.min_sdk, V4_SDK) for item in verdicts if item.max_sdk >= V4_SDK]
    return known or [V4_SDK]


def manifest_min_sdk(apk: int | BinaryIO, *, size: int | None = None) -> int:
    """The minSdkVersion of the manifest, 1 where it names none. EntryError if there is no readable manifest."""
    return manifest_sdks(apk, size=size).min_sdk


def manifest_sdks(apk: int | BinaryIO, *, size: int | None = None) -> ManifestSdks:
    """What the manifest says of platforms. EntryError if there is no readable manifest."""
    try:
        source = open_source(apk, size)
        return _parse_manifest(_manifest_data(source, find_sections(source, strict=False)))
    except EntryError as error:
        raise EntryError(f"{error}{_WITHOUT_MANIFEST}", offset=error.offset) from None


def _manifest_data(source: Source, sections: ZipSections) -> bytes:
    entry = find_in(source, sections, MANIFEST)
    return read_contents(source, entry, sections.cd_offset, MAX_MANIFEST)


def _parse_manifest(data: bytes) -> ManifestSdks:
    try:
        return read_manifest(data)
    except EntryError as error:
        raise EntryError(f"ZIP entry {MANIFEST!r} {error}") from None
