"""Where AVF keeps what must outlive a process but not a reboot, and where it looks for images.

Two layouts exist. The *system* layout belongs to the system service (`/run/avf`). The *user* layout belongs to one
user's own service and is made on demand, mode 0700.
"""

import os
import stat
from pathlib import Path

SYSTEM_RUNTIME_DIR = Path("/run/avf")
SERVICE_SOCKET_NAME = "virtualizationservice.sock"
SYSTEM_IMAGE_DIR = Path("/usr/lib/avf/image")


class RuntimeDirectoryError(OSError):
    """The runtime directory is not ours alone, so nothing may be kept in it."""


def user_runtime_dir() -> Path:
    """The calling user's runtime directory, made (0700) if need be.

    `$AVF_RUNTIME_DIR`, else `$XDG_RUNTIME_DIR/avf`, else `/run/user/UID/avf`, else `/tmp/avf-UID`.
    Raises RuntimeDirectoryError if the directory belongs to somebody else, is a link, or is open to others.
    """
    path = _user_runtime_path()
    path.mkdir(mode=0o700, exist_ok=True)
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise RuntimeDirectoryError(
            f"{path} must be a directory of uid {os.getuid()} with mode 0700"
        )
    return path


def _user_runtime_path() -> Path:
    if chosen := os.environ.get("AVF_RUNTIME_DIR"):
        return Path(chosen)
    uid = os.getuid()
    for base in (os.environ.get("XDG_RUNTIME_DIR"), f"/run/user/{uid}"):
        if base and os.access(base, os.W_OK):
            return Path(base, "avf")
    return Path(f"/tmp/avf-{uid}")


def service_sockets() -> list[Path]:
    """Where a virtualizationservice may listen, in the order in which to try: `$AVF_SERVICE_SOCKET` alone when set,
    else the system service's socket, then the user's."""
    if chosen := os.environ.get("AVF_SERVICE_SOCKET"):
        return [Path(chosen)]
    return [SYSTEM_RUNTIME_DIR / SERVICE_SOCKET_NAME, user_runtime_dir() / SERVICE_SOCKET_NAME]


def host_vsock_dirs() -> list[Path]:
    """Directories whose socket `PORT` stands for host vsock port PORT, open to every guest with user-space vsock.

    That of the service `$AVF_SERVICE_SOCKET` names comes first.
    """
    if chosen := os.environ.get("AVF_SERVICE_SOCKET"):
        return [Path(chosen).parent / "vsock", user_runtime_dir() / "vsock"]
    return [user_runtime_dir() / "vsock", SYSTEM_RUNTIME_DIR / "vsock"]


def image_dirs() -> list[Path]:
    """Where the guest image (`microdroid.json` and what it names) is looked for, first hit wins."""
    if chosen := os.environ.get("AVF_IMAGE_DIR"):
        return [Path(chosen)]
    data_home = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local/share")
    return [Path(data_home, "avf/image"), SYSTEM_IMAGE_DIR]
