"""Directories of VMs: private, removed in full, links never followed, locked ones left alone."""

import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from avf.virtualizationservice.tempdirs import TempDirs

UID = 65534


@pytest.fixture
def dirs(tmp_path: Path) -> Iterator[TempDirs]:
    directories = TempDirs(tmp_path / "vms")
    yield directories
    directories.close()


@pytest.mark.usefixtures("several_uids")
def test_private_and_owned(dirs: TempDirs) -> None:
    status = dirs.create(2048, UID).stat()
    assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (UID, 0o700)


@pytest.mark.usefixtures("several_uids")
def test_private_whatever_the_umask(dirs: TempDirs) -> None:
    before = os.umask(0)
    try:
        path = dirs.create(2048, UID)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o700


@pytest.mark.usefixtures("several_uids")
def test_what_a_former_vm_left_is_removed(dirs: TempDirs) -> None:
    path = dirs.create(2048, UID)
    (path / "deep" / "er").mkdir(parents=True)
    (path / "deep" / "file").touch()
    with pytest.raises(FileExistsError):
        dirs.create(2048, UID)
    assert dirs.remove(2048)
    assert list(dirs.create(2048, UID).iterdir()) == []


@pytest.mark.usefixtures("several_uids")
def test_depth_costs_nothing(dirs: TempDirs) -> None:
    """A user cannot stop the service by a directory that is too deep for recursion, or forbidden."""
    fd = os.open(dirs.create(2048, UID), os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=fd)
        deeper = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.fchown(deeper, UID, UID)
        os.fchmod(deeper, 0)
        os.close(fd)
        fd = deeper
    os.close(fd)
    while not dirs.remove(2048):
        pass
    assert list(dirs.root.iterdir()) == []


@pytest.mark.usefixtures("several_uids")
def test_links_are_removed_not_followed(dirs: TempDirs, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    (dirs.create(2048, UID) / "link").symlink_to(precious)
    dirs.remove(2048)
    assert (precious / "file").exists()
    assert not (dirs.root / "2048").exists()


def test_a_link_in_place_of_a_directory_is_refused(dirs: TempDirs, tmp_path: Path) -> None:
    (dirs.root / "2048").symlink_to(tmp_path)
    with pytest.raises(OSError):
        dirs.create(2048, UID)
    assert (dirs.root / "2048").is_symlink()


def test_removing_nothing_is_fine(dirs: TempDirs) -> None:
    dirs.remove(2048)


@pytest.mark.usefixtures("several_uids")
def test_survivors_are_the_locked_ones(dirs: TempDirs) -> None:
    locked = dirs.create(2048, UID)
    dirs.create(2049, UID)
    fd = os.open(locked, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        found = dirs.look()
        assert (found.held, found.left) == ({2048: UID}, {2049: UID})
    finally:
        os.close(fd)
    assert dirs.look().left == {2048: UID, 2049: UID}


@pytest.mark.usefixtures("several_uids")
def test_a_slice_at_a_time(dirs: TempDirs) -> None:
    path = dirs.create(2048, UID)
    for number in range(25):
        (path / str(number)).touch()
    assert [dirs.remove(2048, 10) for _ in range(3)] == [False, False, True]
    assert list(dirs.root.iterdir()) == []
