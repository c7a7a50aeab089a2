"""Tombstones: the ring on disk, the receiver and its limits, and both in a daemon that several users call."""

import json
import os
import resource
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from avf.virtualizationservice.parties import Party, Standing
from avf.virtualizationservice.receiver import ReceiverLimits, TombstoneReceiver
from avf.virtualizationservice.tombstones import Ended, Sender, TombstoneRing, TombstoneStore
from avf.vsock import listen_host
from tests.eventually import eventually
from tests.several_uids import open_to_all
from tests.virtualizationservice.daemon import ALICE, BOB, Host, effective_uid


def add(ring: TombstoneRing, data: bytes, uid: int = 0) -> Path:
    with ring.draft() as draft:
        draft.write(data)
        return draft.file(Sender(uid), Ended.COMPLETE)


def contents(directory: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in directory.glob("tombstone_??")}


class TestRing:
    def test_the_oldest_goes_first(self, tmp_path: Path) -> None:
        ring = TombstoneRing(tmp_path, 3)
        for number in range(4):
            add(ring, b"%d" % number)
        assert contents(tmp_path) == {
            "tombstone_00": b"3",
            "tombstone_01": b"1",
            "tombstone_02": b"2",
        }

    def test_goes_on_after_a_restart(self, tmp_path: Path) -> None:
        for number in range(3):
            path = add(TombstoneRing(tmp_path, 3), b"%d" % number)
            os.utime(path, (number, number))
        os.utime(tmp_path / "tombstone_01", (0, 0))
        os.utime(tmp_path / "tombstone_00", (5, 5))
        assert add(TombstoneRing(tmp_path, 3), b"new").name == "tombstone_01"

    @pytest.mark.usefixtures("several_uids")
    def test_the_note(self, tmp_path: Path) -> None:
        with TombstoneRing(tmp_path, 3).draft() as draft:
            draft.write(b"12345")
            path = draft.file(Sender(ALICE, 2048, 77), Ended.TRUNCATED)
        note = json.loads(path.with_name("tombstone_00.json").read_text())
        age = datetime.now(UTC) - datetime.fromisoformat(note.pop("time"))
        assert 0 <= age.total_seconds() < 60
        assert note == {"uid": ALICE, "cid": 2048, "pid": 77, "size": 5, "ended": "truncated"}
        open_to_all(tmp_path)
        for file in tmp_path.iterdir():
            assert file.stat().st_uid == os.geteuid()
            with effective_uid(ALICE):
                file.read_bytes()
                with pytest.raises(PermissionError):
                    file.open("ab")
            with effective_uid(BOB), pytest.raises(PermissionError):
                file.read_bytes()

    def test_nothing_stays_of_what_was_not_filed(self, tmp_path: Path) -> None:
        ring = TombstoneRing(tmp_path, 3)
        with pytest.raises(KeyError), ring.draft() as draft:
            draft.write(b"1")
            raise KeyError
        assert list(tmp_path.iterdir()) == []

    def test_what_a_killed_service_was_receiving_is_removed(self, tmp_path: Path) -> None:
        (tmp_path / "incoming_1").touch()
        TombstoneRing(tmp_path, 3)
        assert list(tmp_path.iterdir()) == []

    def test_all_together_may_not_grow_too_large(self, tmp_path: Path) -> None:
        ring = TombstoneRing(tmp_path, 5, total=100)
        for number, size in enumerate((40, 40, 20, 30)):
            os.utime(add(ring, bytes(size)), (number, number))
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            f"tombstone_{number:02}{suffix}" for number in (1, 2, 3) for suffix in ("", ".json")
        ]
        add(ring, bytes(200))
        assert list(contents(tmp_path)) == ["tombstone_04"]

    @pytest.mark.parametrize("count", [0, 101])
    def test_the_count(self, tmp_path: Path, count: int) -> None:
        with pytest.raises(ValueError, match="1 to 100"):
            TombstoneRing(tmp_path, count)

    def test_users_do_not_push_out_each_other_s(self, tmp_path: Path) -> None:
        store = TombstoneStore(tmp_path / "t", per_party=True, count=2)
        for uid in (ALICE, BOB, BOB, BOB):
            add(store.ring(Party(Standing.KNOWN, uid)), b"%d" % uid, uid)
        assert contents(tmp_path / "t" / str(ALICE)) == {"tombstone_00": b"%d" % ALICE}
        assert len(contents(tmp_path / "t" / str(BOB))) == 2


class Received:
    """A receiver on a unix socket, and what it has filed."""

    def __init__(self, folder: Path, limits: ReceiverLimits) -> None:
        self.folder = folder
        store = TombstoneStore(folder / "tombstones", per_party=False)
        self.receiver = TombstoneReceiver(store, lambda _: Sender(0), limits)
        self.receiver.start(listen_host(2000, folder))

    def connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(20)
        sock.connect(str(self.folder / "2000"))
        return sock

    def send(self, data: bytes) -> None:
        with self.connect() as sock:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            assert sock.recv(1) == b""

    def tombstones(self) -> list[bytes]:
        found = contents(self.folder / "tombstones")
        return [found[name] for name in sorted(found)]

    def note(self, number: int) -> dict[str, object]:
        path = self.folder / "tombstones" / f"tombstone_{number:02}.json"
        note = json.loads(path.read_text())
        assert isinstance(note, dict)
        return note


@pytest.fixture
def received(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Received]:
    limits = getattr(request, "param", None) or ReceiverLimits()
    made = Received(tmp_path, limits)
    yield made
    made.receiver.close()


def limits(**values: float) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        "received",
        [ReceiverLimits(**values)],  # type: ignore[arg-type]
        indirect=True,
    )


class TestReceiver:
    def test_every_connection_is_a_tombstone(self, received: Received) -> None:
        big = os.urandom(100_000)
        for data in (b"hello", b"", big):
            received.send(data)
        eventually(received.tombstones, [b"hello", b"", big])
        assert received.note(2)["ended"] == "complete"

    @limits(bytes=3000)
    def test_no_longer_than_that(self, received: Received) -> None:
        received.send(b"x" * 3000)
        received.send(b"y" * 3001)
        eventually(received.tombstones, [b"x" * 3000, b"y" * 3000])
        assert received.note(0)["ended"] == "complete"
        assert received.note(1)["ended"] == "truncated"
        assert received.note(1)["size"] == 3000

    @limits(idle_seconds=0.1)
    def test_who_says_nothing_any_more_is_not_waited_for(self, received: Received) -> None:
        with received.connect() as sock:
            sock.sendall(b"half")
            assert sock.recv(1) == b""
        assert received.tombstones() == [b"half"]
        assert received.note(0)["ended"] == "timeout"

    @limits(total_seconds=0.3)
    def test_who_says_little_now_and_then_is_not_waited_for(self, received: Received) -> None:
        with received.connect() as sock, pytest.raises(OSError):
            while True:
                sock.sendall(b".")
                sock.settimeout(0.02)
                try:
                    if sock.recv(1) == b"":
                        raise BrokenPipeError
                except TimeoutError:
                    pass
        eventually(lambda: len(received.tombstones()), 1)
        assert received.note(0)["ended"] == "timeout"

    @limits(connections_per_party=2)
    def test_so_many_at_a_time(self, received: Received) -> None:
        with received.connect() as one, received.connect() as two, received.connect() as three:
            assert three.recv(1) == b""
            one.sendall(b"1")
            two.sendall(b"2")
            one.close()
            eventually(lambda: received.receiver.active, 1)
            received.send(b"3")
        eventually(lambda: sorted(received.tombstones()), [b"1", b"2", b"3"])

    @limits(connections=1)
    def test_so_many_at_a_time_of_all(self, received: Received) -> None:
        with received.connect(), received.connect() as two:
            assert two.recv(1) == b""

    @limits(burst=3, per_second=0)
    def test_so_many_in_a_row(self, received: Received) -> None:
        for number in range(3):
            received.send(b"%d" % number)
        with received.connect() as sock:
            assert sock.recv(1) == b""
        assert received.tombstones() == [b"0", b"1", b"2"]

    def test_one_that_cannot_be_filed_is_lost_alone(
        self, received: Received, caplog: pytest.LogCaptureFixture
    ) -> None:
        directory, aside = received.folder / "tombstones", received.folder / "aside"
        with received.connect() as sock:
            sock.sendall(b"1")
            eventually(lambda: received.receiver.active, 1)
            eventually((directory / "incoming_1").exists, True)
            directory.rename(aside)
            sock.shutdown(socket.SHUT_WR)
            assert sock.recv(1) == b""
        eventually(lambda: received.receiver.active, 0)
        aside.rename(directory)
        assert "a tombstone of uid 0 is lost: [Errno 2]" in caplog.text
        received.send(b"2")
        assert received.tombstones() == [b"2"]

    def test_ends_while_one_comes_in(self, tmp_path: Path) -> None:
        received = Received(tmp_path, ReceiverLimits())
        with received.connect() as sock:
            sock.sendall(b"half")
            eventually(lambda: received.receiver.active, 1)
            received.receiver.close()
            assert sock.recv(1) == b""
        assert received.tombstones() == []
        with socket.socket(socket.AF_UNIX) as late, pytest.raises(ConnectionRefusedError):
            late.connect(str(tmp_path / "2000"))

    def test_without_descriptors_it_waits_for_better_times(
        self, received: Received, caplog: pytest.LogCaptureFixture
    ) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        with received.connect() as waiting:
            eventually((received.folder / "tombstones" / "incoming_1").exists, True)
            with socket.socket(socket.AF_UNIX) as late:
                resource.setrlimit(resource.RLIMIT_NOFILE, (late.fileno() + 1, hard))
                try:
                    late.connect(str(received.folder / "2000"))
                    late.sendall(b"late")
                    eventually(lambda: "cannot accept a tombstone" in caplog.text, True)
                finally:
                    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            waiting.sendall(b"first")
            waiting.shutdown(socket.SHUT_WR)
            eventually(lambda: sorted(received.tombstones()), [b"first", b"late"])


def guest(host: Host, uid: int, cid: int | None, data: bytes, socket_name: str = "2000") -> None:
    """What a vsock device process does for its guest: a name that tells the CID, then the guest's bytes."""
    with socket.socket(socket.AF_UNIX) as sock:
        if cid is not None:
            sock.bind(b"\0avf-vsock/%d/1024/%d/%d" % (cid, os.getpid(), threading.get_ident()))
        with effective_uid(uid):
            sock.connect(str(host.directory / "vsock" / socket_name))
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        sock.settimeout(20)
        assert sock.recv(1) == b""


class TestDaemon:
    def test_of_a_vm(self, host: Host) -> None:
        with host.daemon(), host.client(ALICE) as alice:
            context = alice.allocate_global_vm_context(77)
            cid = context.get_cid()
            guest(host, ALICE, cid, b"*** ***\n" * 500)
            directory = host.directory / "tombstones" / str(ALICE)
            path = directory / "tombstone_00"
            assert path.read_bytes() == b"*** ***\n" * 500
            note = json.loads((directory / "tombstone_00.json").read_text())
            assert (note["uid"], note["cid"], note["pid"]) == (ALICE, cid, 77)
            with effective_uid(ALICE):
                path.read_bytes()
            with effective_uid(BOB):
                with pytest.raises(PermissionError):
                    path.read_bytes()
                with pytest.raises(PermissionError):
                    list((host.directory / "tombstones").iterdir())
        assert "Received 4000 bytes from guest & wrote to tombstone file\n" in host.log
        assert not (host.directory / "vsock" / "2000").exists()

    def test_whose_it_is(self, host: Host) -> None:
        """The uid is certain; a CID counts only if that VM is the user's."""
        with host.daemon(), host.client(ALICE) as alice:
            context = alice.allocate_global_vm_context(77)
            cid = context.get_cid()
            for uid, claimed in ((BOB, cid), (BOB, 9999), (BOB, None), (0, cid)):
                guest(host, uid, claimed, b"?")
            notes = [
                json.loads(path.read_text())
                for path in sorted((host.directory / "tombstones").glob("*/*.json"))
            ]
            found = [(note["uid"], note["cid"], note["pid"]) for note in notes]
            assert found == [(ALICE, cid, 77)] + [(BOB, None, None)] * 3

    def test_options(self, host: Host) -> None:
        with host.daemon("--tombstones=2", "--tombstone-kib=1"):
            for data in (b"0", b"1", b"x" * 2000):
                try:
                    guest(host, BOB, None, data)
                except ConnectionResetError:
                    assert len(data) > 1024
            directory = host.directory / "tombstones" / str(BOB)
            eventually(
                lambda: contents(directory), {"tombstone_00": b"x" * 1024, "tombstone_01": b"1"}
            )

    def test_memory_dumps_may_be_larger(self, host: Host) -> None:
        with host.daemon("--tombstone-kib=1", "--ramdump-mib=1"), host.client(ALICE) as alice:
            context = alice.allocate_global_vm_context(77)
            cid = context.get_cid()
            guest(host, ALICE, cid, b"x" * 2000, "ramdump")
            directory = host.directory / "tombstones" / str(ALICE)
            assert contents(directory) == {"tombstone_00": b"x" * 2000}
            note = json.loads((directory / "tombstone_00.json").read_text())
            assert (note["cid"], note["ended"]) == (cid, "complete")
            with pytest.raises((ConnectionResetError, BrokenPipeError)):
                guest(host, ALICE, cid, bytes(2 << 20), "ramdump")
            eventually((directory / "tombstone_01.json").exists, True)
            note = json.loads((directory / "tombstone_01.json").read_text())
            assert (note["size"], note["ended"]) == (1 << 20, "truncated")
        assert not (host.directory / "vsock" / "ramdump").exists()

    def test_a_port_that_is_taken_is_a_warning_only(self, host: Host) -> None:
        (host.directory / "vsock").mkdir(parents=True)
        host.directory.chmod(0o755)
        with listen_host(2000, host.directory / "vsock"), host.daemon(), host.client(BOB) as bob:
            assert bob.debug_list_vms() == []
        assert "WARNING: Error receiving tombstone from guest or writing them" in host.log
        assert "Address already in use" in host.log
