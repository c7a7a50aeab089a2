#!/usr/bin/python3
"""What an ordinary program takes for granted. Every line it prints is `NAME: ok` or says what went wrong."""

import bz2
import ctypes.util
import dbm
import errno
import getpass
import grp
import locale
import lzma
import os
import platform
import pty
import pwd
import select
import socket
import sqlite3
import ssl
import stat
import subprocess
import sys
import sysconfig
import tempfile
import time
import zoneinfo
from multiprocessing import Pool, shared_memory
from pathlib import Path


def output(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, **options)
    assert done.returncode == 0, (command, done.returncode, done.stdout, done.stderr)
    return done.stdout


def reopened_output():
    subprocess.run("echo one > /dev/stdout; echo two > /proc/self/fd/1", shell=True, check=True)
    with open("/dev/stderr", "w") as file:
        file.write("three\n")


def terminal():
    controller, terminal = pty.openpty()
    os.write(terminal, b"x")
    assert os.read(controller, 1) == b"x"
    assert os.stat(os.ttyname(terminal)).st_uid == os.getuid()


def user():
    assert getpass.getuser() == "payload", getpass.getuser()
    assert Path.home() == Path("/data")
    assert output("whoami") == output("id", "-un") == output("id", "-gn") == "payload\n"
    assert Path("~root").expanduser() == Path("/root")
    assert pwd.getpwuid(os.getuid()).pw_shell == "/bin/sh"
    assert grp.getgrgid(os.getgid()).gr_name == "payload"


def memory_files():
    for folder in ("/data", "/tmp", "/dev/shm"):
        with tempfile.NamedTemporaryFile(dir=folder) as file:
            file.write(b"x")


def shared():
    memory = shared_memory.SharedMemory(create=True, size=4096)
    memory.close()
    memory.unlink()


def devices():
    for name in ("zero", "full", "random", "urandom", "null"):
        with open(f"/dev/{name}", "rb", buffering=0) as file:
            file.read(1)
    with open("/dev/null", "w") as file:
        file.write("x")


def listens():
    with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as sock:
        sock.bind((socket.VMADDR_CID_ANY, 1024))
        sock.listen()


def itself():
    assert {"0", "1", "2"} <= set(os.listdir("/proc/self/fd"))
    Path("/proc/self/environ").read_bytes()
    Path("/proc/self/mem").open("rb").close()


def children():
    with subprocess.Popen(["busybox", "sleep", "1000"]) as child:
        Path(f"/proc/{child.pid}/environ").read_bytes()
        child.kill()


def environment():
    expected = {
        "HOME": "/data",
        "USER": "payload",
        "LOGNAME": "payload",
        "SHELL": "/bin/sh",
        "LANG": "C.UTF-8",
        "TERM": "linux",
    }
    assert {name: os.environ.get(name) for name in expected} == expected, os.environ
    assert set(os.environ) - set(expected) == {"PATH"}, os.environ
    assert {"/usr/bin", "/bin"} <= set(os.environ["PATH"].split(":"))
    assert os.umask(0o22) == 0o22
    os.listdir()


def hosts():
    for name in ("localhost", socket.gethostname()):
        assert socket.gethostbyname(name) == "127.0.0.1"
    found = {entry[4][0] for entry in socket.getaddrinfo("localhost", "http")}
    assert found == {"127.0.0.1", "::1"}, found
    assert socket.getfqdn("127.0.0.1") == "localhost"
    assert socket.getservbyname("https", "tcp") == 443
    assert socket.getprotobyname("udp") == 17
    assert "localhost" in output("getent", "hosts", "::1")
    assert output("hostname").strip() == socket.gethostname()
    try:
        socket.getaddrinfo("example.com", 80)
    except socket.gaierror:
        pass


def loopback():
    for address, family in (("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)):
        with socket.create_server((address, 0), family=family) as listener:
            socket.create_connection(listener.getsockname()[:2]).close()
    with socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listener:
        socket.create_connection(("127.0.0.1", listener.getsockname()[1])).close()


def texts():
    assert platform.freedesktop_os_release()["ID"] == "avf-linux"
    assert locale.setlocale(locale.LC_ALL, "") == "C.UTF-8"
    for name in ("shells", "nsswitch.conf", "resolv.conf", "mtab", "ld.so.cache", "hostname"):
        Path("/etc", name).read_bytes()
    assert "/bin/sh" in Path("/etc/shells").read_text().split()
    assert output("iconv", "-f", "ISO-8859-1", "-t", "UTF-16LE", input="x") == "x\0"


def times():
    assert time.tzname == ("UTC", "UTC")
    assert len(zoneinfo.available_timezones()) > 400
    berlin = zoneinfo.ZoneInfo("Europe/Berlin")
    assert berlin.utcoffset(__import__("datetime").datetime(2026, 7, 1)).seconds == 7200
    assert output("date", "+%Z", env={"TZ": "America/New_York"}).strip() in ("EST", "EDT")


def mounts():
    lines = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    options = {fields[1]: set(fields[3].split(",")) for fields in lines}
    safe = {"nosuid", "nodev"}
    expected = {
        "/usr": {"ro", *safe},
        "/mnt/apk": {"ro", *safe},
        "/data": {"rw", "noexec", *safe},
        "/tmp": {"rw", *safe},
        "/run": {"rw", *safe},
        "/dev/shm": {"rw", *safe},
        "/proc": {"noexec", *safe},
        "/sys": {"noexec", *safe},
        "/dev/pts": {"nosuid", "noexec"},
    }
    for target, wanted in expected.items():
        assert wanted <= options[target], (target, options[target])
    root = os.statvfs("/")
    assert root.f_flag & os.ST_RDONLY


def folders():
    for folder in ("/tmp", "/var/tmp", "/run/lock", "/var/lock", "/dev/shm"):
        assert stat.S_IMODE(os.stat(folder).st_mode) == 0o1777, folder
        tempfile.TemporaryFile(dir=folder).close()
    for folder in ("/home", "/opt", "/srv", "/var/lib", "/var/log", "/var/cache", "/var/run"):
        os.listdir(folder)
    program = Path("/tmp/program")
    program.write_text("#!/bin/sh\necho ran\n")
    program.chmod(0o755)
    assert output(program) == "ran\n"


CURSES = "import curses; curses.wrapper(lambda w: (w.addstr('from curses'), w.refresh()))"


def terminals():
    modes = {"null": 0o666, "zero": 0o666, "full": 0o666, "random": 0o666, "urandom": 0o666}
    for name, mode in (modes | {"tty": 0o666, "ptmx": 0o666}).items():
        found = os.stat(f"/dev/{name}")
        assert stat.S_ISCHR(found.st_mode) and stat.S_IMODE(found.st_mode) == mode, name
    try:
        Path("/dev/full").write_text("x")
    except OSError as error:
        assert error.errno == errno.ENOSPC
    for command in (
        ["sh", "-c", "echo from the tty > /dev/tty; stty size; tty"],
        [sys.executable, "-c", CURSES],
    ):
        text = in_terminal(command)
        assert b"from " in text, text


def in_terminal(command):
    pid, controller = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "xterm"
        os.execvp(command[0], command)
    text = b""
    while True:
        try:
            piece = os.read(controller, 1000)
        except OSError:  # the other side is closed
            break
        text += piece
    os.close(controller)
    assert os.waitpid(pid, 0)[1] == 0, text
    return text


def tools():
    for command, text in (
        ("printf 'b\\na\\n' | sort | head -n 1 | tr a-z A-Z", "A"),
        ("seq 3 | awk '{ n += $1 } END { print n }'", "6"),
        ("echo abc | sed s/b/x/ | grep -c axc", "1"),
        ("cd /tmp && echo x > f && tar cz f | tar tz && rm f", "f"),
        ("find /etc -name hosts | xargs basename", "hosts"),
        ("echo text | gzip | gunzip | sha256sum | cut -c 1-8", "b9e68e1b"),
        ("nproc", "1"),
        ('test -n "$(ps | grep ps)" && echo yes', "yes"),
        ("expr 2 + 3; sleep 0; true", "5"),
        ("getconf PAGESIZE", "4096"),
        ("test -d $(mktemp -d) && stat -c %a /tmp", "1777"),
        ("env -i sh -c 'command -v vi less diff patch od xxd hexdump >&2; echo $?'", "0"),
    ):
        assert output("sh", "-c", command).strip() == text, command


COREUTILS = (
    "b2sum base32 basenc cksum comm csplit env fmt join nice nohup numfmt pathchk pr printenv split stdbuf sum timeout"
    " tsort"
)


def packages():
    """Of the APK, for this interpreter and for others."""
    import vendored

    assert vendored.__file__ == "/mnt/apk/site-packages/vendored.py"
    assert "/mnt/apk/site-packages" in output(sys.executable, "-m", "vendored")


def bash():
    for command, text in (
        ("declare -A a=([x]=y); [[ abc =~ b ]] && echo ${a[x]}", "y"),
        ("comm -12 <(seq 3) <(seq 2 4) | tail -n 1", "3"),
        ("timeout 0.1 sleep 100; echo $?", "124"),
        ("nice -n 5 nice; nohup true; printenv HOME", "5\n/data"),
        ("stdbuf -oL seq 1; flock /tmp/lock echo held", "1\nheld"),
        ("ldd /bin/bash | grep -o 'libtinfo.so.6 ='", "libtinfo.so.6 ="),
        ("TERM=xterm tput cols", "80"),
        (f"type -p {COREUTILS} | wc -l", str(len(COREUTILS.split()))),
    ):
        assert output("bash", "-c", command).strip() == text, command
    for line in ("/bin/bash", "/usr/bin/env bash", "/usr/bin/env -S bash -e"):
        program = Path("/tmp/program")
        program.write_text(f"#!{line}\necho $((1 << 4)) ${{BASH_VERSION:0:1}}\n")
        program.chmod(0o755)
        assert output(program).split()[0] == "16", line


def storage():
    with sqlite3.connect("/data/some.db") as base:
        assert base.execute("pragma journal_mode=wal").fetchone() == ("wal",)
        base.execute("create table t (x)")
        base.executemany("insert into t values (?)", [(n,) for n in range(1000)])
        assert base.execute("select sum(x) from t").fetchone() == (499500,)
    for kind in ("dbm.gnu", "dbm.ndbm", "dbm.dumb"):
        module = __import__(kind, fromlist=["open"])
        with module.open(f"/data/{kind}", "c") as table:
            table[b"key"] = b"value"
    assert dbm.whichdb("/data/dbm.gnu") == "dbm.gnu"
    for kind in (lzma, bz2):
        assert kind.decompress(kind.compress(b"text")) == b"text"


def processes():
    with Pool(3) as pool:
        assert sorted(pool.map(abs, range(-9, 1))) == list(range(10))


def python_tools():
    folder = Path(tempfile.mkdtemp())
    (folder / "test_it.py").write_text(
        "import unittest\nclass T(unittest.TestCase):\n    def test(self): self.assertTrue(1)\n"
    )
    output(sys.executable, "-m", "unittest", "discover", folder)
    assert "wraps" in output(sys.executable, "-m", "pydoc", "functools")
    assert "ncalls" in output(sys.executable, "-m", "cProfile", "-m", "this")
    (folder / "x.py").write_text("x = 5\nprint(x)\n")
    assert "5" in output(
        sys.executable, "-m", "pdb", "-c", "continue", "-c", "quit", folder / "x.py"
    )
    output(sys.executable, "-m", "venv", "--without-pip", folder / "venv")
    found = output(folder / "venv/bin/python", "-c", "import sys; print(sys.prefix)").strip()
    assert found == str(folder / "venv"), found
    output(sys.executable, "-m", "compileall", "-q", folder)
    assert "\u65e5".encode("shift_jis") == b"\x93\xfa"


def libraries():
    for name in ("c", "m", "stdc++", "crypto", "z"):
        path = ctypes.util.find_library(name)
        assert path, name
        ctypes.CDLL(path)
    assert sysconfig.get_config_var("EXT_SUFFIX")
    assert sysconfig.get_path("purelib")
    context = ssl.create_default_context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_default_certs()


def kernel():
    os.close(os.memfd_create("x"))
    os.close(os.eventfd(0))
    select.epoll().close()
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.inotify_init() > 0
    shared = libc.shmget(0, 4096, 0o1600)
    assert shared >= 0
    libc.shmctl(shared, 0, None)
    for name in ("cpuinfo", "meminfo", "uptime", "loadavg", "stat", "version", "self/status"):
        Path("/proc", name).read_bytes()
    Path("/sys/devices/system/cpu/online").read_text()
    assert int(Path("/proc/sys/kernel/pid_max").read_text()) > 1000


CHECKS = [
    *(reopened_output, terminal, user, environment, memory_files, shared, devices, listens),
    *(
        itself,
        children,
        hosts,
        loopback,
        texts,
        times,
        mounts,
        folders,
        terminals,
        tools,
        bash,
        packages,
    ),
    *(storage, processes, python_tools, libraries, kernel),
]
for check in CHECKS:
    try:
        check()
    except Exception as error:  # noqa: BLE001
        print(f"{check.__name__}: {error!r}")
    else:
        print(f"{check.__name__}: ok")
