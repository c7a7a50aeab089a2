"""Addresses of the unix sockets in a VM's directory."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def address_in(directory: Path, name: str) -> Iterator[str]:
    """An address for `name` that fits into a sockaddr, however long the directory's name is. Raises OSError."""
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{name}"
    finally:
        os.close(fd)
