"""The last steps before a clone shares memory, with other programs in QEMU's place."""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from avf.confine import Child
from avf.vmm.base import VmmControlError
from avf.vmm.qemu.sharing import Sharing


class Other:
    """A program that has a memory file open, and waits; or has ended and is a zombie."""

    def __init__(self, memory: int) -> None:
        self.process = subprocess.Popen(
            ["/bin/cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, pass_fds=[memory]
        )
        self.pid = self.process.pid
        self.lending = True

    def end_lending(self) -> None:
        self.lending = False

    def end(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)


@pytest.fixture
def memory() -> Iterator[int]:
    fd = os.memfd_create("memory", os.MFD_CLOEXEC)
    yield fd
    os.close(fd)


@pytest.fixture
def other(memory: int) -> Iterator[Other]:
    other = Other(memory)
    yield other
    other.process.kill()
    other.process.communicate()


def sharing(other: Other, memory: int, number: int, lender: socket.socket | None = None) -> Sharing:
    return Sharing(cast("Child", cast("Any", other)), memory, number, lender)


def test_the_device_is_lent_the_memory_of_that_process(other: Other, memory: int) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        sharing(other, memory, memory, ours).settle()
        _, (lent,), _, _ = socket.recv_fds(theirs, 1, 1)
        start = int(Path(f"/proc/{other.pid}/maps").read_text().partition("-")[0], 16)
        assert os.pread(lent, 4, start) == b"\x7fELF"
        os.close(lent)
        assert theirs.recv(1) == b""
    assert not other.lending


@pytest.mark.parametrize("number", [0, 999])
def test_another_file_under_that_number_is_a_problem(
    other: Other, memory: int, number: int
) -> None:
    found = sharing(other, memory, number)
    with pytest.raises(VmmControlError, match=f"as descriptor {number}"):
        found.settle()
    assert found.problem is not None


def test_a_process_that_has_ended_is_no_problem_of_the_host(other: Other, memory: int) -> None:
    other.end()
    found = sharing(other, memory, memory)
    with pytest.raises(VmmControlError, match="QEMU has ended"):
        found.settle()
    assert found.problem is None
    found.close()
    assert not other.lending
