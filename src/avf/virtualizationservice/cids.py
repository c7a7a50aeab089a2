"""Which CID comes next."""

import itertools
import logging
from collections.abc import Container
from pathlib import Path

from avf.virtualizationservice.errors import CidError
from avf.virtualizationservice.files import read_small
from avf.vsock import GUEST_CID_MAX, GUEST_CID_MIN

log = logging.getLogger(__name__)


class CidAllocator:
    """Gives out guest CIDs, each as long after its last use as can be.

    The last CID given out is kept in a file, so that a restarted service goes on where the former one stopped. A file
    that cannot be read or written only means that it may go on somewhere else. Not for concurrent use.
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
        self._next = self._stored_next()
        self._complained = False

    @property
    def count(self) -> int:
        """How many there are."""
        return self._last - self._first + 1

    def allocate(self, in_use: Container[int]) -> int:
        """The next CID after the last one that is not in use, round the range. Raises CidError if all are in use."""
        start = self._next
        for cid in itertools.chain(range(start, self._last + 1), range(self._first, start)):
            if cid not in in_use:
                self._next = self._after(cid)
                self._store(cid)
                return cid
        raise CidError("Could not find an available CID.")

    def _after(self, cid: int) -> int:
        return self._first if cid == self._last else cid + 1

    def _stored_next(self) -> int:
        try:
            text = read_small(self._file)
        except FileNotFoundError:
            return self._first
        except OSError as e:
            log.error("%s: %s; starting over", self._file, e.strerror)
            return self._first
        try:
            stored = int(text)
        except ValueError:
            log.error("%s: %r is not a CID; starting over", self._file, text[:32])
            return self._first
        if not self._first <= stored <= self._last:
            log.error("%s: CID %d is out of range; starting over", self._file, stored)
            return self._first
        return self._after(stored)

    def _store(self, cid: int) -> None:
        scratch = self._file.with_name(self._file.name + ".new")
        try:
            scratch.unlink(missing_ok=True)
            scratch.write_text(f"{cid}\n")
            scratch.replace(self._file)
        except OSError as e:
            if not self._complained:
                log.warning("%s cannot be written: %s", self._file, e.strerror)
            self._complained = True
        else:
            self._complained = False
