"""Users who fill, mount over, or litter what the service has to clean up after them: the service serves the others."""

import fcntl
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from avf.aidl.virtualizationservice_internal import AtomVmBooted
from avf.virtualizationservice import tempdirs
from avf.virtualizationservice.cids import CidAllocator
from avf.virtualizationservice.contexts import ContextTable
from avf.virtualizationservice.parties import Parties, Party, Standing
from avf.virtualizationservice.tempdirs import TempDirs
from tests.eventually import eventually
from tests.virtualizationservice.conftest import host
from tests.virtualizationservice.daemon import ALICE, BOB, EVERYONE, Host

__all__ = ["host"]

ROOT = Path(__file__).parents[2]


class EachUser(Parties):
    """Every uid is a party."""

    def of(self, uid: int | None) -> Party:
        return Party(Standing.KNOWN, uid)


def in_private_namespace(module: str, *arguments: str) -> None:
    result = subprocess.run(
        ["unshare", "--mount", sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.stdout == "held\n", result.stderr


@pytest.mark.usefixtures("several_uids")
@pytest.mark.parametrize("kind", ["silent", "private", "dead"])
@pytest.mark.parametrize("place", ["", "deep", "deep/er", "file"])
def test_a_file_system_of_the_user_s(kind: str, place: str) -> None:
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("this user may not open /dev/fuse")
    in_private_namespace("tests.attack.mounting", kind, place)


@pytest.mark.usefixtures("several_uids")
def test_a_full_disk() -> None:
    in_private_namespace("tests.attack.filling")


def litter(directory: Path, files: int) -> None:
    for number in range(files):
        (directory / str(number)).touch()


@pytest.mark.usefixtures("several_uids")
def test_much_to_remove_is_removed_while_others_are_served(tmp_path: Path) -> None:
    """A party that left much waits for it; another one's little is removed in between."""
    directories = TempDirs(tmp_path / "vms")
    for cid, uid, files in ((2048, ALICE, 5000), (2049, ALICE, 5000), (2050, BOB, 100)):
        litter(directories.create(cid, uid), files)
    table = ContextTable(
        CidAllocator(tmp_path / "last_cid", 2048, 2059), directories, parties=EachUser(), limit=6
    )
    assert table.allocate(BOB, 1).get_cid() == 2051
    assert table.clean()
    table.clean()
    assert not (tmp_path / "vms" / "2050").exists()
    left = sum(len(list((tmp_path / "vms" / str(cid)).iterdir())) for cid in (2048, 2049))
    assert left == 10_000 - tempdirs.SLICE
    while table.clean():
        pass
    assert not any((tmp_path / "vms" / str(cid)).exists() for cid in (2048, 2049))
    directories.close()


@pytest.mark.usefixtures("several_uids")
def test_who_asks_for_a_vm_does_not_clean_up_after_others(tmp_path: Path) -> None:
    directories = TempDirs(tmp_path / "vms")
    litter(directories.create(2048, ALICE), 3000)
    lock = os.open(tmp_path / "vms" / "2048", os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    table = ContextTable(CidAllocator(tmp_path / "last_cid"), directories, parties=EachUser())
    os.close(lock)  # its VM has died
    table.allocate(BOB, 1)
    assert len(list((tmp_path / "vms" / "2048").iterdir())) == 3000
    table.live()
    assert len(list((tmp_path / "vms" / "2048").iterdir())) == 3000
    directories.close()


@pytest.mark.usefixtures("several_uids")
def test_what_is_being_removed_counts(tmp_path: Path) -> None:
    """A user gets no more VMs by leaving much behind."""
    directories = TempDirs(tmp_path / "vms")
    table = ContextTable(
        CidAllocator(tmp_path / "last_cid"), directories, parties=EachUser(), limit=2
    )
    for _ in range(2):
        context = table.allocate(ALICE, 1)
        litter(Path(context.get_temporary_directory()), 200)
        context.on_released()
    with pytest.raises(Exception, match=f"uid {ALICE} has 2 VMs"):
        table.allocate(ALICE, 1)
    table.allocate(BOB, 1)
    while table.clean():
        pass
    table.allocate(ALICE, 1)
    directories.close()


def _directory(path: Path) -> None:
    (path / "inside").mkdir(parents=True)


def _dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))


def _strangers(path: Path) -> None:
    path.touch(mode=0)
    os.chown(path, ALICE, ALICE)


KINDS = {
    "directory": _directory,
    "fifo": os.mkfifo,
    "dangling link": _dangling,
    "link to itself": _loop,
    "socket": _socket,
    "file of a user's": _strangers,
}
PLACES = [
    [
        "last_cid",
        "last_cid.new",
        "service.lock",
        "atoms/{alice}.jsonl",
        "vms/2048",
        "vms/notes",
        "vms/spare_00",
        "tombstones/notes",
        "tombstones/{alice}/tombstone_00",
        "tombstones/{alice}/tombstone_00.json",
        "tombstones/{alice}/incoming_1",
        "vsock/2000",
        "vsock/ramdump",
        "virtualizationservice.sock",
    ],
    ["vms", "atoms", "tombstones/{alice}", "vsock"],
    ["tombstones"],
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("places", PLACES, ids=("files", "directories", "tombstones"))
def test_a_start_over_anything(host: Host, kind: str, places: list[str]) -> None:
    """Whatever stands in the service's places: it starts, gives out VMs, and takes atoms."""
    for place in places:
        path = host.directory / place.format(alice=ALICE)
        path.parent.mkdir(parents=True, exist_ok=True)
        host.directory.chmod(0o755)
        KINDS[kind](path)
    with host.daemon(), host.client(ALICE) as alice:
        context = alice.allocate_global_vm_context(1)
        if "vms/2048" in places and kind != "directory":  # that one is what a VM has left
            assert context.get_cid() == 2049
        alice.atom_vm_booted(AtomVmBooted())
        assert [info.cid for info in alice.debug_list_vms()] == [context.get_cid()]
    assert "Traceback" not in host.log


def tombstone(host: Host) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(20)
        sock.connect(str(host.directory / "vsock" / "2000"))
        sock.shutdown(socket.SHUT_WR)
        sock.recv(1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_tombstone_is_filed_beside_anything(host: Host, kind: str) -> None:
    """What stands in a place is left alone if it cannot be removed; the next place is as good."""
    folder = host.directory / "tombstones" / "0"
    folder.mkdir(parents=True)
    host.directory.chmod(0o755)
    for name in ("tombstone_00", "tombstone_01.json", "incoming_1"):
        KINDS[kind](folder / name)
    with host.daemon("--tombstones=4"):
        for _ in range(6):
            tombstone(host)
        names = ["tombstone_02", "tombstone_03"]
        if kind != "directory":
            names = [f"tombstone_{number:02}" for number in range(4)]
        eventually(
            lambda: [p.name for p in sorted(folder.glob("tombstone_??")) if is_filed(p)], names
        )


def is_filed(path: Path) -> bool:
    return path.is_file() and path.with_name(f"{path.name}.json").is_file()


@pytest.fixture
def busy_port() -> Iterator[int]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        yield sock.getsockname()[1]


def test_a_port_for_metrics_that_a_user_has_taken(host: Host, busy_port: int) -> None:
    with host.daemon(f"--prometheus={busy_port}"), host.client(BOB) as bob:
        assert bob.debug_list_vms() == []
        assert "metrics cannot be served for now: [Errno 98]" in host.log


@pytest.mark.parametrize("kind", KINDS)
def test_something_else_in_place_of_the_policy(host: Host, kind: str) -> None:
    """While the service runs: nobody waits for it, and what was granted stays granted.

    It is put there in one step: a policy that is missing for a moment would be a change too.
    """
    for name in ("before", "after"):
        (host.folder / name).mkdir()
    link, new_link = host.folder / "link", host.folder / "new_link"
    link.symlink_to("before")
    new_link.symlink_to("after")
    host.policy_file = link / "policy.toml"
    host.set_policy(EVERYONE)
    with host.daemon(), host.client(BOB) as bob:
        KINDS[kind](host.folder / "after" / "policy.toml")
        new_link.rename(link)
        if kind != "dangling link":  # as if there were none
            assert bob.debug_list_vms() == []
            assert "the former policy stays in force" in host.log
        with host.client(0) as root:
            assert root.debug_list_vms() == []
