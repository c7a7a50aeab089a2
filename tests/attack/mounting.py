"""Run by `unshare --mount`: what a user can mount in its VM's directory, and a service that has to live with it.

    python -m tests.attack.mounting FUSE PLACE

FUSE is `silent` (asks nobody, answers nobody, open to all), `private` (its owner's alone) or `dead` (its daemon has
ended); PLACE is where under the directory of CID 2048 it is mounted. Prints `held` if everything held.
"""

import contextlib
import ctypes
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from avf import mounts
from avf.aidl.vm_control import IVmControl
from avf.client.control import open_vm_in
from avf.virtualizationservice.cids import CidAllocator
from avf.virtualizationservice.contexts import ContextTable
from avf.virtualizationservice.tempdirs import TempDirs
from tests.eventually import eventually
from tests.virtualizationservice.daemon import ALICE, BOB, Host

_MNT_DETACH = 2


@contextlib.contextmanager
def fuse(kind: str, place: Path) -> Iterator[None]:
    """A file system whose daemon, this process, never answers."""
    libc = ctypes.CDLL(None, use_errno=True)
    daemon = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    mode = "40000" if place.is_dir() else "100000"
    options = f"fd={daemon},rootmode={mode},user_id={ALICE},group_id={ALICE}"
    if kind == "silent":
        options += ",allow_other"
    try:
        if libc.mount(b"hostile", os.fsencode(place), b"fuse", 0, options.encode()):
            raise OSError(ctypes.get_errno(), "mount", str(place))
        if kind == "dead":
            os.close(daemon)
            daemon = -1
        yield
    finally:
        libc.umount2(os.fsencode(place), _MNT_DETACH)
        if daemon >= 0:
            os.close(daemon)


def a_start(host: Host, kind: str, place: str) -> None:
    vms = host.directory / "vms"
    (vms / "2048" / "deep" / "er").mkdir(parents=True)
    (vms / "2048" / "file").touch()
    (vms / "2049").mkdir()
    host.directory.chmod(0o755)
    for path in (vms / "2048", *(vms / "2048").rglob("*"), vms / "2049"):
        os.chown(path, ALICE, ALICE)
    with fuse(kind, vms / "2048" / place), host.daemon("--cid-range=2048-2057"):
        with host.client(BOB) as bob:
            contexts = [bob.allocate_global_vm_context(1) for _ in range(4)]
            assert 2048 not in {context.get_cid() for context in contexts}
        eventually(lambda: host.log.count("the directory of CID 2048 is set aside"), 1)
        eventually(lambda: (vms / "2049").exists(), False)
        assert "Traceback" not in host.log


def looked_at_again(folder: Path, kind: str, place: str) -> None:
    """It is free again once nothing is mounted any more; until then it costs a look now and then."""
    directories = TempDirs(folder / "vms")
    (folder / "vms" / "2048" / "deep" / "er").mkdir(parents=True)
    (folder / "vms" / "2048" / "file").touch()
    cids = CidAllocator(folder / "last_cid", 2048, 2049)
    with fuse(kind, folder / "vms" / "2048" / place):
        table = ContextTable(cids, directories)
        for _ in range(3):
            while table.clean():
                pass
            table.look_again()
        context = table.allocate(0, 1)
        assert context.get_cid() == 2049
    table.look_again()
    assert not (folder / "vms" / "2048").exists()
    assert table.allocate(0, 1).get_cid() == 2048
    directories.close()


def during_a_life(folder: Path, kind: str, place: str) -> None:
    """Its VM ends while it is there."""
    directories = TempDirs(folder / "vms")
    table = ContextTable(CidAllocator(folder / "last_cid", 2048, 2050), directories)
    ends, stays = table.allocate(0, 1), table.allocate(0, 1)
    (folder / "vms" / "2048" / "deep" / "er").mkdir(parents=True)
    (folder / "vms" / "2048" / "file").touch()
    with fuse(kind, folder / "vms" / "2048" / place):
        ends.on_released()
        assert [info.cid for info in table.live()] == [stays.get_cid()]
        assert table.allocate(0, 1).get_cid() == 2050
        table.freeze()
        table.close()
    directories.close()


def a_look_into_a_vm(folder: Path, kind: str) -> None:
    """Root's own `vm` must not wait for a user's file system."""
    directory = folder / "vms" / "2048"
    directory.mkdir(parents=True)
    (directory / IVmControl.CONTROL_SOCKET_NAME).touch()
    for place in (directory, directory / IVmControl.CONTROL_SOCKET_NAME):
        with fuse(kind, place), pytest.raises(OSError, match="Invalid cross-device link"):
            open_vm_in(directory)
    with pytest.raises(ConnectionRefusedError):
        open_vm_in(directory)


def main(kind: str, place: str) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folders = [
            Path(scratch, name)
            for name in ("host", "again", "life", "look", "old kernel", "its look")
        ]
        for folder in folders:
            folder.mkdir()
        Path(scratch).chmod(0o755)
        a_start(Host(folders[0]), kind, place)
        looked_at_again(folders[1], kind, place)
        during_a_life(folders[2], kind, place)
        a_look_into_a_vm(folders[3], kind)
        mounts._has_openat2 = lambda: False  # type: ignore[assignment]
        looked_at_again(folders[4], kind, place)
        a_look_into_a_vm(folders[5], kind)
    print("held")


if __name__ == "__main__":
    main(*sys.argv[1:])
