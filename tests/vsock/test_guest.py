"""Streams of a real guest kernel, on both boards, through a real device process."""

import array
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from avf.vsock.device.connections import CONNECTIONS_MAX
from tests.vsock.guest.machine import GuestMachine, build_initrd

ECONNRESET = 104
MIB = 1 << 20

pytestmark = pytest.mark.vm


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return build_initrd(tmp_path_factory.mktemp("initrd"))


@pytest.fixture(scope="module", params=["microvm", "q35"])
def machine(request: pytest.FixtureRequest, files: tuple[Path, Path]) -> Iterator[GuestMachine]:
    with GuestMachine(request.param, *files) as running:
        yield running
        assert running.device.poll() is None


def pattern(size: int) -> bytes:
    """A counter of 64-bit words, as the guest makes and expects it."""
    return array.array("Q", range(size // 8)).tobytes()


def read_all(sock: socket.socket) -> bytes:
    pieces = []
    while piece := sock.recv(MIB):
        pieces.append(piece)
    return b"".join(pieces)


def send_and_close(sock: socket.socket, data: bytes) -> None:
    sock.sendall(data)
    sock.shutdown(socket.SHUT_WR)


def echo(sock: socket.socket, data: bytes) -> bytes:
    """Sends and receives at once; what came back."""
    writer = threading.Thread(target=send_and_close, args=(sock, data))
    writer.start()
    try:
        return read_all(sock)
    finally:
        writer.join()


def accept(listener: socket.socket) -> socket.socket:
    listener.settimeout(60)
    sock, _ = listener.accept()
    sock.settimeout(60)
    return sock


def test_the_guest_sends(machine: GuestMachine) -> None:
    with machine.command(f"source {32 * MIB}") as sock:
        assert read_all(sock) == pattern(32 * MIB)


def test_the_guest_receives_and_answers_after_a_half_close(machine: GuestMachine) -> None:
    with machine.command("sink") as sock:
        send_and_close(sock, pattern(32 * MIB))
        assert read_all(sock) == b"%d 0\n" % (32 * MIB)


@pytest.mark.parametrize("window", [256, 4096])
def test_a_guest_with_a_small_window(machine: GuestMachine, window: int) -> None:
    with machine.command(f"window-sink {window}") as sock:
        send_and_close(sock, pattern(64 * 1024))
        assert read_all(sock) == b"%d 0\n" % (64 * 1024)


def test_a_guest_with_a_small_window_sends(machine: GuestMachine) -> None:
    with machine.command(f"window-source {MIB}") as sock:
        assert read_all(sock) == pattern(MIB)


def test_the_guest_dials(machine: GuestMachine) -> None:
    with (
        machine.vsock.listen(5000) as listener,
        machine.command("dial 2 5000 echo") as report,
        accept(listener) as sock,
    ):
        assert machine.vsock.accepts(sock)
        data = pattern(300_000)
        assert echo(sock, data) == data
        assert report.recv(16) == b"0\n"
    Path(f"{machine.vsock.base}_5000").unlink()


def test_nobody_listens_on_the_host(machine: GuestMachine) -> None:
    assert machine.ask("dial 2 5001 echo") == [ECONNRESET]


def test_there_is_no_other_guest(machine: GuestMachine) -> None:
    assert machine.ask("dial 4712 5001 echo") == [ECONNRESET]


def test_nobody_listens_in_the_guest(machine: GuestMachine) -> None:
    with pytest.raises(ConnectionResetError):
        machine.vsock.connect(5002)


def test_many_streams_at_once(machine: GuestMachine) -> None:
    data = pattern(200_000)
    socks = [machine.command("echo") for _ in range(32)]
    results: list[bool] = []
    threads = [
        threading.Thread(target=lambda s=sock: results.append(echo(s, data) == data))
        for sock in socks
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for sock in socks:
        sock.close()
    assert results == [True] * 32


def test_the_host_dies(machine: GuestMachine) -> None:
    """The guest reads end of file (0) and cannot write (EPIPE)."""
    with machine.vsock.listen(5003) as listener, machine.command("fate 5003") as report:
        accept(listener).close()
        assert report.recv(32) == b"0 32\n"
    Path(f"{machine.vsock.base}_5003").unlink()


def test_a_stalled_reader_holds_up_nobody(machine: GuestMachine) -> None:
    with machine.command(f"source {4 * MIB}") as stalled:
        with machine.command(f"source {8 * MIB}") as other:
            assert read_all(other) == pattern(8 * MIB)
        assert read_all(stalled) == pattern(4 * MIB)


def test_a_flood_of_connections_has_an_end(machine: GuestMachine) -> None:
    with machine.vsock.listen(5004) as listener:
        listener.listen(4096)
        count = CONNECTIONS_MAX + 50
        with machine.command(f"flood {count << 16 | 5004}") as sock:
            good = int(sock.recv(16))
        # the command's own connection takes one place
        assert good == CONNECTIONS_MAX - 1
    Path(f"{machine.vsock.base}_5004").unlink()
    with insist(machine, f"source {MIB}") as sock:
        assert read_all(sock) == pattern(MIB)


def insist(machine: GuestMachine, line: str) -> socket.socket:
    """Commands until the guest has closed enough connections to leave room for one more."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return machine.command(line)
        except ConnectionResetError:
            assert time.monotonic() < deadline


def test_a_pause_in_the_middle(machine: GuestMachine) -> None:
    with machine.command(f"source {8 * MIB}") as sock:
        first = sock.recv(MIB)
        machine.qmp("stop")
        machine.qmp("cont")
        assert first + read_all(sock) == pattern(8 * MIB)


@pytest.mark.parametrize("way", ["reboot", "system_reset"])
def test_a_reboot(machine: GuestMachine, way: str) -> None:
    with machine.command("hold") as held:
        if way == "reboot":
            machine.command("reboot").close()
        else:
            machine.qmp("system_reset")
        machine.wait_reboot()
        with pytest.raises(ConnectionResetError):
            held.recv(1)
    with machine.command(f"source {MIB}") as sock:
        assert read_all(sock) == pattern(MIB)
