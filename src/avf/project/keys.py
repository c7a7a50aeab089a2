"""The debug key of a user: signs what is built on the way, made once, readable by its owner alone."""

import os
import stat
import tempfile
from pathlib import Path
from typing import NamedTuple

from avf.apk import ApkError, SigningKey
from avf.project.errors import ProjectError

_MAX_SIZE = 64 << 10
_PRIVATE = 0o600


class DebugKey(NamedTuple):
    """`is_new`: it was made just now."""

    key: SigningKey
    path: Path
    is_new: bool


def debug_key_path() -> Path:
    """`$XDG_CONFIG_HOME/avf/debug-key.pem`, by default in `~/.config`."""
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base, "avf", "debug-key.pem")


def debug_key(path: Path | None = None) -> DebugKey:
    """The key, made if there is none. Raises ProjectError."""
    path = path or debug_key_path()
    try:
        is_new = not os.path.lexists(path) and _make(path)
        return DebugKey(_read(path), path, is_new)
    except OSError as error:
        raise ProjectError(f"debug key {path}: {error.strerror}") from error


def _make(path: Path) -> bool:
    """Whether it was this process that made it: of several at once, the first one's key is taken."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    content = b"".join(SigningKey.generate("rsa-2048", common_name="AVF debug key").to_pem())
    return write_new(path, content)


def write_new(path: Path, content: bytes) -> bool:
    """Makes the file with mode 0600, whole or not at all; False, and nothing is done, if there is one. OSError."""
    fd, temporary = tempfile.mkstemp(prefix=".avf-key-", dir=path.parent)
    try:
        with open(fd, "wb") as file:
            os.fchmod(fd, _PRIVATE)
            file.write(content)
            file.flush()
            os.fsync(fd)
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        os.unlink(temporary)  # noqa: PTH108
    return True


def _read(path: Path) -> SigningKey:
    with open(path, "rb", opener=_open_without_waiting) as file:
        status = os.fstat(file.fileno())
        _check_owner(path, status)
        content = file.read(_MAX_SIZE + 1)
    if len(content) > _MAX_SIZE:
        raise ProjectError(f"debug key {path} is longer than {_MAX_SIZE} bytes")
    try:
        return SigningKey.load(content, content)
    except ApkError as error:
        raise ProjectError(
            f"debug key {path} cannot be read: {error}",
            "move it away, and a new one is made; what the old one signed is another author's then",
        ) from error


def _check_owner(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ProjectError(f"debug key {path} is not a regular file")
    if status.st_uid not in (os.geteuid(), 0):
        raise ProjectError(f"debug key {path} belongs to user {status.st_uid}")
    if status.st_mode & 0o077:
        raise ProjectError(
            f"debug key {path} can be read or changed by others (mode {status.st_mode & 0o777:03o})",
            f"chmod 600 {path}, if nobody had it; else move it away, and a new one is made",
        )


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
