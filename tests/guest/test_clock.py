"""The guest's clock and the host's."""

import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from avf.apk import ApkBuilder, SigningKey
from avf.guest import clock, libc
from avf.guest.clock import Reading, correct, read_offset
from avf.image import Image
from tests.conftest import children, command_line
from tests.guest.machine import TIMEOUT, App, RecordingService, machine, make_app

MS = 1_000_000
BOUND = 50 * MS
PAUSE_SECONDS = 10
STEP_SECONDS = 3600
BUSY = "while True: pass"


class Exchanges:
    """A host whose answers take so many milliseconds, one after the other, half of it on each way."""

    def __init__(self, *durations: int, ahead: int = 0) -> None:
        self.durations = list(durations)
        self.ahead = ahead
        self.now = 1_700_000_000_000 * MS
        self.asked = 0

    def ask(self) -> int:
        half = self.durations[min(self.asked, len(self.durations) - 1)] * MS // 2
        self.asked += 1
        self.now += half
        answer = self.now + self.ahead
        self.now += half
        return answer

    def read(self) -> Reading:
        return read_offset(self.ask, lambda: self.now)


def test_a_quick_answer_is_enough() -> None:
    host = Exchanges(2, ahead=-7)
    assert host.read() == (-7, MS)
    assert host.asked == 1


def test_the_quickest_of_slow_answers_counts() -> None:
    host = Exchanges(60, 40, 20, 80, ahead=500)
    assert host.read() == (500, 10 * MS)
    assert host.asked < 10


@pytest.mark.parametrize("answer", [-1, 0, 1 << 62])
def test_what_is_no_time_is_refused(answer: int) -> None:
    with pytest.raises(ValueError, match="since 1970"):
        read_offset(lambda: answer)


@pytest.mark.parametrize(
    ("offset", "error", "first", "done"),
    [
        (3_600_000, 1, False, "step"),
        (-3_600_000, 1, False, "step"),
        (15, 1, False, "steer"),
        (15, 1, True, "step"),
        (15, 18, False, "steer"),
        (100, 90, False, None),
        (110, 30, False, "step"),
        (30, 30, True, None),
    ],
)
def test_the_clock_is_set_only_where_it_is_surely_wrong(
    monkeypatch: pytest.MonkeyPatch, offset: int, error: int, first: bool, done: str | None
) -> None:
    calls: list[tuple[str, int]] = []
    monkeypatch.setattr(libc, "step_clock", lambda by, _: calls.append(("step", by)))
    monkeypatch.setattr(libc, "steer_clock", lambda by, _: calls.append(("steer", by)))
    correct(Reading(offset * MS, error * MS), first=first)
    assert calls == ([(done, offset * MS)] if done else [])


class ShiftingHost(RecordingService):
    """A host whose clock can be set."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = 0

    def get_time(self) -> int:
        return time.time_ns() + self.shift


class Comparison(NamedTuple):
    """Nanoseconds: by how much the guest's clocks surely differ, and what its monotonic clock said."""

    surely_out: int
    monotonic_offset: int
    error: int


def compare(stream: socket.socket, shift: int = 0) -> Comparison:
    """By Cristian's algorithm: of several exchanges the quickest, half of whose duration may be its error."""
    best: Comparison | None = None
    for _ in range(20):
        before, monotonic = time.time_ns(), time.monotonic_ns()
        stream.sendall(b"?")
        realtime, guest_monotonic = struct.unpack("<QQ", stream.recv(16, socket.MSG_WAITALL))
        error = (time.monotonic_ns() - monotonic) // 2
        offset = abs(realtime - (before + error + shift)) - error
        if best is None or error < best.error:
            best = Comparison(max(0, offset), guest_monotonic - monotonic - error, error)
    assert best is not None
    return best


@contextmanager
def busy_host() -> Iterator[None]:
    """Two processes for each processor that want all of it."""
    with ExitStack() as stack:
        for _ in range(2 * (os.cpu_count() or 1)):
            process = stack.enter_context(subprocess.Popen([sys.executable, "-c", BUSY]))
            stack.callback(process.kill)
        yield


def qemu_of(pid: int) -> int:
    """The pid of QEMU, whose sandbox may have been built by a process of its own."""
    name = Path(command_line(pid).split(" ", 1)[0]).name
    return pid if name.startswith("qemu") else qemu_of(children(pid)[0])


@pytest.mark.vm
def test_a_guest_keeps_its_hosts_time(image_dir: Path, tmp_path: Path) -> None:
    """While the host is busy, after QEMU was stopped, and when the host's clock is set."""
    apk = ApkBuilder("com.example.clock")
    apk.add("bin/clock.py", Path(__file__).parent / "payload/clock.py")
    app: App = make_app(tmp_path, apk, SigningKey.generate(), "clock.py")
    host = ShiftingHost()
    with machine(Image(image_dir), tmp_path, app, service=host) as running:
        assert host.ready.wait(TIMEOUT)
        with running.vsock.connect(5001) as stream:
            start = compare(stream)
            assert start.surely_out < BOUND
            with busy_host():
                time.sleep(PAUSE_SECONDS)  # the load itself is what is tested
                assert compare(stream).surely_out < BOUND
                pid = qemu_of(running.process.pid)
                os.kill(pid, signal.SIGSTOP)
                time.sleep(PAUSE_SECONDS)  # so is the pause
                os.kill(pid, signal.SIGCONT)
                end = compare(stream)
            assert end.surely_out < BOUND
            drift = abs(end.monotonic_offset - start.monotonic_offset)
            assert drift - start.error - end.error < BOUND

            for host.shift in (STEP_SECONDS * 1000 * MS, 0):
                deadline = time.monotonic() + 4 * clock.INTERVAL
                while compare(stream, host.shift).surely_out >= BOUND:
                    assert time.monotonic() < deadline, "the guest does not follow its host"
                    time.sleep(0.1)
