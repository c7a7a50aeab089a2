"""A client whose console input never ends, or is no stream at all: its VM and the others go on."""

import array
import fcntl
import os
import socket
import termios
import tracemalloc
from pathlib import Path

import pytest

from avf.aidl.virtualizationservice import IVirtualizationService
from avf.binder import ExceptionCode, ParcelFileDescriptor, RemoteException
from avf.virtmgr.output import VmOutput
from avf.virtmgr.typed import Typed
from tests.eventually import eventually
from tests.virtmgr.conftest import create, raw, root, virtmgr
from tests.virtmgr.test_create import app

__all__ = ["root", "virtmgr"]

PENDING = 256 << 10
"""What waits in the pipe to the VMM, and what was read for it, with room to spare."""


def test_input_that_no_guest_reads_waits_where_it_is() -> None:
    """An endless file fills one pipe and no more, and those who listen hear the console meanwhile."""
    tracemalloc.start()
    read_end, write_end = os.pipe()
    guest: list[int] = []
    with open("/dev/zero", "rb") as zero, open(read_end, "rb"), open(write_end, "wb"):
        before = tracemalloc.get_traced_memory()[0]
        output = VmOutput(console=True, log=False, typed=Typed(zero.fileno()))
        output.connect_input(lambda fd: guest.append(os.dup(fd)))
        eventually(lambda: waiting(guest[0]) > 0, True)
        with socket.socket(fileno=output.attach_console(live=True)) as listener:
            listener.settimeout(20)
            output.close()
            assert listener.recv(1) == b""
        assert waiting(guest[0]) <= PENDING
        assert tracemalloc.get_traced_memory()[0] - before <= PENDING
    tracemalloc.stop()
    os.close(guest[0])


def waiting(pipe: int) -> int:
    """Bytes in a pipe."""
    count = array.array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, count)
    return count[0]


@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_PATH, os.O_RDONLY | os.O_DIRECTORY])
def test_what_is_no_input_is_refused(
    root: IVirtualizationService, tmp_path: Path, flags: int
) -> None:
    (tmp_path / "file").touch()
    fd = os.open(tmp_path if flags & os.O_DIRECTORY else tmp_path / "file", flags)
    with ParcelFileDescriptor(fd) as typed, pytest.raises(RemoteException) as raised:
        root.create_vm_with_input(raw(tmp_path), None, typed, None)
    assert raised.value.message == "Failed to use consoleInFd: not open for reading"
    eventually(root.debug_list_vms, [])
    create(root, raw(tmp_path))


def test_nobody_types_into_a_vm_that_is_not_debuggable(
    root: IVirtualizationService, tmp_path: Path
) -> None:
    with (
        open(os.devnull, "rb") as null,
        ParcelFileDescriptor(os.dup(null.fileno())) as typed,
        pytest.raises(RemoteException) as raised,
    ):
        root.create_vm_with_input(app(tmp_path), None, typed, None)
    assert raised.value.code is ExceptionCode.SECURITY
    assert raised.value.message == "Can't type into non-debuggable VMs"
    eventually(root.debug_list_vms, [])
