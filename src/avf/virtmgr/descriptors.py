"""How many descriptors this process has left."""

import os
import resource

from avf.virtmgr.errors import failure

DESCRIPTORS_RESERVED = 32
"""What a new VM leaves, so that those that are there can be used and ended."""


def require_descriptors() -> None:
    """Raises RemoteException if we are about to run out of descriptors."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir("/proc/self/fd"))  # noqa: PTH208  names only, and quickly
    if limit != resource.RLIM_INFINITY and used + DESCRIPTORS_RESERVED > limit:
        raise failure(
            f"Failed to create VM: {used} of at most {limit} file descriptors are in use (RLIMIT_NOFILE)"
        )
