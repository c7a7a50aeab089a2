"""Landlock: this process and what it executes may open only what is named.

Source: the kernel's Documentation/userspace-api/landlock.rst.
"""

import ctypes
import os
import stat
import struct
from collections.abc import Sequence

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION = 1
_PATH_BENEATH = 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_TRUNCATE, _IOCTL_DEV = 1 << 14, 1 << 15
_FILE_RIGHTS = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_HANDLED = {1: 0x1FFF, 2: 0x3FFF, 3: 0x7FFF, 5: 0xFFFF}
"""Rights over files by the ABI version that brought them."""
_NET_ABI, _NET = 4, 0b11
"""Binding and connecting TCP sockets."""
_SCOPE_ABI, _SCOPES = 6, 0b11
"""Abstract unix sockets and signals of processes outside."""

LIST = _READ_DIR
READ = _EXECUTE | _READ_FILE | _READ_DIR
DEVICE = _READ_FILE | _WRITE_FILE | _IOCTL_DEV


def version() -> int:
    """The kernel's Landlock ABI; 0 if it has none, or it is switched off."""
    result: int = _syscall(_CREATE_RULESET, None, 0, _VERSION)
    return max(0, result)


def restrict(rules: Sequence[tuple[str | int, int]]) -> None:
    """Confines this thread for good. A rule names a path, or an open descriptor, and the rights below it.

    What does not exist is passed over. No-new-privileges must be set. Raises OSError.
    """
    abi = version()
    handled = max(rights for since, rights in _HANDLED.items() if since <= max(1, abi))
    attributes = struct.pack(
        "=QQQ", handled, _NET if abi >= _NET_ABI else 0, _SCOPES if abi >= _SCOPE_ABI else 0
    )
    size = 24 if abi >= _SCOPE_ABI else 16 if abi >= _NET_ABI else 8
    ruleset = _check(_syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(size), 0))
    try:
        for place, rights in rules:
            _allow(ruleset, place, rights & handled)
        _check(_syscall(_RESTRICT_SELF, ruleset, 0))
    finally:
        os.close(ruleset)


def _allow(ruleset: int, place: str | int, rights: int) -> None:
    path = place if isinstance(place, str) else f"/proc/self/fd/{place}"
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            rights &= _FILE_RIGHTS
        _check(_syscall(_ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("=Qi", rights, fd), 0))
    finally:
        os.close(fd)


def _syscall(*arguments: object) -> int:
    library = ctypes.CDLL(None, use_errno=True)
    library.syscall.restype = ctypes.c_long
    result: int = library.syscall(*arguments)
    return result


def _check(result: int) -> int:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"Landlock: {os.strerror(error)}")
    return result
