"""Users who take all they can of the service, with all the uids they have: there is something left for the others."""

import contextlib
import json
import os
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from avf.aidl.virtualizationservice_internal import AtomVmBooted, IVirtualizationServiceInternal
from avf.binder import BinderError, FdMode, RemoteException, connect, unix
from avf.virtualizationservice import main as daemon_module
from avf.virtualizationservice import service as service_module
from avf.virtualizationservice.atoms import MAX_PARTY_BYTES
from avf.virtualizationservice.parties import Parties
from avf.virtualizationservice.quotas import Budget
from tests.eventually import eventually
from tests.virtualizationservice.conftest import host
from tests.virtualizationservice.daemon import (
    ALICE,
    BOB,
    EVERYONE,
    OTHER_STRANGER,
    STRANGER,
    Host,
    effective_uid,
)

__all__ = ["host"]

SERVICE = 64100
"""Stands for the user `avf`."""
MANAGE_DENIED = "does not have the android.permission.MANAGE_VIRTUAL_MACHINE permission"
FOR_ALICE_AND_BOB = f"[MANAGE_VIRTUAL_MACHINE]\nuids = [{ALICE}, {BOB}]\n"


@contextlib.contextmanager
def silent_connections(host: Host, uids: Iterator[int], count: int) -> Iterator[list[bool]]:
    """For each whether the service keeps it; no byte is ever sent."""
    with contextlib.ExitStack() as stack:
        socks = []
        for _ in range(count):
            sock = stack.enter_context(socket.socket(socket.AF_UNIX))
            with effective_uid(next(uids)):
                sock.connect(str(host.socket))
            socks.append(sock)
        with host.client(0) as root:
            root.debug_list_vms()  # all those before have been decided over
        yield [is_open(sock) for sock in socks]


def is_open(sock: socket.socket) -> bool:
    sock.setblocking(False)
    try:
        return bool(sock.recv(1))
    except BlockingIOError:
        return True
    except ConnectionError:
        return False


def strangers() -> Iterator[int]:
    """Uids of which nothing is known here, and that a user namespace of 65,536 has, too."""
    yield from range(50_000, 60_000)


def test_many_uids_have_one_share_of_the_connections(host: Host) -> None:
    with (
        host.daemon("--max-connections=20"),
        silent_connections(host, strangers(), 60) as kept,
    ):
        assert sum(kept) == 20
        for uid in (ALICE, BOB, 0):
            with host.client(uid) as client:
                assert client.debug_list_vms() == []
        with pytest.raises((BinderError, OSError)), host.client(STRANGER):
            pass


def test_many_uids_have_one_share_of_the_vms(host: Host) -> None:
    host.set_policy(EVERYONE)
    with host.daemon("--max-vms=3"), contextlib.ExitStack() as stack:
        held = []
        with pytest.raises(RemoteException, match="all users without an account together have 3"):
            for uid in range(STRANGER, STRANGER + 10):
                client = stack.enter_context(host.client(uid))
                held.append(client.allocate_global_vm_context(1))
        assert len(held) == 3
        for uid in (ALICE, BOB, 0):
            client = stack.enter_context(host.client(uid))
            held.append(client.allocate_global_vm_context(1))


@pytest.mark.parametrize(
    ("name", "budget"),
    [
        ("connections", Budget(daemon_module.MAX_CONNECTIONS, 512)),
        ("CIDs", Budget(65535 - 2047, 1024)),
        ("tombstones at a time", Budget(64, 8, bounds_root=True)),
        ("memory dumps at a time", Budget(daemon_module.MAX_RAMDUMPS, 2, bounds_root=True)),
    ],
)
def test_the_shares_of_the_service(name: str, budget: Budget) -> None:
    """All uids of a user namespace, then as many users as take anything: root and one more user get something."""
    parties = Parties(subuid=Path("/nonexistent"))
    taken = sum(budget.take(parties.of(uid)) for uid in range(700_000, 770_000))
    assert taken == budget.of(parties.of(700_000))
    assert 0 < taken <= 1024
    assert budget.take(parties.of(1)), name
    assert budget.take(parties.of(0)), name


def send(host: Host, uid: int, data: bytes, port: str = "2000") -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        with effective_uid(uid):
            sock.connect(str(host.directory / "vsock" / port))
        sock.settimeout(20)
        with contextlib.suppress(ConnectionError):
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            assert sock.recv(1) == b""


def stored(host: Host) -> dict[str, int]:
    """Bytes in each store."""
    root = host.directory / "tombstones"
    return {
        folder.name: sum(path.stat().st_size for path in folder.glob("tombstone_??"))
        for folder in root.iterdir()
    }


@pytest.mark.parametrize("port", ["2000", "ramdump"])
def test_nothing_is_stored_for_who_has_no_permission(host: Host, port: str) -> None:
    host.set_policy(FOR_ALICE_AND_BOB)
    with host.daemon():
        for uid in (STRANGER, OTHER_STRANGER, 1):
            send(host, uid, bytes(100_000), port)
        assert stored(host) == {}
        send(host, BOB, b"mine", port)
        eventually(lambda: stored(host), {str(BOB): 4})


def test_strangers_have_one_store_together(host: Host) -> None:
    """With MANAGE_VIRTUAL_MACHINE for everyone: as many bytes and files as one user."""
    with host.daemon("--tombstones=4", "--ramdump-mib=1"):
        for uid in range(STRANGER, STRANGER + 12):
            send(host, uid, bytes(700_000), "ramdump")
        sizes = stored(host)
        assert list(sizes) == ["unknown"]
        assert 0 < sizes["unknown"] <= 2 << 20
        assert len(list((host.directory / "tombstones" / "unknown").iterdir())) <= 8


def test_a_file_of_a_store_cannot_be_made_larger_by_its_reader(host: Host) -> None:
    with host.daemon():
        send(host, ALICE, b"words")
        path = host.directory / "tombstones" / str(ALICE) / "tombstone_00"
        eventually(path.exists, True)
        with effective_uid(ALICE):
            assert path.read_bytes() == b"words"
            for change in (lambda: path.open("ab"), lambda: path.chmod(0o666), path.unlink):
                with pytest.raises(PermissionError):
                    change()


def test_all_stores_together_are_bounded(host: Host) -> None:
    """More users than there is room for: the newest of each user may push out that user's own only."""
    uids = list(range(65001, 65001 + 40))
    host.set_policy(f"[MANAGE_VIRTUAL_MACHINE]\nuids = {uids}\n")
    limit = daemon_module.STORES * 2 << 20
    with host.daemon("--ramdump-mib=1"):
        for uid in uids:
            for _ in range(2):
                send(host, uid, bytes(1 << 20), "ramdump")
        assert sum(stored(host).values()) <= limit - limit // 16
        send(host, 0, b"still room for root")
        eventually(lambda: stored(host).get("0"), 19)
        assert sum(stored(host)[str(uid)] for uid in uids[:8]) == 8 * 2 << 20


def test_atoms_of_others_are_not_rotated_away(host: Host) -> None:
    with host.daemon(), host.client(BOB) as bob, host.client(ALICE) as alice:
        bob.atom_vm_booted(AtomVmBooted(vm_identifier="kept"))
        for _ in range(service_module.ATOM_BURST + 100):
            alice.atom_vm_booted(AtomVmBooted(vm_identifier="x" * 4096))
        folder = host.directory / "atoms"
        assert "kept" in (folder / f"{BOB}.jsonl").read_text()
        written = sorted(path.stat().st_size for path in folder.glob(f"{ALICE}.jsonl*"))
        assert len(written) == 2
        assert written[-1] <= MAX_PARTY_BYTES


def test_atoms_need_a_permission(host: Host) -> None:
    host.set_policy(FOR_ALICE_AND_BOB)
    with host.daemon("--prometheus=0"), host.client(STRANGER) as stranger:
        for _ in range(3):
            with pytest.raises(RemoteException, match=MANAGE_DENIED):
                stranger.atom_vm_booted(AtomVmBooted())
        assert not (host.directory / "atoms").exists()


def test_atoms_of_many_uids_have_one_rate_and_one_file(host: Host) -> None:
    with host.daemon(), contextlib.ExitStack() as stack:
        clients = [stack.enter_context(host.client(STRANGER + n)) for n in range(8)]
        for client in clients:
            for _ in range(100):
                client.atom_vm_booted(AtomVmBooted())
        folder = host.directory / "atoms"
        assert [path.name for path in folder.iterdir()] == ["unknown.jsonl"]
        lines = (folder / "unknown.jsonl").read_text().splitlines()
        assert 300 <= len(lines) < 700
        assert {json.loads(line)["uid"] for line in lines} < {STRANGER + n for n in range(8)}


def test_no_descriptors_are_taken(host: Host) -> None:
    """A session that could carry some is refused before it has sent any."""
    with host.daemon() as daemon:
        with host.client(ALICE) as alice:
            assert alice.debug_list_vms() == []
        before = len(list(Path(f"/proc/{daemon.pid}/fd").iterdir()))
        with (
            pytest.raises(BinderError),
            connect(unix(host.socket), fd_mode=FdMode.UNIX, timeout=20),
        ):
            pass
        with contextlib.ExitStack() as stack:
            pipes = [stack.enter_context(open(os.devnull)).fileno() for _ in range(200)]
            sock = stack.enter_context(socket.socket(socket.AF_UNIX))
            sock.connect(str(host.socket))
            header = struct.pack("<IBB8xH", 1, 0, FdMode.UNIX, 0)
            socket.send_fds(sock, [header], pipes)
            with contextlib.suppress(ConnectionError):
                while sock.recv(100):
                    pass
        eventually(lambda: len(list(Path(f"/proc/{daemon.pid}/fd").iterdir())) <= before, True)
        with host.client(ALICE) as alice:
            assert isinstance(alice, IVirtualizationServiceInternal)


def test_the_log_says_so_much_for_each_user(host: Host) -> None:
    with host.daemon(), host.client(ALICE) as alice, host.client(BOB) as bob:
        for _ in range(400):
            del_context = alice.allocate_global_vm_context(1)
            del del_context
        context = bob.allocate_global_vm_context(77)
        assert context.get_cid()
        eventually(lambda: f"is uid {BOB}'s, process 77" in host.log, True)
        assert 100 <= host.log.count(f"is uid {ALICE}'s") < 200


PEEK = "for name in mem environ maps; do (: < /proc/$1/$name) 2>/dev/null && echo $name; done"


def peek(user: list[str], pid: int) -> list[str]:
    """What a user can open of a process."""
    command = [*user, "sh", "-c", PEEK, "sh", str(pid)]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True).stdout.split()


def test_no_other_process_looks_into_the_service(host: Host) -> None:
    """Not even one of the same user."""
    host.directory.mkdir(mode=0o755)
    os.chown(host.directory, SERVICE, SERVICE)
    user = ["setpriv", f"--reuid={SERVICE}", f"--regid={SERVICE}", "--clear-groups"]
    with subprocess.Popen([*user, "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as cat:
        assert cat.stdin is not None
        assert cat.stdout is not None
        cat.stdin.write(b"!")
        cat.stdin.flush()
        assert cat.stdout.read(1) == b"!"  # it runs as that user now
        assert peek(user, cat.pid) == ["mem", "environ", "maps"]
        cat.stdin.close()
    with host.daemon(wrapper=user) as daemon:
        assert f"\nUid:\t{SERVICE}\t" in Path(f"/proc/{daemon.pid}/status").read_text()
        assert peek(user, daemon.pid) == []
        limits = Path(f"/proc/{daemon.pid}/limits").read_text()
        (core,) = [line for line in limits.splitlines() if line.startswith("Max core file size")]
        assert core.split()[4:6] == ["0", "0"]


def test_a_frame_that_does_not_come_to_an_end(host: Host) -> None:
    """Its session is ended; one that sends nothing at all is left alone."""
    with host.daemon(), host.client(ALICE) as alice, socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(daemon_module.FRAME_SECONDS + 20)
        sock.connect(str(host.socket))
        sock.sendall(struct.pack("<IBB8xH", 1, 0, FdMode.NONE, 0) + b"cci\0" + bytes(4))
        assert len(sock.recv(8, socket.MSG_WAITALL)) == 8
        sock.sendall(b"\0")
        assert sock.recv(1) == b""
        assert alice.debug_list_vms() == []
