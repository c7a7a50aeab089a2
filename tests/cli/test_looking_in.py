"""What `vm` tells of VMs and guests that other processes run, without a machine that runs."""

import json
import os
import pty
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from avf.cli import man, tombstones
from avf.cli.progress import bytes_read_by
from avf.cli.tombstones import Tombstone
from avf.client import RawConfig, VirtualizationService, connect
from avf.printable import printable_lines
from tests.eventually import eventually

VM = [sys.executable, "-m", "avf.cli"]
Vm = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def vm(runtime_dir: Path) -> Vm:
    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [*VM, *map(str, arguments)]
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
        )

    return run


@pytest.fixture
def service(runtime_dir: Path) -> Iterator[VirtualizationService]:
    with connect() as connection:
        yield connection


@pytest.fixture
def config(tmp_path: Path) -> RawConfig:
    (tmp_path / "kernel").touch()
    return RawConfig(name="quiet \x1b[2J one", kernel=tmp_path / "kernel")


def test_where_there_is_no_vm(vm: Vm) -> None:
    assert vm("top", "--once").stdout.split() == [
        "CID", "NAME", "STATE", "PAYLOAD", "CPU%", "RSS", "MiB", "UPTIME", "UID", "PID",
    ]  # fmt: skip
    assert vm("top", "--once", "--json").stdout == "[]\n"
    for command in ("stop", "console", "logs"):
        result = vm(command, 2048)
        assert result.returncode == 1
        assert result.stderr == (
            "Error: there is no VM with CID 2048\n  try: `vm list` shows the VMs of this host\n"
        )
    assert vm("stop", "twelve").returncode == 1
    assert vm("stop", "4294967296").returncode == 2


def test_a_vm_that_was_made(vm: Vm, service: VirtualizationService, config: RawConfig) -> None:
    with service.create_vm(config) as machine:
        _, line = vm("top", "--once").stdout.splitlines()
        cells = re.split("  +", line.strip())
        assert cells == [
            str(machine.cid), r"quiet \u{1b}[2J one", "NOT_STARTED", "STARTING", "-", "-", "-",
            str(os.getuid()), "-",
        ]  # fmt: skip
        (row,) = json.loads(vm("top", "--once", "--json", "--all").stdout)
        assert (row["cid"], row["name"], row["vmm_pid"]) == (machine.cid, config.name, None)
        (listed,) = json.loads(vm("list", "--json").stdout)
        assert listed["cid"] == machine.cid
        for command, error, remedy in (
            ("stop", "VM is not running", "`vm list` shows the VMs of this host"),
            ("console", "This VM has no console to show", "start the VM with `--debug full`"),
            ("logs", "This VM has no log to show", "start the VM with `--debug full`"),
        ):
            assert vm(command, machine.cid).stderr == f"Error: {error}\n  try: {remedy}\n"


def test_top_goes_on(service: VirtualizationService, config: RawConfig, runtime_dir: Path) -> None:
    command = [*VM, "top", "--json", "--delay", "0.1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline()) == []
        with service.create_vm(config) as machine:
            while not (rows := json.loads(process.stdout.readline())):
                pass
            assert [row["cid"] for row in rows] == [machine.cid]
        while json.loads(process.stdout.readline()):
            pass
        process.terminate()


def test_leaving_a_console(
    service: VirtualizationService, config: RawConfig, tmp_path: Path
) -> None:
    """At a terminal, Ctrl-] leaves, and the terminal is as it was."""
    import termios

    with service.create_vm(config, console=tmp_path / "console") as machine:
        ours, theirs = pty.openpty()
        with open(ours, "rb+", buffering=0), open(theirs, "rb+", buffering=0) as terminal:
            before = termios.tcgetattr(terminal)
            command = [*VM, "console", str(machine.cid)]
            with subprocess.Popen(
                command, stdin=terminal, stdout=terminal, stderr=subprocess.PIPE
            ) as process:
                assert process.stderr is not None
                assert process.stderr.readline() == b"Ctrl-] leaves.\n"
                eventually(lambda: termios.tcgetattr(terminal)[3] & termios.ICANON, 0)
                os.write(ours, b"\x1d")
                assert process.wait(30) == 0
            assert termios.tcgetattr(terminal) == before


@pytest.mark.parametrize("whole", [True, False])
def test_listening(runtime_dir: Path, whole: bool) -> None:
    """The guest is played by a unix socket, as the user-space device would open one for it."""
    command = [*VM, "listen", "4711", "--once"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stderr.readline() == b"listening on vsock port 4711 of the host\n"
        with socket.socket(socket.AF_UNIX) as guest:
            guest.bind(b"\0avf-vsock/2050/77/%d/0" % os.getpid())
            guest.connect(str(runtime_dir / "vsock" / "4711"))
            guest.sendall(b"HelloWorld")
            assert process.stdout.read(10) == b"HelloWorld"
            if whole:
                assert guest.recv(1) == b"\0"
        end = b"has ended" if whole else b"was cut off"
        assert process.stderr.read() == (
            b"the guest with CID 2050 has connected\nthe guest with CID 2050 %s\n" % end
        )
        assert process.wait() == (0 if whole else 1)
    assert not (runtime_dir / "vsock" / "4711").exists()


def test_listening_where_somebody_listens(vm: Vm, runtime_dir: Path) -> None:
    (runtime_dir / "vsock").mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as taken:
        taken.bind(str(runtime_dir / "vsock" / "4711"))
        taken.listen()
        result = vm("listen", 4711)
    assert result.returncode == 1
    assert result.stderr == (
        "Error: cannot listen on vsock port 4711: Address already in use\n"
        "  try: choose another port\n"
    )


def put_tombstone(folder: Path, number: int, text: bytes, **note: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"tombstone_{number:02}").write_bytes(text)
    (folder / f"tombstone_{number:02}.json").write_text(json.dumps(note))


def test_tombstones(vm: Vm, runtime_dir: Path) -> None:
    folder = runtime_dir / "tombstones"
    assert vm("tombstones").stdout == ""
    put_tombstone(
        folder, 4, b"second\x00", time="2026-02-02T00:00:00.000+00:00", cid=2049, uid=7, size=7,
        ended="complete",
    )  # fmt: skip
    put_tombstone(
        folder, 5, b"first", time="2026-01-01T00:00:00.000+00:00", cid=None, uid=7, size=5,
        ended="truncated",
    )  # fmt: skip
    (folder / "tombstone_06").write_bytes(b"no note")
    (folder / "tombstone_06.json").write_text("[")
    assert vm("tombstones", "list").stdout.splitlines()[1:] == [
        "      05  2026-01-01T00:00:00.000+00:00  CID ?, uid 7, 5 bytes, truncated",
        "      04  2026-02-02T00:00:00.000+00:00  CID 2049, uid 7, 7 bytes, complete",
    ]
    listed = json.loads(vm("tombstones", "--json").stdout)
    assert [stone["name"] for stone in listed] == ["06", "05", "04"]
    assert listed[2]["cid"] == 2049
    assert vm("tombstones", "show", "4").stdout == "second\x00"
    assert vm("tombstones", "show", "06").stdout == "no note"
    assert vm("tombstones", "show", "7").stderr.startswith("Error: there is no tombstone 7\n")


def test_tombstones_of_the_system_service(
    tmp_path: Path, runtime_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tombstones, "SYSTEM_STATE_DIR", tmp_path)
    mine, others = (tmp_path / "tombstones" / str(uid) for uid in (os.getuid(), 4321))
    put_tombstone(mine, 1, b"mine", time="1")
    put_tombstone(others, 1, b"another's", time="2")
    assert [stone.name for stone in tombstones._find()] == ["01", "4321/01"]
    runner = CliRunner()
    assert runner.invoke(tombstones.show, ["4321/1"]).output == "another's"
    assert isinstance(tombstones._find()[0], Tombstone)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_for_each_shell(vm: Vm, shell: str) -> None:
    assert "_VM_COMPLETE" in vm("completion", shell).stdout


def test_completion(service: VirtualizationService, config: RawConfig) -> None:
    def completed(*words: str) -> list[str]:
        environment = os.environ | {
            "_VM_COMPLETE": "bash_complete",
            "COMP_WORDS": " ".join(words),
            "COMP_CWORD": str(len(words) - 1),
        }
        return subprocess.run(
            VM, env=environment, capture_output=True, text=True, check=True, timeout=60
        ).stdout.split()

    assert completed("vm", "run-") == ["plain,run-app", "plain,run-microdroid"]
    assert "plain,--once" in completed("vm", "top", "--")
    with service.create_vm(config) as machine:
        assert completed("vm", "stop", "2") == [f"plain,{machine.cid}"]


def test_manual_pages(tmp_path: Path) -> None:
    assert man.main([str(tmp_path / "man")]) == 0
    pages = {path.name: path.read_text() for path in (tmp_path / "man").iterdir()}
    assert {"vm.1", "vm-run-app.1", "vm-tombstones-show.1"} <= pages.keys()
    assert pages["vm-logs.1"].startswith('.TH VM\\-LOGS 1 "" "AVF for Linux ')
    assert ".BR vm\\-run\\-app (1)\n" in pages["vm.1"]
    assert ".B \\-f, \\-\\-follow\nGo on until the VM ends.\n" in pages["vm-logs.1"]
    for name, page in pages.items():
        assert "\n\n" not in page, name
        requests = re.findall(r"^[.'](\S+)", page, re.MULTILINE)
        assert set(requests) <= {"TH", "SH", "PP", "TP", "B", "BR", "nf", "fi"}, name
    if groff := shutil.which("groff"):
        command = [groff, "-man", "-ww", "-Tutf8", "-z", *(tmp_path / "man").iterdir()]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
        assert result.stderr == ""


def test_text_of_guests_at_a_terminal() -> None:
    assert printable_lines("a\tb\r\nc\x1b[2J\x9b\n") == "a\tb\nc\\u{1b}[2J\\u{9b}\n"


def test_how_much_a_process_has_read() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        read = bytes_read_by(process.pid)
        process.stdin.write(b"x" * 10000)
        process.stdin.flush()
        process.stdout.read(10000)
        eventually(lambda: (read() or 0) >= 10000, True)
    assert bytes_read_by(process.pid)() is None


WORK = """
import sys
from avf.cli.progress import progress
with progress("Making it", 1 << 30, lambda: 1 << 29):
    sys.stdin.read()
"""


def test_a_bar_at_a_terminal_for_what_takes_a_while() -> None:
    ours, theirs = pty.openpty()
    with (
        open(ours, "rb+", buffering=0) as terminal,
        subprocess.Popen(
            [sys.executable, "-c", WORK],
            stdin=subprocess.PIPE,
            stderr=theirs,
            env=os.environ | {"TERM": "xterm", "COLUMNS": "100"},
        ) as process,
    ):
        os.close(theirs)
        shown = b""
        while b"Making it" not in shown or b"0.5/1.1 GB" not in shown:
            shown += terminal.read(4096)
        process.communicate(timeout=30)
        assert process.returncode == 0


def test_no_bar_elsewhere() -> None:
    result = subprocess.run(
        [sys.executable, "-c", WORK], input=b"", capture_output=True, check=True, timeout=30
    )
    assert (result.stdout, result.stderr) == (b"", b"")
