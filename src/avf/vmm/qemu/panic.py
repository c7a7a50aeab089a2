"""The memory of a guest that has panicked, saved where its own crash kernel would have put it."""

import os
from collections.abc import Awaitable, Callable, Mapping

from avf.vmm.base import VmmControlError, VmmStartError

DUMP_MAGIC = b"makedumpfile"
"""What a dump starts with: kdump compressed format, flattened (makedumpfile(8), -F), as crash(8) reads it."""
_FORMAT = "kdump-zlib"

Execute = Callable[[str, Mapping[str, object], int | None], Awaitable[object]]


class PanicDump:
    """Owns a descriptor of the ramdump file."""

    def __init__(self, ramdump: int) -> None:
        """Opens the file behind `ramdump` anew. Raises VmmStartError."""
        try:
            self._fd = os.open(f"/proc/self/fd/{ramdump}", os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise VmmStartError(f"cannot use the ramdump descriptor: {error.strerror}") from error

    async def save(self, execute: Execute) -> str:
        """All of the paused guest's memory, or nothing; what has happened, for people."""
        if size := os.fstat(self._fd).st_size:
            return f"the guest has left a dump of {size} bytes"
        arguments = {"paging": False, "protocol": "fd:panic", "format": _FORMAT}
        try:
            await execute("getfd", {"fdname": "panic"}, self._fd)
            await execute("dump-guest-memory", arguments, None)
        except BaseException as error:
            os.ftruncate(self._fd, 0)
            if not isinstance(error, VmmControlError):
                raise
            return f"no memory dump: {error}"
        return f"the guest's memory was dumped, {os.fstat(self._fd).st_size} bytes"

    def close(self) -> None:
        os.close(self._fd)
