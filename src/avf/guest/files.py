"""Small files, above all the kernel's, without Python's streams: an emulator takes longer to translate those than to do
all that is done with what is in the files.
"""

import os

MAX_SIZE = 1 << 16


def read_bytes(path: str, limit: int = MAX_SIZE) -> bytes:
    """The first `limit` bytes, or all. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = b""
        while len(data) < limit and (piece := os.read(fd, limit - len(data))):
            data += piece
        return data
    finally:
        os.close(fd)


def read_text(path: str, limit: int = MAX_SIZE) -> str:
    """The same as UTF-8; what is none is replaced. Raises OSError."""
    return read_bytes(path, limit).decode("utf-8", "replace")


def write_text(path: str, text: str) -> None:
    """To a file that is there, in one piece. Raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
