"""Files that are none, where a client or an APK gives one: each is refused by name, and holds up nobody."""

import fcntl
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest

from avf.aidl.virtualizationservice import (
    DiskImage,
    IVirtualizationService,
    Partition,
    VirtualMachineConfig,
)
from avf.apk import ApkBuilder, SigningKey
from avf.binder import ParcelFileDescriptor, RemoteException, release
from avf.client import ConfigError
from avf.client.config import open_file
from avf.virtmgr.atoms import AtomSender
from avf.virtmgr.create import VmCreation
from avf.virtmgr.errors import VirtmgrError
from avf.virtmgr.global_service import GlobalService
from avf.virtmgr.opening import open_regular
from avf.virtmgr.service import VirtualizationService
from tests.eventually import eventually
from tests.virtmgr.conftest import create, opened, raw, root, virtmgr
from tests.virtmgr.test_create import app, config_path, image

__all__ = ["root", "virtmgr"]

TIMEOUT = 20


def fifo(folder: Path) -> int:
    os.mkfifo(folder / "fifo")
    return os.open(folder / "fifo", os.O_RDWR | os.O_NONBLOCK)


def socket_end(_: Path) -> int:
    one, other = socket.socketpair()
    other.close()
    return one.detach()


KINDS: dict[str, tuple[Callable[[Path], int], str]] = {
    "FIFO": (fifo, "is a FIFO, not a regular file"),
    "pipe": (lambda _: os.pipe()[0], "is a FIFO, not a regular file"),
    "directory": (lambda folder: os.open(folder, os.O_RDONLY), "is a directory, not"),
    "socket": (socket_end, "is a socket, not"),
    "endless device": (lambda _: os.open("/dev/zero", os.O_RDWR), "is a character device, not"),
    "write-only": (
        lambda folder: os.open(folder / "w", os.O_WRONLY | os.O_CREAT),
        "is not open for reading",
    ),
    "no more than a path": (
        lambda folder: os.open(folder / "file", os.O_PATH),
        "is not open for reading",
    ),
}


def in_app(field: str) -> Callable[[Path, ParcelFileDescriptor], VirtualMachineConfig]:
    return lambda folder, file: app(folder, **{field: file})


def in_raw(field: str) -> Callable[[Path, ParcelFileDescriptor], VirtualMachineConfig]:
    return lambda folder, file: raw(folder, **{field: file})


FIELDS: dict[str, Callable[[Path, ParcelFileDescriptor], VirtualMachineConfig]] = {
    "apk": in_app("apk"),
    "idsig": in_app("idsig"),
    "instanceImage": in_app("instance_image"),
    "encryptedStorageImage": in_app("encrypted_storage_image"),
    "extraIdsigs[0]": lambda folder, file: app(folder, extra_idsigs=[file]),
    "kernel": in_raw("kernel"),
    "initrd": in_raw("initrd"),
    "bootloader": in_raw("bootloader"),
    "disks[0].image": lambda folder, file: raw(folder, disks=[DiskImage(image=file)]),
    "disks[0]: the image of partition 'p'": lambda folder, file: raw(
        folder, disks=[DiskImage(partitions=[Partition(label="p", image=file)])]
    ),
}


@pytest.mark.parametrize("field", FIELDS)
def test_a_descriptor_that_shows_no_file_is_refused_by_its_field(
    root: IVirtualizationService, tmp_path: Path, field: str
) -> None:
    for number, (make, message) in enumerate(KINDS.values()):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "file").touch()
        config = FIELDS[field](folder, ParcelFileDescriptor(make(folder)))
        with pytest.raises(RemoteException) as raised:
            create(root, config)
        assert f"{field} {message}" in raised.value.message
    eventually(root.debug_list_vms, [])


def signed(path: Path, extra_apk: str | None = None) -> Path:
    builder = ApkBuilder()
    if extra_apk is not None:
        config = f'{{"task": {{"command": "x"}}, "extra_apks": [{{"path": "{extra_apk}"}}]}}'
        builder.add("config.json", config.encode())
    with path.open("w+b") as file:
        builder.build(file, SigningKey.generate())
    return path


def naming(folder: Path, extra_apk: Path | str) -> VirtualMachineConfig:
    """An app whose APK names that extra APK."""
    apk = signed(folder / "naming.apk", str(extra_apk))
    return app(
        folder,
        apk=opened(apk),
        extra_idsigs=[image(folder, "extra.idsig")],
        **config_path("config.json"),
    )


def a_fifo(folder: Path) -> Path:
    os.mkfifo(folder / "fifo")
    return folder / "fifo"


def a_socket(folder: Path) -> Path:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(folder / "socket"))
    return folder / "socket"


def a_secret(folder: Path) -> Path:
    (folder / "id_rsa").write_text("PRIVATE KEY" * 1000)
    return folder / "id_rsa"


def a_tampered_apk(folder: Path) -> Path:
    path = signed(folder / "tampered.apk", "/x")
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (a_fifo, "is a FIFO"),
        (a_socket, "is a socket"),
        (lambda folder: folder, "is a directory"),
        (lambda _: Path("/dev/zero"), "is a character device"),
        (lambda _: Path("/dev/tty"), "is a character device"),
        (lambda folder: folder / "missing", "No such file"),
        (a_secret, "Failed to verify the extra apk #0"),
        (a_tampered_apk, "Failed to verify the extra apk #0"),
        (lambda _: Path("/proc/self/status"), "Failed to verify the extra apk #0"),
        (lambda _: Path("/proc/self/environ"), "the extra apk #0 /proc/self/environ"),
    ],
    ids=lambda value: getattr(value, "__name__", None) or value,
)
def test_an_apk_names_what_is_no_apk(
    root: IVirtualizationService,
    tmp_path: Path,
    make: Callable[[Path], Path],
    message: str,
) -> None:
    path = make(tmp_path)
    with pytest.raises(RemoteException) as raised:
        create(root, naming(tmp_path, path))
    assert "the extra apk #0" in raised.value.message
    assert str(path) in raised.value.message
    assert message in raised.value.message
    release(create(root, app(tmp_path)))


def test_an_apk_that_is_one_may_be_named(root: IVirtualizationService, tmp_path: Path) -> None:
    release(create(root, naming(tmp_path, signed(tmp_path / "extra.apk"))))


@pytest.fixture
def leased(tmp_path: Path) -> Iterator[Path]:
    """A file whose opening waits for this process to give up a lease, which it does not."""
    path = tmp_path / "leased"
    path.touch()
    former = signal.signal(signal.SIGIO, signal.SIG_IGN)
    with path.open("r+b") as file:
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        yield path
    signal.signal(signal.SIGIO, former)


def test_no_open_waits_for_another_process(leased: Path, root: IVirtualizationService) -> None:
    with pytest.raises(RemoteException, match="Resource temporarily unavailable"):
        create(root, naming(leased.parent, leased))


def test_what_is_opened_is_read_as_usual(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"text")
    fd = open_regular(path, "it")
    try:
        assert os.get_blocking(fd) and not os.get_inheritable(fd)
        assert os.read(fd, 9) == b"text"
    finally:
        os.close(fd)
    with pytest.raises(VirtmgrError, match="Failed to open it"):
        open_regular("a\0b", "it")


def test_a_client_that_names_a_fifo_does_not_wait_for_its_other_end(tmp_path: Path) -> None:
    open_file(a_fifo(tmp_path), "kernel").close()
    with pytest.raises(ConfigError, match="kernel"):
        open_file(a_socket(tmp_path), "kernel")


def test_a_create_vm_that_hangs_holds_up_no_other(
    monkeypatch: pytest.MonkeyPatch, runtime_dir: Path
) -> None:
    """As one does whose file lies on a file system that does not answer."""
    entered, go_on = threading.Event(), threading.Event()

    def run(self: VmCreation, config: VirtualMachineConfig, *_: object) -> object:
        if config.raw_config.name == "hangs":
            entered.set()
            go_on.wait(TIMEOUT)
        raise RemoteException.illegal_argument(config.raw_config.name)

    monkeypatch.setattr(VmCreation, "run", run)
    atoms = Mock(AtomSender)
    service = VirtualizationService(GlobalService(), atoms)

    def create_named(name: str) -> None:
        config = raw(runtime_dir, name=name)
        with pytest.raises(RemoteException, match=name):
            service.create_vm(config, None, None)

    hanging = threading.Thread(target=create_named, args=("hangs",))
    hanging.start()
    assert entered.wait(TIMEOUT)
    create_named("next")
    assert hanging.is_alive()
    go_on.set()
    eventually(hanging.is_alive, False)
    assert atoms.send.call_count == 2
