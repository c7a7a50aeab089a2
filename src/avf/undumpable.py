"""A process whose memory is nobody else's business."""

import ctypes
import os
import resource

_PR_SET_DUMPABLE = 4


def make_undumpable() -> None:
    """Keeps other processes of this user out of this one, and its memory out of core files.

    From now on, whoever lacks CAP_SYS_PTRACE can neither trace this process nor read its memory or descriptors, and
    its directory in /proc belongs to root; it can still open its own /proc/self/fd, but no longer write files such as
    /proc/self/uid_map. Threads share this state; a program that is executed starts without it. The core limit of 0 is
    inherited. Raises OSError.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
