"""Sends a file, or a folder with all that is in it. Links inside a folder are sent as links, never followed."""

import os
import stat
from collections.abc import Callable

from avf.shell.entries import MAX_DEPTH, Entry, Link, shown
from avf.shell.errors import TransferError
from avf.shell.frames import MAX_PAYLOAD, Kind

Send = Callable[[Kind, bytes], None]

_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
"""Opening a pipe must not wait for somebody who writes to it."""


def send_tree(path: bytes, send: Send) -> None:
    """Sends what is at `path`; if that is a link, what it leads to.

    What is neither a file, a folder nor a link, and what cannot be read, is left out, and the receiver is told so; the
    top itself cannot be. Raises TransferError, and whatever `send` raises.
    """
    try:
        kind = os.stat(path).st_mode
        if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
            raise TransferError(f"{shown(path)} is neither a file nor a folder")
        fd = os.open(path, _FLAGS)
    except OSError as error:
        raise TransferError(f"{shown(path)}: {error.strerror}") from error
    try:
        _send_open(fd, b"", path, 0, send)
    finally:
        os.close(fd)


def _send_open(fd: int, name: bytes, path: bytes, depth: int, send: Send) -> None:
    status = os.fstat(fd)
    entry = Entry(name, stat.S_IMODE(status.st_mode), status.st_mtime_ns)
    if stat.S_ISDIR(status.st_mode):
        _send_folder(fd, entry, path, depth, send)
    elif stat.S_ISREG(status.st_mode):
        _send_file(fd, entry, path, send)
    else:
        _leave_out(path, "is neither a file, a folder nor a link", send)


def _send_file(fd: int, entry: Entry, path: bytes, send: Send) -> None:
    send(Kind.FILE, entry.encode())
    while True:
        try:
            data = os.read(fd, MAX_PAYLOAD)
        except OSError as error:
            raise TransferError(f"{shown(path)}: {error.strerror}") from error
        if not data:
            break
        send(Kind.DATA, data)
    send(Kind.END, b"")


def _send_folder(fd: int, entry: Entry, path: bytes, depth: int, send: Send) -> None:
    if depth >= MAX_DEPTH:
        raise TransferError(f"{shown(path)}: folders are nested more than {MAX_DEPTH} deep")
    try:
        names = sorted(os.fsencode(name) for name in os.listdir(fd))
    except OSError as error:
        raise TransferError(f"{shown(path)}: {error.strerror}") from error
    send(Kind.FOLDER, entry.encode())
    for name in names:
        _send_entry(fd, name, path + b"/" + name, depth, send)
    send(Kind.END, b"")


def _send_entry(folder: int, name: bytes, path: bytes, depth: int, send: Send) -> None:
    fd = -1
    target = b""
    try:
        kind = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
        if stat.S_ISLNK(kind):
            target = os.readlink(name, dir_fd=folder)
        elif stat.S_ISREG(kind) or stat.S_ISDIR(kind):
            fd = os.open(name, _FLAGS | os.O_NOFOLLOW, dir_fd=folder)
    except OSError as error:
        _leave_out(path, error.strerror or "cannot be read", send)
        return
    if fd >= 0:
        try:
            _send_open(fd, name, path, depth + 1, send)
        finally:
            os.close(fd)
    elif target:
        send(Kind.LINK, Link(name, target).encode())
    else:
        _leave_out(path, "is neither a file, a folder nor a link", send)


def _leave_out(path: bytes, why: str, send: Send) -> None:
    send(Kind.LEFT_OUT, f"{shown(path)}: {why}".encode("utf-8", "replace")[:MAX_PAYLOAD])
