"""A listening socket, with what belongs to it while it listens."""

import socket
from types import TracebackType
from typing import TYPE_CHECKING

from .unix_file import SocketFile

if TYPE_CHECKING:
    import ssl  # slow to import, and hardly ever needed


class Listener:
    """Owns the socket and its file, and says how connections are secured."""

    def __init__(
        self,
        sock: socket.socket,
        *,
        file: SocketFile | None = None,
        tls: "ssl.SSLContext | None" = None,
    ) -> None:
        self.sock = sock
        self.tls = tls
        self._file = file

    def close(self) -> None:
        file, self._file = self._file, None
        try:
            if file is not None:
                file.remove()
        finally:
            self.sock.close()

    def __enter__(self) -> "Listener":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
