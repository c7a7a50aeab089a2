"""Digests of large files that do not change: each is computed once per boot of the host."""

import hashlib
import os
import time

from avf import facts

_CHUNK = 1 << 20
_SETTLED_NS = 1_000_000_000
"""How old the last change of a file must be: two changes in one tick of the clock could not be told apart."""


def file_digest(fd: int) -> str:
    """SHA-256, in hex, of the regular file at `fd`.

    It is known again by device, inode, size and the time of its last change, which nobody can set. Raises OSError.
    """
    status = os.fstat(fd)
    key = f"digest:{status.st_dev}:{status.st_ino}"
    seen = f"{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}:"
    known = facts.recall(key)
    if isinstance(known, str) and known.startswith(seen):
        return known.removeprefix(seen)
    digest = _compute(fd)
    if time.time_ns() - status.st_ctime_ns > _SETTLED_NS:
        facts.remember(key, seen + digest)
    return digest


def _compute(fd: int) -> str:
    digest = hashlib.sha256()
    offset = 0
    while chunk := os.pread(fd, _CHUNK, offset):
        digest.update(chunk)
        offset += len(chunk)
    return digest.hexdigest()
