"""Full confinement: bubblewrap puts a program into namespaces of its own, with an empty root and no capability."""

import os
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from avf.confine.box import IMAGES, Box, ConfinementError
from avf.confine.filters import compile_filter

PROGRAM = "bwrap"
_NAMESPACES = ("ipc", "pid", "net", "uts")
_STEP_CAPABILITIES = ("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP")


def full_command(
    box: Box, command: Sequence[str], info: int, stack: ExitStack, helpers: ExitStack
) -> tuple[list[str], list[int]]:
    """The command line that runs `command` in `box`, and the descriptors it must inherit besides, which are `stack`'s.

    bubblewrap writes what it started to the pipe `info`; until then it needs the processes that are put into
    `helpers`. Raises ConfinementError or OSError.
    """
    rules = _memory_file("avf-filter", compile_filter(box.filter), stack)
    options = ["--die-with-parent", "--new-session"]
    options += ["--seccomp", str(rules), "--info-fd", str(info)]
    files, fds = _arguments_of(box, stack)
    options += files
    bubblewrap = _find(PROGRAM, "bubblewrap")
    inherited = [rules, info, *fds]
    if os.geteuid() != 0 or box.uid is None:
        options += _namespaces("user")
        options += ["--cap-drop", "ALL"] if os.geteuid() == 0 else []
        return [bubblewrap, *options, "--", *command], inherited
    holder = _namespace_with(box.uid, box.groups, helpers)
    enter = [_find("nsenter", "util-linux"), f"--user=/proc/{holder}/ns/user", "--"]
    options += ["--cap-drop", "ALL"]
    options += [word for name in _STEP_CAPABILITIES for word in ("--cap-add", name)]
    program = [*_become(box.uid, box.groups), *command]
    return [*enter, bubblewrap, *options, *_namespaces(), "--", *program], inherited


def _namespaces(*more: str) -> list[str]:
    return [*(f"--unshare-{name}" for name in (*more, *_NAMESPACES)), "--unshare-cgroup-try"]


def _arguments_of(box: Box, stack: ExitStack) -> tuple[list[str], list[int]]:
    """The file system, in the order in which it is put together, read-only in the end; and descriptors for it."""
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
        setpriv = _find("setpriv", "util-linux")
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
    return [*arguments, *proc, "--remount-ro", "/", "--chdir", "/"], fds


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
    rights = ["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
    return [_find("setpriv", "util-linux"), *identity, *rights, "--"]


def _namespace_with(uid: int, groups: Sequence[int], stack: ExitStack) -> int:
    """The pid of a process in a user namespace that has root, who sets the sandbox up, `uid`, as which the program
    runs, and `groups`. It ends with `stack`.
    """
    import subprocess  # slow to import, and not needed before the first VM starts

    holder = stack.enter_context(
        subprocess.Popen(
            [_find("unshare", "util-linux"), "--user", "--", "/bin/cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )
    )
    stack.callback(holder.kill)
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        holder.stdin.write(b"?")
        answer = holder.stdout.read(1)
    except BrokenPipeError:
        answer = b""
    if answer != b"?":
        raise ConfinementError("root may not make user namespaces here")
    for name, ids in (("uid_map", (0, uid)), ("gid_map", (0, uid, *groups))):
        Path(f"/proc/{holder.pid}/{name}").write_text("".join(f"{n} {n} 1\n" for n in ids))
    return holder.pid


def _find(program: str, package: str) -> str:
    found = shutil.which(program)
    if found is None:
        raise ConfinementError(f"{program} is not installed (Debian package {package})")
    return found


def _memory_file(name: str, content: bytes, stack: ExitStack) -> int:
    fd = _keep(stack, os.memfd_create(name, os.MFD_CLOEXEC))
    os.pwrite(fd, content, 0)
    return fd


def _keep(stack: ExitStack, fd: int) -> int:
    stack.callback(os.close, fd)
    return fd
