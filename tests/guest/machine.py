"""A host for tests: real QEMU, disks and vsock, and an IVirtualMachineService that writes down what it hears."""

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from avf.aidl.virtualizationcommon import ErrorCode
from avf.aidl.virtualmachineservice import IVirtualMachineService
from avf.apk import ApkBuilder, SigningKey, create_or_update_idsig
from avf.binder import Server
from avf.disk import (
    MetadataPartition,
    Partition,
    PartitionedDisk,
    PartitionKind,
    PayloadConfig,
    create_writable_partition,
)
from avf.image import Image
from avf.vmm import ExitReport, Machine, Qemu, VmProcess, VmSpec
from avf.vsock import HybridVsock

CID = 2049
TIMEOUT = 180


class RecordingService(IVirtualMachineService, partial=True):
    """Every notification in the order of arrival."""

    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []
        self.ready = threading.Event()

    def notify_payload_started(self) -> None:
        self.heard.append(("started",))

    def notify_payload_ready(self) -> None:
        self.heard.append(("ready",))
        self.ready.set()

    def notify_payload_finished(self, exit_code: int) -> None:
        self.heard.append(("finished", exit_code))

    def notify_error(self, error_code: ErrorCode, message: str) -> None:
        self.heard.append(("error", error_code, message))

    def get_time(self) -> int:
        return time.time_ns()


class Collector:
    """Takes everything that is sent to a listening socket, a text per connection."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._texts: list[str] = []
        self._thread = threading.Thread(target=self._collect)
        self._thread.start()

    def finish(self) -> list[str]:
        """What was sent until now; may be called again."""
        if self._listener.fileno() >= 0:
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        return self._texts

    def _collect(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # shut down
                return
            with connection, connection.makefile("rb") as stream:
                self._texts.append(stream.read().decode())


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is left of a machine."""

    heard: list[tuple[Any, ...]]
    report: ExitReport
    console: str
    log: str
    failure: str
    ramdump: str
    seconds: float
    tombstones: list[str]


@dataclass(frozen=True, slots=True)
class App:
    """What one VM instance is made from, in a folder of its own."""

    folder: Path
    metadata: MetadataPartition
    apk: Path
    extras: tuple[Path, ...] = ()
    storage: Path | None = None

    @property
    def instance(self) -> Path:
        return self.folder / "instance.img"

    def running(self, binary: str) -> "App":
        return replace(self, metadata=MetadataPartition(config=PayloadConfig(binary)))


def make_app(
    folder: Path, builder: ApkBuilder, key: SigningKey, binary: str, extras: tuple[Path, ...] = ()
) -> App:
    """Builds and signs the APK, makes the idsigs and a fresh instance image."""
    apk = build_apk(folder / "app.apk", builder, key)
    app = App(folder, MetadataPartition(config=PayloadConfig(binary)), apk, extras)
    make_instance(app)
    return app


def make_instance(app: App) -> None:
    """A fresh instance image, over the one that was there."""
    with app.instance.open("w+b") as file:
        create_writable_partition(file.fileno(), 1 << 20, PartitionKind.ANDROID_VM_INSTANCE)


def build_apk(path: Path, builder: ApkBuilder, key: SigningKey) -> Path:
    with path.open("w+b") as file:
        builder.build(file, key)
    refresh_idsig(path)
    return path


def refresh_idsig(apk: Path) -> None:
    with apk.open("rb") as file, idsig_of(apk).open("w+b") as idsig:
        create_or_update_idsig(file.fileno(), idsig.fileno())


def idsig_of(apk: Path) -> Path:
    return apk.with_name(f"{apk.name}.idsig")


@dataclass(slots=True)
class Running:
    """A machine that has been started."""

    process: VmProcess
    service: RecordingService
    vsock: HybridVsock
    folder: Path
    started: float
    tombstones: "Collector"

    def finish(self, timeout: float = TIMEOUT) -> Outcome:
        report = self.process.wait(timeout)
        seconds = time.monotonic() - self.started
        texts = [
            (self.folder / name).read_text(errors="replace")
            for name in ("console", "log", "failure", "ramdump")
        ]
        return Outcome(self.service.heard, report, *texts, seconds, self.tombstones.finish())


@contextmanager
def machine(
    image: Image,
    folder: Path,
    app: App | None,
    *,
    board: Machine = Machine.FAST,
    debuggable: bool = True,
    serve: bool = True,
    service: RecordingService | None = None,
    params: str = "",
    start: Callable[[VmSpec], VmProcess] | None = None,
) -> Iterator[Running]:
    """Starts a VM from `image`, `params` added to its kernel's parameters; kills what is left of it at the end.

    `app` None: a guest without disks; `start`: how, unless cold.
    """
    with ExitStack() as stack:

        def opened(path: Path, flags: int) -> int:
            fd = os.open(path, flags | os.O_CLOEXEC, 0o600)
            stack.callback(os.close, fd)
            return fd

        def output(name: str) -> int:
            return opened(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)

        system = Partition("system", opened(image.system, os.O_RDONLY))
        disks = (PartitionedDisk((system,)), *disks_of(app, opened)) if app else ()
        vsock = HybridVsock(CID, folder / "v")
        service = service or RecordingService()
        if serve:
            server = Server(service)
            stack.callback(server.shutdown)
            server.start(vsock.listen(CID))
        tombstones = Collector(vsock.listen(IVirtualMachineService.VM_TOMBSTONES_SERVICE_PORT))
        stack.callback(tombstones.finish)
        initrd = image.initrd_debuggable if debuggable else image.initrd_normal
        spec = VmSpec(
            cid=CID,
            name="test",
            temporary_directory=folder,
            vsock=vsock,
            kernel=opened(image.kernel, os.O_RDONLY),
            initrd=opened(initrd, os.O_RDONLY),
            params=f"{kernel_params(image, debuggable=debuggable)} {params}",
            disks=disks,
            image_disks=1 if app else 0,
            memory_mib=256,
            machine=board,
            console=output("console"),
            log=output("log"),
            failure=output("failure"),
            ramdump=output("ramdump"),
        )
        started = time.monotonic()
        process = (start or Qemu().start)(spec)
        stack.callback(process.wait, 10)
        stack.callback(process.kill)
        yield Running(process, service, vsock, folder, started, tombstones)


def kernel_params(image: Image, *, debuggable: bool) -> str:
    config = json.loads(image.config.read_bytes())
    return " ".join([config["params"], *([config["x-avf"]["debuggable_params"]] * debuggable)])


def disks_of(app: App, opened: Any) -> tuple[PartitionedDisk, ...]:
    """What the instance keeps; the payload."""
    metadata = app.folder / "metadata"
    metadata.write_bytes(app.metadata.encode())
    kept = [Partition("vm-instance", opened(app.instance, os.O_RDWR), True)]
    if app.storage:
        kept.append(Partition("encryptedstore", opened(app.storage, os.O_RDWR), True))

    def part(label: str, path: Path) -> Partition:
        return Partition(label, opened(path, os.O_RDONLY))

    payload = [
        part("payload-metadata", metadata),
        part("microdroid-apk", app.apk),
        part("microdroid-apk-idsig", idsig_of(app.apk)),
    ]
    for index, extra in enumerate(app.extras):
        payload += [
            part(f"extra-apk-{index}", extra),
            part(f"extra-idsig-{index}", idsig_of(extra)),
        ]
    return PartitionedDisk(tuple(kept), writable=True), PartitionedDisk(tuple(payload))
