"""Compare the entries of an APK with the digests in the manifest."""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor

from avf.apk.errors import DigestMismatch, EntryNotSigned, V1SignatureError
from avf.apk.v1.archive import META_INF, Archive, duplicate
from avf.apk.v1.contents import pieces
from avf.apk.v1.digests import Digest, digests_to_check
from avf.apk.v1.manifest import MANIFEST, Manifest
from avf.apk.v1.mechanisms import SdkRange
from avf.apk.zip import Entry

Hasher = Callable[[Sequence["hashlib._Hash"], bytes | memoryview], None]
_LARGE = 1 << 20
"""Smaller entries are not worth handing to another thread."""


def verify_entries(
    archive: Archive, manifest: Manifest, covers: Sequence[bytes], sdks: SdkRange
) -> tuple[int, ...]:
    """Check every entry outside META-INF; which of the signature files cover them, by their place in `covers`.

    `covers` says for each signature file which sections of the manifest it covers. Raises EntryNotSigned,
    DigestMismatch, V1SignatureError, or EntryError for an entry that is damaged or has another one's name.
    """
    with ThreadPoolExecutor(1) as pool:
        return _verify_entries(archive, manifest, covers, sdks, pool)


def _verify_entries(
    archive: Archive, manifest: Manifest, covers: Sequence[bytes], sdks: SdkRange, pool: Executor
) -> tuple[int, ...]:
    seen = _Seen(manifest)
    signers: tuple[int, ...] | None = None
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
        _verify_entry(archive, entry, name, _digests(manifest, index, name, sdks), pool)
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


def _verify_entry(
    archive: Archive, entry: Entry, name: str, expected: list[Digest], pool: Executor
) -> None:
    hashes = [hashlib.new(item.hash_name, usedforsecurity=False) for item in expected]
    hash_ = _hash_beside(pool) if entry.size >= _LARGE else _hash
    for piece in pieces(archive.source, entry, archive.sections.cd_offset):
        hash_(hashes, piece)
    hash_(hashes, b"")
    for item, digest in zip(hashes, expected, strict=True):
        if item.digest() != digest.value:
            raise DigestMismatch(
                f"ZIP entry {name!r}: {digest.hash_name} digest mismatch: computed={item.hexdigest()} "
                f"vs expected={digest.value.hex()}",
                offset=entry.header_offset,
            )


def _hash(hashes: Sequence["hashlib._Hash"], piece: bytes | memoryview) -> None:
    for item in hashes:
        item.update(piece)


def _hash_beside(pool: Executor) -> Hasher:
    """Hash one piece while the next one is inflated; no piece returns before the one before it is hashed."""
    running: list[Future[None]] = []

    def hash_beside(hashes: Sequence["hashlib._Hash"], piece: bytes | memoryview) -> None:
        if running:
            running.pop().result()
        if piece:
            running.append(pool.submit(_hash, hashes, piece))

    return hash_beside
