"""What a program tries that has been taken over: attempts, each a system call that must be refused.

Also a program itself, which needs the standard library alone: `attacker.py PID FILE` makes every attempt, with the
process PID and the file FILE as its victims, and writes those that were not refused to standard error, as JSON.
"""

import ctypes
import errno
import json
import os
import signal
import socket
import struct
import sys
from collections.abc import Callable

Attempt = tuple[str, *tuple[int | bytes, ...]]

AT_FDCWD = -100
CLONE_NEWUSER, CLONE_VM = 0x1000_0000, 0x100
CALLS = {
    "read": 0, "write": 1, "open": 2, "close": 3, "mmap": 9, "ioctl": 16, "socket": 41, "connect": 42, "bind": 49,
    "clone": 56, "fork": 57, "vfork": 58, "execve": 59, "kill": 62, "fcntl": 72, "ftruncate": 77, "rename": 82,
    "mkdir": 83, "creat": 85, "link": 86, "unlink": 87, "symlink": 88, "chmod": 90, "chown": 92, "ptrace": 101,
    "setuid": 105,
    "syslog": 103, "mknod": 133, "personality": 135, "prctl": 157, "chroot": 161, "mount": 165, "umount2": 166,
    "swapon": 167, "reboot": 169, "init_module": 175, "tkill": 200, "tgkill": 234, "add_key": 248, "request_key": 249,
    "keyctl": 250, "openat": 257, "unshare": 272, "perf_event_open": 298, "prlimit64": 302, "name_to_handle_at": 303,
    "open_by_handle_at": 304, "setns": 308, "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312,
    "memfd_create": 319, "bpf": 321, "userfaultfd": 323, "pidfd_send_signal": 424, "io_uring_setup": 425,
    "open_tree": 428, "clone3": 435, "pidfd_open": 434, "pidfd_getfd": 438, "process_madvise": 440, "socketpair": 53,
}  # fmt: skip


REFUSALS = (errno.EPERM, errno.EACCES, errno.ENOENT, errno.ENOSYS, errno.EROFS, errno.ESRCH)
"""For want of a right, or of the thing itself."""
MORE_REFUSALS = {"setuid": (errno.EINVAL,)}
"""There is no such user in the namespace."""


def succeeded(call: Callable[..., int], attempts: list[Attempt]) -> list[str]:
    """Those attempts that were not refused. `call(number, *arguments)` gives a result, or an errno below zero."""
    results = [(attempt, call(CALLS[attempt[0]], *attempt[1:])) for attempt in attempts]
    return [
        f"{attempt}: {result}"
        for attempt, result in results
        if -result not in (*REFUSALS, *MORE_REFUSALS.get(attempt[0], ()))
    ]


def attempts_at(process: int, file: str) -> list[Attempt]:
    """Everything but what depends on the descriptors that the attacker has."""
    mine = process
    name = os.fsencode(file) + b"\0"
    address = struct.pack("<H", socket.AF_UNIX) + b"/run/none\0"
    return [
        # Files, by name: others', the host's settings, whatever could be made.
        *(("open", path, os.O_RDONLY, 0) for path in _hosts_files(process, file)),
        ("open", b"/new\0", os.O_RDWR | os.O_CREAT, 0o600),
        ("open", b"/tmp/new\0", os.O_RDWR | os.O_CREAT, 0o600),
        ("creat", name, 0o600),
        ("openat", AT_FDCWD, name, os.O_RDWR, 0),
        ("unlink", name),
        ("rename", name, b"/tmp/other\0"),
        ("link", name, b"/tmp/other\0"),
        ("symlink", b"/etc/shadow\0", b"/link\0"),
        ("mkdir", b"/folder\0", 0o700),
        ("chmod", name, 0o777),
        ("chown", name, 0, 0),
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
        ("kill", -1, 0),
        ("tkill", mine, 0),
        ("tgkill", mine, mine, 0),
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


def _hosts_files(process: int, file: str) -> list[bytes]:
    names = [
        "/etc/shadow",
        "/etc/passwd",
        "/root/.profile",
        "/boot",
        "/var/log",
        "/run",
        "/proc",
        "/proc/self/mem",
    ]
    names += [
        "/proc/1/mem",
        f"/proc/{process}/mem",
        f"/proc/{process}/environ",
        "/sys",
        "/dev/mem",
        "/dev/kvm",
    ]
    names += [
        "/dev/tty",
        "/dev/vda",
        "/bin/sh",
        "/usr/bin/env",
        file,
    ]
    return [name.encode() + b"\0" for name in names]


def attempts_at_descriptors(numbers: list[int]) -> list[Attempt]:
    """To open anew, for writing, what the attacker has open."""
    names = [
        f"{folder}/{n}\0" for n in numbers for folder in ("/proc/self/fd", "/dev/fd", "/images")
    ]
    return [("open", name.encode(), os.O_RDWR, 0) for name in names]


def main(process: int, file: str) -> None:
    """Makes the attempts."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long

    def call(number: int, *arguments: int | bytes) -> int:
        words = [a if isinstance(a, bytes) else ctypes.c_long(a) for a in arguments]
        result: int = libc.syscall(ctypes.c_long(number), *words)
        return -ctypes.get_errno() if result == -1 else result

    given = [number for number in range(3, 64) if call(CALLS["fcntl"], number, 1, 0) >= 0]
    attempts = attempts_at(process, file) + attempts_at_descriptors(given)
    json.dump({"given": given, "succeeded": succeeded(call, attempts)}, sys.stderr)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
