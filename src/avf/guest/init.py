"""PID 1 of the guest: mounts, loads modules, runs the agent, reaps orphans, and powers the machine off when the agent
is gone.

The agent is a child, forked and not executed: this interpreter is ready. Whatever happens to it (killed, out of
memory), the host still hears a reason and the machine stops.
"""

import fcntl
import os
import socket
import struct
import time
from collections.abc import Callable
from typing import NoReturn

from avf.guest import HOSTNAME, PAYLOAD_ID, libc, phases
from avf.guest.files import write_text
from avf.guest.processor import BOOT_MODULES, load_processor_modules
from avf.guest.report import mute, report_failure

MODULES = "/etc/avf/modules"
PCI_MODULES = "/etc/avf/pci-modules"
DEBUGGABLE_MARKER = "/etc/avf/debuggable"
TEMPLATE_VARIABLE = "AVF_TEMPLATE"
"""Set by a kernel parameter of this name, which the kernel hands on to init as a variable."""

SPARE_THREADS = 3
"""How many the agent starts before the payload: two for its RPC sessions, and one that keeps the clock."""

_PCI_DEVICES = "/sys/bus/pci/devices"
_CONSOLE = "/dev/hvc0"
_LOG = "/dev/hvc2"
_PORT_POLL = 0.001
_PORT_TRIES = 500
_UNKILLABLE = "-1000"
_VSOCK, _KERNEL_LOG = "/dev/vsock", "/dev/kmsg"
_ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
    "HOME": "/",
    "TERM": "linux",
    "LANG": "C.UTF-8",
}
_SAFE = libc.MS_NOSUID | libc.MS_NODEV
_MOUNTS = (
    ("devtmpfs", "/dev", libc.MS_NOSUID | libc.MS_NOEXEC, "mode=0755"),
    ("devpts", "/dev/pts", libc.MS_NOSUID | libc.MS_NOEXEC, "mode=0600,ptmxmode=0666"),
    ("proc", "/proc", _SAFE | libc.MS_NOEXEC, "hidepid=2"),
    ("sysfs", "/sys", _SAFE | libc.MS_NOEXEC, ""),
    ("cgroup2", "/sys/fs/cgroup", _SAFE | libc.MS_NOEXEC, ""),
    ("tmpfs", "/run", _SAFE, "mode=0755"),
    ("tmpfs", "/tmp", _SAFE, "mode=1777"),
    ("tmpfs", "/data", _SAFE | libc.MS_NOEXEC, f"mode=0771,uid={PAYLOAD_ID},gid={PAYLOAD_ID}"),
    ("tmpfs", "/dev/shm", _SAFE, "mode=1777"),
)
_LINKS = {"fd": "", "stdin": "/0", "stdout": "/1", "stderr": "/2"}
_SYSCTLS = {
    # without these a payload could reach far more of the kernel than it needs
    "user/max_user_namespaces": "0",
    "kernel/unprivileged_bpf_disabled": "1",
    "kernel/perf_event_paranoid": "3",
    # what the kernel tells of itself
    "kernel/dmesg_restrict": "1",
    "kernel/kptr_restrict": "2",
}
"""Below /proc/sys. What a kernel does not have needs no closing."""

_TCGETS, _TCSETS = 0x5401, 0x5402
_TERMIOS_SIZE = 36
_LOUDEST = 7
_SIOCSIFFLAGS = 0x8914
_IFF_UP_RUNNING = 0x41


def main() -> NoReturn:
    """Never returns, and never ends: PID 1 that did would be a kernel panic."""
    try:
        is_template = TEMPLATE_VARIABLE in os.environ
        debuggable = os.access(DEBUGGABLE_MARKER, os.F_OK)
        set_up(debuggable, is_template=is_template)
        load_agent()
        status = wait_for(start(lambda: run_agent(debuggable, is_template=is_template)))
        if os.WIFSIGNALED(status):
            report(f"the agent was killed by signal {os.WTERMSIG(status)}")
        elif os.WEXITSTATUS(status):
            report(f"the agent exited with status {os.WEXITSTATUS(status)}")
    except BaseException as error:  # noqa: BLE001
        report(f"init: {type(error).__name__}: {error}")
    finally:
        libc.power_off()


def report(text: str) -> None:
    report_failure(f"MICRODROID_UNKNOWN_RUNTIME_ERROR|{text}")


def set_up(debuggable: bool, *, is_template: bool) -> None:
    """Makes the machine ready for the agent. Raises OSError; GuestError if it cannot become a template."""
    os.environ.clear()
    os.environ.update(_ENVIRONMENT)
    ignore_interrupts()
    mount_all()
    write_text("/proc/self/oom_score_adj", _UNKILLABLE)
    close_the_kernel()
    if not debuggable:
        libc.klogctl(libc.SYSLOG_CONSOLE_OFF)
    phases.ended("init")
    load_processor_modules(BOOT_MODULES)
    libc.load_modules(MODULES)
    if os.listdir(_PCI_DEVICES):
        libc.load_modules(PCI_MODULES)
    phases.ended("modules")
    set_up_devices()
    set_up_loopback()
    libc.set_hostname(HOSTNAME)
    set_up_stdio(debuggable)
    if is_template:
        from avf.guest.beforehand import get_ready

        get_ready()
    elif debuggable:
        show_kernel_log()
    phases.ended("devices")


def ignore_interrupts() -> None:
    """The kernel keeps from PID 1 the signals it does not handle; the interpreter handles SIGINT."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_DFL)


def mount_all() -> None:
    os.umask(0)
    for filesystem, target, flags, options in _MOUNTS:
        os.makedirs(target, exist_ok=True)
        libc.mount(filesystem, target, filesystem, flags, options)
    os.mkdir("/dev/socket", 0o755)
    os.mkdir("/run/lock", 0o1777)
    for name, target in _LINKS.items():
        os.symlink(f"/proc/self/fd{target}", f"/dev/{name}")
    os.umask(0o022)
    os.chmod("/", 0o755)


def close_the_kernel() -> None:
    """Bounds what the payload's user may ask of the kernel. Raises OSError."""
    for name, value in _SYSCTLS.items():
        try:
            write_text(f"/proc/sys/{name}", value)
        except FileNotFoundError:
            pass


def set_up_devices() -> None:
    """Devices whose rights the kernel leaves to user space."""
    os.chmod(_KERNEL_LOG, 0o600)
    if os.access(_VSOCK, os.F_OK):
        os.chmod(_VSOCK, 0o666)


def set_up_stdio(debuggable: bool) -> None:
    """What the agent and the payload print goes to the log port of a debuggable guest, and nowhere else.

    The payload owns that port, so that it can open /dev/stdout.
    """
    output = null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    if debuggable:
        output = open_port(_LOG) or null
        if output != null:
            os.fchown(output, PAYLOAD_ID, PAYLOAD_ID)
    else:
        mute()
    os.dup2(null, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)


def show_kernel_log() -> None:
    """Has the console show what the kernel has said, and what it says from now on."""
    console = open_port(_CONSOLE)
    if console is None:
        return
    write_all(console, libc.kernel_log())
    os.close(console)
    libc.klogctl(libc.SYSLOG_CONSOLE_LEVEL, size=_LOUDEST)


def open_port(path: str) -> int | None:
    """A port of the virtio console, which appears once the host's end has answered. Raw: what is written arrives as
    it is.
    """
    for _ in range(_PORT_TRIES):
        try:
            fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError:
            time.sleep(_PORT_POLL)
            continue
        mode = fcntl.ioctl(fd, _TCGETS, bytes(_TERMIOS_SIZE))
        fcntl.ioctl(fd, _TCSETS, raw(mode))
        return fd
    return None


def raw(mode: bytes) -> bytes:
    """struct termios as cfmakeraw(3) leaves it: four words of flags, then the rest."""
    cleared = (0o2753, 0o1, 0o460, 0o100113)  # input, output, control, local
    set_bits = (0, 0, 0o60, 0)
    words = [
        int.from_bytes(mode[at * 4 : at * 4 + 4], "little") & ~cleared[at] | set_bits[at]
        for at in range(4)
    ]
    return b"".join(word.to_bytes(4, "little") for word in words) + mode[16:]


def write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def set_up_loopback() -> None:
    """Best effort. Source: struct ifreq in netdevice(7)."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", _IFF_UP_RUNNING))
    except OSError:
        pass


def start(run: Callable[[], int]) -> int:
    """The pid of a child that ends with the status `run` gives."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        status = run()
    except BaseException as error:  # noqa: BLE001
        report(f"the agent failed: {type(error).__name__}: {error}")
        status = 0
    finally:
        os._exit(status)  # threads may still be waiting for calls; nothing is left to be tidied up


def load_agent() -> None:
    """Before its process is forked, which has to copy each page of this one that it writes to."""
    import gc

    import avf.guest.agent  # noqa: F401

    gc.freeze()


def run_agent(debuggable: bool, *, is_template: bool) -> int:
    """The agent's exit status. In a template this returns in its clones alone. Raises OSError or GuestError."""
    import gc

    from avf.guest.agent import main as agent
    from avf.guest.process import Process

    gc.enable()
    process = Process()
    if is_template:
        from avf.guest import limits, own_pages, spare_threads
        from avf.guest.rehearsal import rehearse
        from avf.guest.template import wait_to_be_cloned

        limits.admit(process.pid)
        own_pages.take(own_pages.rehearsed)
        spare_threads.keep(SPARE_THREADS)
        wait_to_be_cloned(rehearse)
        if debuggable:
            show_kernel_log()
        phases.ended("devices")
    phases.ended("agent")
    return agent(process)


def wait_for(pid: int) -> int:
    """The wait status of a child; until it has ended, orphans are reaped."""
    while True:
        ended, status = os.waitpid(-1, 0)
        if ended == pid:
            return status
