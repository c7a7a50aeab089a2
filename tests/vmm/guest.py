"""A guest made on the spot: the distribution's kernel, busybox, and a script that runs as its whole life."""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from avf.disk import Disk
from avf.image import Cpio, KernelFiles, fetch_kernel, module_closure, module_name, read_module
from avf.vmm import ExitReport, Machine, Qemu, VmProcess, VmSpec
from avf.vsock import HybridVsock

CID = 3000
PARAMS = "console=ttyS0 quiet panic=-1 reboot=t cryptomgr.notests mitigations=off"
TIMEOUT = 30
_CACHE = Path(__file__).parents[2] / "build/cache"
_MODULES = (
    "virtio_mmio",
    "virtio_pci",
    "virtio_blk",
    "virtio_console",
    "virtio_balloon",
    "virtio_rng",
    "pvpanic_mmio",
    "vmw_vsock_virtio_transport",
)
_PRELUDE = """#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /bin
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
for module in /modules/*; do insmod $module; done
until [ -e /sys/class/virtio-ports/vport0p2 ]; do usleep 10000; done
"""


def kernel() -> KernelFiles:
    return fetch_kernel(_CACHE)


def initrd(script: str) -> bytes:
    """An initramfs that loads the virtio drivers, runs `script` and then powers off."""
    archive = Cpio()
    archive.file("bin/busybox", Path("/bin/busybox").read_bytes(), 0o755)
    archive.character_device("dev/console", 5, 1)
    for number, path in enumerate(module_closure(kernel(), _MODULES)):
        archive.file(f"modules/{number:02}-{module_name(path)}", read_module(path))
    archive.file("init", f"{_PRELUDE}{script}\npoweroff -f\n".encode(), 0o755)
    return archive.to_bytes()


@dataclass
class Output:
    """What a guest writes to one of its ports: a pipe that a thread empties."""

    write_end: int = -1
    _data: bytearray = field(default_factory=bytearray)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _ended: bool = False

    def start(self) -> None:
        read_end, self.write_end = os.pipe2(os.O_CLOEXEC)
        self._thread = threading.Thread(target=self._pump, args=(read_end,))
        self._thread.start()

    def wait_for(self, text: bytes) -> None:
        with self._changed:
            self._changed.wait_for(lambda: text in self._data or self._ended, TIMEOUT)
            assert text in self._data, bytes(self._data)

    def all(self) -> bytes:
        """Everything, once every writer is gone."""
        self._thread.join(TIMEOUT)
        assert self._ended, "somebody still holds the write end"
        return bytes(self._data).replace(b"\r\n", b"\n")

    def _pump(self, read_end: int) -> None:
        with open(read_end, "rb", buffering=0) as file:
            while chunk := file.read(65536):
                with self._changed:
                    self._data += chunk
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()


@dataclass
class Guest:
    process: VmProcess
    directory: Path
    console: Output
    log: Output
    failure: Output
    ramdump: int
    events: list[str]

    def end(self) -> ExitReport:
        return self.process.wait(TIMEOUT)


@contextlib.contextmanager
def running(
    script: str,
    directory: Path,
    *,
    machine: Machine = Machine.FAST,
    disks: tuple[Disk, ...] = (),
    memory_mib: int | None = None,
    params: str = PARAMS,
    kernel_path: Path | None = None,
    gdb_listener: int | None = None,
    on_event: Callable[[str], None] | None = None,
) -> Iterator[Guest]:
    """Starts a guest; it is killed, and all it had is closed, when the context ends."""
    outputs = Output(), Output(), Output()
    events: list[str] = []
    with contextlib.ExitStack() as stack:
        initrd_file = stack.enter_context(open(directory / "initrd", "w+b"))
        initrd_file.write(initrd(script))
        initrd_file.flush()
        kernel_file = stack.enter_context(open(kernel_path or kernel().vmlinux, "rb"))
        ramdump = stack.enter_context(open(directory / "ramdump", "w+b"))
        for output in outputs:
            output.start()
            stack.callback(output.all)
        try:
            process = Qemu().start(
                VmSpec(
                    cid=CID,
                    name="test, with a comma",
                    temporary_directory=directory,
                    vsock=HybridVsock(CID, directory / "vsock"),
                    kernel=kernel_file.fileno(),
                    initrd=initrd_file.fileno(),
                    params=params,
                    disks=disks,
                    memory_mib=memory_mib,
                    gdb_listener=gdb_listener,
                    machine=machine,
                    console=outputs[0].write_end,
                    log=outputs[1].write_end,
                    failure=outputs[2].write_end,
                    ramdump=ramdump.fileno(),
                ),
                on_event or events.append,
            )
        finally:
            for output in outputs:
                os.close(output.write_end)
        try:
            yield Guest(process, directory, *outputs, ramdump.fileno(), events)
        finally:
            process.kill()
            process.wait(TIMEOUT)
