"""Kernel, initrd and firmware as descriptors a VMM can open by the name /proc/self/fd/N."""

import os
import stat
from contextlib import ExitStack

from avf.vmm.base import VmmStartError

MAX_IMAGE = 1 << 30
FIRMWARE_GRANULE = 64 << 10
MAX_FIRMWARE = 16 << 20
_CHUNK = 1 << 24


def open_image(fd: int, what: str, stack: ExitStack) -> int:
    """A read-only descriptor of our own onto the file in `fd`: opened anew, or else a copy in memory.

    It belongs to `stack`. Raises VmmStartError, also for what is no file: to open a FIFO would be to wait for somebody.
    """
    try:
        mode = os.fstat(fd).st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISBLK(mode):
            raise VmmStartError(f"the {what} is neither a regular file nor a block device")
        return _keep(stack, os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC))
    except PermissionError:
        return _keep(stack, _copy(fd, what, MAX_IMAGE, front_padding=0))
    except OSError as error:
        raise VmmStartError(f"cannot open the {what}: {error.strerror}") from error


def open_firmware(fd: int, stack: ExitStack) -> int:
    """Firmware as a memory copy whose size is a multiple of 64 KiB, padded in front: its end is at the reset vector."""
    size = os.fstat(fd).st_size
    return _keep(
        stack, _copy(fd, "bootloader", MAX_FIRMWARE, front_padding=-size % FIRMWARE_GRANULE)
    )


def _copy(fd: int, what: str, limit: int, *, front_padding: int) -> int:
    size = os.fstat(fd).st_size
    if not 0 < size <= limit:
        raise VmmStartError(f"the {what} has {size} bytes; 1 to {limit} are possible")
    copy = os.memfd_create(f"avf-{what}", os.MFD_CLOEXEC)
    try:
        os.write(copy, b"\xff" * front_padding)
        offset = 0
        while offset < size:
            chunk = os.pread(fd, min(_CHUNK, size - offset), offset)
            if not chunk:
                raise VmmStartError(f"the {what} ends after {offset} of {size} bytes")
            os.write(copy, chunk)
            offset += len(chunk)
        return copy
    except OSError as error:
        os.close(copy)
        raise VmmStartError(f"cannot read the {what}: {error.strerror}") from error
    except BaseException:
        os.close(copy)
        raise


def _keep(stack: ExitStack, fd: int) -> int:
    stack.callback(os.close, fd)
    return fd
