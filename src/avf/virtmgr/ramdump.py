"""The memory that a crashed guest leaves: kept on disk up to a limit, then filed as a tombstone.

Only a debuggable guest leaves any. It may write it itself, to hvc1; else QEMU writes it when the guest panics.
"""

import socket
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from avf import unix_path
from avf.vmm import BoundedFile, VmSpec
from avf.vsock import name_guest

SOCKET_NAME = "ramdump"
"""Beside the tombstone port's socket; no guest can reach it, for what a guest connects to is named by a number."""
TIMEOUT_SECONDS = 10
"""How long virtualizationservice may take nothing."""
DEFAULT_MEMORY_MIB = 256
OVERHEAD_BYTES = 16 << 20
_DIRECTORY = Path("/var/tmp")
_END_SECONDS = 5.0


def dump_limit(memory_mib: int | None) -> int:
    """How many bytes a dump of that much memory can have: headers, and three per cent for what does not compress."""
    memory = (memory_mib or DEFAULT_MEMORY_MIB) << 20
    return memory + memory // 32 + OVERHEAD_BYTES


class Ramdump:
    """The dumps of one VM, in files without a name. `close` ends it, whatever state it is in."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._stack = ExitStack()
        self._own: BinaryIO | None = None
        self._panic: BinaryIO | None = None
        self._port: BoundedFile | None = None

    @contextmanager
    def connected(self, spec: VmSpec) -> Iterator[VmSpec]:
        """`spec` with its dumps going here. Raises OSError."""
        self._own, self._panic = self._new_file(), self._new_file()
        self._port = port = BoundedFile(self._own.fileno(), self._limit)
        self._stack.callback(port.close_write_end)
        try:
            yield replace(
                spec,
                ramdump=port.write_end,
                panic_dump=self._panic.fileno(),
                panic_dump_limit=self._limit,
            )
        finally:
            port.close_write_end()

    def send(self, cid: int, directories: Iterable[Path]) -> str | None:
        """Files what the guest left, or else what QEMU did, once both are gone. None if there is nothing.

        Returns a remark for people, empty if there is none. Raises OSError.
        """
        if self._own is None or self._panic is None or self._port is None:
            return None
        self._port.finish(_END_SECONDS)
        if send_ramdump(self._own, cid, directories):
            return self._port.problem
        return "" if send_ramdump(self._panic, cid, directories) else None

    def close(self) -> None:
        self._stack.close()

    def _new_file(self) -> BinaryIO:
        """On a disk: VM directories lie in memory."""
        directory = _DIRECTORY if _DIRECTORY.is_dir() else None
        return self._stack.enter_context(tempfile.TemporaryFile(dir=directory, buffering=0))


def send_ramdump(file: BinaryIO, cid: int, directories: Iterable[Path]) -> bool:
    """False if the file is empty. `directories`: where a virtualizationservice may listen. Raises OSError."""
    if not file.seek(0, 2):
        return False
    file.seek(0)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(TIMEOUT_SECONDS)
        name_guest(sock, cid, 0)
        _connect(sock, directories)
        sock.sendfile(file)
        sock.shutdown(socket.SHUT_WR)
        sock.recv(1)  # it hangs up once the tombstone is filed
    return True


def _connect(sock: socket.socket, directories: Iterable[Path]) -> None:
    error: OSError = FileNotFoundError("no virtualizationservice takes memory dumps")
    for directory in directories:
        try:
            with unix_path.usable(str(directory / SOCKET_NAME)) as address:
                sock.connect(address)
        except OSError as e:
            error = e
        else:
            return
    raise error
