"""Guests of a few bytes: firmware that does one thing, so that a VM costs a process start and no boot."""

from enum import Enum
from pathlib import Path

from avf.client import RawConfig

SIZE = 64 << 10
RESET_VECTOR = SIZE - 16


class Guest(Enum):
    """Real-mode code at the reset vector."""

    HALTS = b"\xfa\xf4"  # cli; hlt
    FLOODS_CONSOLE = (
        b"\xba\xf8\x03\xb0x\xee\xeb\xfd"  # mov dx, 0x3f8; mov al, 'x'; again: out dx, al; jmp again
    )
    FLOODS_FAILURE_PORT = b"\xba\xf8\x02\xb0x\xee\xeb\xfd"
    RESETS = b"\xb0\xfe\xe6\x64\xf4"  # mov al, 0xfe; out 0x64, al; hlt
    PANICS = (
        b"\xba\x05\x05\xb0\x01\xee\xb0\xfe\xe6\x64\xf4"  # tells pvpanic (port 0x505), then resets
    )


def firmware(folder: Path, guest: Guest) -> Path:
    """A firmware image in `folder` that only does what `guest` does."""
    path = folder / f"{guest.name.lower()}.bin"
    path.write_bytes(bytes(RESET_VECTOR) + guest.value.ljust(16, b"\xf4"))
    return path


def config(folder: Path, guest: Guest = Guest.HALTS) -> RawConfig:
    return RawConfig(
        name=guest.name.lower(),
        bootloader=firmware(folder, guest),
        memory_mib=32,
        platform_version="~1.0",
    )
