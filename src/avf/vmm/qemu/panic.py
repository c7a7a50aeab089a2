"""The memory of a guest that has panicked, saved where its own crash kernel would have put it."""

import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

from avf.vmm.base import VmmControlError, VmmStartError
from avf.vmm.bounded import BoundedFile

DUMP_MAGIC = b"makedumpfile"
"""What a dump starts with: kdump compressed format, flattened (makedumpfile(8), -F), as crash(8) reads it."""
_FORMAT = "kdump-zlib"
_END_SECONDS = 10.0

Execute = Callable[[str, Mapping[str, object], int | None], Awaitable[object]]


class PanicDump:
    """Owns a descriptor of the file that a dump goes to."""

    def __init__(self, file: int, limit: int) -> None:
        """Duplicates `file`; a dump of more than `limit` bytes is none. Raises VmmStartError."""
        self._limit = limit
        try:
            self._fd = os.dup(file)
        except OSError as error:
            raise VmmStartError(
                f"cannot use the panic dump descriptor: {error.strerror}"
            ) from error

    async def save(self, execute: Execute) -> str:
        """All of the paused guest's memory, or nothing; what has happened, for people."""
        target = BoundedFile(self._fd, self._limit)
        try:
            await self._dump(execute, target)
        except BaseException as error:
            target.empty()
            if not isinstance(error, VmmControlError):
                raise
            return f"no memory dump: {error}"
        finally:
            target.close_write_end()
        return f"the guest's memory was dumped, {os.fstat(self._fd).st_size} bytes"

    async def _dump(self, execute: Execute, target: BoundedFile) -> None:
        import asyncio

        arguments = {"paging": False, "protocol": "fd:panic", "format": _FORMAT}
        await execute("getfd", {"fdname": "panic"}, target.write_end)
        try:
            await execute("dump-guest-memory", arguments, None)
        except VmmControlError:
            with suppress(VmmControlError):
                await execute("closefd", {"fdname": "panic"}, None)
            raise
        if not await asyncio.to_thread(target.finish, _END_SECONDS):
            raise VmmControlError("QEMU does not end its dump")
        if target.problem:
            raise VmmControlError(target.problem)

    def close(self) -> None:
        os.close(self._fd)
