"""A hostile guest that gives files: nothing of what it sends is written outside of the target, or replaces anything."""

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from avf.client import ShellFailed
from avf.client.inside import GuestAccess
from avf.shell import Frame, FrameStream, Kind, encode
from avf.shell.entries import MAX_DEPTH, Entry, Link
from avf.shell.receive import MAX_REMARKS


class HostileGuest(GuestAccess):
    """What answers at its shell service does as `act` says, once the request is there."""

    def __init__(self, act: Callable[[socket.socket], None]) -> None:
        self._act = act
        self._threads: list[threading.Thread] = []

    def connect_shell(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        thread = threading.Thread(target=self._serve, args=(theirs,))
        thread.start()
        self._threads.append(thread)
        return ours

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                FrameStream(connection).receive()
                self._act(connection)
            except OSError:
                pass  # the host has left

    def join(self) -> None:
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()


def says(*frames: Frame) -> HostileGuest:
    return HostileGuest(
        lambda connection: connection.sendall(b"".join(encode(*frame) for frame in frames))
    )


def folder(name: bytes = b"") -> Frame:
    return Frame(Kind.FOLDER, Entry(name, 0o755, 0).encode())


def file(name: bytes = b"", changed: int = 0) -> Frame:
    return Frame(Kind.FILE, Entry(name, 0o644, changed).encode())


def link(name: bytes, target: bytes) -> Frame:
    return Frame(Kind.LINK, Link(name, target).encode())


END = Frame(Kind.END, b"")
EVIL = Frame(Kind.DATA, b"evil")
NAMES = [b"..", b".", b"", b"/etc/cron.d/x", b"a/b", b"../x", b"a\0b", b"n" * 256, b"x/"]


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_bytes(b"precious")
    return outside


@pytest.fixture
def target(tmp_path: Path) -> Path:
    target = tmp_path / "target"
    target.mkdir()
    return target


def assert_nothing_happened(outside: Path, target: Path) -> None:
    assert [path.name for path in outside.iterdir()] == ["precious"]
    assert (outside / "precious").read_bytes() == b"precious"
    assert list(target.iterdir()) == []
    assert sorted(path.name for path in target.parent.iterdir()) == ["outside", "target"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_names_that_lead_out(name: bytes, kind: str, outside: Path, target: Path) -> None:
    entry = {
        "file": [file(name), EVIL, END],
        "folder": [folder(name), END],
        "link": [link(name, b"x")],
    }
    guest = says(folder(), *entry[kind], END)
    with pytest.raises(ShellFailed):
        guest.pull("thing", target=target)
    guest.join()
    assert_nothing_happened(outside, target)


def test_a_link_and_then_what_would_go_through_it(outside: Path, target: Path) -> None:
    """Whether the link is left out for where it leads to, or made, the name is taken or not followed."""
    for way in (os.fsencode(outside), b"../../outside", b"inner"):
        guest = says(
            folder(), folder(b"inner"), END, link(b"a", way), folder(b"a"), file(b"precious"), EVIL, END,
            END, link(b"a", way), END,
        )  # fmt: skip
        try:
            guest.pull("thing", target=target)
        except ShellFailed:
            assert list(target.iterdir()) == []
        else:
            assert (target / "thing/a/precious").read_bytes() == b"evil"
            assert not (target / "thing/a").is_symlink()
            for path in sorted(target.rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
        guest.join()
        assert_nothing_happened(outside, target)


def test_a_link_of_an_earlier_pull_is_not_followed(outside: Path, target: Path) -> None:
    (target / "thing").mkdir()
    (target / "thing/a").symlink_to(outside)
    guest = says(folder(), folder(b"a"), file(b"precious"), EVIL, END, END, END)
    with pytest.raises(ShellFailed, match="thing/a is a link, not a folder"):
        guest.pull("thing", target=target)
    guest.join()
    assert (outside / "precious").read_bytes() == b"precious"


def test_a_link_at_the_top(outside: Path, target: Path) -> None:
    guest = says(link(b"", os.fsencode(outside / "precious")))
    with pytest.raises(ShellFailed):
        guest.pull("thing", target=target)
    guest.join()
    assert_nothing_happened(outside, target)


def test_folders_without_end(outside: Path, target: Path) -> None:
    def act(connection: socket.socket) -> None:
        connection.sendall(encode(*folder()))
        while True:
            connection.sendall(encode(*folder(b"d")) * 100)

    before = len(list(Path("/proc/self/fd").iterdir()))
    guest = HostileGuest(act)
    with pytest.raises(ShellFailed, match=f"more than {MAX_DEPTH} deep"):
        guest.pull("thing", target=target)
    guest.join()
    assert_nothing_happened(outside, target)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_remarks_without_end_are_counted_only(target: Path) -> None:
    remarks = [Frame(Kind.LEFT_OUT, b"r" * 60_000)] * (MAX_REMARKS + 50)
    left_out = says(folder(), *remarks, END).pull("thing", target=target)
    assert len(left_out) == MAX_REMARKS + 1
    assert left_out[-1] == "50 more were left out"
    assert sum(map(len, left_out)) < 500_000


@pytest.mark.parametrize("changed", [-(2**63), 2**63 - 1])
def test_times_that_are_none(changed: int, target: Path) -> None:
    """Taken as far as the file system goes, or refused."""
    try:
        says(file(changed=changed), END).pull("thing", target=target)
    except ShellFailed:
        assert list(target.iterdir()) == []
    else:
        assert (target / "thing").exists()


def test_a_guest_that_says_too_much_to_a_command() -> None:
    flood = encode(Kind.OUTPUT, b"x" * 60_000)

    def act(connection: socket.socket) -> None:
        while True:
            connection.sendall(flood)

    guest = HostileGuest(act)
    with pytest.raises(ShellFailed, match="more than 1000000 bytes"):
        guest.run(["ls"], output_limit=1_000_000)
    guest.join()


@pytest.mark.parametrize(
    "frame",
    [
        Frame(Kind.GRANT, b"\xff\xff\xff\xff"),
        Frame(Kind.GRANT, b""),
        Frame(Kind.EXITED, b""),
        Frame(Kind.KILLED, b"\1\2"),
        Frame(Kind.KILLED, b"\0"),
        Frame(Kind.KILLED, b"\xff"),
        Frame(Kind.FAILED, b""),
        Frame(Kind.INPUT, b"x"),
        Frame(Kind.FOLDER, b"x"),
    ],
)
def test_a_guest_that_does_not_keep_to_the_protocol(frame: Frame) -> None:
    guest = says(frame)
    with pytest.raises(ShellFailed):
        guest.run(["ls"])
    with pytest.raises(ShellFailed):
        guest.push("/etc/hostname", target="/x")
    guest.join()


def test_a_guest_that_leaves_in_the_middle(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(8 << 20))
    guest = says()
    with pytest.raises(ShellFailed, match="gone"):
        guest.push(tmp_path / "large", target="/x")
    with pytest.raises(ShellFailed, match="gone"):
        guest.run(["ls"])
    guest.join()


def test_a_guest_that_is_full_is_heard_while_more_is_sent(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(8 << 20))

    def act(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.sendall(encode(Kind.FAILED, b"\x01the disk is full"))
        while connection.recv(1 << 16):
            pass

    guest = HostileGuest(act)
    with pytest.raises(ShellFailed, match="the disk is full"):
        guest.push(tmp_path / "large", target="/x")
    guest.join()
