"""ParcelFileDescriptor: a file descriptor with exactly one owner; and those that have just come."""

import os
from collections.abc import Iterable
from types import TracebackType

from .budget import DESCRIPTORS, Account


class ParcelFileDescriptor:
    """Owns a file descriptor and closes it, at the latest when collected.

    As an argument of a method being served it is closed when the method returns, unless `detach`ed; as a method's
    result it is closed once it has been sent. At the calling side arguments stay, and results become, the caller's.
    """

    __slots__ = ("__weakref__", "_fd")

    def __init__(self, fd: int) -> None:
        self._fd = -1
        if not isinstance(fd, int):
            raise TypeError(f"a file descriptor is an int, not {type(fd).__name__}")
        if fd < 0:
            raise ValueError(f"no file descriptor: {fd}")
        self._fd = fd

    def fileno(self) -> int:
        """Raises ValueError once closed or detached."""
        if self._fd < 0:
            raise ValueError("the file descriptor is closed")
        return self._fd

    def dup(self) -> "ParcelFileDescriptor":
        """A descriptor of the same file, which the caller owns."""
        return ParcelFileDescriptor(os.dup(self.fileno()))

    def detach(self) -> int:
        """Gives the descriptor up to the caller."""
        fd, self._fd = self.fileno(), -1
        return fd

    def close(self) -> None:
        """Closes the descriptor; may be called again."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    @property
    def closed(self) -> bool:
        """Whether it was closed or detached."""
        return self._fd < 0

    def __enter__(self) -> "ParcelFileDescriptor":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"ParcelFileDescriptor({self._fd if self._fd >= 0 else 'closed'})"


class ReceivedFds(list[int]):
    """Descriptors that came with a frame, by their index in it; -1 for one taken out.

    They count for the party of `account` until `settle`.
    """

    __slots__ = ("_account", "_charged")

    def __init__(self, account: Account) -> None:
        super().__init__()
        self._account = account
        self._charged = 0

    def charge(self) -> None:
        """Counts those that were added. Raises OverBudget."""
        more = len(self) - self._charged
        self._account.take(DESCRIPTORS, more)
        self._charged += more

    def settle(self) -> None:
        charged, self._charged = self._charged, 0
        if charged:
            self._account.give(DESCRIPTORS, charged)


def close_fds(fds: Iterable[int]) -> None:
    """Closes those that nobody took out; they count for nobody any more."""
    for fd in fds:
        if fd >= 0:
            os.close(fd)
    if isinstance(fds, ReceivedFds):
        fds.settle()
