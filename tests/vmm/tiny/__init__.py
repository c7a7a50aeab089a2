"""Guests that cost a VM no boot: see kernel.c and vsock.c."""

import subprocess
from pathlib import Path

_HERE = Path(__file__).parent
_FLAGS = (
    *("-O1", "-ffreestanding", "-nostdlib", "-static", "-fno-pic", "-no-pie", "-mno-red-zone"),
    *("-mgeneral-regs-only", "-fno-stack-protector", "-fcf-protection=none", "-Wall", "-Werror"),
    *("-Wl,--build-id=none", "-Wl,--no-warnings"),
)


def build(folder: Path) -> Path:
    """A kernel for crosvm, as an ELF file."""
    return _build(folder / "tiny-kernel", "kernel.ld", "kernel.c")


def build_vsock(folder: Path) -> Path:
    """Firmware with a vsock driver, for any VMM and board."""
    return _build(
        folder / "tiny-vsock", "firmware.ld", "firmware.S", "vsock.c", "-Wl,--oformat,binary"
    )


def _build(path: Path, script: str, *what: str) -> Path:
    sources = [_HERE / name if not name.startswith("-") else name for name in what]
    subprocess.run(["gcc", *_FLAGS, f"-Wl,-T,{_HERE / script}", "-o", path, *sources], check=True)
    return path
