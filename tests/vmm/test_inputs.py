"""Descriptors on their way to a VMM: outlets, kernels and firmware."""

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from avf.disk import ImageDisk
from avf.vmm import Qemu, VmmStartError, VmmUnavailable, VmSpec
from avf.vmm.images import open_firmware, open_image
from avf.vmm.outlets import NOWHERE, open_outlet
from avf.vsock import HybridVsock, KernelVsock

pytestmark = pytest.mark.usefixtures("nothing_is_left")


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


def test_nowhere(stack: contextlib.ExitStack) -> None:
    assert open_outlet(None, "log", stack) is NOWHERE


def test_a_pipe_is_opened_anew(stack: contextlib.ExitStack) -> None:
    """The VMM's own description blocks, whatever the giver's does."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    stack.callback(os.close, read)
    stack.callback(os.close, write)
    outlet = open_outlet(write, "console", stack)
    assert outlet.fd is not None and not outlet.is_socket
    assert os.get_blocking(outlet.fd) and not os.get_blocking(write)
    os.write(outlet.fd, b"x")
    assert os.read(read, 9) == b"x"


def test_a_file_is_appended_to(stack: contextlib.ExitStack, tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"old ")
    with open(tmp_path / "log", "r+b") as file:
        outlet = open_outlet(file.fileno(), "log", stack)
        assert outlet.fd is not None
        os.write(outlet.fd, b"new")
    assert (tmp_path / "log").read_bytes() == b"old new"


def test_a_terminal(stack: contextlib.ExitStack) -> None:
    master, terminal = os.openpty()
    stack.callback(os.close, master)
    stack.callback(os.close, terminal)
    outlet = open_outlet(terminal, "console", stack)
    assert outlet.fd is not None
    os.write(outlet.fd, b"x")
    assert os.read(master, 9) == b"x"


def test_a_socket(stack: contextlib.ExitStack) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        outlet = open_outlet(theirs.fileno(), "console", stack)
        assert outlet.is_socket and outlet.fd != theirs.fileno()


def test_what_cannot_be_written_to(stack: contextlib.ExitStack, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "file", tmp_path):
        fd = os.open(path, os.O_RDONLY)
        stack.callback(os.close, fd)
        with pytest.raises(VmmStartError, match="console descriptor is not open for writing"):
            open_outlet(fd, "console", stack)
    with pytest.raises(VmmStartError, match="Bad file descriptor"):
        open_outlet(1 << 20, "console", stack)


@pytest.mark.usefixtures("several_uids")
def test_another_users_kernel_is_copied(tmp_path: Path) -> None:
    program = (
        "import contextlib, os, sys; from avf.vmm.images import open_image; fd = int(sys.argv[1])\n"
        "os.setuid(65534)\n"
        "with contextlib.ExitStack() as stack:\n"
        "    copy = open_image(fd, 'kernel', stack)\n"
        "    print(os.readlink(f'/proc/self/fd/{copy}'), os.pread(copy, 9, 0))"
    )
    path = tmp_path / "kernel"
    path.write_bytes(b"kernel")
    path.chmod(0o600)
    with open(path, "rb") as file:
        command = [sys.executable, "-c", program, str(file.fileno())]
        result = subprocess.run(
            command, pass_fds=[file.fileno()], capture_output=True, text=True, check=True
        )
    assert result.stdout == "/memfd:avf-kernel (deleted) b'kernel'\n"


@pytest.mark.parametrize(("size", "padded"), [(65536, 65536), (1, 65536), (100_000, 131_072)])
def test_firmware_ends_at_the_reset_vector(
    stack: contextlib.ExitStack, tmp_path: Path, size: int, padded: int
) -> None:
    (tmp_path / "bios").write_bytes(b"F" * size)
    with open(tmp_path / "bios", "rb") as file:
        fd = open_firmware(file.fileno(), stack)
    assert os.pread(fd, 1 << 20, 0) == b"\xff" * (padded - size) + b"F" * size


def test_firmware_sizes(stack: contextlib.ExitStack, tmp_path: Path) -> None:
    with open(tmp_path / "bios", "w+b") as file:
        for size in (0, (16 << 20) + 1):
            file.truncate(size)
            with pytest.raises(VmmStartError, match="bootloader has"):
                open_firmware(file.fileno(), stack)


def test_kernels_are_not_copied(stack: contextlib.ExitStack, tmp_path: Path) -> None:
    (tmp_path / "kernel").write_bytes(b"k")
    with open(tmp_path / "kernel", "rb") as file:
        fd = open_image(file.fileno(), "kernel", stack)
        assert fd != file.fileno()
        assert os.path.sameopenfile(fd, file.fileno())


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"kernel": None}, VmmStartError, "neither a kernel nor a bootloader"),
        ({"protected": True}, VmmUnavailable, "protected"),
        ({"kernel": 1 << 20}, VmmStartError, "cannot open the kernel"),
        ({"console": 1 << 20}, VmmStartError, "console"),
        ({"disks": (ImageDisk(1 << 20),)}, VmmStartError, "."),
        ({"vsock": KernelVsock(2048)}, VmmUnavailable, "/dev/vhost-vsock"),
        ({"name": "a\0b"}, VmmStartError, "NUL"),
        ({"disks": (ImageDisk(0),) * 27}, VmmStartError, "27 disks; QEMU takes 26"),
    ],
)
def test_starts_that_fail_leave_nothing(
    tmp_path: Path, change: dict[str, object], error: type[Exception], message: str
) -> None:
    (tmp_path / "kernel").write_bytes(b"k")
    with open(tmp_path / "kernel", "rb") as file:
        values: dict[str, object] = {
            "cid": 2048,
            "name": "vm",
            "temporary_directory": tmp_path,
            "vsock": HybridVsock(2048, tmp_path / "vsock"),
            "kernel": file.fileno(),
        }
        with pytest.raises(error, match=message):
            Qemu().start(VmSpec(**values | change))  # type: ignore[arg-type]


def test_without_qemu(tmp_path: Path) -> None:
    vsock = HybridVsock(2048, tmp_path / "vsock")
    with open(os.devnull, "rb") as kernel:
        spec = VmSpec(2048, "vm", tmp_path, vsock, kernel=kernel.fileno())
        with pytest.raises(VmmUnavailable, match="no-such-qemu"):
            Qemu("no-such-qemu").start(spec)
