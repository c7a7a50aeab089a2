"""Which CID comes next."""

import itertools
import logging
from collections.abc import Container
from pathlib import Path

from avf.virtualizationservice.errors import CidError
from avf.vsock import GUEST_CID_MAX, GUEST_CID_MIN

log = logging.getLogger(__name__)


class CidAllocator:
    """Gives out guest CIDs, each as long after its last use as can be.

    The last CID given out is kept in a file, so that a restarted service goes on where the former one stopped.
    Not for concurrent use.
    """

    def __init__(
        self, last_cid_file: Path, first: int = GUEST_CID_MIN, last: int = GUEST_CID_MAX
    ) -> None:
        """Gives out `first` to `last`, both included. Raises ValueError unless guests may have all of them."""
        if not GUEST_CID_MIN <= first <= last <= GUEST_CID_MAX:
            raise ValueError(
                f"CIDs {first} to {last} are not between {GUEST_CID_MIN} and {GUEST_CID_MAX}"
            )
        self._file = last_cid_file
        self._first = first
        self._last = last

    def allocate(self, in_use: Container[int]) -> int:
        """The next CID after the last one that is not in use, round the range.

        Raises CidError if all are in use, OSError if the file cannot be read or written.
        """
        start = self._start()
        for cid in itertools.chain(range(start, self._last + 1), range(self._first, start)):
            if cid not in in_use:
                self._store(cid)
                return cid
        raise CidError("Could not find an available CID.")

    def _start(self) -> int:
        try:
            text = self._file.read_text(errors="replace")
        except FileNotFoundError:
            return self._first
        try:
            stored = int(text)
        except ValueError:
            log.error("%s: %r is not a CID; starting over", self._file, text[:32])
            return self._first
        if not self._first <= stored <= self._last:
            log.error("%s: CID %d is out of range; starting over", self._file, stored)
            return self._first
        return self._first if stored == self._last else stored + 1

    def _store(self, cid: int) -> None:
        scratch = self._file.with_name(self._file.name + ".new")
        try:
            scratch.write_text(f"{cid}\n")
            scratch.replace(self._file)
        except OSError as e:
            e.filename = e.filename or str(scratch)  # what a full disk leaves out
            raise
