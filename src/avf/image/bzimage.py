"""Takes the uncompressed kernel (an ELF file) out of an x86 bzImage: QEMU boots that by PVH, sooner.

Source: Documentation/arch/x86/boot.rst of Linux (setup header at 0x1f1, payload_offset 0x248, payload_length 0x24c).
"""

import struct
from io import BytesIO

import lz4.block  # type: ignore[import-untyped]

from avf.image.errors import KernelError
from avf.image.unpack import unpack

_ELF = b"\x7fELF"
_LZ4_LEGACY = b"\x02\x21\x4c\x18"
_LZ4_BLOCK = 8 << 20
_MAX_KERNEL = 512 << 20
_MAGICS = {b"\x28\xb5\x2f\xfd": "zst", b"\xfd7zXZ\0": "xz", b"\x1f\x8b": "gz"}


def extract_vmlinux(image: bytes) -> bytes:
    """The ELF kernel inside a bzImage; an ELF file is returned as it is. Raises KernelError."""
    if image.startswith(_ELF):
        return image
    if len(image) < 0x250 or image[0x202:0x206] != b"HdrS":
        raise KernelError("not a bzImage: no HdrS signature at 0x202")
    payload = _payload(image)
    try:
        kernel = _decompress(payload)
    except (ValueError, RuntimeError, MemoryError) as error:
        raise KernelError(f"damaged kernel payload: {error}") from error
    if not kernel.startswith(_ELF):
        raise KernelError("the kernel's payload is not an ELF file")
    return kernel


def _payload(image: bytes) -> bytes:
    setup_sectors = image[0x1F1] or 4
    (version,) = struct.unpack_from("<H", image, 0x206)
    if version < 0x208:
        raise KernelError(f"boot protocol {version:#x} is too old to tell where the kernel is")
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (setup_sectors + 1) * 512 + offset
    if length < 8 or start + length > len(image):
        raise KernelError("the kernel's payload lies outside the bzImage")
    return image[start : start + length]


def _decompress(payload: bytes) -> bytes:
    (size,) = struct.unpack("<I", payload[-4:])
    if size > _MAX_KERNEL:
        raise KernelError(f"the kernel claims {size} bytes")
    body = payload[:-4]
    if body.startswith(_LZ4_LEGACY):
        return _decompress_lz4_legacy(body, size)
    if body.startswith(_ELF):
        return body
    for magic, kind in _MAGICS.items():
        if body.startswith(magic):
            # gzip's own last field is the size
            return unpack(kind, BytesIO(payload if kind == "gz" else body), size)
    raise KernelError(f"unknown kernel compression (starts with {body[:4].hex()})")


def _decompress_lz4_legacy(body: bytes, limit: int) -> bytes:
    """LZ4's legacy frame: the magic, then blocks of (u32 compressed size, data), each up to 8 MiB of output."""
    kernel = bytearray()
    position = len(_LZ4_LEGACY)
    while position + 4 <= len(body):
        (size,) = struct.unpack_from("<I", body, position)
        position += 4
        if position + size > len(body):
            raise KernelError("an LZ4 block runs past the end of the kernel's payload")
        kernel += lz4.block.decompress(body[position : position + size], _LZ4_BLOCK)
        position += size
        if len(kernel) > limit:
            raise KernelError(f"the kernel is larger than the {limit} bytes it claims")
    return bytes(kernel)
