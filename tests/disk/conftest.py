"""What the disk tests share: files made on the spot, and a QEMU without a guest that exports its nodes."""

import contextlib
import json
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from avf.disk import Disk, QemuDisk, qemu_disk
from avf.vmm.base import Machine
from avf.vmm.qemu.devices import disk as disk_arguments
from tests.programs import path_of

MakeFile = Callable[..., int]


@pytest.fixture
def make_file(tmp_path: Path) -> Iterator[MakeFile]:
    """make_file(content=b"", size=None, flags=O_RDWR) -> descriptor, closed at the end of the test."""
    with contextlib.ExitStack() as stack:

        def make(content: bytes = b"", size: int | None = None, flags: int = os.O_RDWR) -> int:
            path = tmp_path / f"file{len(list(tmp_path.iterdir()))}"
            path.write_bytes(content)
            if size is not None:
                os.truncate(path, size)
            fd = os.open(path, flags | os.O_CLOEXEC)
            stack.callback(os.close, fd)
            return fd

        yield make


def name_of(fd: int) -> str:
    return str(Path(f"/proc/self/fd/{fd}").readlink())


def run(*command: str, check: bool = True) -> str:
    """Runs a foreign tool and returns everything it printed."""
    result = subprocess.run(
        (path_of(command[0]), *command[1:]),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    assert not check or result.returncode == 0, result.stdout
    return result.stdout


class ExportError(Exception):
    """QEMU did not start; the message is what it said."""


class Exporter:
    """A QEMU that runs no guest and exports one disk, opened by exactly the arguments a VM would get, over NBD."""

    def __init__(self, disk: Disk, directory: Path) -> None:
        self._socket = directory / "nbd"
        with contextlib.ExitStack() as stack:
            nodes = qemu_disk(disk, "d", stack)
            self._start(nodes)
        if not self._file.readline():
            self.close()
            raise ExportError(self._errors)
        self._execute("qmp_capabilities")
        address = {"type": "unix", "data": {"path": str(self._socket)}}
        self._execute("nbd-server-start", addr=address)
        export = {"id": "x", "node-name": "d", "name": "d", "type": "nbd"}
        self._execute("block-export-add", **export, writable=nodes.writable)

    @property
    def url(self) -> str:
        return f"nbd+unix:///d?socket={self._socket}"

    def read_all(self, target: Path) -> bytes:
        run("qemu-img", "convert", "-f", "raw", "-O", "raw", self.url, str(target))
        return target.read_bytes()

    def io(self, *commands: str) -> str:
        arguments = [part for command in commands for part in ("-c", command)]
        return run("qemu-io", "-f", "raw", *arguments, self.url, check=False)

    def close(self) -> None:
        if self._process.returncode is not None:
            return
        self._process.kill()
        self._errors = self._process.communicate()[1].decode()
        self._file.close()
        self._qmp.close()

    def _start(self, nodes: QemuDisk) -> None:
        self._qmp, theirs = socket.socketpair()
        self._file = self._qmp.makefile("rw")
        with theirs:
            arguments = disk_arguments(nodes, Machine.PCI)[:-2]  # no device: there is no guest
            self._process = subprocess.Popen(
                ["qemu-system-x86_64", "-machine", "none", "-nodefaults", "-display", "none",
                 "-chardev", f"socket,id=q,fd={theirs.fileno()}", "-mon", "chardev=q,mode=control",
                 *arguments],
                pass_fds=[theirs.fileno(), *nodes.fds],
                stdin=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )  # fmt: skip

    def _execute(self, command: str, **arguments: object) -> None:
        self._file.write(json.dumps({"execute": command, "arguments": arguments}))
        self._file.flush()
        while "event" in (answer := json.loads(self._file.readline())):
            pass
        assert "return" in answer, answer


@pytest.fixture
def export(tmp_path: Path) -> Iterator[Callable[[Disk], Exporter]]:
    with contextlib.ExitStack() as stack:

        def start(disk: Disk) -> Exporter:
            exporter = Exporter(disk, tmp_path)
            stack.callback(exporter.close)
            return exporter

        yield start
