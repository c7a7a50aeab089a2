"""Which CID comes next."""

import itertools
import logging
from collections.abc import Container
from pathlib import Path

from avf.vsock import GUEST_CID_MAX, GUEST_CID_MIN

log = logging.getLogger(__name__)


class CidError(Exception):
    """No CID can be given out."""


class CidAllocator:
    """Gives out guest CIDs, each as long after its last use as can be.

    The last CID given out is kept in a file, so that a restarted service goes on where the former one stopped.
    Not for concurrent use.
    """

    def __init__(self, last_cid_file: Path) -> None:
        self._file = last_cid_file

    def allocate(self, in_use: Container[int]) -> int:
        """The next CID after the last one that is not in use, round the range.

        Raises CidError if all are in use, OSError if the file cannot be read or written.
        """
        first = self._first_candidate()
        for cid in itertools.chain(range(first, GUEST_CID_MAX + 1), range(GUEST_CID_MIN, first)):
            if cid not in in_use:
                self._store(cid)
                return cid
        raise CidError("Could not find an available CID.")

    def _first_candidate(self) -> int:
        try:
            text = self._file.read_text(errors="replace")
        except FileNotFoundError:
            return GUEST_CID_MIN
        try:
            last = int(text)
        except ValueError:
            log.error("%s: %r is not a CID; starting over", self._file, text[:32])
            return GUEST_CID_MIN
        if not GUEST_CID_MIN <= last <= GUEST_CID_MAX:
            log.error("%s: CID %d is out of range; starting over", self._file, last)
            return GUEST_CID_MIN
        return GUEST_CID_MIN if last == GUEST_CID_MAX else last + 1

    def _store(self, cid: int) -> None:
        scratch = self._file.with_name(self._file.name + ".new")
        scratch.write_text(f"{cid}\n")
        scratch.replace(self._file)
