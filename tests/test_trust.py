"""Whose word a file is: everything that lets somebody else write to it counts."""

import os
import pwd
import struct
from pathlib import Path

import pytest

from avf.trust import others_may_write

ROOT, NOBODY = pwd.getpwuid(0), pwd.getpwnam("nobody")
DAEMON = pwd.getpwnam("daemon")


@pytest.mark.usefixtures("several_uids")
@pytest.mark.parametrize(
    ("owner", "group", "mode", "expected"),
    [
        (0, 0, 0o644, False),
        (0, 0, 0o600, False),
        (0, 0, 0o664, False),  # root's private group
        (DAEMON.pw_uid, DAEMON.pw_gid, 0o660, False),
        (0, DAEMON.pw_gid, 0o664, True),
        (0, DAEMON.pw_gid, 0o644, False),
        (NOBODY.pw_uid, NOBODY.pw_gid, 0o664, True),  # its group is `nogroup`, so not its own
        (0, 64001, 0o664, True),
        (64001, 64001, 0o664, True),
        (0, 0, 0o646, True),
        (0, 0, 0o602, True),
    ],
)
def test_owner_group_and_mode(
    tmp_path: Path, owner: int, group: int, mode: int, expected: bool
) -> None:
    path = tmp_path / "file"
    path.touch()
    os.chown(path, owner, group)
    path.chmod(mode)
    assert others_may_write(path, path.stat()) is expected
    with path.open("rb") as file:
        assert others_may_write(file.fileno(), os.fstat(file.fileno())) is expected


def test_an_access_control_list(tmp_path: Path) -> None:
    """The group bits show what it may grant at most."""
    path = tmp_path / "file"
    path.touch()
    none = 0xFFFFFFFF
    entries = [(1, 6, none), (2, 6, NOBODY.pw_uid), (4, 4, none), (16, 6, none), (32, 4, none)]
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    os.setxattr(path, "system.posix_acl_access", acl)
    assert path.stat().st_mode & 0o777 == 0o664
    assert others_may_write(path, path.stat())
    path.chmod(0o644)
    assert not others_may_write(path, path.stat())
