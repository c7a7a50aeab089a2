"""Puts the image of an APK together as the guest's device mapper does, and has it read by programs of erofs-utils."""

import os
import subprocess
from pathlib import Path

from avf.guest.apk_image import ApkImage, InApk, Made, WhenRead
from avf.guest.erofs import BLOCK
from avf.guest.ziptree import ZipTree

BROKEN = b"\xee" * BLOCK
"""Stands for a block that cannot be read."""


def image_of(archive: Path) -> tuple[ApkImage, bytes]:
    """The plan for an archive, and all the bytes that a guest could read of its device."""
    fd = os.open(archive, os.O_RDONLY)
    try:
        image = ApkImage(fd, ZipTree(fd, executable=("bin",)))
        return image, assembled(image, fd)
    finally:
        os.close(fd)


def assembled(image: ApkImage, fd: int) -> bytes:
    data = bytearray()
    for part in image.segments:
        size = part.blocks * BLOCK
        match part:
            case Made():
                piece = bytes(image.made[part.start * BLOCK :][:size])
            case InApk():
                piece = os.pread(fd, size, part.start * BLOCK + part.shift)
            case WhenRead():
                assert image.served is not None
                piece = image.served.read(part.start * BLOCK, size)
            case _:
                piece = BROKEN * part.blocks
        assert len(piece) == size, part
        data += piece
    return bytes(data)


def extracted(data: bytes, folder: Path) -> Path:
    """The folder into which fsck.erofs has put what it has checked and found."""
    image, target = folder / "erofs.img", folder / "extracted"
    image.write_bytes(data)
    command = ["fsck.erofs", "--no-preserve", f"--extract={target}", image]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


def contents(folder: Path) -> dict[str, bytes | None]:
    """Path -> bytes of a file, None for a directory."""
    return {
        str(path.relative_to(folder)): None if path.is_dir() else path.read_bytes()
        for path in folder.rglob("*")
    }
