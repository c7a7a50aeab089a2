"""What others than the owner of a console hear and say."""

import contextlib
import os
from pathlib import Path

import pytest

from avf.vmm import Machine
from avf.vmm.outlets import Outlet, open_outlet
from avf.vmm.qemu import devices
from tests.vmm.guest import Output, running

BOARDS = pytest.mark.parametrize("machine", list(Machine))
ASKS = """
echo tell me > /dev/hvc2
read answer < /dev/hvc0
echo "it said $answer" > /dev/hvc2
echo on-hvc0 > /dev/hvc0
echo on-ttyS0 > /dev/ttyS0
"""


@pytest.mark.vm
@BOARDS
def test_copies_and_input(tmp_path: Path, machine: Machine) -> None:
    """Copies hold what the owner gets, also after the console has got an input, which only hvc0 reads."""
    console, log = Output(), Output()
    with contextlib.ExitStack() as stack:
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        stack.callback(os.close, write_end)
        for output in (console, log):
            output.start()
        try:
            guest = stack.enter_context(
                running(
                    ASKS,
                    tmp_path,
                    machine=machine,
                    console_copy=console.write_end,
                    log_copy=log.write_end,
                )
            )
        finally:
            os.close(console.write_end)
            os.close(log.write_end)
        guest.log.wait_for(b"tell me")
        guest.process.set_console_input(read_end)
        os.close(read_end)
        os.write(write_end, b"hello\n")
        guest.end()
        assert guest.log.all() == log.all()
        assert b"it said hello\n" in log.all()
        assert guest.console.all() == console.all()
        assert b"on-hvc0\n" in console.all()
        assert b"on-ttyS0\n" in console.all()


def test_the_arguments_of_a_copy() -> None:
    assert " ".join(devices.chardev("log", Outlet(7, copy=8))) == (
        "-add-fd set=8,fd=8 -add-fd set=7,fd=7"
        " -chardev file,id=log,path=/dev/fdset/7,append=on,logfile=/dev/fdset/8,logappend=on"
    )
    assert " ".join(devices.chardev("log", Outlet(7, is_socket=True, copy=8))) == (
        "-add-fd set=8,fd=8 -chardev socket,id=log,fd=7,logfile=/dev/fdset/8,logappend=on"
    )


def test_a_copy_of_nothing_is_not_kept(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack, open(tmp_path / "copy", "wb") as copy:
        assert open_outlet(None, "console", stack, copy=copy.fileno()).fds == []
