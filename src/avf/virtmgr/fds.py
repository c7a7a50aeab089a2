"""Descriptors that belong together and are closed together."""

import os

from avf.binder import ParcelFileDescriptor, RemoteException
from avf.causes import words
from avf.virtmgr.opening import require_readable


class Fds:
    """Owns descriptors. Closing twice is fine."""

    def __init__(self) -> None:
        self._fds: list[int] = []

    def add(self, fd: int) -> int:
        """Takes over `fd`."""
        self._fds.append(fd)
        return fd

    def clone(self, file: ParcelFileDescriptor) -> int:
        """A duplicate of `file`, owned here. Raises RemoteException (BAD_PARCELABLE)."""
        try:
            return self.add(file.dup().detach())
        except (OSError, ValueError) as e:
            raise RemoteException.bad_parcelable(
                f"Failed to clone File from ParcelFileDescriptor: {words(e)}"
            ) from e

    def clone_file(self, file: ParcelFileDescriptor, what: str) -> int:
        """As `clone`, of a regular file or block device that can be read. Raises VirtmgrError, which says `what`."""
        fd = self.clone(file)
        require_readable(fd, what)
        return fd

    def clone_optional_file(self, file: ParcelFileDescriptor | None, what: str) -> int | None:
        return None if file is None else self.clone_file(file, what)

    def close(self) -> None:
        while self._fds:
            os.close(self._fds.pop())
