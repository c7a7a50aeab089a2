"""What a template does, and a clone that waits for its owner: most of what starting a payload takes, with things that
are made up.

The kernel makes ready what it needs for the first time, and keeps it. And an emulator translates the guest's code when
it runs first, which is most of the time that a start takes; a clone that has run it does not wait for that once it has
an owner. All is done in a child with its own memory, and what it makes in the kernel is removed: devices, mounts,
files. None of it is a secret or becomes a part of the VM's identity.
"""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from avf.aidl.vm_payload import IVmPayloadService
from avf.binder import FdMode, connect, unix
from avf.guest import libc, limits, own_pages, partitions, slots
from avf.guest.apk_mount import Apk, mount
from avf.guest.errors import GuestError
from avf.guest.host import connect_to_host
from avf.guest.identity import ApkData, PayloadIdentity
from avf.guest.instance import MAGIC, InstanceImage
from avf.guest.payload_service import PayloadService, serve
from avf.guest.process import Process, fork_helper
from avf.guest.record import SALT_SIZE, Record
from avf.guest.secrets import agent_cdi, instance_key, payload_inputs, payload_layer
from avf.guest.task import Kind, Program
from avf.guest.verity import (
    BLOCK,
    Target,
    VerityTable,
    attach_loop,
    create_device,
    detach_loop,
    remove_device,
)

FOLDER = "/run/rehearsal"
_DEVICE = "rehearsal"
_SCRIPT = b"import os\nos.environ['HOME']\n"
_STORED = 0o100755 << 16
_INSTANCE_SIZE = 1 << 16


def rehearse() -> None:
    """Never fails: what cannot be done now is done once there is an owner."""
    with suppress(OSError):
        os.waitpid(fork_helper(_rehearse_all), 0)


def rehearse_and_learn() -> list[own_pages.Range]:
    """Rehearses, and returns the ranges of memory that the rehearsal has written to."""

    def run() -> None:
        _rehearse_all()
        os.write(result, own_pages.pack(own_pages.written()))

    with suppress(OSError):
        result = os.memfd_create("avf-written")
        try:
            os.waitpid(fork_helper(run), 0)
            return own_pages.unpack(os.pread(result, os.fstat(result).st_size, 0))
        finally:
            os.close(result)
    return []


def _rehearse_all() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for fd in range(3):
        os.dup2(null, fd)
    os.mkdir(FOLDER, 0o755)
    try:
        for part in (_find_devices, _verify, _remember, _show_files, _serve, _run, _limit):
            with suppress(GuestError, OSError, ValueError):
                part()
    finally:
        shutil.rmtree(FOLDER)


def _find_devices() -> None:
    slots.plug_in()
    partitions.labels()
    with suppress(GuestError):
        connect_to_host()


def _verify() -> None:
    """Reads through dm-verity: two blocks and the one block of their tree."""
    data = bytes(range(256)) * (2 * BLOCK // 256)
    tree = b"".join(hashlib.sha256(data[at : at + BLOCK]).digest() for at in (0, BLOCK))
    tree += bytes(BLOCK - len(tree))
    with _loop(data + tree) as device:
        table = VerityTable(device, device, 2, hashlib.sha256(tree).digest(), b"", 2)
        verified = create_device(_DEVICE, [Target("verity", table.sectors, table.parameters())])
        try:
            with open(verified, "rb") as file:
                file.read()
        finally:
            remove_device(_DEVICE)


def _remember() -> None:
    """Derives keys, and writes and reads an instance image."""
    key = instance_key(agent_cdi(debuggable=False))
    image = InstanceImage(_memory_file(MAGIC + b"\1".ljust(_INSTANCE_SIZE - len(MAGIC), b"\0")))
    image.write(key, Record(_identity()))
    image.read(key)


def _show_files() -> None:
    """Mounts the files of an archive."""
    target = f"{FOLDER}/files"
    os.mkdir(target)
    with _loop(_archive("bin/payload.py", _SCRIPT * 200)) as device, ExitStack() as stack:
        stack.callback(_detach_others, device)
        stack.callback(_remove, f"files-of-{os.path.basename(device)}")
        server = mount([Apk(device, target)], ("bin",))
        if server is not None:
            os.kill(server, 9)
            os.waitpid(server, 0)
        stack.callback(libc.umount, target)
        with open(f"{target}/bin/payload.py", "rb") as file:
            file.read()


def _serve() -> None:
    """Serves the payload's API, and calls it."""
    identity = _identity()
    inputs = payload_inputs(identity, False, None, _DEVICE)
    layer = payload_layer(agent_cdi(debuggable=False), inputs)
    host: Any = None  # it is not called
    served = serve(PayloadService(host, layer, False), FOLDER)
    with connect(unix(served.path), fd_mode=FdMode.NONE) as session:
        session.get_root(IVmPayloadService).get_vm_instance_secret(b"rehearsal", 32)


def _run() -> None:
    """Runs a script as the payload's user."""
    path = f"{FOLDER}/payload.py"
    with open(path, "wb") as file:
        file.write(_SCRIPT)
    process = Process()
    process.start(Program(Kind.SCRIPT, (path,)))
    process.wait()


def _limit() -> None:
    limits.measure()


def _identity() -> PayloadIdentity:
    apk = ApkData(bytes(32), bytes(32), _DEVICE, 1, ())
    return PayloadIdentity(bytes(SALT_SIZE), apk, ())


def _archive(name: str, content: bytes) -> bytes:
    """A ZIP archive with one stored file."""
    import struct
    import zlib

    path = name.encode()
    sizes = (zlib.crc32(content), len(content), len(content), len(path), 0)
    common = struct.pack("<HHHHHIIIHH", 20, 0, 0, 0, 0, *sizes)
    local = b"PK\3\4" + common + path + content
    entry = b"PK\1\2" + struct.pack("<H", 0x031E) + common
    entry += struct.pack("<HHHII", 0, 0, 0, _STORED, 0) + path
    end = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 1, 1, len(entry), len(local), 0)
    return local + entry + end


@contextmanager
def _loop(content: bytes) -> Iterator[str]:
    """A block device with that content."""
    fd = _memory_file(content + bytes(-len(content) % BLOCK))
    try:
        device = attach_loop(fd)
    finally:
        os.close(fd)
    try:
        yield device
    finally:
        detach_loop(device)


def _memory_file(content: bytes) -> int:
    fd = os.memfd_create(_DEVICE)
    os.write(fd, content)
    return fd


def _detach_others(device: str) -> None:
    """Loop devices that were made on the way."""
    for name in os.listdir("/sys/block"):
        if f"/dev/{name}" != device and os.access(f"/sys/block/{name}/loop", os.F_OK):
            detach_loop(f"/dev/{name}")


def _remove(name: str) -> None:
    with suppress(OSError):
        remove_device(name)
