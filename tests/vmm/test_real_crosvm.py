"""The real crosvm, where there is one and KVM runs tiny guests: what it takes, how its guests end, what its code reads.

`AVF_CROSVM` names it.
"""

import contextlib
import hashlib
import itertools
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from avf import unix_path
from avf.confine import explain_confinement
from avf.disk import (
    CrosvmDisk,
    ImageDisk,
    Partition,
    PartitionedDisk,
    create_qcow2,
    crosvm_disk,
    image_size,
)
from avf.vmm import (
    Crosvm,
    ExitCause,
    NotSupported,
    VmmUnavailable,
    VmProcess,
    VmSpec,
    crosvm_abilities,
    find_crosvm,
    find_qemu,
)
from avf.vmm.crosvm.command import GDB_PORT
from avf.vsock import HybridVsock
from tests.accelerators import kvm_runs_firmware
from tests.eventually import eventually
from tests.fault.guests import Guest, firmware
from tests.vmm import tiny
from tests.vmm.conftest import descendants_of
from tests.vmm.guest import PARAMS, initrd
from tests.vmm.guest import kernel as guest_kernel

pytestmark = [pytest.mark.vm, pytest.mark.usefixtures("nothing_is_left")]

CID = 3000
TIMEOUT = 60


def crosvm() -> str:
    try:
        return find_crosvm()
    except VmmUnavailable:
        pytest.skip("there is no crosvm here (AVF_CROSVM)")


@pytest.fixture(autouse=True)
def needed() -> None:
    crosvm()
    if not kvm_runs_firmware():
        pytest.skip("no guest runs under KVM here")


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.build(tmp_path_factory.mktemp("kernel"))


@contextmanager
def started(folder: Path, *, balloon: bool = True, **what: object) -> Iterator[VmProcess]:
    """A VM; `what` are fields of its VmSpec, paths in place of descriptors."""
    with ExitStack() as stack:
        for name in ("kernel", "initrd", "bootloader"):
            if isinstance(path := what.get(name), Path):
                what[name] = stack.enter_context(path.open("rb")).fileno()
        for name in ("console", "failure"):
            if isinstance(path := what.get(name), Path):
                what[name] = stack.enter_context(path.open("ab")).fileno()
        vsock = HybridVsock(CID, folder / "vsock")
        spec = VmSpec(cid=CID, name="vm", temporary_directory=folder, vsock=vsock, memory_mib=64)
        process = Crosvm(balloon=balloon).start(replace(spec, **what))  # type: ignore[arg-type]
        try:
            yield process
        finally:
            process.kill()
            process.wait(TIMEOUT)


@pytest.mark.parametrize(
    ("ending", "cause", "status"),
    [
        (".", ExitCause.SHUTDOWN, 0),
        ("^", ExitCause.REBOOT, 32),
        ("!^", ExitCause.CRASH, 34),
        ("!.", ExitCause.CRASH, 34),
    ],
)
def test_the_guest_ends(
    tmp_path: Path, kernel: Path, ending: str, cause: ExitCause, status: int
) -> None:
    """And what it was started with has come to it, whole, and what it says has come out."""
    (tmp_path / "initrd").write_bytes(b"the ramdisk")
    with started(
        tmp_path,
        kernel=kernel,
        initrd=tmp_path / "initrd",
        params=f"a 'b c', d={ending}",
        console=tmp_path / "console",
    ) as process:
        report = process.wait(TIMEOUT)
    assert (report.cause, report.returncode) == (cause, status), report
    said = (tmp_path / "console").read_text()
    assert said.endswith(f"a 'b c', d={ending}|the ramdisk\n"), said


@pytest.mark.parametrize("port", [Guest.FLOODS_CONSOLE, Guest.FLOODS_FAILURE_PORT])
def test_a_guest_that_floods_is_heard_and_killed(tmp_path: Path, port: Guest) -> None:
    name = "console" if port is Guest.FLOODS_CONSOLE else "failure"
    (tmp_path / name).touch()
    with started(
        tmp_path, bootloader=firmware(tmp_path, port), **{name: tmp_path / name}
    ) as process:
        eventually(lambda: (tmp_path / name).stat().st_size > 100_000, True)
        process.kill()
        report = process.wait(TIMEOUT)
    assert report.cause is ExitCause.KILLED, report
    assert {*(tmp_path / name).read_bytes()} == {ord("x")}


def test_a_kernel_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "kernel").write_bytes(b"x" * 10_000)
    with started(tmp_path, kernel=tmp_path / "kernel") as process:
        report = process.wait(TIMEOUT)
    assert report.cause is ExitCause.START_FAILED
    assert "rror loading kernel" in report.stderr_tail, report


def test_an_argument_that_it_refuses(tmp_path: Path) -> None:
    """Its own words come with the report."""
    halts = firmware(tmp_path, Guest.HALTS)
    with started(tmp_path, bootloader=halts, cpus=-1) as process:
        report = process.wait(TIMEOUT)
    assert report.cause is ExitCause.START_FAILED, report
    assert "arg parsing failed" in report.stderr_tail


def test_the_vsock_device_is_killed(tmp_path: Path) -> None:
    with started(tmp_path, bootloader=firmware(tmp_path, Guest.HALTS)) as process:
        answered(process)
        device = next(
            pid
            for pid in descendants_of(os.getpid())
            if b"avf/vsock/device" in Path(f"/proc/{pid}/cmdline").read_bytes()
        )
        os.kill(device, signal.SIGKILL)
        report = process.wait(TIMEOUT)
    assert report.cause is ExitCause.INFRASTRUCTURE, report


def answered(process: VmProcess) -> None:
    """Waits until crosvm serves its control socket, which it does once the guest runs."""
    with pytest.raises(NotSupported):
        process.balloon_stats()


def test_a_balloon_without_a_driver(tmp_path: Path) -> None:
    """Some crosvms refuse, and some keep the size for the driver; both go on answering."""
    with started(tmp_path, bootloader=firmware(tmp_path, Guest.HALTS)) as process:
        answered(process)
        with contextlib.suppress(NotSupported):
            process.set_balloon(1 << 20)
        answered(process)


def test_everything_that_the_command_line_may_hold(tmp_path: Path, kernel: Path) -> None:
    """Each combination is taken: the guest gets to its end."""
    initrd = tmp_path / "initrd"
    initrd.write_bytes(b"i")
    with ExitStack() as stack:

        def image(mode: str) -> int:
            file = stack.enter_context(tempfile.TemporaryFile(dir=tmp_path))
            file.truncate(1 << 20)
            name = f"/proc/self/fd/{file.fileno()}"
            return stack.enter_context(open(name, mode)).fileno()

        disks = (
            (),
            (ImageDisk(image("rb")),),
            (
                ImageDisk(image("r+b"), writable=True),
                PartitionedDisk((Partition("a", image("rb"), False),), False),
                PartitionedDisk((Partition("b", image("r+b"), True),), True),
            ),
        )
        combinations = itertools.product(
            [True, False], disks, [None, 100], [{}, {"initrd": initrd}]
        )
        for balloon, some, memory, extra in combinations:
            with started(
                tmp_path,
                balloon=balloon,
                kernel=kernel,
                params=".",
                disks=some,
                memory_mib=memory,
                task_profiles=("x",),
                **extra,
            ) as process:
                report = process.wait(TIMEOUT)
            assert report.cause is ExitCause.SHUTDOWN, (balloon, some, extra, report)


def test_several_processors(tmp_path: Path) -> None:
    """On some hosts that are VMs themselves, crosvm with several does not come to its own end."""
    with started(tmp_path, bootloader=firmware(tmp_path, Guest.HALTS), cpus=2) as process:
        answered(process)


def test_a_debugger_lets_the_guest_run(tmp_path: Path, kernel: Path) -> None:
    """It comes in by the unix socket alone; no port of the host leads to crosvm's gdb server."""
    console = tmp_path / "console"
    console.touch()
    with unix_path.listen(str(tmp_path / "gdb.sock"), mode=0o600, backlog=1) as listener:
        vm = {"kernel": kernel, "params": ".", "console": console}
        with started(tmp_path, gdb_listener=listener.fileno(), **vm) as process:
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", GDB_PORT))
            with socket.socket(socket.AF_UNIX) as debugger:
                debugger.settimeout(TIMEOUT)
                debugger.connect(str(tmp_path / "gdb.sock"))
                debugger.sendall(b"+$?#3f")
                assert b"$" in debugger.recv(100)
                assert console.read_bytes() == b""
                debugger.sendall(b"+$c#63")
                report = process.wait(TIMEOUT)
    assert report.cause is ExitCause.SHUTDOWN, report
    assert console.read_bytes().endswith(b".|\n")


def test_no_debugger_where_the_network_is_everybodys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AVF_CONFINEMENT", "limited")
    explain_confinement.cache_clear()
    halts = firmware(tmp_path, Guest.HALTS)
    with (
        unix_path.listen(str(tmp_path / "gdb.sock"), mode=0o600, backlog=1) as listener,
        pytest.raises(VmmUnavailable, match="needs full confinement"),
        started(tmp_path, bootloader=halts, gdb_listener=listener.fileno()),
    ):
        pass
    explain_confinement.cache_clear()


TOUR = """
for part in /sys/class/block/vd*; do
    name=$(sed -n 's/^PARTNAME=//p' $part/uevent)
    echo "$(basename $part) $name $(sha256sum < /dev/$(basename $part))" > /dev/hvc2
done
for node in vda1 vda2 vdb; do
    echo written | dd of=/dev/$node bs=4096 seek=1 conv=notrunc,fsync 2> /dev/null && echo "wrote $node" > /dev/hvc2
done
"""


def test_its_own_code_reads_and_writes_our_disks(tmp_path: Path) -> None:
    """crosvm's block device serves a composite disk and a QCOW2 image of ours to a guest of QEMU's."""
    writable, readable, store = (tmp_path / name for name in ("instance", "apk", "store"))
    writable.write_bytes(b"i" * 16384)
    readable.write_bytes(b"a" * 9000)
    with ExitStack() as stack:
        opened = [
            stack.enter_context(path.open(mode)).fileno()
            for path, mode in ((writable, "r+b"), (readable, "rb"))
        ]
        create_qcow2(stack.enter_context(store.open("w+b")).fileno(), 1 << 20)
        qcow2 = stack.enter_context(store.open("r+b")).fileno()
        parts = (Partition("instance", opened[0], True), Partition("apk", opened[1], False))
        disks = [
            crosvm_disk(PartitionedDisk(parts, True), "composite", stack),
            crosvm_disk(ImageDisk(qcow2, writable=True), "store", stack),
        ]
        sockets = [
            stack.enter_context(served(disk, tmp_path / f"served{number}"))
            for number, disk in enumerate(disks)
        ]
        said = qemu_guest(tmp_path, TOUR, sockets)
    padded = readable.read_bytes().ljust(12288, b"\0")
    assert f"vda1 instance {digest(b'i' * 16384)}" in said
    assert f"vda2 apk {digest(padded)}" in said
    assert f"vdb  {digest(bytes(1 << 20))}" in said
    assert [line for line in said if line.startswith("wrote")] == ["wrote vda1", "wrote vdb"]
    assert writable.read_bytes()[4096:4104] == b"written\n"
    assert readable.read_bytes() == b"a" * 9000
    raw = tmp_path / "raw"
    subprocess.run(["qemu-img", "convert", "-O", "raw", store, raw], check=True)
    assert raw.read_bytes()[4096:4104] == b"written\n"


def digest(data: bytes) -> str:
    return f"{hashlib.sha256(data).hexdigest()}  -"


@contextmanager
def served(disk: CrosvmDisk, path: Path) -> Iterator[socket.socket]:
    """crosvm's block device process for one disk, at `path`: yields the socket that a front-end talks to it by."""
    option = (
        "--socket-path" if "--socket-path" in said_by("device", "block", "--help") else "--socket"
    )
    command = [crosvm(), "device", "block", option, str(path)]
    command += ["--file", f"/proc/self/fd/{disk.fd}{'' if disk.writable else ':read-only'}"]
    with subprocess.Popen(command, pass_fds=disk.fds) as process:
        eventually(path.exists, True)
        with socket.socket(socket.AF_UNIX) as ours:
            eventually(lambda: ours.connect_ex(str(path)), 0)
            yield ours
        process.wait(TIMEOUT)


def said_by(*arguments: str) -> str:
    """What crosvm says to `arguments`."""
    return subprocess.run([crosvm(), *arguments], check=True, capture_output=True, text=True).stdout


def qemu_guest(folder: Path, script: str, sockets: Sequence[socket.socket]) -> list[str]:
    """What a guest of QEMU's, under TCG, says on hvc2, with a vhost-user disk for each of `sockets`."""
    (folder / "initrd").write_bytes(initrd(script))
    says = folder / "says"
    command = [
        *(find_qemu(), "-accel", "tcg", "-machine", "q35", "-cpu", "max", "-m", "256M"),
        *("-object", "memory-backend-memfd,id=ram,size=256M,share=on", "-numa", "node,memdev=ram"),
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        *("-kernel", str(guest_kernel().vmlinux), "-initrd", str(folder / "initrd")),
        *("-append", PARAMS, "-device", "virtio-serial-pci,max_ports=4"),
    ]
    for number in range(3):
        path = says if number == 2 else folder / f"port{number}"
        command += ["-chardev", f"file,id=c{number},path={path}"]
        command += ["-device", f"virtconsole,nr={number},chardev=c{number}"]
    for number, sock in enumerate(sockets):
        command += ["-chardev", f"socket,id=d{number},fd={sock.fileno()}"]
        command += ["-device", f"vhost-user-blk-pci,chardev=d{number}"]
    fds = [sock.fileno() for sock in sockets]
    subprocess.run(command, pass_fds=fds, check=True, timeout=300, stdin=subprocess.DEVNULL)
    return says.read_text().replace("\r", "").splitlines()


def test_disks_of_its_own_are_read_here(tmp_path: Path) -> None:
    """A QCOW2 image and a composite disk that crosvm's tools have made."""
    store, composite = tmp_path / "store", tmp_path / "composite"
    subprocess.run([crosvm(), "create_qcow2", store, str(5 << 20)], check=True)
    with store.open("rb") as file:
        assert image_size(file.fileno()) == 5 << 20
    part = tmp_path / "part"
    part.write_bytes(bytes(8192))
    writable = ":writable" if "writable" in said_by("create_composite", "--help") else ""
    command = [crosvm(), "create_composite", composite, f"label:{part}{writable}"]
    subprocess.run(command, check=True, cwd=tmp_path)
    with composite.open("rb") as file:
        assert image_size(file.fileno()) > 8192


def test_what_it_can_do_here(tmp_path: Path) -> None:
    abilities = crosvm_abilities()
    assert abilities.runs
    assert str(abilities) == "a probe guest ran under KVM"
    script = tmp_path / "crosvm"
    script.write_text(
        f"#!/bin/sh\n[ $2 = --help ] && exec {crosvm()} run --help\nexec sleep 1000\n"
    )
    script.chmod(0o755)
    assert not crosvm_abilities(str(script)).runs
