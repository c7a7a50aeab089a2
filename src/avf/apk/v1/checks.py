"""Hash entries and compare their digests, on as many processors as there are."""

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

from avf.apk.errors import DigestMismatch
from avf.apk.source import ReadAhead, Source
from avf.apk.v1.contents import packed_size, pieces, read_packed, unpack
from avf.apk.v1.digests import Digest
from avf.apk.zip import Entry

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

_Hash = Callable[[Sequence["hashlib._Hash"], bytes | memoryview], None]
_MAX_THREADS = 4
_LARGE = 1 << 20
"""Larger entries are hashed while the next piece of them is inflated, smaller ones in batches."""
_BATCH = 256 << 10
_BATCH_ENTRIES = 64
_MAX_BATCHES = 8


class Check(NamedTuple):
    """An entry, its name as the manifest has it, and its digests."""

    entry: Entry
    name: str
    expected: Sequence[Digest]


class Checker:
    """Checks entries in other threads; the error is that of the first wrong entry. Only one thread reads the file.

    At most 8 batches wait at a time, each of 1.25 MiB at most. Leaving the context waits for all of them.
    """

    def __init__(self, source: Source, end: int) -> None:
        """The entries end at byte `end` of the file."""
        from concurrent.futures import ThreadPoolExecutor

        self._source = ReadAhead(source)
        self._end = end
        self._pool = ThreadPoolExecutor(min(len(os.sched_getaffinity(0)), _MAX_THREADS))
        self._batch: list[tuple[Check, bytes]] = []
        self._size = 0
        self._running: deque[Future[None]] = deque()

    def __enter__(self) -> "Checker":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """An error of an entry that was added takes precedence over one that was met behind it."""
        with self._pool:
            self._start_batch()
            while self._running:
                self._wait_for_one()

    def add(self, check: Check) -> None:
        """Check this entry too. Raises EntryError or DigestMismatch, of this entry or of one before."""
        if max(check.entry.size, packed_size(check.entry)) > _LARGE:
            _compare(check, pieces(self._source, check.entry, self._end), _hash_beside(self._pool))
            return
        packed = read_packed(self._source, check.entry, self._end)
        self._batch.append((check, packed))
        self._size += len(packed)
        if self._size >= _BATCH or len(self._batch) >= _BATCH_ENTRIES:
            self._start_batch()
        if len(self._running) > _MAX_BATCHES:
            self._wait_for_one()

    def _start_batch(self) -> None:
        if not self._batch:
            return
        self._running.append(self._pool.submit(_check_batch, self._batch))
        self._batch, self._size = [], 0

    def _wait_for_one(self) -> None:
        try:
            self._running.popleft().result()
        except BaseException:
            self._batch.clear()
            self._running.clear()
            self._pool.shutdown(cancel_futures=True)
            raise


def _check_batch(batch: Iterable[tuple[Check, bytes]]) -> None:
    for check, packed in batch:
        _compare(check, unpack(check.entry, packed), _hash)


def _compare(check: Check, contents: Iterable[bytes | memoryview], hash_: _Hash) -> None:
    hashes = [hashlib.new(item.hash_name, usedforsecurity=False) for item in check.expected]
    for piece in contents:
        hash_(hashes, piece)
    hash_(hashes, b"")
    for item, digest in zip(hashes, check.expected, strict=True):
        if item.digest() != digest.value:
            raise DigestMismatch(
                f"ZIP entry {check.name!r}: {digest.hash_name} digest mismatch: "
                f"computed={item.hexdigest()} vs expected={digest.value.hex()}",
                offset=check.entry.header_offset,
            )


def _hash(hashes: Sequence["hashlib._Hash"], piece: bytes | memoryview) -> None:
    for item in hashes:
        item.update(piece)


def _hash_beside(pool: "Executor") -> _Hash:
    """Hash one piece while the next one is inflated; no piece returns before the one before it is hashed."""
    running: list[Future[None]] = []

    def hash_beside(hashes: Sequence["hashlib._Hash"], piece: bytes | memoryview) -> None:
        if running:
            running.pop().result()
        if piece:
            running.append(pool.submit(_hash, hashes, piece))

    return hash_beside
