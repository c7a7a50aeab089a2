"""Configures and compiles a kernel. Same source, configuration and compiler, same bytes, wherever it is built.

Source: Documentation/kbuild/{kconfig,kbuild,reproducible-builds}.rst of Linux.
"""

import os
import subprocess
from collections import deque
from pathlib import Path

from avf.image.errors import KernelError

_LAST_LINES = 20
"""How much is told of what make wrote before it failed."""
_KEPT = (
    *("PATH", "HOME", "TMPDIR"),
    *("CPATH", "LIBRARY_PATH", "LD_LIBRARY_PATH", "M4", "BISON_PKGDATADIR"),
)
"""Variables that say where tools are; others would change what is built."""
SETTINGS = {
    "LC_ALL": "C",
    "ARCH": "x86_64",
    "LOCALVERSION": "",
    "KBUILD_BUILD_TIMESTAMP": "1970-01-01",
    "KBUILD_BUILD_USER": "avf",
    "KBUILD_BUILD_HOST": "avf",
    "KBUILD_BUILD_VERSION": "1",
}
"""What would differ from host to host."""
_REMEDY = "without --own-kernel the image has the distribution's kernel"


def configure(source: Path, fragment: Path) -> None:
    """Everything off but what the file `fragment` has and what that needs. Raises KernelError."""
    _make(source, "allnoconfig", KCONFIG_ALLCONFIG=str(fragment.resolve()))
    made = set((source / ".config").read_text().splitlines())
    missing = [line for line in options(fragment.read_text()) if line not in made]
    if missing:
        raise KernelError(f"the kernel's source cannot have: {' '.join(missing)}", _REMEDY)


def options(fragment: str) -> list[str]:
    """Its lines without remarks."""
    return [line for line in fragment.splitlines() if line and not line.startswith("#")]


def compile_kernel(source: Path) -> str:
    """Makes `vmlinux` and `modules.builtin` in the tree; the kernel's release. Raises KernelError."""
    _make(source, f"-j{os.cpu_count() or 1}", "vmlinux")
    return (source / "include/config/kernel.release").read_text().strip()


def strip(vmlinux: Path, target: Path) -> None:
    """A copy that only has what is loaded. Raises KernelError."""
    _run(["objcopy", "--strip-all", "-R", ".comment", str(vmlinux), str(target)], vmlinux.parent)


def _make(source: Path, *arguments: str, **settings: str) -> None:
    _run(["make", "-s", *arguments], source, **settings)


def _run(command: list[str], folder: Path, **settings: str) -> None:
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    last: deque[str] = deque(maxlen=_LAST_LINES)
    try:
        with subprocess.Popen(
            command,
            cwd=folder,
            env=kept | SETTINGS | settings,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process:
            assert process.stdout is not None
            last.extend(process.stdout)
    except FileNotFoundError as error:
        raise KernelError(f"{command[0]} is missing") from error
    if process.returncode:
        raise KernelError(f"{' '.join(command)} failed:\n{''.join(last).strip()}", _REMEDY)
