"""Create an idsig, or find that the one there is right, on descriptors alone."""

import os

from avf.apk import tree_check, two_cores
from avf.apk.errors import ApkError, IdsigError, TreeMismatch
from avf.apk.fields import u32
from avf.apk.idsig import VERSION, Idsig, describe, locate, pwrite_all
from avf.apk.signing_block import SignedApk
from avf.apk.source import FdSource, Progress, open_source, require_regular
from avf.apk.verify import DEFAULT_SDK
from avf.overwriting import Kind, foreign


def create_or_update_idsig(
    apk_fd: int,
    idsig_fd: int,
    *,
    sdk: int = DEFAULT_SDK,
    allow_v2: bool = False,
    progress: Progress | None = None,
) -> bool:
    """Make the file `idsig_fd` the idsig of `apk_fd`; True if it was (re)written, False if it already was.

    Both must be regular files (InputError before anything is read). Neither file's offset matters or moves. The
    tree is written before the header, so that what an interruption leaves is not taken for an idsig. IdsigError if
    the APK cannot have one, the output is not open for writing, or it is a file of another kind: one that is neither
    without content nor an idsig. The output is then untouched.

    An output that was written after the APK's last change is read as a whole, of the APK only what follows its
    contents. Otherwise all of the APK is read.
    """
    apk_status, idsig_status = _both_regular(apk_fd, idsig_fd)
    apk = locate(open_source(apk_fd, progress=progress))
    wanted = describe(apk, b"", sdk, allow_v2)
    start = _first_unknown(apk, apk_status, idsig_status)
    if _readable(idsig_fd) and _is_current(idsig_fd, wanted, apk, start):
        return False
    if (found := foreign(idsig_fd, Kind.IDSIG)) is not None:
        raise IdsigError(f"output {_name(idsig_fd)} is not empty and is no idsig: {found}")
    os.ftruncate(idsig_fd, 0)
    pwrite_all(idsig_fd, u32(VERSION), 0)  # by which it is known should we be interrupted
    base = len(wanted.header())
    os.ftruncate(idsig_fd, base + wanted.tree_size)

    def write(offset: int, data: bytes) -> None:
        pwrite_all(idsig_fd, data, base + offset)

    wanted.root_hash = two_cores.build(apk_fd, apk.source, write)
    apk.source.check_unchanged()
    pwrite_all(idsig_fd, wanted.header(), 0)
    return True


def idsig_is_current(
    apk_fd: int, idsig_fd: int, *, sdk: int = DEFAULT_SDK, allow_v2: bool = False
) -> bool:
    """Would `create_or_update_idsig` leave the file alone? Errors as there."""
    apk_status, idsig_status = _both_regular(apk_fd, idsig_fd)
    apk = locate(open_source(apk_fd))
    wanted = describe(apk, b"", sdk, allow_v2)
    return _is_current(idsig_fd, wanted, apk, _first_unknown(apk, apk_status, idsig_status))


def _name(fd: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")  # noqa: PTH115
    except OSError:
        return f"(descriptor {fd})"


def _both_regular(apk_fd: int, idsig_fd: int) -> tuple[os.stat_result, os.stat_result]:
    apk_status = require_regular(apk_fd, "input")
    idsig_status = require_regular(idsig_fd, "output")
    if os.path.samestat(apk_status, idsig_status):
        raise IdsigError("input and output are the same file")
    return apk_status, idsig_status


def _first_unknown(apk: SignedApk, apk_status: os.stat_result, idsig_status: os.stat_result) -> int:
    """From which byte on an idsig must be compared with the APK: one that is newer, behind the contents only."""
    is_newer = idsig_status.st_mtime_ns > max(apk_status.st_mtime_ns, apk_status.st_ctime_ns)
    return apk.block_offset if is_newer else 0


def _readable(fd: int) -> bool:
    """May the output be read? IdsigError if it cannot be written at any offset."""
    import fcntl

    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    if flags & os.O_ACCMODE == os.O_RDONLY:
        raise IdsigError("output is not open for writing")
    if flags & os.O_APPEND:
        raise IdsigError("output is open for appending only")
    return flags & os.O_ACCMODE == os.O_RDWR


def _is_current(fd: int, wanted: Idsig, apk: SignedApk, start: int) -> bool:
    """Does the file hold `wanted`?

    Told by header, length, a tree that is whole, and its leaves over the APK from `start` on, at least over all
    behind the contents: the recorded digest alone would miss the same contents signed by another key.
    """
    try:
        found = Idsig.parse(fd)
    except ApkError:
        return False
    wanted.root_hash = found.root_hash
    source = FdSource(fd)
    if source.size != found.tree_offset + found.tree_size:
        return False
    if source.read_at(0, found.tree_offset) != wanted.header():
        return False
    tree = tree_check.Tree(source, found.tree_offset, apk.source.size, found.root_hash)
    try:
        tree.check()
        tree.check_data(apk.source, start=start)
    except TreeMismatch:
        return False
    return True
