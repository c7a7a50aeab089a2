"""Whether a file can be trusted to hold what its owner wrote.

The mode bits alone do not say it: a group that may write is harmless if only the owner is in it, as on the many hosts
where each user has a group of its own and umask 002; any other group may have members whom nobody thought of.
"""

import errno
import grp
import os
import pwd
import stat

_ACL = "system.posix_acl_access"
_NO_ACL = (errno.ENODATA, errno.ENOTSUP, errno.EBADF)


def others_may_write(file: int | str | os.PathLike[str], status: os.stat_result) -> bool:
    """Whether somebody besides the owner of `file` may write to it; root does not count.

    `file` is a path or a descriptor, `status` what was seen of it. A group that may write is let pass if it is the
    owner's private group (its primary one, of its name, without other members) and no access control list adds to it.
    """
    if status.st_mode & stat.S_IWOTH:
        return True
    if not status.st_mode & stat.S_IWGRP:
        return False  # also the upper bound of what an access control list may grant
    return _has_acl(file) or not is_private_group(status.st_gid, status.st_uid)


def is_private_group(gid: int, uid: int) -> bool:
    """Whether a group is there for one user alone, by the convention of login.defs(5), USERGROUPS_ENAB."""
    try:
        group, account = grp.getgrgid(gid), pwd.getpwuid(uid)
    except KeyError:
        return False
    name = account.pw_name
    return account.pw_gid == gid and group.gr_name == name and set(group.gr_mem) <= {name}


def _has_acl(file: int | str | os.PathLike[str]) -> bool:
    try:
        os.getxattr(file, _ACL)
    except OSError as e:
        return e.errno not in _NO_ACL
    return True
