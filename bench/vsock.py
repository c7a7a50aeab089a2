"""The user-space vsock device with a real guest on QEMU."""

import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from avf.vsock import device_command
from tests.vsock.guest.machine import GuestMachine, build_initrd

MIB = 1 << 20
BULK = 64 * MIB
ROUNDS = 300
STARTS = 5


def run() -> dict[str, float]:
    """MiB/s each way, round trips in microseconds (medians), the device's start and CPU time."""
    with tempfile.TemporaryDirectory() as directory:
        kernel, initrd = build_initrd(Path(directory))
        with GuestMachine("microvm", kernel, initrd) as machine:
            cpu = _cpu_seconds(machine.device.pid)
            figures = {
                "vsock.guest_to_host.mib_per_s": _guest_sends(machine),
                "vsock.host_to_guest.mib_per_s": _host_sends(machine),
                "vsock.round_trip.p50_us": _round_trip(machine),
            }
            used = _cpu_seconds(machine.device.pid) - cpu
    figures["vsock.device.cpu_s_per_100_mib"] = used * 100 * MIB / (2 * BULK)
    figures["vsock.device.start.p50_ms"] = _start()
    return figures


def _guest_sends(machine: GuestMachine) -> float:
    with machine.command(f"source {BULK}") as sock:
        return _rate(lambda: _drain(sock))


def _host_sends(machine: GuestMachine) -> float:
    with machine.command("sink") as sock:
        return _rate(lambda: _pour(sock))


def _round_trip(machine: GuestMachine) -> float:
    times = []
    with machine.command("echo") as sock:
        for _ in range(ROUNDS):
            begin = time.perf_counter()
            sock.sendall(b"x")
            sock.recv(1)
            times.append(time.perf_counter() - begin)
    return statistics.median(times) * 1e6


def _start() -> float:
    """From spawning the device until BASE listens."""
    times = []
    for _ in range(STARTS):
        ready, report = socket.socketpair()
        front, back = socket.socketpair()
        with tempfile.TemporaryDirectory() as directory, ready, front:
            with report, back:
                begin = time.perf_counter()
                fds = (back.fileno(), report.fileno())
                command = device_command(fds[0], Path(directory, "vsock"), 2048, ready_fd=fds[1])
                process = subprocess.Popen(command, pass_fds=fds)
            ready.recv(1)
            times.append(time.perf_counter() - begin)
            front.close()
            process.wait()
    return statistics.median(times) * 1e3


def _rate(transfer: Callable[[], object]) -> float:
    begin = time.perf_counter()
    transfer()
    return BULK / MIB / (time.perf_counter() - begin)


def _pour(sock: socket.socket) -> None:
    """Sends everything, and waits until the guest has counted it."""
    piece = bytes(MIB)
    for _ in range(BULK // MIB):
        sock.sendall(piece)
    sock.shutdown(socket.SHUT_WR)
    sock.recv(64)


def _drain(sock: socket.socket) -> None:
    while sock.recv(MIB):
        pass


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


if __name__ == "__main__":
    import json

    json.dump(run(), sys.stdout, indent=2, sort_keys=True)
