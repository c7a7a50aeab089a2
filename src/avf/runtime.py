"""Where AVF keeps what must outlive a process or a reboot, and where it looks for images.

Two layouts exist. The *system* layout belongs to the system service (`/run/avf`, `/var/lib/avf`). The *user* layout
belongs to one user's own service and is made on demand, mode 0700.
"""

import os
import pwd
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from avf import settings
from avf.trust import others_may_write

SYSTEM_RUNTIME_DIR = Path("/run/avf")
SYSTEM_STATE_DIR = Path("/var/lib/avf")
WAITING_NAME = "waiting"
"""A file in the directory of a VM that is no VM yet: a clone that waits for its owner."""
SERVICE_SOCKET_NAME = "virtualizationservice.sock"
SYSTEM_IMAGE_DIR = Path("/usr/lib/avf/image")
SYSTEM_TEMPLATE_DIR = SYSTEM_STATE_DIR / "templates"
MAX_LOG_BYTES = 1 << 20
_SHARED = Path("/tmp")


class RuntimeDirectoryError(OSError):
    """The runtime directory is not ours alone, so nothing may be kept in it."""


def user_runtime_dir() -> Path:
    """The calling user's runtime directory, made (0700) if need be.

    `$AVF_RUNTIME_DIR`, else `avf` in `$XDG_RUNTIME_DIR` or `/run/user/UID` if that is the user's. Else `/tmp/avf-UID`,
    which anybody may have made before us: then `.cache/avf-runtime` in the home directory of the account, and from then
    on always. Raises RuntimeDirectoryError if the directory belongs to somebody else, is a link, or is open to others.
    """
    if (chosen := settings.runtime_dir()) is not None:
        return _made(chosen)
    uid = os.getuid()
    for base in (os.environ.get("XDG_RUNTIME_DIR"), f"/run/user/{uid}"):
        if base and _is_our_own(Path(base)):
            return _made(Path(base, "avf"))
    return _fallback(uid)


def user_state_dir() -> Path:
    """Where the calling user's own service keeps what outlives a reboot: `avf` in `$XDG_STATE_HOME`, else in
    `~/.local/state`. It is not made here."""
    state_home = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")  # noqa: PTH111
    return Path(state_home, "avf")


def user_template_dir() -> Path:
    """Where the calling user's templates are kept: `avf/templates` in `$XDG_CACHE_HOME`, else in `~/.cache`. It is not
    made here."""
    cache_home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111
    return Path(cache_home, "avf", "templates")


def _fallback(uid: int) -> Path:
    shared, private = _SHARED / f"avf-{uid}", _in_home(uid)
    if private is None or not os.path.lexists(private):
        try:
            return _made(shared)
        except OSError:
            if private is None:
                raise
    private.parent.mkdir(mode=0o700, exist_ok=True)
    return _made(private)


def _in_home(uid: int) -> Path | None:
    """Where only the user can make anything; None for a user without a home directory."""
    try:
        home = Path(pwd.getpwuid(uid).pw_dir)
    except KeyError:
        return None
    return home / ".cache" / "avf-runtime" if _is_our_own(home) else None


def _is_our_own(directory: Path) -> bool:
    """Whether only we can make anything there."""
    try:
        status = directory.stat()
    except OSError:
        return False
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        return False
    return not others_may_write(directory, status) and os.access(directory, os.W_OK | os.X_OK)


def _made(path: Path) -> Path:
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise RuntimeDirectoryError(
            f"{path} must be a directory of uid {os.getuid()} with mode 0700;"
            " set AVF_RUNTIME_DIR to one of your own if you cannot remove it"
        )
    return path


def user_service_socket() -> Path | None:
    """Where the user's own virtualizationservice listens; None if the user can have none, for want of a directory."""
    try:
        return user_runtime_dir() / SERVICE_SOCKET_NAME
    except OSError:
        return None


def service_sockets() -> list[Path]:
    """Where a virtualizationservice may listen, in the order in which to try: `$AVF_SERVICE_SOCKET` alone when set,
    else the system service's socket, then the user's."""
    if (chosen := settings.service_socket()) is not None:
        return [chosen]
    own = user_service_socket()
    return [SYSTEM_RUNTIME_DIR / SERVICE_SOCKET_NAME, *([] if own is None else [own])]


def host_vsock_dirs() -> list[Path]:
    """Directories whose socket `PORT` stands for host vsock port PORT, open to every guest with user-space vsock.

    That of the service `$AVF_SERVICE_SOCKET` names comes first.
    """
    own = list(_own_vsock_dir())
    if (chosen := settings.service_socket()) is not None:
        return [chosen.parent / "vsock", *own]
    return [*own, SYSTEM_RUNTIME_DIR / "vsock"]


def _own_vsock_dir() -> Iterator[Path]:
    with suppress(OSError):
        yield user_runtime_dir() / "vsock"


def rotate(path: Path, limit: int = MAX_LOG_BYTES) -> None:
    """A log that has more than `limit` bytes becomes `NAME.1`, over the former one. Raises OSError."""
    with suppress(FileNotFoundError):
        if path.lstat().st_size > limit:
            path.replace(path.with_name(f"{path.name}.1"))


def image_dirs() -> list[Path]:
    """Where the guest image (`microdroid.json` and what it names) is looked for, first hit wins."""
    if (chosen := settings.image_dir()) is not None:
        return [chosen]
    data_home = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local/share")
    return [Path(data_home, "avf/image"), SYSTEM_IMAGE_DIR]
