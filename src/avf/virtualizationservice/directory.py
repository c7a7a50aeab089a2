"""The directory of a service: its own, and locked, so that there is one service for it."""

import fcntl
import os
import signal
from pathlib import Path

from avf.trust import others_may_write
from avf.virtualizationservice.files import keep_file

LOCK_SECONDS = 10


def make_directory(path: Path, mode: int) -> None:
    """Raises OSError if it is there already and somebody else's, or others may write to it."""
    try:
        path.mkdir()
        path.chmod(mode)
    except FileExistsError:
        status = path.stat()
        if status.st_uid != os.geteuid() or others_may_write(path, status):
            raise OSError(
                f"{path} must be uid {os.geteuid()}'s, and others must not write to it"
            ) from None


def lock(path: Path) -> int:
    """Takes the lock that keeps the service single, waiting for a former one that is about to end."""
    keep_file(path)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    previous = signal.signal(signal.SIGALRM, _give_up)
    signal.alarm(LOCK_SECONDS)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
    except TimeoutError:
        os.close(fd)
        raise OSError(f"{path} is locked: a service is running already") from None
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
    return fd


def _give_up(*_: object) -> None:
    raise TimeoutError
