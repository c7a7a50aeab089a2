import gzip
import lzma
import struct
import subprocess
from collections.abc import Callable

import lz4.block  # type: ignore[import-untyped]
import pytest
import zstandard

from avf.image import KernelError, KernelFiles
from avf.image.bzimage import extract_vmlinux

KERNEL = b"\x7fELF" + bytes(range(256)) * 1000


def bzimage(payload: bytes, version: int = 0x20F) -> bytes:
    """A boot sector and one setup sector, then the payload, 16 bytes into the protected-mode code."""
    image = bytearray(1024 + 16)
    image[0x1F1] = 1
    image[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", image, 0x206, version)
    struct.pack_into("<II", image, 0x248, 16, len(payload))
    return bytes(image) + payload


def lz4_legacy(data: bytes) -> bytes:
    blocks = [data[start : start + (8 << 20)] for start in range(0, len(data), 8 << 20)]
    packed = [lz4.block.compress(block, store_size=False) for block in blocks]
    return b"\x02\x21\x4c\x18" + b"".join(struct.pack("<I", len(block)) + block for block in packed)


def with_size(compressed: bytes) -> bytes:
    return compressed + struct.pack("<I", len(KERNEL))


COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "lz4": lambda data: with_size(lz4_legacy(data)),
    "zstd": lambda data: with_size(zstandard.ZstdCompressor().compress(data)),
    "xz": lambda data: with_size(lzma.compress(data)),
    "gzip": gzip.compress,  # ends with the size itself
    "none": with_size,
}


@pytest.mark.parametrize("compressor", COMPRESSORS)
def test_every_compression(compressor: str) -> None:
    assert extract_vmlinux(bzimage(COMPRESSORS[compressor](KERNEL))) == KERNEL


def test_lz4_of_several_blocks() -> None:
    kernel = b"\x7fELF" + b"kernel" * (2 << 20)
    payload = lz4_legacy(kernel) + struct.pack("<I", len(kernel))
    assert extract_vmlinux(bzimage(payload)) == kernel


def test_an_elf_file_is_taken_as_it_is() -> None:
    assert extract_vmlinux(KERNEL) == KERNEL


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (b"MZ" + bytes(2000), "HdrS"),
        (bzimage(with_size(KERNEL), version=0x207), "too old"),
        (bzimage(with_size(KERNEL))[:-200000], "outside"),
        (bzimage(b"\x89LZO" + bytes(100)), "unknown kernel compression"),
        (bzimage(with_size(b"\x02\x21\x4c\x18\xff\xff\x00\x00")), "past the end"),
        (bzimage(b"\xfd7zXZ\0" + bytes(100)), "damaged"),
        (bzimage(with_size(zstandard.ZstdCompressor().compress(b"no kernel"))), "not an ELF"),
        (bzimage(b"\x1f\x8b" + b"\xff" * 100), "claims"),
    ],
)
def test_what_is_no_kernel_is_refused(image: bytes, message: str) -> None:
    with pytest.raises(KernelError, match=message):
        extract_vmlinux(image)


def test_the_real_kernel_has_a_pvh_entry(kernel: KernelFiles) -> None:
    """QEMU boots an ELF kernel through its Xen PVH note (type 18, 0x12)."""
    notes = subprocess.run(
        ["readelf", "-n", kernel.vmlinux], capture_output=True, text=True, check=True
    ).stdout
    assert "0x00000012" in notes
