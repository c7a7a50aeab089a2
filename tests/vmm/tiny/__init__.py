"""A kernel that costs a VM no boot; see kernel.c."""

import subprocess
from pathlib import Path

_HERE = Path(__file__).parent
_FLAGS = (
    *("-O1", "-ffreestanding", "-nostdlib", "-static", "-fno-pic", "-no-pie", "-mno-red-zone"),
    *("-mgeneral-regs-only", "-fno-stack-protector", "-fcf-protection=none", "-Wall", "-Werror"),
    *("-Wl,--build-id=none", "-Wl,--no-warnings", f"-Wl,-T,{_HERE / 'kernel.ld'}"),
)


def build(folder: Path) -> Path:
    path = folder / "tiny-kernel"
    subprocess.run(["gcc", *_FLAGS, "-o", path, _HERE / "kernel.c"], check=True)
    return path
