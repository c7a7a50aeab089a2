"""What a clone needs from us once its QEMU has opened the file that its memory begins as, before its guest runs."""

import errno
import os
import socket
from pathlib import Path

from avf.confine import Child
from avf.vmm.base import VmmControlError


class Sharing:
    """The last steps towards memory that begins as what is in a file.

    QEMU gives memory back to the host by freeing a part of the file, which a file that clones share, being sealed,
    refuses; and only then lets go of its own pages. So its filter has the first step succeed and do nothing, for the
    descriptor that it must turn out to have such a file under.
    """

    def __init__(
        self, qemu: Child, memory: int, number: int | None, lender: socket.socket | None
    ) -> None:
        """`memory` stays the caller's; `number`: the descriptor QEMU must have it open under, None if it is not shared;
        `lender`: over which the vsock device is lent QEMU's memory, if it cannot map a copy that is QEMU's own.
        """
        self._qemu = qemu
        self._identity = _identity(os.fstat(memory))
        self._number = number
        self._lender = lender
        self.problem: str | None = None
        """Why memory cannot be shared on this host, if that has turned out."""

    def settle(self) -> None:
        """QEMU runs, and its guest does not yet. Raises VmmControlError, and says so in `problem`."""
        try:
            if self._number is not None:
                self._check_number(self._number)
            if self._lender is not None:
                self._lend(self._lender)
        except PermissionError as error:
            if _has_ended(self._qemu.pid):
                raise VmmControlError("QEMU has ended") from error
            self.problem = f"QEMU's memory cannot be reached: {error.strerror}"
        except BrokenPipeError as error:
            raise VmmControlError("the vsock device has ended") from error
        except OSError as error:
            raise VmmControlError(f"QEMU has ended: {error.strerror}") from error
        if self.problem is not None:
            raise VmmControlError(self.problem)
        self._qemu.end_lending()

    def close(self) -> None:
        """The guest runs, or never will."""
        self._qemu.end_lending()

    def _check_number(self, number: int) -> None:
        files = Path(f"/proc/{self._qemu.pid}/fd")
        path = files / str(number)
        there = set(files.iterdir())
        if not there:
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
        if path not in there or _identity(path.stat()) != self._identity:
            self.problem = f"QEMU has not opened its memory as descriptor {number}"

    def _lend(self, lender: socket.socket) -> None:
        """The kernel checks here, and never again, that we may read and write QEMU's memory: it is our child."""
        memory = os.open(f"/proc/{self._qemu.pid}/mem", os.O_RDWR | os.O_CLOEXEC)
        try:
            socket.send_fds(lender, [b"m"], [memory])
        finally:
            os.close(memory)
            lender.close()


def _has_ended(pid: int) -> bool:
    """The files in /proc of a process that has ended and was not waited for are root's alone, but for this one."""
    try:
        status = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return True
    return status.rpartition(b")")[2].split()[0] in b"ZX"


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
