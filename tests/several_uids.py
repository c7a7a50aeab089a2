"""Tests that act as several users, or see what root alone does: by root, or in a user namespace."""

import os
import subprocess
import tempfile
from functools import cache
from pathlib import Path

UIDS = 65535
"""They use uids up to this one."""
LACK = (
    "acts as several users, or counts what only root sees: that takes root, or the package uidmap and a range of uids"
    " (sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $USER)"
)
OWN_TMP = """
case $PWD in /tmp/*) mount -n --bind "$PWD" /mnt ;; esac
mount -n -t tmpfs -o mode=1777 tmpfs /tmp
case $PWD in /tmp/*) mkdir -p "$PWD" && mount -n --move /mnt "$PWD" && cd "$PWD" ;; esac
exec "$@"
"""
"""A /tmp whose owner has a name in the namespace; the project may lie in the other one."""
NAMESPACE = [
    "unshare",
    *("--user", "--map-root-user", "--map-auto", "--mount"),
    *("sh", "-ec", OWN_TMP, "sh"),
]


def here() -> bool:
    """Whether this process can be anybody."""
    lines = [line.split() for line in Path("/proc/self/uid_map").read_text().splitlines()]
    return os.geteuid() == 0 and sum(int(count) for _, _, count in lines) >= UIDS


@cache
def in_a_namespace() -> bool:
    """Whether a process in a namespace could."""
    try:
        return subprocess.run([*NAMESPACE, "true"], capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def open_to_all(folder: Path) -> None:
    """Lets every user reach a test's folder; pytest makes it and the folders above it for one user."""
    folder.chmod(0o755)
    for parent in folder.relative_to(tempfile.gettempdir()).parents[:-1]:
        above = tempfile.gettempdir() / parent
        above.chmod(above.stat().st_mode | 0o111)
