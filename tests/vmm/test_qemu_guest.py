"""Real guests in a real QEMU: how they end, what they see, and that nothing of them is left."""

import hashlib
import os
import threading
from pathlib import Path

import pytest

from avf.disk import ImageDisk, Partition, PartitionedDisk, create_qcow2
from avf.vmm import (
    BalloonStats,
    ExitCause,
    Machine,
    NotSupported,
    VmmControlError,
)
from tests.vmm.guest import running

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
    assert report.events[0] == "started" and report.events[-1] == "SHUTDOWN guest-shutdown"
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
            int(pid.name)
            for pid in Path("/proc").iterdir()
            if pid.name.isdigit() and str(tmp_path / "vsock").encode() in cmdline(pid)
        ]
        os.kill(device, 9)
        report = guest.end()
        assert report.cause is ExitCause.UNKNOWN
        assert "the vsock device has ended" in report.events


def cmdline(pid: Path) -> bytes:
    try:
        return (pid / "cmdline").read_bytes()
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
