"""What each target does with one input, which is any bytes."""

import os
from collections.abc import Callable
from pathlib import Path

from avf.image import ImageError, deb
from avf.image.bzimage import extract_vmlinux
from avf.image.modules import modinfo, without_signature, without_unused_sections


def package(data: bytes) -> None:
    """A Debian package."""
    with_file(data)


def archive(data: bytes) -> None:
    """The tar archive in a Debian package."""
    name = f"{'data.tar':<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n"
    with_file(b"!<arch>\n" + name.encode() + data)


def with_file(content: bytes) -> None:
    fd = os.memfd_create("fuzz", os.MFD_CLOEXEC)
    try:
        os.write(fd, content)
        for path, _ in deb.entries(Path(f"/proc/self/fd/{fd}")):
            assert ".." not in path.split("/")
            assert not path.startswith("/")
    finally:
        os.close(fd)


def kernel(data: bytes) -> None:
    """A bzImage with any payload."""
    assert extract_vmlinux(data).startswith(b"\x7fELF")


def module(data: bytes) -> None:
    """A kernel module."""
    image = without_signature(data)
    assert len(without_unused_sections(image)) == len(image)
    modinfo(image)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "archive": archive,
    "kernel": kernel,
    "module": module,
    "package": package,
}


def run(name: str, data: bytes) -> bool:
    """Run a target; True if it accepted the input, False if it refused it with an ImageError."""
    try:
        TARGETS[name](data)
    except ImageError as error:
        assert str(error)
        return False
    return True
