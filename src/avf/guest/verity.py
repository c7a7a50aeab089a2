"""Puts dm-verity over an APK's partition, with the Merkle tree inside its idsig's partition as the hash device.

Sources: Documentation/admin-guide/device-mapper/verity.rst, include/uapi/linux/dm-ioctl.h and loop.h of Linux.
"""

import fcntl
import os
import struct

from avf.guest.errors import GuestError
from avf.named import NamedTuple

BLOCK = 4096
SECTOR = 512

_DM_CONTROL = "/dev/mapper/control"
_DM_VERSION = (4, 0, 0)
_DM_IOCTL = struct.Struct("=3I I I I i I I I Q 128s 129s 7x")
_DM_TARGET = struct.Struct("=QQiI16s")
_DM_READONLY = 1
_DM_EXISTS_FLAG = 1 << 2
_DEV_CREATE, _DEV_REMOVE, _DEV_SUSPEND, _TABLE_LOAD = 3, 4, 6, 9

_LOOP_CTL_GET_FREE = 0x4C82
_LOOP_CONFIGURE, _LOOP_CLEAR = 0x4C0A, 0x4C01
_LO_FLAGS_READ_ONLY = 1
_LOOP_CONFIG = struct.Struct("=II 5Q 4I 64s 64s 32s 2Q 8Q")


class Target(NamedTuple):
    """A part of a device-mapper device."""

    kind: str
    sectors: int
    parameters: str


class VerityTable:
    """The parameters of one dm-verity target."""

    __slots__ = ("data_blocks", "data_device", "hash_device", "hash_start", "root_hash", "salt")

    def __init__(
        self,
        data_device: str,
        hash_device: str,
        data_blocks: int,
        root_hash: bytes,
        salt: bytes,
        hash_start: int = 0,
    ) -> None:
        """`hash_start`: the block of the hash device where the tree begins."""
        self.data_device = data_device
        self.hash_device = hash_device
        self.data_blocks = data_blocks
        self.root_hash = root_hash
        self.salt = salt
        self.hash_start = hash_start

    @property
    def sectors(self) -> int:
        return self.data_blocks * (BLOCK // SECTOR)

    def parameters(self) -> str:
        """version, devices, block sizes, data blocks, first hash block, algorithm, root hash, salt."""
        return (
            f"1 {self.data_device} {self.hash_device} {BLOCK} {BLOCK} {self.data_blocks} {self.hash_start} "
            f"sha256 {self.root_hash.hex()} {self.salt.hex() or '-'}"
        )


def open_verity(
    name: str,
    data_device: str,
    idsig_device: str,
    tree_offset: int,
    tree_size: int,
    root_hash: bytes,
    salt: bytes,
) -> str:
    """The device through which the partition can be read with every block checked. Raises GuestError.

    A block that does not match fails with EIO when it is read, not here.
    """
    size = device_size(data_device)
    if size == 0 or size % BLOCK:
        raise GuestError(f"{data_device} has {size} bytes, which is no multiple of {BLOCK}")
    # a single block is hashed to the root itself: no tree, and the hash device is never read
    hash_device = _loop_over(idsig_device, tree_offset, tree_size) if tree_size else data_device
    table = VerityTable(data_device, hash_device, size // BLOCK, root_hash, salt)
    return create_device(name, [Target("verity", table.sectors, table.parameters())])


def device_size(device: str) -> int:
    """Bytes of a block device."""
    fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.lseek(fd, 0, os.SEEK_END)
    finally:
        os.close(fd)


def _loop_over(device: str, offset: int, size: int) -> str:
    backing = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return attach_loop(backing, offset, size)
    finally:
        os.close(backing)


def attach_loop(fd: int, offset: int = 0, size: int = 0) -> str:
    """A read-only loop device over a window of a file or device, whose descriptor it does not need further."""
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    try:
        number = fcntl.ioctl(control, _LOOP_CTL_GET_FREE)
    finally:
        os.close(control)
    path = f"/dev/loop{number}"
    loop = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(loop, _LOOP_CONFIGURE, loop_config(fd, offset, size))
    finally:
        os.close(loop)
    return path


def loop_config(fd: int, offset: int, size: int) -> bytes:
    """struct loop_config: fd, block size, then loop_info64 (device, inode, rdevice, offset, sizelimit, number, ...)."""
    return _LOOP_CONFIG.pack(
        fd, 0, 0, 0, 0, offset, size, 0, 0, 0, _LO_FLAGS_READ_ONLY, b"", b"", b"", 0, 0, *([0] * 8)
    )


def create_device(name: str, table: list[Target], *, read_only: bool = True) -> str:
    """Creates, loads and activates a device-mapper device, one target behind the other; its path. Raises GuestError."""
    flags = _DM_READONLY if read_only else 0
    control = os.open(_DM_CONTROL, os.O_RDWR | os.O_CLOEXEC)
    try:
        created = _command(control, _DEV_CREATE, name, 0)
        try:
            _command(control, _TABLE_LOAD, name, flags, dm_table(table), len(table))
            _command(control, _DEV_SUSPEND, name, flags)  # without the suspend flag: resume
        except OSError as error:
            _command(control, _DEV_REMOVE, name, 0)
            raise GuestError(f"device mapper refuses {name}, of type {table[0].kind}") from error
    finally:
        os.close(control)
    device = f"/dev/dm-{os.minor(_DM_IOCTL.unpack_from(created)[10])}"
    _link(f"/dev/mapper/{name}", device)
    return device


def remove_device(name: str) -> None:
    """What `create_device` has made. Raises OSError."""
    control = os.open(_DM_CONTROL, os.O_RDWR | os.O_CLOEXEC)
    try:
        _command(control, _DEV_REMOVE, name, 0)
    finally:
        os.close(control)
    os.unlink(f"/dev/mapper/{name}")


def detach_loop(path: str) -> None:
    """What `attach_loop` has made. Raises OSError."""
    loop = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(loop, _LOOP_CLEAR)
    finally:
        os.close(loop)


def dm_table(table: list[Target]) -> bytes:
    """A struct dm_target_spec for each target with its parameters, padded to 8 bytes."""
    specs = []
    start = 0
    for target in table:
        text = target.parameters.encode() + b"\0"
        text += bytes(-len(text) % 8)
        size = _DM_TARGET.size + len(text)
        specs.append(_DM_TARGET.pack(start, target.sectors, 0, size, target.kind.encode()) + text)
        start += target.sectors
    return b"".join(specs)


def dm_request(name: str, flags: int, payload: bytes, targets: int = 1) -> bytes:
    """A struct dm_ioctl with what follows it."""
    size = _DM_IOCTL.size + len(payload)
    header = _DM_IOCTL.pack(
        *_DM_VERSION,
        size,
        _DM_IOCTL.size,
        targets if payload else 0,
        0,
        flags,
        0,
        0,
        0,
        name.encode(),
        b"",
    )
    return header + payload


def _command(
    control: int, command: int, name: str, flags: int, payload: bytes = b"", targets: int = 1
) -> bytes:
    buffer = bytearray(dm_request(name, flags, payload, targets))
    number = 3 << 30 | _DM_IOCTL.size << 16 | 0xFD << 8 | command
    fcntl.ioctl(control, number, buffer)
    return bytes(buffer)


def _link(path: str, target: str) -> None:
    """Device nodes come from devtmpfs as /dev/dm-N; udev, which would name them, is not here."""
    try:
        os.symlink(target, path)
    except FileExistsError:
        pass
