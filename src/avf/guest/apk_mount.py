"""Makes the contents of verified APKs readable: as EROFS, or where the kernel has none, by a FUSE server in Python."""

import os

from avf.guest import fuse, libc
from avf.guest.apk_image import ApkImage, Broken, InApk, Made, WhenRead
from avf.guest.erofs import ErofsError
from avf.guest.errors import GuestError
from avf.guest.process import fork_helper
from avf.guest.report import log
from avf.guest.served import ReadAhead, Served, ServedFile
from avf.guest.verity import BLOCK, SECTOR, Target, attach_loop, create_device
from avf.guest.ziptree import ZipTree, ZipTreeError
from avf.named import NamedTuple

EROFS_MODULES = "/etc/avf/erofs-modules"
FUSE_MODULES = "/etc/avf/fuse-modules"

_SERVED = "/run/served"
_SECTORS = BLOCK // SECTOR
_FLAGS = libc.MS_RDONLY | libc.MS_NOSUID | libc.MS_NODEV


class Apk(NamedTuple):
    """What is to be mounted: an APK's verified device, where, and more flags of mount(2)."""

    device: str
    target: str
    flags: int = 0


class _Shown(NamedTuple):
    apk: Apk
    fd: int
    image: ApkImage
    folder: str
    """Where the server shows what it makes, if it does."""


def mount(apks: list[Apk], executable: tuple[str, ...]) -> int | None:
    """Mounts them; the pid of the process that serves files of theirs, None if none is needed. Raises GuestError.

    `executable`: as for ZipTree.
    """
    has_erofs = _load_erofs()
    servers: dict[int, fuse.Server] = {}
    shown = []
    for index, apk in enumerate(apks):
        fd = os.open(apk.device, os.O_RDONLY | os.O_CLOEXEC)
        tree = _tree(apk.device, fd, executable)
        image = _image(apk.device, fd, tree) if has_erofs else None
        if image is None:
            servers[_mount_fuse(apk.device, apk.target, apk.flags)] = fuse.Server(tree)
            continue
        folder = f"{_SERVED}-{index}"
        if image.served is not None:
            os.mkdir(folder, 0o700)
            server = fuse.Server(_served_file(apk, image, image.served, folder))
            servers[_mount_fuse(apk.device, folder)] = server
        shown.append(_Shown(apk, fd, image, folder))
    pid = fork_helper(lambda: fuse.serve(servers)) if servers else None
    for descriptor in servers:
        os.close(descriptor)
    for one in shown:
        _mount_erofs(one)
    return pid


def _load_erofs() -> bool:
    try:
        libc.load_modules(EROFS_MODULES)
    except OSError as error:
        log(f"no EROFS, which would be faster than FUSE: {error}")
        return False
    return True


def _tree(device: str, fd: int, executable: tuple[str, ...]) -> ZipTree:
    try:
        return ZipTree(fd, executable)
    except ZipTreeError as error:
        raise GuestError(f"the contents of {device} cannot be shown") from error


def _image(device: str, fd: int, tree: ZipTree) -> ApkImage | None:
    try:
        return ApkImage(fd, tree)
    except ErofsError as error:
        log(f"{device} does not become an EROFS file system, but one of FUSE: {error}")
        return None


def _served_file(apk: Apk, image: ApkImage, served: Served, folder: str) -> ServedFile:
    near, small = served.near.size, served.unpacked.small_blocks * BLOCK
    near_ahead = ReadAhead(f"/dev/mapper/{_name(apk)}", image.near_block * BLOCK, near)
    small_ahead = ReadAhead(f"{folder}/{ServedFile.NAME}", near, small)
    return ServedFile(served, near_ahead, small_ahead)


def _name(apk: Apk) -> str:
    """Of the device that has the APK's image."""
    return f"files-of-{os.path.basename(apk.device)}"


def _mount_fuse(source: str, target: str, flags: int = 0) -> int:
    """The descriptor on which its requests come. Raises OSError."""
    libc.load_modules(FUSE_MODULES)
    fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    libc.mount(source, target, "fuse", _FLAGS | flags, fuse.mount_options(fd))
    return fd


def _mount_erofs(shown: _Shown) -> None:
    apk, image = shown.apk, shown.image
    made = _loop_over(bytes(image.made))
    served = _loop_over_served(shown.folder) if image.served is not None else ""
    shifted = {0: apk.device}
    table = []
    for part in image.segments:
        match part:
            case Made():
                target = _linear(made, part.start, part.blocks)
            case InApk():
                if part.shift not in shifted:
                    shifted[part.shift] = attach_loop(shown.fd, part.shift)
                target = _linear(shifted[part.shift], part.start, part.blocks)
            case WhenRead():
                target = _linear(served, part.start, part.blocks)
            case Broken():
                target = Target("error", part.blocks * _SECTORS, "")
        table.append(target)
    device = create_device(_name(apk), table)
    libc.mount(device, apk.target, "erofs", _FLAGS | apk.flags)
    os.close(shown.fd)


def _linear(device: str, start: int, blocks: int) -> Target:
    return Target("linear", blocks * _SECTORS, f"{device} {start * _SECTORS}")


def _loop_over(data: bytes) -> str:
    fd = os.memfd_create("erofs")
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        return attach_loop(fd)
    finally:
        os.close(fd)


def _loop_over_served(folder: str) -> str:
    fd = os.open(f"{folder}/{ServedFile.NAME}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return attach_loop(fd)
    finally:
        os.close(fd)
