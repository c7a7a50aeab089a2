"""A guest for tests: a real kernel with a small C program as its only process, on QEMU, with the user-space device."""

import os
import selectors
import socket
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from avf.image import Cpio, default_cache, fetch_kernel, module_closure, read_module
from avf.vmm.tsc import tsc_khz
from avf.vsock import HybridVsock, device_command

COMMAND_PORT = 1000
CID = 4711

_AGENT = Path(__file__).with_name("agent.c")
_MODULES = ("virtio_mmio", "virtio_pci", "vmw_vsock_virtio_transport")
_BOOT_SECONDS = 120.0
_BOARDS = {
    "microvm": [
        *("-M", "microvm,pit=on,pic=on,rtc=on,isa-serial=on,memory-backend=mem"),
        *("-global", "virtio-mmio.force-legacy=false"),
        *("-device", "vhost-user-vsock-device,chardev=vs"),
    ],
    "q35": ["-M", "q35,memory-backend=mem", "-device", "vhost-user-vsock-pci,chardev=vs"],
}


def build_initrd(directory: Path) -> tuple[Path, Path]:
    """Compiles the agent and packs it with its modules; returns kernel and initrd."""
    kernel = fetch_kernel(default_cache())
    program = directory / "agent"
    subprocess.run(["gcc", "-O1", "-Wall", "-static", "-o", program, _AGENT], check=True)
    archive = Cpio()
    archive.file("init", program.read_bytes(), 0o755)
    archive.directory("dev")
    for index, module in enumerate(module_closure(kernel, _MODULES)):
        archive.file(f"modules/{index:02}.ko", read_module(module))
    initrd = directory / "initrd"
    initrd.write_bytes(archive.to_bytes())
    return kernel.vmlinux, initrd


class GuestMachine:
    """One running guest; a context manager that leaves no process behind."""

    def __init__(self, board: str, kernel: Path, initrd: Path) -> None:
        with ExitStack() as stack:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            self.host_dir = directory / "host"
            self.host_dir.mkdir()
            self.vsock = HybridVsock(CID, directory / "vsock")
            self._console = bytearray()
            front, back = socket.socketpair()
            with front, back:
                self.device = self._spawn_device(stack, back)
                self.qemu = self._spawn_qemu(stack, board, front, kernel, initrd)
            self._wait_for(b"agent ready")
            self._stack = stack.pop_all()

    def __enter__(self) -> "GuestMachine":
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def command(self, line: str, timeout: float = 60.0) -> socket.socket:
        """A connection on which the guest does what `line` says."""
        sock = self.vsock.connect(COMMAND_PORT, timeout)
        sock.settimeout(timeout)
        sock.sendall(line.encode() + b"\n")
        return sock

    def ask(self, line: str) -> list[int]:
        """The numbers the guest answers to `line`."""
        with self.command(line) as sock, sock.makefile() as answer:
            return [int(word) for word in answer.readline().split()]

    def qmp(self, command: str) -> None:
        """Runs one QMP command."""
        self._monitor.write(b'{"execute": "%s"}\n' % command.encode())
        self._monitor.flush()
        while b'"return"' not in self._monitor.readline():
            pass

    def wait_reboot(self) -> None:
        """Waits until the agent is ready once more."""
        self._console.clear()
        self._wait_for(b"agent ready")

    def _spawn_device(self, stack: ExitStack, control: socket.socket) -> "subprocess.Popen[bytes]":
        ready, report = os.pipe()
        command = device_command(
            control.fileno(), self.vsock.base, CID, [self.host_dir], ready_fd=report
        )
        try:
            device = subprocess.Popen(
                command, pass_fds=[control.fileno(), report], stderr=subprocess.PIPE
            )
        finally:
            os.close(report)
        stack.callback(_end, device)
        assert os.read(ready, 1) == b"1"
        os.close(ready)
        return device

    def _spawn_qemu(
        self, stack: ExitStack, board: str, front: socket.socket, kernel: Path, initrd: Path
    ) -> "subprocess.Popen[bytes]":
        ours, theirs = socket.socketpair()
        with theirs:
            qemu = subprocess.Popen(
                [
                    *("qemu-system-x86_64", "-accel", "tcg", "-cpu", "qemu64,+rdrand"),
                    *("-object", "memory-backend-memfd,id=mem,size=256M,share=on", "-m", "256"),
                    *("-chardev", f"socket,id=vs,fd={front.fileno()}", *_BOARDS[board]),
                    *(
                        "-chardev",
                        f"socket,id=qmp,fd={theirs.fileno()}",
                        "-mon",
                        "qmp,mode=control",
                    ),
                    *("-nodefaults", "-no-user-config", "-nographic", "-serial", "stdio"),
                    *("-kernel", str(kernel), "-initrd", str(initrd), "-append", _parameters()),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=[front.fileno(), theirs.fileno()],
            )
        stack.callback(_end, qemu)
        stack.callback(ours.close)
        self._monitor = stack.enter_context(ours.makefile("rwb"))
        self.qmp("qmp_capabilities")
        return qemu

    def _wait_for(self, text: bytes) -> None:
        assert self.qemu.stdout is not None
        deadline = time.monotonic() + _BOOT_SECONDS
        with selectors.DefaultSelector() as selector:
            selector.register(self.qemu.stdout, selectors.EVENT_READ)
            while text not in self._console:
                if not selector.select(deadline - time.monotonic()):
                    raise TimeoutError(self._console.decode(errors="replace"))
                data = os.read(self.qemu.stdout.fileno(), 4096)
                if not data:
                    raise EOFError(self._console.decode(errors="replace"))
                self._console += data


def _parameters() -> str:
    return (
        f"console=ttyS0 quiet panic=-1 reboot=t tsc_early_khz={tsc_khz()} cryptomgr.notests"
        " mitigations=off nokaslr no_timer_check audit=0 ipv6.disable=1 nowatchdog"
    )


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()
