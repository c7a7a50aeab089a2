"""Files the memory that a crashed guest has left as a tombstone."""

import os
import socket
from collections.abc import Iterable
from pathlib import Path

from avf.vsock import name_guest

RAMDUMP_NAME = "ramdump"
"""The file in the VM's directory behind the guest's hvc1."""
SOCKET_NAME = "ramdump"
"""Beside the tombstone port's socket; no guest can reach it, for what a guest connects to is named by a number."""
TIMEOUT_SECONDS = 10
"""How long virtualizationservice may take nothing."""


def send_ramdump(ramdump: Path, cid: int, directories: Iterable[Path]) -> bool:
    """False if there is none. `directories`: where a virtualizationservice may listen. Raises OSError."""
    with open(ramdump, "rb", buffering=0) as file:
        if not os.fstat(file.fileno()).st_size:
            return False
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
            sock.connect(str(directory / SOCKET_NAME))
        except OSError as e:
            error = e
        else:
            return
    raise error
