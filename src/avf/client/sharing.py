"""One virtmgr for all programs of one user that are started within a command: `vm pool`.

Who has started virtmgr listens at a unix socket, and hands every connection on to it. `$AVF_POOL` names the socket.
"""

import os
import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import Self

from avf import unix_path
from avf.binder import Address, bootstrap, unix
from avf.causes import words
from avf.client.errors import ServiceStartError
from avf.client.process import VirtmgrProcess

_BACKLOG = 64


class SharedVirtmgr:
    """A virtmgr that somebody else has started and shares."""

    log_tail = ""
    """What it logs is for who has started it."""

    def __init__(self, path: Path) -> None:
        """Raises ServiceStartError."""
        try:
            owner = path.stat().st_uid
        except OSError as error:
            raise ServiceStartError(
                f"AVF_POOL is {path}, where no virtmgr is shared: {words(error)}"
            ) from error
        if owner != os.geteuid():
            raise ServiceStartError(f"AVF_POOL is {path}, which belongs to uid {owner}")
        self._path = path
        self.address: Address = unix(path)

    @property
    def pid(self) -> int:
        """Of the process that shares it."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            with unix_path.usable(str(self._path)) as short:
                sock.connect(short)
            return int.from_bytes(
                sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[:4], "little"
            )

    def how_it_ended(self, _patience: float) -> str | None:
        """For people; None if it still runs."""
        return None if self._path.exists() else "has ended, with the `vm pool` that shared it"

    def close(self) -> None:
        """It goes on."""


class Sharing:
    """Hands the connections of the calling user's programs on to a virtmgr, until it is closed."""

    def __init__(self, process: VirtmgrProcess, path: Path) -> None:
        """Listens at `path`, which only its owner may use. Raises OSError."""
        self._process = process
        self._path = path
        self._listener = unix_path.listen(str(path), mode=0o600, backlog=_BACKLOG)
        self._thread = threading.Thread(target=self._run, name="sharing", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return  # it is closed
            with connection, suppress(OSError):  # virtmgr has ended: its client hears of it
                bootstrap(self._process.bootstrap).hand_over(connection)

    def close(self) -> None:
        """Those who are connected stay so as long as virtmgr does. Idempotent."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        with suppress(FileNotFoundError):
            os.unlink(self._path)  # noqa: PTH108

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()
