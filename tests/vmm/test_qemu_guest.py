"""Real guests in a real QEMU: how they end, what they see, and that nothing of them is left."""

import hashlib
import os
import select
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from avf.disk import ImageDisk, Partition, PartitionedDisk, create_qcow2
from avf.vmm import (
    BalloonStats,
    ExitCause,
    Machine,
    NotSupported,
    Qemu,
    VmmControlError,
    VmmStartError,
    VmProcess,
    VmSpec,
)
from avf.vsock import HybridVsock
from tests.accelerators import ACCELERATORS, choose
from tests.eventually import eventually
from tests.vmm.conftest import children_of, descendants_of
from tests.vmm.guest import CID, TIMEOUT, Output, kernel, running

pytestmark = [pytest.mark.vm, pytest.mark.usefixtures("nothing_is_left")]

BOARDS = pytest.mark.parametrize("machine", list(Machine))

TOUR = """
echo on-ttyS1 > /dev/ttyS1
echo on-hvc0 > /dev/hvc0
echo on-hvc1 > /dev/hvc1
echo on-hvc2 > /dev/hvc2
for part in /sys/class/block/vd*; do
    name=$(sed -n 's/^PARTNAME=//p' $part/uevent)
    node=/dev/$(basename $part)
    echo "$(basename $part) $name $(blockdev --getro $node) $(sha256sum < $node)" > /dev/hvc2
done
for node in vda1 vda2 vda3 vda vdb1 vdc; do
    echo written | dd of=/dev/$node bs=4096 seek=1 conv=notrunc,fsync 2> /dev/null && echo "wrote $node" > /dev/hvc2
done
"""


@pytest.fixture(autouse=True, params=ACCELERATORS)
def accelerator(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    choose(monkeypatch, request.param, kernels=True)
    return str(request.param)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@BOARDS
def test_ports_disks_and_power_off(tmp_path: Path, machine: Machine) -> None:
    instance, storage, apk, whole = (tmp_path / name for name in ("vm", "store", "apk", "whole"))
    instance.write_bytes(b"i" * 16384)
    apk.write_bytes(b"a" * 9000)
    whole.write_bytes(b"w" * 8192)
    with (
        instance.open("r+b") as instance_file,
        storage.open("w+b") as storage_file,
        apk.open("r+b") as apk_file,
        whole.open("r+b") as whole_file,
    ):
        create_qcow2(storage_file.fileno(), 1 << 20)
        disks = (
            PartitionedDisk(
                (
                    Partition("vm-instance", instance_file.fileno(), True),
                    Partition("encryptedstore", storage_file.fileno(), True),
                    Partition("shown", apk_file.fileno()),
                ),
                True,
            ),
            PartitionedDisk((Partition("microdroid-apk", apk_file.fileno(), True),)),
            ImageDisk(whole_file.fileno(), True),
        )
        with running(TOUR, tmp_path, machine=machine, disks=disks) as guest:
            report = guest.end()
            log = guest.log.all().decode().splitlines()
            failure, console = guest.failure.all(), guest.console.all()
            ramdump = os.pread(guest.ramdump, 100, 0)
    assert report.cause is ExitCause.SHUTDOWN
    assert (report.returncode, report.stderr_tail) == (0, "")
    assert report.events[0].startswith("confinement: ")
    assert report.events[1] == "started" and report.events[-1] == "SHUTDOWN guest-shutdown"
    assert (failure, ramdump) == (b"on-ttyS1\n", b"on-hvc1\r\n")
    assert b"on-hvc0\n" in console
    assert log[0] == "on-hvc2"
    seen = {line.split(" ")[0]: line.split(" ")[1:4] for line in log[1:] if line.startswith("vd")}
    padded = b"a" * 9000 + bytes(12288 - 9000)
    assert seen["vda1"] == ["vm-instance", "0", digest(b"i" * 16384)]
    assert seen["vda2"] == ["encryptedstore", "0", digest(bytes(1 << 20))]
    assert seen["vda3"] == ["shown", "0", digest(padded)]
    assert seen["vdb1"] == ["microdroid-apk", "1", digest(padded)]
    assert seen["vdc"] == ["", "0", digest(b"w" * 8192)]
    wrote = [line for line in log if line.startswith("wrote")]
    assert wrote == ["wrote vda1", "wrote vda2", "wrote vdc"]
    assert instance.read_bytes() == b"i" * 4096 + b"written\n" + b"i" * (16384 - 4104)
    assert apk.read_bytes() == b"a" * 9000
    assert whole.read_bytes()[4096:4104] == b"written\n"


@BOARDS
@pytest.mark.parametrize(
    ("script", "cause"),
    [("reboot -f", ExitCause.REBOOT), ("echo c > /proc/sysrq-trigger", ExitCause.CRASH)],
)
def test_other_ends(tmp_path: Path, machine: Machine, script: str, cause: ExitCause) -> None:
    with running(script, tmp_path, machine=machine) as guest:
        report = guest.end()
        assert report.cause is cause, report
        assert report.returncode == 0


WAITS = "echo up > /dev/hvc2; sleep 1000"


def test_a_running_guest(tmp_path: Path) -> None:
    """One guest for everything that needs one running: balloon, memory dump, second start, kill."""
    with running(WAITS, tmp_path, memory_mib=128) as guest:
        guest.log.wait_for(b"up")
        with pytest.raises(TimeoutError):
            guest.process.wait(0.01)
        stats = guest.process.balloon_stats()
        assert stats.actual == 0
        assert 64 << 20 < (stats.total_memory or 0) < 128 << 20
        assert 0 < (stats.free_memory or 0) <= (stats.total_memory or 0)
        guest.process.set_balloon(32 << 20)
        await_balloon(guest.process, 32 << 20)
        guest.process.set_balloon(0)
        await_balloon(guest.process, 0)
        for size in (-1, 128 << 20):
            with pytest.raises(VmmControlError):
                guest.process.set_balloon(size)
        with open(tmp_path / "core", "w+b") as core:
            guest.process.dump_memory(core.fileno())
            core.seek(0)
            assert core.read(4) == b"\x7fELF"
        assert (tmp_path / "core").stat().st_size >= 128 << 20
        waiters = [threading.Thread(target=guest.process.wait) for _ in range(3)]
        for waiter in waiters:
            waiter.start()
        guest.process.kill()
        report = guest.end()
        for waiter in waiters:
            waiter.join(10)
            assert not waiter.is_alive()
        assert (report.cause, report.returncode, report.signal) == (ExitCause.KILLED, -9, 9)
        guest.process.kill()
        assert guest.end() is report
        with pytest.raises(VmmControlError):
            guest.process.set_balloon(0)


def test_requests_while_the_guest_dies(tmp_path: Path) -> None:
    """Whatever the moment, a request is answered or fails at once; none hangs or is forgotten."""
    outcomes: list[object] = []

    def ask(process: VmProcess) -> None:
        try:
            while True:
                outcomes.append(process.set_balloon(0))
        except VmmControlError as error:
            outcomes.append(error)

    with running(WAITS, tmp_path) as guest:
        askers = [threading.Thread(target=ask, args=(guest.process,)) for _ in range(3)]
        for asker in askers:
            asker.start()
        guest.log.wait_for(b"up")
        guest.process.kill()
        guest.end()
        for asker in askers:
            asker.join(5)
            assert not asker.is_alive()
    assert None in outcomes
    assert len([outcome for outcome in outcomes if outcome is not None]) == len(askers)


def await_balloon(process: object, size: int) -> None:
    """Asks until the balloon has that size; each question waits for an answer of the guest."""
    for _ in range(2000):
        stats = process.balloon_stats()  # type: ignore[attr-defined]
        assert isinstance(stats, BalloonStats)
        if stats.actual == size:
            return
    pytest.fail(f"the balloon stays at {stats.actual}")


def test_before_the_guest_has_a_balloon_driver(tmp_path: Path) -> None:
    nothing_to_run = "console=ttyS0 rdinit=/none root=/none"
    with running("", tmp_path, params=nothing_to_run) as guest, pytest.raises(NotSupported):
        guest.process.balloon_stats()


def test_the_death_of_the_vsock_device_ends_the_vm(tmp_path: Path) -> None:
    with running(WAITS, tmp_path) as guest:
        guest.log.wait_for(b"up")
        (device,) = [
            pid for pid in descendants_of(os.getpid()) if b"avf/vsock/device" in program_of(pid)
        ]
        os.kill(device, 9)
        report = guest.end()
        assert report.cause is ExitCause.INFRASTRUCTURE
        assert report.events[-1].startswith("the vsock device has ended")


def program_of(pid: int) -> bytes:
    """The first words of a process's command line: the program, and the script it interprets."""
    try:
        return b" ".join(Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:4])
    except OSError:
        return b""


def test_a_bad_kernel(tmp_path: Path) -> None:
    (tmp_path / "kernel").write_bytes(b"no kernel" * 1000)
    with running("", tmp_path, kernel_path=tmp_path / "kernel") as guest:
        report = guest.end()
        assert report.cause is ExitCause.START_FAILED
        assert report.returncode == 1
        assert "kernel" in report.stderr_tail


def test_a_disk_in_use(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "disk").write_bytes(bytes(4096))
    with open(tmp_path / "disk", "r+b") as file:
        disks = (ImageDisk(file.fileno(), True),)
        with running(WAITS, tmp_path, disks=disks) as first:
            first.log.wait_for(b"up")
            with running(WAITS, tmp_path / "other", disks=disks) as second:
                report = second.end()
                assert report.cause is ExitCause.START_FAILED
                assert "lock" in report.stderr_tail
        with running("", tmp_path, disks=disks) as third:
            assert third.end().cause is ExitCause.SHUTDOWN


def real_mode(*code: int) -> bytes:
    """Firmware of 64 KiB that runs at most 16 bytes of code at the reset vector."""
    return bytes(code).ljust(16, b"\x90").rjust(65536, b"\x90")


@BOARDS
def test_a_bootloader(tmp_path: Path, machine: Machine) -> None:
    """Firmware that prints a letter on ttyS0 and then has no interrupt table: a triple fault, so a reset."""
    # mov dx, 0x3f8; mov al, "B"; out dx, al; lidt [0] (zero: no interrupt table); int3
    code = real_mode(0xBA, 0xF8, 0x03, 0xB0, ord("B"), 0xEE, 0x0F, 0x01, 0x1E, 0x00, 0x00, 0xCC)
    (tmp_path / "firmware").write_bytes(code)
    console = Output()
    console.start()
    with open(tmp_path / "firmware", "rb") as firmware:
        try:
            process = Qemu().start(
                VmSpec(
                    cid=CID,
                    name="bios",
                    temporary_directory=tmp_path,
                    vsock=HybridVsock(CID, tmp_path / "vsock"),
                    bootloader=firmware.fileno(),
                    machine=machine,
                    console=console.write_end,
                    memory_mib=16,
                )
            )
        finally:
            os.close(console.write_end)
    report = process.wait(TIMEOUT)
    assert report.cause is ExitCause.REBOOT, report
    assert console.all() == b"B"


def test_waiting_for_a_debugger(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as debugger:
        listener.bind(str(tmp_path / "gdb.sock"))
        listener.listen()
        with running(WAITS, tmp_path, gdb_listener=listener.fileno()) as guest:
            with pytest.raises(NotSupported):  # answered, so QEMU is up; the guest has not run
                guest.process.balloon_stats()
            assert guest.process.guest_seconds() == 0
            debugger.settimeout(TIMEOUT)
            debugger.connect(str(tmp_path / "gdb.sock"))
            debugger.sendall(b"+$g#67")
            registers = b""
            while not registers.count(b"#"):
                registers += debugger.recv(4096)
            assert registers.startswith(b"+$")
            debugger.sendall(b"+$c#63")
            guest.log.wait_for(b"up")
            ran = guest.process.guest_seconds()
            assert ran is not None and ran > 0
            debugger.sendall(b"\x03")
            while not debugger.recv(4096).count(b"$T"):
                pass
            eventually(lambda: "STOP" in guest.events, True)
            stopped = guest.process.guest_seconds()
            assert stopped == guest.process.guest_seconds()


OWNER = """
import os, sys
from pathlib import Path
from avf.vmm import Qemu, VmSpec
from avf.vsock import HybridVsock
directory = Path(sys.argv[1])
kernel = os.open(sys.argv[2], os.O_RDONLY)
spec = VmSpec(cid=3000, name="orphan", temporary_directory=directory, kernel=kernel,
              vsock=HybridVsock(3000, directory / "vsock"), params="rdinit=/none root=/none")
process = Qemu().start(spec, lambda event: print(process.pid, flush=True))
print(process.pid, flush=True)
process.wait()
"""


def test_a_killed_owner_takes_everything_with_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", OWNER, str(tmp_path), str(kernel().vmlinux)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == owner.stdout.readline()  # spawned, then started
        pids = descendants_of(owner.pid)
        assert {Path(f"/proc/{pid}/exe").resolve().name for pid in pids} > {"qemu-system-x86_64"}
        pidfds = [os.pidfd_open(pid) for pid in pids]
        owner.kill()
    for pidfd in pidfds:
        assert select.select([pidfd], [], [], TIMEOUT)[0]
        os.close(pidfd)
    for pid in set(children_of(os.getpid())) & set(pids):
        os.waitpid(pid, 0)  # orphans come to the test session


def test_qemu_has_no_other_descriptors(tmp_path: Path) -> None:
    stray = os.open("/etc/passwd", os.O_RDONLY)
    os.set_inheritable(stray, True)
    try:
        with running(WAITS, tmp_path) as guest:
            guest.log.wait_for(b"up")
            folder = Path(f"/proc/{guest.process.pid}/fd")
            names = {str(entry.readlink()) for entry in folder.iterdir()}
    finally:
        os.close(stray)
    kinds = (
        "anon_inode:",
        "pipe:",
        "socket:",
        "/memfd:",
        "/dev/null",
        str(tmp_path),
        "/dev/urandom",
    )
    allowed = (*kinds, str(kernel().vmlinux))
    assert [name for name in names if not name.startswith(allowed)] == []


def test_relative_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "vm").mkdir()
    monkeypatch.chdir(tmp_path)
    with running("sleep 1000", Path("vm")), open_when_there(tmp_path / "vm/vsock") as sock:
        sock.sendall(b"CONNECT 7\n")


def open_when_there(path: Path) -> socket.socket:
    """A connection to a unix socket that is about to appear."""
    sock = socket.socket(socket.AF_UNIX)
    deadline = time.monotonic() + TIMEOUT
    while True:
        try:
            sock.connect(str(path))
            return sock
        except (FileNotFoundError, ConnectionRefusedError):
            assert time.monotonic() < deadline, f"{path} never appeared"
            time.sleep(0.01)


def test_no_more_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure between spawning QEMU and watching it leaves neither process behind."""

    def refuse(self: threading.Thread) -> None:
        if self.name.startswith("qemu-"):
            raise RuntimeError("can't start new thread")
        start(self)

    start = threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(VmmStartError, match="new thread"), running("", tmp_path):
        pass


@pytest.mark.parametrize("count", [20, 26])
def test_as_many_disks_as_promised(tmp_path: Path, count: int) -> None:
    (tmp_path / "disk").write_bytes(bytes(4096))
    with open(tmp_path / "disk", "rb") as file:
        disks = (ImageDisk(file.fileno()),) * count
        with running("ls /dev/vd* | wc -l > /dev/hvc2", tmp_path, disks=disks) as guest:
            assert guest.end().cause is ExitCause.SHUTDOWN
            assert guest.log.all() == b"%d\n" % count


def test_a_failing_event_handler_harms_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(event: str) -> None:
        if event != "started":
            guest.process.set_balloon(0)
        raise ValueError(event)

    with running("", tmp_path, on_event=fail) as guest:
        assert guest.end().cause is ExitCause.SHUTDOWN
    assert "ValueError: started" in caplog.text
    assert "VmmControlError: an event handler cannot make requests" in caplog.text


def test_two_guests_at_once_and_events(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with running("", tmp_path / "a") as first, running("reboot -f", tmp_path / "b") as second:
        assert second.end().cause is ExitCause.REBOOT
        assert first.end().cause is ExitCause.SHUTDOWN
        assert first.events == ["started", "SHUTDOWN guest-shutdown"]
        assert second.events == ["started", "SHUTDOWN guest-reset"]
