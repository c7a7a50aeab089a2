"""The guest's /usr: an EROFS file system with its dm-verity tree behind it, read piece by piece as it is needed."""

import hashlib
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from avf.image.cpio import Cpio
from avf.image.errors import ImageError

BLOCK = 4096
_UUID = "4d9f4b1c-6a0e-4f43-9d0e-6b6f6d617666"
"""Any; the same image must always be the same bytes."""


@dataclass(frozen=True, slots=True)
class System:
    """A partition: so many blocks of data, then the hash tree over them."""

    image: bytes
    data_blocks: int
    root_hash: bytes

    def describe(self) -> str:
        """What the guest must know to check it: root hash, number of data blocks."""
        return f"{self.root_hash.hex()} {self.data_blocks}\n"


def build_system(tree: Cpio) -> System:
    """Raises ImageError."""
    data = make_erofs(tree)
    data += bytes(-len(data) % BLOCK)
    root_hash, hashes = hash_tree(data)
    return System(data + hashes, len(data) // BLOCK, root_hash)


def make_erofs(tree: Cpio) -> bytes:
    """The file system with the contents of `tree`, all of it root's. Raises ImageError."""
    with tempfile.TemporaryDirectory(prefix="avf-system-") as directory:
        source, output = Path(directory, "tree"), Path(directory, "image")
        source.mkdir()
        source.chmod(0o755)
        tree.write_to(source)
        options = ["-zlz4hc,4", "-C16384", "-T0", f"-U{_UUID}", "--all-root", "-x-1", "--quiet"]
        command = ["mkfs.erofs", *options, str(output), str(source)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError as error:
            raise ImageError(
                "mkfs.erofs is missing: install erofs-utils", "sudo apt-get install erofs-utils"
            ) from error
        if done.returncode:
            raise ImageError(f"mkfs.erofs failed:\n{done.stderr or done.stdout}")
        return output.read_bytes()


def hash_tree(data: bytes) -> tuple[bytes, bytes]:
    """(root hash, tree) of dm-verity, version 1, SHA-256 without a salt, over whole blocks; the top level comes first.

    Source: Documentation/admin-guide/device-mapper/verity.rst of Linux.
    """
    levels: list[bytes] = []
    below = data
    while len(below) > BLOCK:
        below = b"".join(
            hashlib.sha256(below[at : at + BLOCK]).digest() for at in range(0, len(below), BLOCK)
        )
        below += bytes(-len(below) % BLOCK)
        levels.insert(0, below)
    return hashlib.sha256(below).digest(), b"".join(levels)
