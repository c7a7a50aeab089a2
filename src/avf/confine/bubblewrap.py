"""Full confinement: bubblewrap puts a program into namespaces of its own, with an empty root and no capability."""

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from avf.confine.box import IMAGES, LENT, Box
from avf.confine.filters import compile_filter
from avf.confine.namespaces import (
    STAY_UNPRIVILEGED,
    find,
    lender_in_namespace_of,
    lender_in_new_namespace,
    namespace_with,
)

PROGRAM = "bwrap"
_NAMESPACES = ("ipc", "pid", "net", "uts")
_READ_ONLY = ("--remount-ro", "/", "--chdir", "/")
_STEP_CAPABILITIES = ("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP")


def full_command(
    box: Box,
    command: Sequence[str],
    info: int,
    stack: ExitStack,
    helpers: ExitStack,
    lenders: ExitStack,
) -> tuple[list[str], list[int]]:
    """The command line that runs `command` in `box`, and the descriptors it must inherit besides, which are `stack`'s.

    bubblewrap writes what it started to the pipe `info`; until then it needs the processes that are put into
    `helpers`, and until the program has opened what it was lent, those in `lenders`. Raises ConfinementError or
    OSError.
    """
    rules = _memory_file("avf-filter", compile_filter(box.filter, kept_whole=box.kept_whole), stack)
    options = ["--die-with-parent", "--new-session"]
    options += ["--seccomp", str(rules), "--info-fd", str(info)]
    files, fds = _arguments_of(box, stack)
    options += files
    bubblewrap = find(PROGRAM, "bubblewrap")
    inherited = [rules, info, *fds]
    if os.geteuid() != 0 or box.uid is None:
        if box.lent:
            lender = lender_in_new_namespace(box.lent, lenders)
            namespace = _keep(stack, os.open(f"/proc/{lender}/ns/user", os.O_RDONLY | os.O_CLOEXEC))
            inherited.append(namespace)
            options += [*_borrow(lender), "--userns", str(namespace), *_namespaces()]
        else:
            options += _namespaces("user")
        options += ["--cap-drop", "ALL"] if os.geteuid() == 0 else []
        return [bubblewrap, *options, *_READ_ONLY, "--", *command], inherited
    holder = namespace_with(box.uid, box.groups, helpers)
    if box.lent:
        options += _borrow(lender_in_namespace_of(holder, box.uid, box.lent, lenders))
    enter = [find("nsenter", "util-linux"), f"--user=/proc/{holder}/ns/user", "--"]
    options += ["--cap-drop", "ALL"]
    options += [word for name in _STEP_CAPABILITIES for word in ("--cap-add", name)]
    program = [*_become(box.uid, box.groups), *command]
    options += [*_namespaces(), *_READ_ONLY]
    return [*enter, bubblewrap, *options, "--", *program], inherited


def _borrow(lender: int) -> list[str]:
    """What that process has open. It has the program's user and namespace, else the kernel would not let that in."""
    return ["--ro-bind", f"/proc/{lender}/fd", LENT]


def _namespaces(*more: str) -> list[str]:
    return [*(f"--unshare-{name}" for name in (*more, *_NAMESPACES)), "--unshare-cgroup-try"]


def _arguments_of(box: Box, stack: ExitStack) -> tuple[list[str], list[int]]:
    """The file system, in the order in which it is put together; and descriptors for it."""
    mounts = [
        *((path, ["--ro-bind", str(path), str(path)]) for path in box.readable),
        *((path, ["--dev-bind", str(path), str(path)]) for path in box.devices),
    ]
    fds: list[int] = []
    for fd in box.images:
        target = Path(IMAGES, str(fd))
        source = _name_of(fd, others=box.uid is not None)
        if source is None:
            fds.append(copy := _from_its_start(fd, stack))
            mounts.append((target, ["--perms", "0444", "--ro-bind-data", str(copy), str(target)]))
        else:
            mounts.append((target, ["--ro-bind", source, str(target)]))
    if box.uid is not None and os.geteuid() == 0:
        setpriv = find("setpriv", "util-linux")
        mounts.append((Path(setpriv), ["--ro-bind", setpriv, setpriv]))
    arguments: list[str] = []
    made: set[Path] = set()
    for path, words in sorted(mounts):
        for folder in reversed(path.parents[:-1]):
            if folder not in made:
                arguments += ["--perms", "0755", "--dir", str(folder)]
                made.add(folder)
        arguments += words
    proc = ["--proc", "/proc"] if box.proc else []
    return [*arguments, *proc], fds


def _name_of(fd: int, *, others: bool) -> str | None:
    """The name of the file, if it has one by which the sandbox's builder can find it, and the program inside can read
    it: where root starts that, as `others`.
    """
    try:
        name = Path(f"/proc/self/fd/{fd}").readlink()
        found, given = name.stat(), os.fstat(fd)
    except OSError:
        return None
    if (found.st_dev, found.st_ino) != (given.st_dev, given.st_ino):
        return None
    if os.geteuid() != 0:
        return str(name)
    readable = not others or given.st_mode & 0o004
    return str(name) if readable and _root_of_a_namespace_finds(name) else None


def _root_of_a_namespace_finds(path: Path) -> bool:
    """Whether root whose namespace knows no other user gets there: as root's, or as everybody's."""
    return all(
        not status.st_uid or status.st_mode & 0o001
        for status in (folder.stat() for folder in path.parents)
    )


def _from_its_start(fd: int, stack: ExitStack) -> int:
    """The same file, to be read from its first byte on."""
    return _keep(stack, os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC))


def _become(uid: int, groups: Sequence[int]) -> list[str]:
    """The step from root to a uid of its own, inside."""
    identity = ["--reuid", str(uid), "--regid", str(uid)]
    identity += ["--groups", ",".join(map(str, groups))] if groups else ["--clear-groups"]
    return [find("setpriv", "util-linux"), *identity, *STAY_UNPRIVILEGED, "--"]


def _memory_file(name: str, content: bytes, stack: ExitStack) -> int:
    fd = _keep(stack, os.memfd_create(name, os.MFD_CLOEXEC))
    os.pwrite(fd, content, 0)
    return fd


def _keep(stack: ExitStack, fd: int) -> int:
    stack.callback(os.close, fd)
    return fd
