"""Into guests that run: commands, terminals, files; and a guest that is not debuggable, which serves nobody."""

import errno
import os
import pty
import random
import select
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from avf.aidl.virtualmachineservice import IVirtualMachineService
from avf.binder import RemoteException
from avf.client import CommandFailed, DebugLevel, ShellFailed, VirtualMachine, connect
from avf.client.control import open_vm
from avf.vsock import HybridVsock
from tests.eventually import eventually
from tests.vm.conftest import App, prepare_app

pytestmark = pytest.mark.vm

VM = [sys.executable, "-m", "avf.cli"]


@pytest.fixture(scope="module")
def app_of_module(image_dir: Path, sample_apk: Path) -> Iterator[App]:
    with (
        tempfile.TemporaryDirectory(prefix="avf-", ignore_cleanup_errors=True) as runtime,
        tempfile.TemporaryDirectory(prefix="avf-") as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("AVF_RUNTIME_DIR", runtime)
        patch.setenv("XDG_STATE_HOME", f"{runtime}/state")
        with connect() as service:
            yield prepare_app(service, Path(folder), sample_apk)


@pytest.fixture(scope="module")
def vm(app_of_module: App) -> Iterator[VirtualMachine]:
    app = app_of_module
    log = app.folder / "log"
    with app.service.create_vm(app.running("echo.py"), log=log) as running:
        running.start()
        running.wait_until_ready(timeout=300)
        with running.connect_vsock(5678):  # when it ends, the payload does
            yield running
        print(log.read_text())


def command(*arguments: object, **options: object) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        [*VM, *map(str, arguments)], **({"capture_output": True, "timeout": 120} | options)
    )


def test_a_command_and_its_streams(vm: VirtualMachine) -> None:
    script = "read line; echo got $line; echo trouble >&2; exit 7"
    done = vm.run(["sh", "-c", script], input=b"a line\n")
    assert (done.returncode, done.stdout, done.stderr) == (7, b"got a line\n", b"trouble\n")
    assert vm.run(["sh", "-c", "kill -TERM $$"]).returncode == -signal.SIGTERM
    with pytest.raises(CommandFailed) as failed:
        vm.run(["false"], check=True)
    assert failed.value.returncode == 1
    for name, status in (("nosuch", 127), ("/etc/hosts", 126)):
        with pytest.raises(ShellFailed, match=name) as refused:
            vm.run([name])
        assert refused.value.status == status


def test_large_input_comes_back_whole(vm: VirtualMachine) -> None:
    data = random.Random(1).randbytes(3 << 20)
    assert vm.run(["cat"], input=data).stdout == data


def test_a_command_that_reads_nothing_ends_nevertheless(vm: VirtualMachine) -> None:
    assert vm.run(["true"], input=bytes(1 << 20)).returncode == 0


def test_who_the_command_is(vm: VirtualMachine) -> None:
    """The payload's user, with its rights and under its limits; root, without them, only where it is asked for."""
    script = "id -u; pwd; grep -E '^(CapBnd|NoNewPrivs)' /proc/self/status; cat /proc/self/cgroup; echo $A; umask"
    user = vm.run(["sh", "-c", script], environment={"A": "b c"}).stdout.decode().splitlines()
    assert user == [
        "6000", "/data", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "0::/payload", "b c", "0022",
    ]  # fmt: skip
    root = vm.run(["sh", "-c", script], root=True, folder="/tmp").stdout.decode().splitlines()
    assert (root[0], root[1], root[3], root[4]) == ("0", "/tmp", "NoNewPrivs:\t0", "0::/")
    assert "0" not in vm.run(["sh", "-c", "ls /proc/self/fd"]).stdout.decode().split("\n")[4:]


def test_streams_of_a_command_that_runs(vm: VirtualMachine) -> None:
    with vm.shell(["sh", "-c", "while read word; do echo $word $word; done; exit 5"]) as shell:
        shell.stdin.write(b"ha\n")
        shell.stdin.flush()
        assert shell.stdout.readline() == b"ha ha\n"
        assert shell.returncode is None
        shell.stdin.close()
        assert shell.wait(60) == 5
    with vm.shell(["sleep", "1000"]) as shell:
        shell.send_signal(signal.SIGINT)
        assert shell.wait(60) == -signal.SIGINT


def test_a_command_that_is_left_is_hung_up(vm: VirtualMachine) -> None:
    with vm.shell(["sh", "-c", "echo ready; sleep 1000; true"]) as shell:
        assert shell.stdout.readline() == b"ready\n"
    eventually(lambda: b"sleep 1000" in vm.run(["ps", "-o", "args"]).stdout, False)
    with pytest.raises(TimeoutError):
        vm.run(["sleep", "1001"], timeout=0.5)
    eventually(lambda: b"sleep 1001" in vm.run(["ps", "-o", "args"]).stdout, False)


def test_the_command_line(vm: VirtualMachine) -> None:
    done = command("shell", vm.cid, "sh", "-c", "cat; exit 3", input=b"piped")
    assert (done.returncode, done.stdout, done.stderr) == (3, b"piped", b"")
    assert command("shell", vm.cid, "sh", "-c", "kill -9 $$", input=b"").returncode == 137
    assert command("shell", vm.cid, "--root", "id", "-u", input=b"").stdout == b"0\n"
    assert command("shell", vm.cid, input=b"echo $USER\nexit 4\n").stdout == b"payload\n"
    missing = command("shell", vm.cid, "nosuch", input=b"")
    assert missing.returncode == 127
    assert missing.stderr == b"Error: nosuch: No such file or directory\n"
    head = subprocess.run(
        f"{' '.join(VM)} shell {vm.cid} yes </dev/null | head -n 1; exit ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        timeout=120,
    )
    assert (head.returncode, head.stdout) == (128 + signal.SIGPIPE, b"y\n")


def test_interrupting_the_command_line(vm: VirtualMachine) -> None:
    script = "trap 'echo caught; exit 9' INT; echo ready; while :; do sleep 0.1; done"
    with subprocess.Popen(
        [*VM, "shell", str(vm.cid), "sh", "-c", script],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == b"caught\n"
    assert process.returncode == 9


class Terminal:
    """`vm shell` on a terminal of the test's."""

    def __init__(self, *arguments: str) -> None:
        self.master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (33, 99))
        self.slave = slave
        self.before = termios.tcgetattr(slave)
        self.process = subprocess.Popen(
            [*VM, "shell", *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=os.environ | {"TERM": "vt100"},
        )
        self.seen = b""

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def expect(self, text: str) -> None:
        deadline = time.monotonic() + 60
        while text.encode() not in self.seen:
            left = deadline - time.monotonic()
            assert left > 0 and select.select([self.master], [], [], left)[0], self.seen
            self.seen += os.read(self.master, 4096)
        self.seen = self.seen.partition(text.encode())[2]

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.slave)
        os.close(self.master)


def test_a_terminal(vm: VirtualMachine) -> None:
    """Its name and size, a resize, Ctrl-C, the exit status, and what is left of the user's own terminal."""
    terminal = Terminal(str(vm.cid))
    try:
        terminal.expect("$ ")
        terminal.type("tty; stty size; echo $TERM\n")
        terminal.expect("/dev/pts/0")
        terminal.expect("33 99")
        terminal.expect("vt100")
        termios.tcsetwinsize(terminal.slave, (20, 50))
        terminal.process.send_signal(signal.SIGWINCH)
        terminal.type("trap 'stty size' WINCH; stty size\n")
        terminal.expect("20 50")
        terminal.type("sh -c 'echo go; exec sleep 1000'\n")  # in the foreground once it says so
        terminal.expect("\r\ngo\r\n")
        terminal.type("\x03")
        terminal.expect("$ ")
        terminal.type("exit 6\n")
        assert terminal.process.wait(60) == 6
        assert termios.tcgetattr(terminal.slave) == terminal.before
    finally:
        terminal.close()


@pytest.mark.parametrize(("how", "status"), [("escape", 0), ("signal", 143)])
def test_the_users_terminal_is_restored(vm: VirtualMachine, how: str, status: int) -> None:
    terminal = Terminal(str(vm.cid), "sh", "-c", "echo here; sleep 1002")
    try:
        terminal.expect("here")
        assert termios.tcgetattr(terminal.slave) != terminal.before
        if how == "escape":
            terminal.type("\x1d")
        else:
            terminal.process.terminate()
        assert terminal.process.wait(60) == status
        assert termios.tcgetattr(terminal.slave) == terminal.before
        eventually(lambda: b"sleep 1002" in vm.run(["ps", "-o", "args"]).stdout, False)
    finally:
        terminal.close()


def make_tree(folder: Path) -> dict[str, bytes]:
    files = {"a.txt": b"a", "sub/b.bin": random.Random(2).randbytes(300_000), "sub/empty": b""}
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    (folder / "sub/link").symlink_to("../a.txt")
    (folder / "a.txt").chmod(0o640)
    (folder / "sub/b.bin").chmod(0o755)
    (folder / "sub").chmod(0o750)
    for name in ("sub/b.bin", "sub"):
        os.utime(folder / name, ns=(10**18, 10**18 + 123_456_789))
    return files


def test_files_there_and_back(vm: VirtualMachine, tmp_path: Path) -> None:
    files = make_tree(tmp_path / "tree")
    os.mkfifo(tmp_path / "tree/pipe")
    left_out = vm.push(tmp_path / "tree", target="/data/")
    assert len(left_out) == 1 and "tree/pipe: is neither" in left_out[0]
    assert vm.run(["sh", "-c", "cat tree/sub/link"]).stdout == b"a"
    assert vm.run(["stat", "-c", "%a %u", "tree/a.txt"]).stdout == b"640 6000\n"

    assert vm.pull("tree", target=tmp_path / "back") == []
    back = tmp_path / "back"
    assert {name: (back / name).read_bytes() for name in files} == files
    assert (back / "sub/link").readlink() == Path("../a.txt")
    for name in ("a.txt", "sub/b.bin", "sub"):
        was, now = (tmp_path / "tree" / name).stat(), (back / name).stat()
        assert (now.st_mode, now.st_mtime_ns) == (was.st_mode, was.st_mtime_ns), name
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back", "tree"]
    assert b".avf-" not in vm.run(["ls", "-a", "/data"]).stdout


def test_files_by_the_command_line(vm: VirtualMachine, tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"1")
    (tmp_path / "two").write_bytes(b"2")
    pushed = command("push", vm.cid, tmp_path / "one", tmp_path / "two", "/tmp")
    assert (pushed.returncode, pushed.stdout, pushed.stderr) == (0, b"", b"")
    pulled = command("pull", vm.cid, "/tmp/one", "/tmp/two", ".", cwd=tmp_path)
    assert (pulled.returncode, pulled.stderr) == (0, b"")
    missing = command("pull", vm.cid, "/tmp/three", ".", cwd=tmp_path)
    assert missing.returncode == 1
    assert b"/tmp/three: No such file or directory" in missing.stderr
    secret = command("pull", vm.cid, "/dev/kmsg", "kmsg", cwd=tmp_path)
    assert b"/dev/kmsg is neither a file nor a folder" in secret.stderr
    assert not (tmp_path / "kmsg").exists()
    folder = command("push", vm.cid, tmp_path / "one", "/root/one")
    assert b"Permission denied" in folder.stderr
    assert command("push", vm.cid, "--root", tmp_path / "one", "/run/one").returncode == 0
    assert vm.run(["stat", "-c", "%u", "/run/one"]).stdout == b"0\n"


def test_a_full_disk_leaves_nothing_behind(vm: VirtualMachine, tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(64 << 20)
    with pytest.raises(ShellFailed, match="No space left on device"):
        vm.push(tmp_path / "large", target="/dev/shm/large")
    assert vm.run(["ls", "-A", "/dev/shm"]).stdout == b""


def test_the_payload_cannot_reach_the_service(vm: VirtualMachine) -> None:
    """Neither as its own machine, nor over the loopback; nor can it listen on a port that takes its place."""
    script = f"""
import socket, struct, fcntl
with open("/dev/vsock", "rb") as device:
    (own,) = struct.unpack("=I", fcntl.ioctl(device, 0x7B9, bytes(4)))
for cid in (own, 1, 0):
    try:
        with socket.socket(socket.AF_VSOCK) as sock:
            sock.settimeout(5)
            sock.connect((cid, {IVirtualMachineService.VM_SHELL_SERVICE_PORT}))
            print("reached", cid, sock.recv(1))
    except OSError as error:
        print("no")
try:
    with socket.socket(socket.AF_VSOCK) as sock:
        sock.bind((socket.VMADDR_CID_ANY, 23))
except OSError as error:
    print(error.errno)
"""
    done = vm.run(["python3", "-c", script])
    assert done.stdout.decode().split() == ["no", "no", "no", str(errno.EACCES)], done


def test_another_process_of_the_owner(vm: VirtualMachine) -> None:
    with open_vm(vm.cid) as control:
        assert control.run(["echo", "hi"]).stdout == b"hi\n"
        with pytest.raises(RemoteException, match="privileged port 22"):
            control.connect_vsock(22)


SERVER = """
import socket
with socket.socket(socket.AF_VSOCK) as listener:
    listener.bind((socket.VMADDR_CID_ANY, 7000))
    listener.listen()
    print("listening", flush=True)
    while True:
        connection, _ = listener.accept()
        with connection, connection.makefile("rwb") as file:
            file.write(file.read()[::-1])
"""
"""Reads to the end, then answers."""

CLIENT = """
import socket, sys
with socket.socket(socket.AF_VSOCK) as sock:
    sock.connect((2, int(sys.argv[1])))
    sock.sendall(b"from the guest")
    sock.shutdown(socket.SHUT_WR)
    print(sock.makefile("rb").read().decode())
"""


def free_vsock_port() -> int:
    return random.SystemRandom().randrange(10_000, 1_000_000)


@contextmanager
def forwarding(vm: VirtualMachine, source: str, target: str) -> Iterator[str]:
    """The address that `vm forward` says it takes connections at."""
    process = subprocess.Popen(
        [*VM, "forward", str(vm.cid), source, target], stderr=subprocess.PIPE, text=True
    )
    with process:
        assert process.stderr is not None
        yield process.stderr.readline().split()[1]
        process.terminate()
    assert process.returncode == 128 + signal.SIGTERM


def test_connecting_and_forwarding(vm: VirtualMachine, tmp_path: Path) -> None:
    """Every end is passed on by itself, both ways, so that who has sent everything still gets the answer."""
    with vm.shell(["python3", "-c", SERVER]) as server:
        assert server.stdout.readline() == b"listening\n"
        done = command("connect", vm.cid, 7000, input=b"abc")
        assert (done.returncode, done.stdout, done.stderr) == (0, b"cba", b"")

        with forwarding(vm, "tcp:0", "vsock:7000") as address:
            port = int(address.rpartition(":")[2])
            for _ in range(2):
                with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
                    client.sendall(b"over TCP")
                    client.shutdown(socket.SHUT_WR)
                    assert client.makefile("rb").read() == b"PCT revo"
        path = tmp_path / "socket"
        with (
            forwarding(vm, f"unix:{path}", "vsock:7000") as address,
            socket.socket(socket.AF_UNIX) as client,
        ):
            assert address == f"unix:{path}"
            client.connect(str(path))
            client.sendall(b"unix")
            client.shutdown(socket.SHUT_WR)
            assert client.makefile("rb").read() == b"xinu"
        assert not path.exists()

    refused = command("connect", vm.cid, 7001, input=b"")
    assert refused.returncode == 1
    assert b"the guest refused a connection to vsock port 7001" in refused.stderr


def test_forwarding_from_the_guest(vm: VirtualMachine) -> None:
    port = free_vsock_port()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(60)
        to = f"tcp:{listener.getsockname()[1]}"
        with (
            forwarding(vm, f"vsock:{port}", to),
            vm.shell(["python3", "-c", CLIENT, str(port)]) as client,
        ):
            connection, _ = listener.accept()
            with connection, connection.makefile("rwb") as file:
                file.write(b"you said: " + file.read())
            assert client.stdout.read() == b"you said: from the guest\n"
            assert client.wait(60) == 0


def test_a_guest_that_is_not_debuggable_refuses(
    app_of_module: App, tmp_path: Path, sample_apk: Path
) -> None:
    """The host asks the device itself, past all that virtmgr might refuse. The payload's own port is served."""
    app = prepare_app(app_of_module.service, tmp_path, sample_apk)
    config = app.running("echo.py", debug_level=DebugLevel.NONE)
    output = {"console": tmp_path / "console", "log": tmp_path / "log"}
    with app.service.create_vm(config, **output) as quiet, open_vm(quiet.cid) as control:
        quiet.start()
        quiet.wait_until_ready(timeout=300)
        for shown in output:
            mute = command(shown if shown == "console" else "logs", quiet.cid, input=b"")
            assert mute.returncode == 1
            assert b"is not debuggable, so its guest writes nothing" in mute.stderr
        base = Path(os.environ["AVF_RUNTIME_DIR"], "vms", str(quiet.cid), "vsock.sock")
        guest = HybridVsock(quiet.cid, base)
        with control.connect_vsock(5678) as stream:
            with pytest.raises(ConnectionResetError):
                guest.connect(IVirtualMachineService.VM_SHELL_SERVICE_PORT)
            for vm in (quiet, control):
                with pytest.raises(RemoteException, match="no shell service: it is not debuggable"):
                    vm.run(["id"])
            refused = command("shell", quiet.cid, "id", input=b"")
            stream.sendall(b"abc\n")
            assert stream.recv(10) == b"cba\n"
        assert refused.returncode == 1
        assert b"it is not debuggable" in refused.stderr
        assert b"try: start the VM with `--debug full`" in refused.stderr
