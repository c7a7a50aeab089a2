"""Which files a VM may run code from.

A file that carries a label of Android's SELinux policy (user `u`) is judged by the label's type, as on Android, whether
the kernel enforces it or not: only a privileged process can set one. Any other file must belong to root or to the
caller, and nobody else may be able to write to it (an unlinked file, such as a memfd, cannot be reached by others and
may have any mode).
"""

import errno
import os
import stat

from avf.trust import others_may_write

ALLOWED_TYPES = frozenset({"system_file", "apk_data_file", "staging_data_file", "shell_data_file"})

_EXEMPT = frozenset({"vm-instance", "encryptedstore", "microdroid-apk-idsig", "payload-metadata"})
_ANDROID_USER = "u"
_XATTR = "security.selinux"


class LabelError(Exception):
    """A VM may not use this file."""


def is_exempt(partition_label: str) -> bool:
    """Whether a partition of an app's VM holds no code and may come from anywhere."""
    return partition_label in _EXEMPT or partition_label.startswith("extra-idsig-")


def check_file(fd: int, uid: int) -> None:
    """Raises LabelError unless a VM of `uid` may use what `fd` is open on."""
    label = _selinux_label(fd)
    if label is not None and label.partition(":")[0] == _ANDROID_USER:
        check_label(label)
    else:
        _check_owner(fd, uid)


def check_label(context: str) -> None:
    """Raises LabelError unless the SELinux context `user:role:type:sensitivity[:categories]` has an allowed type."""
    fields = context.split(":")
    if len(fields) not in (4, 5):
        raise LabelError(f"Syntactically invalid label {context}")
    if fields[2] not in ALLOWED_TYPES:
        raise LabelError(f"Label {context} is not allowed")


def _selinux_label(fd: int) -> str | None:
    try:
        return os.getxattr(fd, _XATTR).rstrip(b"\0").decode()
    except UnicodeDecodeError as e:
        raise LabelError("label is not UTF-8") from e
    except OSError as e:
        if e.errno in (errno.ENODATA, errno.ENOTSUP, errno.EBADF):
            return None
        raise LabelError(f"fgetfilecon failed: {e.strerror}") from e


def _check_owner(fd: int, uid: int) -> None:
    status = os.fstat(fd)
    if status.st_uid not in (0, uid):
        raise LabelError(f"Owner {status.st_uid} is not allowed (must be root or {uid})")
    if status.st_nlink and others_may_write(fd, status):
        who = "everyone" if status.st_mode & stat.S_IWOTH else f"group {status.st_gid}"
        raise LabelError(f"Mode {stat.S_IMODE(status.st_mode):o} is not allowed ({who} can write)")
