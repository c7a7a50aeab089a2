"""Consoles: all that a guest says arrives, and others than its owner can speak to it."""

import contextlib
import os
import socket
from pathlib import Path

import pytest

from avf.vmm import Machine
from avf.vmm.outlets import Outlet, open_outlet
from avf.vmm.qemu import devices
from tests.vmm.guest import running

BOARDS = pytest.mark.parametrize("machine", list(Machine))
BURST = 4 << 20
ASKS = f"""
echo tell me > /dev/hvc2
read answer < /dev/hvc0
echo "it said $answer" > /dev/hvc2
echo on-hvc0 > /dev/hvc0
echo on-ttyS0 > /dev/ttyS0
dd if=/dev/zero bs=4096 count={BURST // 4096} of=/dev/hvc2
"""


@pytest.mark.vm
@BOARDS
def test_input_and_a_burst_of_output(tmp_path: Path, machine: Machine) -> None:
    """A burst fills every pipe on its way. An input changes nothing for the owner of the console."""
    with contextlib.ExitStack() as stack:
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        stack.callback(os.close, write_end)
        guest = stack.enter_context(running(ASKS, tmp_path, machine=machine))
        guest.log.wait_for(b"tell me")
        guest.process.set_console_input(read_end)
        os.close(read_end)
        os.write(write_end, b"hello\n")
        guest.end()
        log = guest.log.all()
        assert b"it said hello\n" in log
        assert log.count(b"\0") == BURST
        assert b"on-hvc0\n" in guest.console.all()
        assert b"on-ttyS0\n" in guest.console.all()


def test_the_arguments_of_a_copy() -> None:
    assert " ".join(devices.chardev("log", Outlet(7, is_socket=True, copy=8))) == (
        "-add-fd set=8,fd=8 -chardev socket,id=log,fd=7,logfile=/dev/fdset/8,logappend=on"
    )


def test_only_a_socket_is_copied(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, contextlib.ExitStack() as stack, open(tmp_path / "file", "wb") as file:
        fd = file.fileno()
        assert open_outlet(None, "console", stack, copy=fd).fds == []
        assert len(open_outlet(fd, "console", stack, copy=fd).fds) == 1
        assert len(open_outlet(ours.fileno(), "console", stack, copy=fd).fds) == 2
