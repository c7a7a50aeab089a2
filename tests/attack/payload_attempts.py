#!/usr/bin/python3
"""A hostile payload: tries to get out of its user, and tells the host how each attempt ended.

Each line it sends is JSON, [WHAT, VALUE]. An attempt ends with "done" or the name of an errno.
"""

import ctypes
import errno
import glob
import json
import os
import resource
import signal
import socket
import stat
import struct
import sys
import time

import avf_payload

HOST, PORT = 2, 7000
MASK = bytes(byte ^ 0xA5 for byte in range(256))
PIECE = 1 << 20

libc = ctypes.CDLL(None, use_errno=True)
AGENT = os.getppid()

CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000
PTRACE_ATTACH, PTRACE_SEIZE = 16, 0x4206
PR_GET_SECUREBITS = 27
SYS = {
    "kexec_load": 246,
    "init_module": 175,
    "finit_module": 313,
    "bpf": 321,
    "perf_event_open": 298,
    "userfaultfd": 323,
    "open_by_handle_at": 304,
}


def outcome(function, *arguments):
    ctypes.set_errno(0)
    try:
        result = function(*arguments)
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error.errno))
    if isinstance(result, int) and result < 0:
        return errno.errorcode.get(ctypes.get_errno(), str(ctypes.get_errno()))
    return "done"


def in_a_child(function, *arguments):
    """The outcome in a process with one thread."""
    read_end, write_end = os.pipe()
    if os.fork() == 0:
        os.write(write_end, outcome(function, *arguments).encode())
        os._exit(0)
    os.wait()
    return os.read(read_end, 100).decode()


def call(name, *arguments):
    return outcome(libc.syscall, SYS[name], *arguments)


def opened(path, flags=os.O_RDONLY):
    return outcome(lambda: os.close(os.open(path, flags | os.O_NOCTTY | os.O_NONBLOCK)))


def written(path, text):
    def write():
        with open(path, "w") as file:
            file.write(text)

    return outcome(write)


def run_a_file_of_its_own(path):
    def execute():
        with open("/usr/bin/busybox", "rb") as source, open(path, "wb") as copy:
            copy.write(source.read())
        os.chmod(path, 0o755)
        pid = os.fork()
        if pid == 0:
            try:
                os.execv(path, ["true"])
            except OSError as error:
                os._exit(error.errno)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if code:
            raise OSError(code, "")

    return outcome(execute)


def bind(port):
    with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as sock:
        return outcome(sock.bind, (socket.VMADDR_CID_ANY, port))


def attempts():
    page = ctypes.create_string_buffer(4096)
    yield "become root", outcome(os.setuid, 0)
    yield "become root's group", outcome(os.setgid, 0)
    yield "take groups", outcome(os.setgroups, [0])
    for path in ("kernel/core_pattern", "kernel/modprobe", "kernel/sysrq", "vm/panic_on_oom"):
        yield f"write {path}", written(f"/proc/sys/{path}", "1")
    yield "write kernel/ns_last_pid", written("/proc/sys/kernel/ns_last_pid", "100")
    yield "sysrq", written("/proc/sysrq-trigger", "c")
    yield "uevent helper", written("/sys/kernel/uevent_helper", "/mnt/apk/bin/x")
    yield "kill the agent", outcome(os.kill, AGENT, signal.SIGKILL)
    yield "kill init", outcome(os.kill, 1, signal.SIGKILL)
    for request in (PTRACE_ATTACH, PTRACE_SEIZE):
        yield f"ptrace {request}", outcome(libc.ptrace, request, AGENT, 0, 0)
    vector = struct.pack("QQ", ctypes.addressof(page), 16)
    reading = (AGENT, vector, 1, vector, 1, 0)
    yield "process_vm_readv", outcome(libc.process_vm_readv, *reading)
    for name in ("mem", "environ", "maps", "fd", "root", "cmdline"):
        yield f"agent's {name}", opened(f"/proc/{AGENT}/{name}")
        yield f"init's {name}", opened(f"/proc/1/{name}")
    yield "kcore", opened("/proc/kcore")
    yield "kmsg", opened("/proc/kmsg")
    yield "kernel log", outcome(libc.klogctl, 3, page, 4096)
    yield "user namespace", in_a_child(libc.unshare, CLONE_NEWUSER)
    yield "mount namespace", outcome(libc.unshare, CLONE_NEWNS)
    yield "mount", outcome(libc.mount, b"tmpfs", b"/data", b"tmpfs", 0, None)
    yield "unmount", outcome(libc.umount2, b"/mnt/apk", 2)
    yield "chroot", outcome(os.chroot, "/data")
    yield "make a device", outcome(os.mknod, "/data/vda", 0o600 | stat.S_IFBLK, os.makedev(254, 0))
    yield "init_module", call("init_module", page, 4096, b"")
    with open(glob.glob("/usr/lib/modules/*.ko")[0], "rb") as module:
        yield "finit_module", call("finit_module", module.fileno(), b"", 0)
    yield "kexec_load", call("kexec_load", 0, 0, None, 0)
    yield "reboot", outcome(libc.reboot, 0x4321FEDC)
    yield "swapoff", outcome(libc.swapoff, b"/dev/zram0")
    yield "host name", outcome(libc.sethostname, b"x", 1)
    yield "set the time", outcome(time.clock_settime, time.CLOCK_REALTIME, 0)
    yield "I/O ports", outcome(libc.iopl, 3)
    yield "bpf", call("bpf", 5, page, 128)
    yield "perf events", call("perf_event_open", page, -1, 0, -1, 0)
    yield "userfaultfd", call("userfaultfd", 0)
    yield "open by handle", call("open_by_handle_at", -100, page, 0)
    yield "nice", outcome(os.setpriority, os.PRIO_PROCESS, 0, -5)
    yield "real time", outcome(os.sched_setscheduler, 0, os.SCHED_FIFO, os.sched_param(1))
    yield "never run out of memory", written("/proc/self/oom_score_adj", "-1000")
    for name in ("memory.max", "pids.max", "cgroup.procs"):
        yield f"group's {name}", written(f"/sys/fs/cgroup/payload/{name}", "max")
    yield "leave the group", written("/sys/fs/cgroup/cgroup.procs", "0")
    yield "group of its own", outcome(os.mkdir, "/sys/fs/cgroup/payload/mine")
    yield "larger /data", outcome(libc.mount, b"", b"/data", b"", 32, b"size=1g")
    for path in (
        "/x",
        "/etc/passwd",
        "/init",
        "/run/x",
        "/dev/x",
        "/root/x",
        "/mnt/x",
        "/mnt/apk/x",
    ):
        yield f"write {path}", written(path, "x")
    yield "replace the agent's socket", outcome(os.unlink, "/dev/socket/vm_payload_service")
    yield "privileged vsock port", bind(1023)
    yield "run a file in /data", run_a_file_of_its_own("/data/own")


def more_descriptors():
    """Values the hard limits may not pass."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard + 1, hard + 1))
    except (ValueError, OSError):
        return "refused"
    return "done"


def writable_below(*roots):
    """Files of the kernel that this user may write."""
    found = []
    for root in roots:
        for folder, directories, files in os.walk(root):
            directories[:] = [
                name for name in directories if not os.path.islink(f"{folder}/{name}")
            ]
            for name in files:
                path = f"{folder}/{name}"
                if not os.path.islink(path) and os.access(path, os.W_OK):
                    found.append(path)
    return found


def devices():
    """Device nodes that can be opened."""
    found = []
    for folder, _, files in os.walk("/dev"):
        for name in files:
            path = f"{folder}/{name}"
            mode = os.lstat(path).st_mode
            if (stat.S_ISCHR(mode) or stat.S_ISBLK(mode)) and "done" in (
                opened(path),
                opened(path, os.O_WRONLY),
            ):
                found.append(path)
    return sorted(found)


def status():
    wanted = (
        "Uid",
        "Gid",
        "Groups",
        "CapInh",
        "CapPrm",
        "CapEff",
        "CapBnd",
        "CapAmb",
        "NoNewPrivs",
    )
    with open("/proc/self/status") as file:
        fields = dict(line.rstrip("\n").split(":", 1) for line in file)
    return {name: fields[name].split() for name in wanted}


def in_own_memory(masked):
    """Which of the values, sent masked so that receiving them proves nothing, are in this process's memory."""
    found = set()
    overlap = max(map(len, masked))
    with open("/proc/self/maps") as maps:
        regions = [line.split() for line in maps]
    with open("/proc/self/mem", "rb", buffering=0) as memory:
        for region in regions:
            start, end = (int(text, 16) for text in region[0].split("-"))
            if "r" not in region[1] or region[-1] in ("[vvar]", "[vsyscall]"):
                continue
            for at in range(start, end, PIECE):
                piece = os.pread(memory.fileno(), min(PIECE + overlap, end - at), at)
                piece = piece.translate(MASK)
                found.update(index for index, value in enumerate(masked) if value in piece)
    return sorted(found)


def main():
    avf_payload.notify_payload_ready()
    secret = avf_payload.get_vm_instance_secret(b"control", 32)
    with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as host:
        host.connect((HOST, PORT))
        with host.makefile("rw") as stream:

            def tell(what, value):
                stream.write(json.dumps([what, value]) + "\n")
                stream.flush()

            tell("attempts", dict(attempts()))
            sys.stdout.write("a word that nobody hears\n")
            tell("limits", more_descriptors())
            tell("status", status())
            tell("securebits", libc.prctl(PR_GET_SECUREBITS, 0, 0, 0, 0))
            tell("processes", [int(name) for name in os.listdir("/proc") if name.isdigit()])
            tell("self", os.getpid())
            tell("devices", devices())
            tell("writable", writable_below("/proc/sys", "/sys"))
            tell("secret", secret.translate(MASK).hex())
            masked = [bytes.fromhex(text) for text in json.loads(stream.readline())]
            tell("memory", in_own_memory(masked))


main()
