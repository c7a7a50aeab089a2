"""What the client does with a guest's shell service, which runs here, over a unix socket, as this very user."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from avf.client import CommandFailed, ShellFailed, aio
from avf.client.inside import GuestAccess
from tests.eventually import eventually

ROOT = Path(__file__).parents[2]


class Here(GuestAccess):
    """The guest's own code, each connection in a process, without a change of the user."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._processes: list[subprocess.Popen[bytes]] = []

    def connect_shell(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.client.guest_here"],
                stdin=theirs,
                env=os.environ | {"HOME": str(self._home), "PYTHONPATH": str(ROOT)},
            )
        self._processes.append(process)
        return ours

    @property
    def connections(self) -> int:
        return len(self._processes)

    def wait(self) -> None:
        """Until the guest is done with all of them."""
        for process in self._processes:
            process.wait(60)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Here]:
    monkeypatch.chdir(tmp_path)
    found = Here(tmp_path)
    yield found
    found.wait()


def test_both_sides_together(here: Here, tmp_path: Path) -> None:
    done = here.run(
        ["sh", "-c", "cat; pwd; echo $A >&2; exit 3"], input=b"in ", environment={"A": "b"}
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, f"in {tmp_path}\n".encode(), b"b\n")
    assert here.run(["pwd"], folder="/").stdout == b"/\n"
    with pytest.raises(ShellFailed, match="/nowhere: No such file or directory"):
        here.run(["pwd"], folder="/nowhere")
    with pytest.raises(CommandFailed, match="ended with signal 9"):
        here.run(["sh", "-c", "kill -9 $$"], check=True)


@pytest.mark.parametrize("size", [0, 1, 65536, 5_000_000])
def test_input_of_any_size(here: Here, size: int) -> None:
    data = os.urandom(size)
    assert here.run(["cat"], input=data).stdout == data


def test_what_runs_on_in_the_background_is_not_waited_for(here: Here) -> None:
    done = here.run(["sh", "-c", "sleep 1000 & echo $!; exit 4"], timeout=60)
    os.kill(int(done.stdout), signal.SIGKILL)
    assert done.returncode == 4


def test_a_background_process_that_never_stops_writing(here: Here) -> None:
    done = here.run(["sh", "-c", "yes & echo $! >&2"], timeout=60)
    os.kill(int(done.stderr), signal.SIGKILL)
    assert done.returncode == 0


def test_all_of_the_output_comes_before_the_end(here: Here) -> None:
    for _ in range(5):
        done = here.run(["head", "-c", "200000", "/dev/zero"])
        assert len(done.stdout) == 200_000


def test_wrong_arguments(here: Here) -> None:
    with pytest.raises(TypeError, match="not one string"):
        here.run("ls -l")
    with pytest.raises(ValueError, match="no command"):
        here.run([])
    with pytest.raises(ValueError, match="NUL"):
        here.run(["a\0b"])
    with pytest.raises(ValueError, match="no name of an environment variable"):
        here.run(["ls"], environment={"A=B": "c"})
    with pytest.raises(ShellFailed, match="65536 at most"):
        here.run(["x" * 70_000])
    with pytest.raises(ValueError, match="nothing to copy"):
        here.push(target="x")
    assert here.connections == 0


def test_a_command_that_is_left_is_hung_up(here: Here, tmp_path: Path) -> None:
    script = "trap 'echo up > hung; exit' HUP; echo ready; while :; do :; done"
    with here.shell(["sh", "-c", script]) as shell:
        assert shell.stdout.readline() == b"ready\n"
    eventually(lambda: (tmp_path / "hung").exists(), True)


def test_a_timeout(here: Here) -> None:
    with pytest.raises(TimeoutError):
        here.run(["sleep", "1000"], timeout=0.2)


def test_streams(here: Here) -> None:
    with here.shell(["sh", "-c", "read a; echo $a; read b; echo $b >&2; exit 2"]) as shell:
        shell.stdin.write(b"one\n")
        shell.stdin.flush()
        assert shell.stdout.readline() == b"one\n"
        shell.stdin.write(b"two\n")
        shell.stdin.flush()
        assert shell.stderr.readline() == b"two\n"
        assert shell.wait(60) == 2
    before = len(list(Path("/proc/self/fd").iterdir()))
    with here.shell(["sleep", "1000"]) as shell:
        shell.terminate()
        assert shell.wait(60) == -signal.SIGTERM
    with here.shell(["yes"]) as shell:
        assert shell.stdout.readline() == b"y\n"
    assert shell.returncode is None
    shell.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


SIZES = """
import os, signal
def tell(*_):  # may come while it runs, where print must not
    os.write(1, b"%d %d\\n" % os.get_terminal_size())
signal.signal(signal.SIGWINCH, tell)
signal.signal(signal.SIGINT, signal.SIG_DFL)
tell()
while True:
    signal.pause()
"""


def test_a_terminal_and_its_size(here: Here) -> None:
    with here.shell([sys.executable, "-c", SIZES], terminal=(31, 71)) as shell:
        assert shell.stdout.readline() == b"71 31\r\n"
        shell.resize(32, 72)
        assert shell.stdout.readline() == b"72 32\r\n"
        shell.stdin.write(b"\x03")
        shell.stdin.flush()
        assert shell.stdout.read() == b"^C"
        assert shell.wait(60) == -signal.SIGINT


def test_output_that_nobody_reads_ends_its_writer(here: Here) -> None:
    read, write = os.pipe()
    os.close(read)
    relay = here.relay(["yes"], None, {1: write})
    try:
        assert relay.run(60).signal == signal.SIGPIPE
    finally:
        relay.close()
        os.close(write)


def test_copies(here: Here, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(os.urandom(100_000))
    (tmp_path / "b").mkdir()
    (tmp_path / "there").mkdir()
    assert here.push("a", "b", target="there") == []
    assert here.pull("there/a", target="back") == []
    assert (tmp_path / "back").read_bytes() == (tmp_path / "a").read_bytes()
    with pytest.raises(ShellFailed, match="there/b is a folder, not a file"):
        (tmp_path / "c").mkdir()
        (tmp_path / "c/b").touch()
        here.push("c/b", target="there")
    with pytest.raises(ShellFailed, match="absent: No such file or directory"):
        here.push("a", "b", target="absent")
    with pytest.raises(ShellFailed, match="absent: No such file or directory"):
        here.pull("absent", target="x")
    with pytest.raises(ShellFailed, match="absent: No such file or directory"):
        here.push("absent", target="x")
    assert not list(tmp_path.rglob(".avf-*"))


class AsyncVm(aio.VirtualMachine):
    def __init__(self, here: Here) -> None:
        self._vm = here  # type: ignore[assignment]


def test_asyncio(here: Here, tmp_path: Path) -> None:
    async def main() -> None:
        vm = AsyncVm(here)
        done = await vm.run(["cat"], input=b"hello")
        assert done.stdout == b"hello"
        async with await vm.shell(["sh", "-c", "read a; echo $a; exit 5"]) as shell:
            shell.stdin.write(b"word\n")
            assert await shell.stdout.readline() == b"word\n"
            assert await shell.wait() == 5
            assert await shell.stderr.read() == b""
        (tmp_path / "file").write_bytes(b"x")
        assert await vm.push("file", target="copy") == []
        assert await vm.pull("copy", target="back") == []

    asyncio.run(main())
    assert (tmp_path / "back").read_bytes() == b"x"


@pytest.mark.parametrize("what", ["run", "push"])
def test_what_is_cancelled_is_over_in_the_guest_too(here: Here, tmp_path: Path, what: str) -> None:
    (tmp_path / "large").touch()
    os.truncate(tmp_path / "large", 1 << 40)

    async def main() -> None:
        vm = AsyncVm(here)
        if what == "run":
            task = asyncio.create_task(vm.run(["sh", "-c", "echo > ready; sleep 1000"]))
            while not (tmp_path / "ready").exists():
                await asyncio.sleep(0.01)
        else:
            task = asyncio.create_task(vm.push("large", target="copy"))
            while not list(tmp_path.glob(".avf-*/new")):
                await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    here.wait()
    assert not list(tmp_path.glob(".avf-*"))
    assert not (tmp_path / "copy").exists()
