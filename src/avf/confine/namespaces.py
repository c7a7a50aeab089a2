"""Processes that do nothing but keep a user namespace, or descriptors, for a sandbox that is about to begin."""

import os
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from avf.confine.box import ConfinementError

STAY_UNPRIVILEGED = ("--bounding-set=-all", "--inh-caps=-all", "--no-new-privs")


def namespace_with(uid: int, groups: Sequence[int], stack: ExitStack) -> int:
    """The pid of a process in a user namespace that has root, who sets the sandbox up, `uid`, as which the program
    runs, and `groups`. It ends with `stack`.
    """
    pid = _start_waiting([find("unshare", "util-linux"), "--user", "--"], (), stack)
    if pid is None:
        raise ConfinementError("root may not make user namespaces here")
    _map(pid, (0, uid), (0, uid, *groups))
    return pid


def lender_in_new_namespace(fds: Sequence[int], stack: ExitStack) -> int:
    """The pid of a process that has `fds` open, in a user namespace that has this user alone. It ends with `stack`.

    Raises ConfinementError or OSError.
    """
    pid = _start_waiting([find("unshare", "util-linux"), "--user", "--"], fds, stack)
    if pid is None:
        raise ConfinementError("this user may not make user namespaces")
    Path(f"/proc/{pid}/setgroups").write_text("deny")
    _map(pid, (os.geteuid(),), (os.getegid(),))
    return pid


def lender_in_namespace_of(holder: int, uid: int, fds: Sequence[int], stack: ExitStack) -> int:
    """The same, as `uid` in the namespace of the process `holder`."""
    enter = [find("nsenter", "util-linux"), f"--user=/proc/{holder}/ns/user", "--"]
    identity = ["--reuid", str(uid), "--regid", str(uid), "--clear-groups", *STAY_UNPRIVILEGED]
    pid = _start_waiting([*enter, find("setpriv", "util-linux"), *identity, "--"], fds, stack)
    if pid is None:
        raise ConfinementError("no process can be started in the namespace of a sandbox")
    return pid


def find(program: str, package: str) -> str:
    """Its path. Raises ConfinementError."""
    found = shutil.which(program)
    if found is None:
        raise ConfinementError(f"{program} is not installed (Debian package {package})")
    return found


def _start_waiting(launcher: Sequence[str], fds: Sequence[int], stack: ExitStack) -> int | None:
    """The pid of a process that waits, when it does; None if it failed. It ends with `stack`."""
    import subprocess  # slow to import, and not needed before the first VM starts

    process = stack.enter_context(
        subprocess.Popen(
            [*launcher, "/bin/cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            pass_fds=fds,
        )
    )
    stack.callback(process.kill)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(b"?")
        answer = process.stdout.read(1)
    except BrokenPipeError:
        answer = b""
    return process.pid if answer == b"?" else None


def _map(pid: int, uids: Sequence[int], gids: Sequence[int]) -> None:
    for name, ids in (("uid_map", uids), ("gid_map", gids)):
        Path(f"/proc/{pid}/{name}").write_text("".join(f"{n} {n} 1\n" for n in ids))
