"""Hands the encrypted storage over to the payload's user, who is not root, while files may be there that root made."""

import os

from avf.guest import PAYLOAD_ID

_MODE = 0o770


def hand_over(root: str, owner: int = PAYLOAD_ID) -> bool:
    """Lets the group `owner` use the file system mounted at `root`; whether its files had to be given to `owner` first.

    That is done once: the group of `root` itself, set last, tells that it is done. Raises OSError.
    """
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if os.fstat(fd).st_gid == owner:
            return False
        _give_contents(fd, owner)
        os.sync()
        os.fchmod(fd, _MODE)
        os.fchown(fd, -1, owner)
        return True
    finally:
        os.close(fd)


def _give_contents(root: int, owner: int) -> None:
    """Holds one descriptor however deep the tree is: the way back up is `..`."""
    here = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root)
    try:
        left = [_give_entries(here, owner)]
        while left:
            name = left[-1].pop() if left[-1] else ".."
            if name == "..":
                left.pop()
                if not left:
                    return
            here = _enter(here, name)
            if name != "..":
                left.append(_give_entries(here, owner))
    finally:
        os.close(here)


def _enter(directory: int, name: str) -> int:
    """Closes `directory`."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    entered = os.open(name, flags, dir_fd=directory)
    os.close(directory)
    return entered


def _give_entries(directory: int, owner: int) -> list[str]:
    """The names of the directories in it."""
    with os.scandir(directory) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, _ in found:
        os.chown(name, owner, owner, dir_fd=directory, follow_symlinks=False)
    return [name for name, is_directory in found if is_directory]
