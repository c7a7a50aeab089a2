# Written by avf-aidl: change the .aidl file and run it again.
# Source: org/avf/linux/control/VmFile.aidl

"""AIDL parcelable org.avf.linux.control.VmFile."""

from __future__ import annotations

from avf.binder import Long, Parcelable

__all__ = ["VmFile"]


class VmFile(Parcelable, descriptor="org.avf.linux.control.VmFile"):
    """A file that a VM was made of, as it was then."""

    label: str = ""
    """kernel, initrd, bootloader, disk, or the label of a partition."""
    disk: int = -1
    """Which disk it is a part of, from 0; -1: none."""
    path: str = ""
    """By which it was opened, as far as the kernel knows; not of a file in memory."""
    size: Long = 0
    is_writable: bool = False
    device: Long = 0
    """st_dev, st_ino and st_mtim: whether a file found at the path is the same, and as it was."""
    inode: Long = 0
    modified_nanos: Long = 0
