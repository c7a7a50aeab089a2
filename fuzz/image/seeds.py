"""Good inputs of every target, to start from."""

import gzip
import io
import lzma
import struct
import tarfile
from collections.abc import Callable

import zstandard

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": lambda data: gzip.compress(data, mtime=0),
    ".xz": lzma.compress,
    ".zst": zstandard.ZstdCompressor().compress,
}


def seeds() -> dict[str, list[bytes]]:
    """By target."""
    archive = _archive()
    return {
        "archive": [archive],
        "kernel": [_kernel(kind) for kind in PACKERS],
        "module": [_module()],
        "package": [_package(kind, archive) for kind in PACKERS],
    }


def _archive() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT, bufsize=512) as archive:
        for name, kind in (
            ("./", tarfile.DIRTYPE),
            ("./a", tarfile.REGTYPE),
            ("./b", tarfile.SYMTYPE),
            ("./" + "c" * 150, tarfile.LNKTYPE),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "a" if kind != tarfile.REGTYPE else ""
            info.size = 3 if kind == tarfile.REGTYPE else 0
            archive.addfile(info, io.BytesIO(b"abc"))
    return file.getvalue()


def _package(suffix: str, archive: bytes) -> bytes:
    parts = [b"!<arch>\n"]
    for name, data in (
        ("debian-binary", b"2.0\n"),
        (f"data.tar{suffix}", PACKERS[suffix](archive)),
    ):
        header = f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n".encode()
        parts += [header, data, b"\n" * (len(data) % 2)]
    return b"".join(parts)


def _kernel(suffix: str) -> bytes:
    image = bytearray(1024)
    image[0x1F1] = 1
    image[0x202:0x208] = b"HdrS\x0f\x02"
    kernel = b"\x7fELF" + bytes(1000)
    payload = PACKERS[suffix](kernel)
    payload += b"" if suffix == ".gz" else struct.pack("<I", len(kernel))
    struct.pack_into("<II", image, 0x248, 0, len(payload))
    return bytes(image) + payload


def _module() -> bytes:
    names = b"\0.modinfo\0.BTF\0"
    info = b"depends=a,b\0softdep=pre: c\0"
    body = names + info
    head = b"\x7fELF\x02\x01".ljust(0x28, b"\0") + struct.pack("<Q", 64 + len(body))
    head = head.ljust(0x3A, b"\0") + struct.pack("<HHH", 64, 3, 0)
    rows = ((0, 64, len(names)), (1, 64 + len(names), len(info)), (10, 64, 1))
    return head + body + b"".join(struct.pack("<I20xQQ", *row).ljust(64, b"\0") for row in rows)
