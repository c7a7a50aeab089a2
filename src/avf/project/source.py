"""What kind of payload a file is, told by its first bytes and its name."""

import os
import re
import stat
import struct
from collections.abc import Iterable
from enum import Enum
from mmap import ACCESS_READ, mmap
from pathlib import Path

from avf.project.errors import ProjectError

ABI = "x86_64"
ENTRY = b"AVmPayload_main"
C_SUFFIXES = frozenset({".c"})
CPP_SUFFIXES = frozenset({".cc", ".cpp", ".cxx"})
HEADER_SUFFIXES = frozenset({".h", ".hh", ".hpp"})
_HEAD = 4096
_MAX_SOURCE = 16 << 20
_MAIN = re.compile(rb"\bmain\s*\(")
_ELF = b"\x7fELF"
_ELF_HEAD = struct.Struct("<4sBB10xHH")
_CLASS_64, _LITTLE_ENDIAN = 2, 1
_X86_64 = 62
_TYPES = {1: "an object file, which has to be linked first", 4: "a core dump"}
_MACHINES = {3: "x86", 40: "arm", 183: "aarch64", 243: "riscv"}
_WANTED = (
    "a payload is a Python script (*.py), a script with a #! line, an ELF program, a library (*.so), C or C++"
    " source (*.c, *.cpp), a folder with one of them, or an APK"
)


class SourceKind(Enum):
    """How a payload is written."""

    APK = "APK"
    PYTHON = "Python script"
    SCRIPT = "script"
    PROGRAM = "program"
    LIBRARY = "library"
    C = "C source"
    """Of a library, in C or C++."""
    C_PROGRAM = "C program"
    FOLDER = "folder"


def kind_of(path: Path) -> SourceKind:
    """Raises ProjectError, which says what the file is instead."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            return SourceKind.FOLDER
        if not stat.S_ISREG(mode):  # not even opened: whoever writes to a pipe would notice
            raise ProjectError(f"{path} is neither a file nor a folder", _WANTED)
        with open(path, "rb", opener=_open_without_waiting) as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise ProjectError(f"{path}: {error.strerror}") from error
    kind = _by_content(path, head)
    if kind is None:
        raise ProjectError(f"{path} is no payload: {_looks_like(path, head)}", _WANTED)
    return kind


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)


def is_runnable(path: Path) -> bool:
    """Whether a file could be the payload of a folder."""
    try:
        return kind_of(path) not in (SourceKind.APK, SourceKind.FOLDER)
    except ProjectError:
        return False


def _by_content(path: Path, head: bytes) -> SourceKind | None:
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")) or path.suffix == ".apk":
        return SourceKind.APK
    if head.startswith(_ELF):
        return _elf(path, head)
    if path.suffix == ".py":
        return SourceKind.PYTHON
    if head.startswith(b"#!"):
        return SourceKind.SCRIPT
    if path.suffix in C_SUFFIXES | CPP_SUFFIXES:
        return SourceKind.C
    return None


def _elf(path: Path, head: bytes) -> SourceKind:
    """Raises ProjectError for one that the guest cannot run."""
    if len(head) < _ELF_HEAD.size:
        raise ProjectError(f"{path} is a damaged ELF file: {len(head)} bytes")
    _, bits, order, kind, machine = _ELF_HEAD.unpack_from(head)
    if (bits, order, machine) != (_CLASS_64, _LITTLE_ENDIAN, _X86_64):
        name = _MACHINES.get(machine, f"machine {machine}")
        width = "64-bit" if bits == _CLASS_64 else "32-bit"
        raise ProjectError(f"{path} is a {width} {name} program; the guest runs 64-bit {ABI}")
    if kind in _TYPES:
        raise ProjectError(f"{path} is {_TYPES[kind]}", _WANTED)
    return SourceKind.LIBRARY if path.suffix == ".so" else SourceKind.PROGRAM


def is_c_program(sources: Iterable[Path]) -> bool:
    """Whether C sources have a `main`, and not the function that a payload library begins with. Raises ProjectError."""
    has_main = False
    for path in sources:
        try:
            with open(path, "rb", opener=_open_without_waiting) as file:
                text = file.read(_MAX_SOURCE)
        except OSError as error:
            raise ProjectError(f"{path}: {error.strerror}") from error
        if ENTRY in text:
            return False
        has_main |= _MAIN.search(text) is not None
    return has_main


def require_entry(path: Path, name: Path | None = None) -> None:
    """Raises ProjectError for a library without the function that a payload begins with. `name`: of its source."""
    with open(path, "rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
        found = content.find(ENTRY + b"\0") >= 0
    if not found:
        raise ProjectError(
            f"{name or path} has no function {ENTRY.decode()}" + (", and no main" if name else ""),
            "a payload that is a library begins there; include vm_payload.h (python -m avf.sdk --cflags)",
        )


def _looks_like(path: Path, head: bytes) -> str:
    if not head:
        return "it is empty"
    if head.lstrip()[:1] == b"{":
        return "it looks like JSON; `vm run` takes the JSON description of a VM"
    try:
        head[: len(head) - 4].decode()
    except UnicodeDecodeError:
        return "it is binary data of another kind"
    return "it is text without a #! line"
