"""Mounts the system over /usr: a read-only file system behind dm-verity, whose root hash the initial RAM disk knows."""

import sys

from avf.guest import libc, partitions
from avf.guest.errors import GuestError
from avf.guest.files import read_text
from avf.guest.verity import Target, VerityTable, create_device

DESCRIPTION = "/etc/avf/system"
"""One line: root hash in hex, number of blocks of data, behind which the hash tree begins."""

_PARTITION = "system"


_mounted = False


def mount_system() -> None:
    """From now on /usr is complete; what was there before can only be used by those who have it open.

    Only the first call does anything. Raises GuestError.
    """
    global _mounted
    if _mounted:
        return
    try:
        root_hash, blocks = read_text(DESCRIPTION).split()
        device = partitions.wait_for(_PARTITION)
        table = VerityTable(device, device, int(blocks), bytes.fromhex(root_hash), b"", int(blocks))
        target = Target("verity", table.sectors, table.parameters())
        verified = create_device(_PARTITION, [target])
        libc.mount(verified, "/usr", "erofs", libc.MS_RDONLY | libc.MS_NOSUID | libc.MS_NODEV)
    except (OSError, ValueError) as error:
        raise GuestError("the guest's system cannot be mounted") from error
    _mounted = True
    forget_folders()


def forget_folders() -> None:
    """Has the interpreter look anew which modules there are."""
    sys.path_importer_cache.clear()
