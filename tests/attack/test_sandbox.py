"""What a virtual machine monitor or a vsock device can do that its guest has taken over: nothing."""

import errno
import os
import signal
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from avf.vmm.qemu import devices
from tests.attack.injection import Taken
from tests.vmm.conftest import descendants_of, nothing_is_left
from tests.vmm.guest import running

__all__ = ["nothing_is_left"]

pytestmark = [pytest.mark.vm, pytest.mark.usefixtures("nothing_is_left")]

WAITS = "echo up > /dev/hvc2; sleep 1000"
AT_FDCWD = -100
CLONE_NEWUSER, CLONE_VM = 0x1000_0000, 0x100
CALLS = {
    "read": 0, "write": 1, "open": 2, "close": 3, "mmap": 9, "ioctl": 16, "socket": 41, "connect": 42, "bind": 49,
    "clone": 56, "fork": 57, "vfork": 58, "execve": 59, "kill": 62, "ftruncate": 77, "rename": 82, "mkdir": 83,
    "creat": 85, "link": 86, "unlink": 87, "symlink": 88, "chmod": 90, "chown": 92, "ptrace": 101, "setuid": 105,
    "syslog": 103, "mknod": 133, "personality": 135, "prctl": 157, "chroot": 161, "mount": 165, "umount2": 166,
    "swapon": 167, "reboot": 169, "init_module": 175, "tkill": 200, "tgkill": 234, "add_key": 248, "request_key": 249,
    "keyctl": 250, "openat": 257, "unshare": 272, "perf_event_open": 298, "prlimit64": 302, "name_to_handle_at": 303,
    "open_by_handle_at": 304, "setns": 308, "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312,
    "memfd_create": 319, "bpf": 321, "userfaultfd": 323, "pidfd_send_signal": 424, "io_uring_setup": 425,
    "open_tree": 428, "clone3": 435, "pidfd_open": 434, "pidfd_getfd": 438, "process_madvise": 440, "socketpair": 53,
}  # fmt: skip


@pytest.fixture(params=["the virtual machine monitor", "the vsock device"])
def taken(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Taken]:
    """A thread of a process that serves a running guest. QEMU goes without its own filter, which would only kill it."""
    isolation = devices.isolation()
    monkeypatch.setattr(devices, "isolation", lambda: isolation[: isolation.index("-sandbox")])
    with running(WAITS, tmp_path) as guest:
        guest.log.wait_for(b"up")
        pid = guest.process.pid
        if request.param == "the vsock device":
            (pid,) = (p for p in descendants_of(os.getpid()) if is_device(p))
        with Taken(pid) as thread:
            yield thread


def is_device(pid: int) -> bool:
    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return words[3:4] != [] and words[3].endswith(b"vsock/device/__main__.py")


def refused(taken: Taken, name: str, *arguments: int | bytes) -> str | None:
    """None if the call failed for want of a right or of the thing itself, else what came of it."""
    result = taken.call(CALLS[name], *arguments)
    expected = (errno.EPERM, errno.EACCES, errno.ENOENT, errno.ENOSYS, errno.EROFS, errno.ESRCH)
    return None if -result in expected else f"{name}{arguments}: {result}"


def test_nothing_of_the_host_is_in_reach(taken: Taken, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    mine = os.getpid()
    address = struct.pack("<H", socket.AF_UNIX) + b"/run/none\0"
    attempts = [
        # Files, by name: others', the host's settings, whatever could be made.
        *(("open", path, os.O_RDONLY, 0) for path in hosts_files(tmp_path)),
        ("open", b"/new\0", os.O_RDWR | os.O_CREAT, 0o600),
        ("open", b"/tmp/new\0", os.O_RDWR | os.O_CREAT, 0o600),
        ("creat", bytes(victim) + b"\0", 0o600),
        ("openat", AT_FDCWD, bytes(victim) + b"\0", os.O_RDWR, 0),
        ("unlink", bytes(victim) + b"\0"),
        ("rename", bytes(victim) + b"\0", b"/tmp/other\0"),
        ("link", bytes(victim) + b"\0", b"/tmp/other\0"),
        ("symlink", b"/etc/shadow\0", b"/link\0"),
        ("mkdir", b"/folder\0", 0o700),
        ("chmod", bytes(victim) + b"\0", 0o777),
        ("chown", bytes(victim) + b"\0", 0, 0),
        ("mknod", b"/device\0", 0o020666, os.makedev(1, 1)),
        ("name_to_handle_at", AT_FDCWD, b"/\0", bytes(128), bytes(8), 0),
        ("open_by_handle_at", AT_FDCWD, bytes(128), os.O_RDONLY),
        # Other processes.
        ("ptrace", 16, mine, 0, 0),
        ("ptrace", 0x4206, mine, 0, 0),
        ("process_vm_readv", mine, bytes(64), 1, bytes(64), 1, 0),
        ("process_vm_writev", mine, bytes(64), 1, bytes(64), 1, 0),
        ("pidfd_open", mine, 0),
        ("pidfd_open", 1, 0),
        ("pidfd_getfd", 0, 0, 0),
        ("pidfd_send_signal", 0, 0, 0, 0),
        ("kill", mine, 0),
        ("kill", -1, signal.SIGKILL),
        ("tkill", mine, signal.SIGKILL),
        ("tgkill", mine, mine, signal.SIGKILL),
        ("kcmp", mine, 1, 0, 0, 0),
        ("process_madvise", 0, bytes(16), 1, 8, 0),
        # More processes, other programs.
        ("fork",),
        ("vfork",),
        ("clone", signal.SIGCHLD, 0, 0, 0, 0),
        ("clone", CLONE_NEWUSER | signal.SIGCHLD, 0, 0, 0, 0),
        ("clone3", bytes(88), 88),
        ("execve", b"/bin/sh\0", 0, 0),
        # Rights.
        ("setuid", 0),
        ("unshare", CLONE_NEWUSER),
        ("setns", 0, 0),
        ("chroot", b"/\0"),
        ("mount", b"none\0", b"/proc\0", b"tmpfs\0", 0, 0),
        ("umount2", b"/proc\0", 2),
        ("open_tree", AT_FDCWD, b"/\0", 1),
        ("prctl", 1, 0, 0, 0, 0),
        ("prlimit64", mine, 4, 0, bytes(16)),
        # The kernel.
        ("keyctl", 0, 0, 0, 0, 0),
        ("add_key", b"user\0", b"k\0", b"v", 1, 0xFFFF_FFFF),
        ("request_key", b"user\0", b"k\0", 0, 0),
        ("bpf", 0, bytes(64), 64),
        ("perf_event_open", bytes(128), 0, -1, -1, 0),
        ("userfaultfd", 0),
        ("io_uring_setup", 8, bytes(128)),
        ("init_module", bytes(16), 16, b"\0"),
        ("syslog", 3, bytes(64), 64),
        ("reboot", 0xFEE1_DEAD, 672274793, 0),
        ("swapon", b"/dev/null\0", 0),
        ("personality", 0x0040000),
        ("ioctl", 0, 0x5412, b"x"),
        # The network, and the host's sockets.
        *(("socket", family, kind, 0) for family in (1, 2, 10, 16, 17, 40) for kind in (1, 2, 3)),
        ("socketpair", 1, 1, 0, bytes(8)),
        ("connect", 0, address, len(address)),
        ("bind", 0, address, len(address)),
    ]  # fmt: skip
    came_of = [refused(taken, name, *arguments) for name, *arguments in attempts]
    assert [outcome for outcome in came_of if outcome is not None] == []
    assert victim.read_text() == "untouched"


def hosts_files(tmp_path: Path) -> list[bytes]:
    names = [
        "/etc/shadow",
        "/etc/passwd",
        "/root/.profile",
        "/home",
        "/tmp",
        "/run",
        "/proc",
        "/proc/self/mem",
        "/proc/1/mem",
    ]
    names += [
        f"/proc/{os.getpid()}/mem",
        "/sys",
        "/dev/mem",
        "/dev/kvm",
        "/dev/tty",
        "/dev/vda",
        "/bin/sh",
    ]
    names += [
        "/usr/bin/env",
        str(tmp_path),
        str(tmp_path / "initrd"),
        "/proc/self/fd/0",
        "/dev/fd/0",
    ]
    return [name.encode() + b"\0" for name in names]


def test_what_it_was_given_to_read_it_cannot_write(taken: Taken) -> None:
    """Not by another name either: there is none for a descriptor."""
    outcomes = []
    for entry in Path(f"/proc/{taken.pid}/fd").iterdir():
        name = f"/proc/self/fd/{entry.name}\0".encode()
        outcomes.append(refused(taken, "open", name, os.O_RDWR, 0))
        outcomes.append(refused(taken, "open", f"/images/{entry.name}\0".encode(), os.O_RDWR, 0))
    assert [outcome for outcome in outcomes if outcome is not None] == []
    assert outcomes


def test_files_in_memory_have_a_bound(taken: Taken) -> None:
    fd = taken.call(CALLS["memfd_create"], b"hoard\0", 0)
    assert fd >= 0
    assert -taken.call(CALLS["ftruncate"], fd, 1 << 40) == errno.EFBIG
    taken.call(CALLS["close"], fd)


def test_descriptors_have_a_bound(taken: Taken) -> None:
    taken_fds = []
    while (fd := taken.call(CALLS["memfd_create"], b"d\0", 0)) >= 0:
        taken_fds.append(fd)
        assert len(taken_fds) <= 2048
    assert -fd == errno.EMFILE
    for fd in taken_fds:
        taken.call(CALLS["close"], fd)


def test_who_it_is(taken: Taken) -> None:
    status = dict(
        line.split(":\t", 1)
        for line in Path(f"/proc/{taken.pid}/status").read_text().splitlines()
        if ":\t" in line
    )
    assert {
        int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
    } == {0}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    if os.geteuid() == 0:
        assert set(status["Uid"].split()) & {"0"} == set()
        assert status["Groups"].split() == []
    for kind in ("user", "mnt", "pid", "net", "ipc", "uts"):
        assert (
            Path(f"/proc/{taken.pid}/ns/{kind}").readlink()
            != Path(f"/proc/self/ns/{kind}").readlink()
        )
    limits = Path(f"/proc/{taken.pid}/limits").read_text()
    assert [line.split()[4:6] for line in limits.splitlines() if "core file" in line] == [
        ["0", "0"]
    ]
