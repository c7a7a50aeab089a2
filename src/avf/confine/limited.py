"""Limited confinement, where namespaces are refused: Landlock, a system call filter, no privileges, limits."""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from avf.confine.box import Box

_LAUNCHER = Path(__file__).with_name("launcher.py")


@dataclass(frozen=True, slots=True)
class Orders:
    """What the launcher is told, as JSON."""

    filter: str
    readable: list[str]
    listed: list[str]
    devices: list[str]
    images: list[int]
    groups: list[int]
    uid: int | None
    """None: it stays who it is."""
    parent: int
    kept_whole: int | None


def limited_command(box: Box, command: Sequence[str]) -> list[str]:
    """The command line that runs `command` within what the kernel lets a process forbid itself."""
    uid = box.uid if os.geteuid() == 0 and _open_to_all(command[0], box) else None
    orders = Orders(
        box.filter.value,
        [str(path) for path in box.readable],
        [str(path) for path in box.listed],
        [str(path) for path in box.devices],
        list(box.images),
        list(box.groups),
        uid,
        os.getpid(),
        box.kept_whole,
    )
    return [sys.executable, "-I", "-S", str(_LAUNCHER), json.dumps(asdict(orders)), *command]


def _open_to_all(program: str, box: Box) -> bool:
    """Whether a user without any rights can read those files: else root has to stay root, without capabilities."""
    if not all(os.fstat(fd).st_mode & 0o004 for fd in box.images):
        return False
    for path in (file.resolve() for file in (Path(program), *box.readable)):
        if not path.stat().st_mode & 0o004:
            return False
        if not all(folder.stat().st_mode & 0o001 for folder in path.parents):
            return False
    return True
