"""What every platform of a range says of an APK, and the range that its manifest asks for."""

from collections.abc import Sequence
from contextlib import suppress
from typing import BinaryIO, NamedTuple

from avf.apk.axml_reader import MAX_MANIFEST, ManifestSdks, read_manifest
from avf.apk.errors import ApkError, EntryError, InputError, SchemeNotFound, SigningBlockError
from avf.apk.signers import MAX_SDK
from avf.apk.signing_block import BlockId, SignedApk, find_signing_block
from avf.apk.source import Progress, open_source
from avf.apk.verify import (
    V2_SDK,
    V3_1_SDK,
    V3_SDK,
    ContentDigests,
    VerifiedApk,
    signers_of,
    verify_for,
)
from avf.apk.zip import check_directory, read_entry

MANIFEST = "AndroidManifest.xml"
_WITHOUT_MANIFEST = "; without it the lowest SDK must be given"
V4_SDK = 30
"""The first platform that knows v4."""


class PlatformVerdict(NamedTuple):
    """What the platforms from `min_sdk` to `max_sdk`, both inclusive, say of an APK."""

    min_sdk: int
    max_sdk: int
    apk: VerifiedApk


def verify_range(
    apk: int | BinaryIO,
    *,
    min_sdk: int | None = None,
    max_sdk: int = MAX_SDK,
    size: int | None = None,
    progress: Progress | None = None,
) -> tuple[PlatformVerdict, ...]:
    """Check an APK as `verify` does, with v2, v3 or v3.1, for every platform of a range.

    `min_sdk` defaults to the manifest's. The contents are read once. Raises the ApkError of the lowest platform that
    refuses the APK, its message preceded by that platform's SDK; InputError if the range is empty.
    """
    low = manifest_min_sdk(apk, size=size) if min_sdk is None else min_sdk
    if not 0 <= low <= max_sdk:
        raise InputError(f"the SDK range {low} to {max_sdk} is empty")
    source = open_source(apk, size, progress)
    signed_apk = find_signing_block(source)
    digests = ContentDigests(signed_apk)
    verdicts: list[PlatformVerdict] = []
    starts = sorted({sdk for sdk in _changes(signed_apk, max_sdk) if low < sdk <= max_sdk} | {low})
    for first, after in zip(starts, [*starts[1:], max_sdk + 1], strict=True):
        try:
            verified = verify_for(signed_apk, digests, first, allow_v2=True)
        except ApkError as error:
            error.args = (f"SDK {first}: {error}",)
            raise
        if verdicts and verdicts[-1].apk == verified:
            verdicts[-1] = verdicts[-1]._replace(max_sdk=after - 1)
        else:
            verdicts.append(PlatformVerdict(first, after - 1, verified))
    check_directory(source, signed_apk.zip)
    source.check_unchanged()
    return tuple(verdicts)


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
        data = read_entry(apk, MANIFEST, limit=MAX_MANIFEST, size=size)
    except EntryError as error:
        raise EntryError(f"{error}{_WITHOUT_MANIFEST}", offset=error.offset) from None
    try:
        return read_manifest(data)
    except EntryError as error:
        raise EntryError(f"ZIP entry {MANIFEST!r} {error}{_WITHOUT_MANIFEST}") from None


def _changes(apk: SignedApk, high: int) -> set[int]:
    """The SDKs, up to `high`, from which on the verdict can be another than just before.

    A scheme that no platform up to `high` knows is not looked at, and what is broken is left to the verdict.
    """
    changes = {V2_SDK, V3_SDK, V3_1_SDK}
    for block_id, since in ((BlockId.V3, V3_SDK), (BlockId.V3_1, V3_1_SDK)):
        if high < since:
            continue
        with suppress(SchemeNotFound, SigningBlockError):
            for signer in signers_of(apk, block_id):
                changes |= {signer.min_sdk, signer.min_sdk + 1, signer.max_sdk + 1}
    return changes
