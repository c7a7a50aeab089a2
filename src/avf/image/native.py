"""Compiles the guest's few C files with the host's compiler."""

import subprocess
import tempfile
from pathlib import Path

import avf.guest
from avf.image.errors import ImageError
from avf.sdk import INCLUDE

PAYLOAD_LIBRARY = "libvm_payload.so"
SOURCES = Path(avf.guest.__file__).parent / "native"

_FLAGS = [
    "-std=gnu11",
    "-O2",
    "-U_FORTIFY_SOURCE",
    "-D_FORTIFY_SOURCE=2",
    "-Wall",
    "-Wextra",
    "-fstack-protector-strong",
    "-s",
    "-Wl,--build-id=none",
]


def compile_native(source: Path, *flags: str) -> bytes:
    """The program or library `source` becomes with `flags` added to the usual ones. Raises ImageError."""
    with tempfile.TemporaryDirectory(prefix="avf-native-") as directory:
        output = Path(directory, "output")
        command = ["gcc", *_FLAGS, *flags, "-o", str(output), source.name]
        try:
            done = subprocess.run(
                command, cwd=source.parent, capture_output=True, text=True, check=False
            )
        except FileNotFoundError as error:
            raise ImageError(
                "gcc is missing: install gcc and libc6-dev", "sudo apt-get install gcc libc6-dev"
            ) from error
        if done.returncode:
            raise ImageError(f"{' '.join(command)} failed:\n{done.stderr}")
        return output.read_bytes()


def compile_payload_library(*flags: str) -> bytes:
    """libvm_payload.so, whose functions native payloads call. Raises ImageError."""
    return compile_native(
        SOURCES / "vm_payload.c",
        f"-I{INCLUDE}",
        "-shared",
        "-fPIC",
        f"-Wl,--version-script={SOURCES / 'vm_payload.map'}",
        f"-Wl,-soname,{PAYLOAD_LIBRARY}",
        *flags,
    )
