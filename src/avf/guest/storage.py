"""The encrypted storage: dm-crypt over its partition, ext4 on top, at /mnt/encryptedstore.

A fresh partition begins with "UNFORMATTED-STORAGE". The first boot that sees this makes the file system in memory and
copies it over, the block with the superblock (which overwrites that mark) last: cut off in between, the next boot
starts over.

The cipher is AVF's aes-hctr2-plain64 where the kernel has it, else aes-xts-plain64 with twice the key. Contents are
kept secret from whoever has the disk alone; nothing keeps them from being changed or rolled back, as in AVF.
"""

import errno
import fcntl
import os
import subprocess

from avf.guest import libc
from avf.guest.errors import GuestError
from avf.guest.processor import STORAGE_MODULES, load_processor_modules
from avf.guest.report import log
from avf.guest.secrets import Cdi, storage_key
from avf.guest.takeover import hand_over
from avf.guest.verity import BLOCK, SECTOR, Target, create_device, device_size

MOUNT_POINT = "/mnt/encryptedstore"
MAGIC = b"UNFORMATTED-STORAGE"
MODULES = "/etc/avf/storage-modules"

_DEVICE_NAME = "cryptdev"
_HCTR2 = "aes-hctr2-plain64"
_XTS = "aes-xts-plain64"
_KEY_SIZES = {_HCTR2: 32, _XTS: 64}
_FEATURES = "has_journal,extent,huge_file,flex_bg,metadata_csum,64bit,dir_nlink,extra_isize"
_COPY_SIZE = 1 << 20
_EXT4_IOC_RESIZE_FS = 0x40086610
"""_IOW('f', 16, __u64): include/uapi/linux/ext4.h."""
_PREPARE_FAILED = "Unable to prepare encrypted storage. Exitcode=1"


def mount_storage(partition: str, cdi: Cdi) -> None:
    """Opens, at the first boot formats, and mounts the storage. Raises GuestError."""
    try:
        load_processor_modules(STORAGE_MODULES)
        libc.load_modules(MODULES)
        fresh = _is_fresh(partition)
        device = _open(partition, cdi)
        if fresh:
            format_device(device)
        os.mkdir(MOUNT_POINT, 0o755)
        flags = libc.MS_NOSUID | libc.MS_NODEV | libc.MS_NOEXEC
        _mount(device, flags)
        _fill(device)
        if hand_over(MOUNT_POINT) and not fresh:
            log("encrypted storage: files of root are the payload's now")
    except (GuestError, OSError) as error:
        raise GuestError(_PREPARE_FAILED) from error
    log(f"encrypted storage {'formatted and ' if fresh else ''}mounted")


def _mount(device: str, flags: int) -> None:
    """A wrong key shows here: what it deciphers is noise. Raises GuestError or OSError."""
    try:
        libc.mount(device, MOUNT_POINT, "ext4", flags)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise GuestError("it is another instance's, or damaged") from error


def _fill(device: str) -> None:
    """Has the mounted file system take all of its device, which may have grown; failures only cost a log line."""
    blocks = device_size(device) // BLOCK
    fd = os.open(MOUNT_POINT, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, _EXT4_IOC_RESIZE_FS, blocks.to_bytes(8, "little"))
    except OSError as error:
        log(f"encrypted storage keeps its size: {error}")
    finally:
        os.close(fd)


def close_storage() -> None:
    """Everything written so far is on the disk when this returns; failures only cost a log line."""
    try:
        fd = os.open(MOUNT_POINT, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            libc.syncfs(fd)
        finally:
            os.close(fd)
        libc.umount(MOUNT_POINT)
    except OSError as error:
        log(f"encrypted storage: {error}")


def crypt_table(device: str, cipher: str, cdi: Cdi) -> str:
    """cipher, key, IV offset, device, start, options: Documentation/admin-guide/device-mapper/dm-crypt.rst."""
    key = storage_key(cdi, _KEY_SIZES[cipher])
    return f"{cipher} {key.hex()} 0 {device} 0 2 sector_size:{BLOCK} iv_large_sectors"


def format_device(device: str, image: str = "/tmp/storage.img") -> None:
    """Makes an ext4 file system on `device`, complete or not at all. `image`: scratch, where files have holes."""
    size = device_size(device)
    source = os.open(image, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(source, size)
        options = [
            "-q",
            "-F",
            "-t",
            "ext4",
            "-b",
            str(BLOCK),
            "-O",
            _FEATURES,
            "-E",
            "lazy_journal_init=1",
            "-m",
            "0",
        ]
        done = subprocess.run(
            ["/usr/sbin/mke2fs", *options, image], capture_output=True, check=False
        )
        if done.returncode:
            raise GuestError(f"mke2fs: {done.stderr.decode(errors='replace').strip()}")
        target = os.open(device, os.O_WRONLY | os.O_CLOEXEC)
        try:
            copy_first_block_last(source, target, size)
        finally:
            os.close(target)
    finally:
        os.close(source)
        os.unlink(image)


def copy_first_block_last(source: int, target: int, size: int) -> None:
    """Copies what is in the sparse file `source`; the first block only once all the others are safe on `target`."""
    position = 0
    while position < size:
        try:
            start = os.lseek(source, position, os.SEEK_DATA)
        except OSError:  # ENXIO: only a hole is left
            break
        position = os.lseek(source, start, os.SEEK_HOLE)
        start = max(start, BLOCK)
        while start < position:
            data = os.pread(source, min(_COPY_SIZE, position - start), start)
            _pwrite_all(target, data, start)
            start += len(data)
    os.fsync(target)
    _pwrite_all(target, os.pread(source, BLOCK, 0), 0)
    os.fsync(target)


def _is_fresh(partition: str) -> bool:
    fd = os.open(partition, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.pread(fd, len(MAGIC), 0) == MAGIC
    finally:
        os.close(fd)


def _open(partition: str, cdi: Cdi) -> str:
    size = device_size(partition)
    if size == 0 or size % BLOCK:
        raise GuestError(f"{partition} has {size} bytes, which is no multiple of {BLOCK}")
    for cipher in (_HCTR2, _XTS):
        try:
            target = Target("crypt", size // SECTOR, crypt_table(partition, cipher, cdi))
            return create_device(_DEVICE_NAME, [target], read_only=False)
        except GuestError:
            if cipher == _XTS:
                raise
    raise AssertionError


def _pwrite_all(fd: int, data: bytes, offset: int) -> None:
    while data:
        count = os.pwrite(fd, data, offset)
        data = data[count:]
        offset += count
