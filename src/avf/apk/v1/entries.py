"""Compare the entries of an APK with the digests in the manifest."""

from collections.abc import Sequence

from avf.apk.errors import EntryNotSigned, V1SignatureError
from avf.apk.v1.archive import META_INF, Archive, duplicate
from avf.apk.v1.checks import Check, Checker
from avf.apk.v1.digests import Digest, digests_to_check
from avf.apk.v1.manifest import MANIFEST, Manifest
from avf.apk.v1.mechanisms import SdkRange
from avf.apk.zip import Entry


def verify_entries(
    archive: Archive, manifest: Manifest, covers: Sequence[bytes], sdks: SdkRange
) -> tuple[int, ...]:
    """Check every entry outside META-INF; which of the signature files cover them, by their place in `covers`.

    `covers` says for each signature file which sections of the manifest it covers. Raises EntryNotSigned,
    DigestMismatch, V1SignatureError, or EntryError for an entry that is damaged or has another one's name.
    """
    seen = _Seen(manifest)
    signers: tuple[int, ...] | None = None
    with Checker(archive.source, archive.sections.cd_offset) as checker:
        for name, entry in archive.entries():
            index = seen.add(name, entry)
            if name.startswith(META_INF):
                continue
            if index is None:
                raise EntryNotSigned(
                    f"ZIP entry {name!r} is not in the manifest", offset=entry.header_offset
                )
            found = tuple([place for place, cover in enumerate(covers) if cover[index]])
            if not found or (signers is not None and found != signers):
                reason = "is not signed by all of the signers" if found else "is not signed"
                raise EntryNotSigned(f"ZIP entry {name!r} {reason}", offset=entry.header_offset)
            signers = found
            checker.add(Check(entry, name, _digests(manifest, index, name, sdks)))
    seen.check_complete()
    if signers is None:
        raise EntryNotSigned("The v1 signature covers no entry")
    return signers


class _Seen:
    """The names that occurred."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._listed = bytearray(len(manifest))
        self._others: set[str] = set()

    def add(self, name: str, entry: Entry) -> int | None:
        """The number of its section in the manifest."""
        index = self._manifest.index(name)
        if name in self._others or (index is not None and self._listed[index]):
            raise duplicate(entry)
        if index is None:
            self._others.add(name)
        else:
            self._listed[index] = 1
        return index

    def check_complete(self) -> None:
        missing = self._listed.find(0)
        if missing >= 0:
            name = self._manifest.name_of(missing)
            raise V1SignatureError(f"{MANIFEST}: there is no ZIP entry {name!r}")


def _digests(manifest: Manifest, index: int, name: str, sdks: SdkRange) -> list[Digest]:
    expected = digests_to_check(manifest.section(index).attributes(), "-digest", sdks)
    if not expected:
        raise EntryNotSigned(f"{MANIFEST}: no usable digest for {name!r}")
    return expected
