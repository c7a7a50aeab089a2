"""crosvm's command line against the documented order, and its life as far as a stand-in can show it."""

import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from avf.disk import CrosvmDisk, ImageDisk, Partition, PartitionedDisk
from avf.vmm import (
    BalloonStats,
    Crosvm,
    ExitCause,
    NotSupported,
    VmmControlError,
    VmmStartError,
    VmmUnavailable,
    VmProcess,
    VmSpec,
)
from avf.vmm.crosvm.command import Inputs, crosvm_command
from avf.vmm.crosvm.control import IN_VAIN_MAX, ControlSocket
from avf.vmm.crosvm.options import Options, options_of, parse_help
from avf.vmm.outlets import NOWHERE, Outlet
from avf.vsock import HybridVsock, KernelVsock

SPEC = VmSpec(
    cid=2048, name="vm", temporary_directory=Path("/none"), vsock=KernelVsock(2048), kernel=0
)
SINKS = Inputs(control=40, console=NOWHERE, failure=Outlet(41), ramdump=Outlet(42), log=NOWHERE)


ANDROIDS = Options(
    frozenset(
        "cid balloon-page-reporting no-balloon protected-vm protected-vm-with-firmware swiotlb mem cpus"  # noqa: SIM905
        " task-profiles gdb serial bios initrd params disk rwdisk block socket vhost-user-vsock".split()
    )
)
"""Those of February 2023, built for Android."""
TODAYS = Options(
    frozenset(
        "vsock vhost-user protected-vm protected-vm-with-firmware mem cpus serial bios initrd"  # noqa: SIM905
        " params block socket".split()
    )
)
"""What may be left in a release for another system, made without features, once what is deprecated has gone."""


def command(
    spec: VmSpec,
    inputs: Inputs,
    options: Options = ANDROIDS,
    *,
    balloon: bool = False,
    firmware: str | None = None,
) -> str:
    made = crosvm_command(
        "crosvm", spec, inputs, options, host_cpus=4, balloon=balloon, firmware=firmware
    )
    return " ".join(made)


def test_golden_for_the_least() -> None:
    assert command(SPEC, replace(SINKS, kernel=43)) == (
        "crosvm --extended-status --log-level info,disk=warn run --disable-sandbox --cid 2048 --no-balloon"
        " --cpus 1"
        " --serial=type=sink,hardware=serial,num=1"
        " --serial=type=file,path=/proc/self/fd/41,hardware=serial,num=2"
        " --serial=type=sink,hardware=virtio-console,num=1"
        " --serial=type=file,path=/proc/self/fd/42,hardware=virtio-console,num=2"
        " --serial=type=sink,hardware=virtio-console,num=3"
        " /proc/self/fd/43 --socket /proc/self/fd/40"
    )


def test_golden_for_everything() -> None:
    spec = replace(
        SPEC,
        memory_mib=300,
        cpus=None,
        params="a b",
        task_profiles=("x", "y"),
        protected=True,
        gdb_listener=9,
    )
    inputs = replace(
        SINKS,
        console=Outlet(50),
        log=Outlet(51),
        initrd=52,
        kernel=53,
        disks=(CrosvmDisk(54, False, (54,)), CrosvmDisk(57, True, (55, 56, 57))),
    )
    assert command(spec, inputs, balloon=True) == (
        "crosvm --extended-status --log-level info,disk=warn run --disable-sandbox --cid 2048"
        " --balloon-page-reporting --protected-vm --swiotlb 12 --mem 300 --cpus 4 --task-profiles x,y --gdb 1234"
        " --serial=type=file,path=/proc/self/fd/50,hardware=serial,num=1"
        " --serial=type=file,path=/proc/self/fd/41,hardware=serial,num=2"
        " --serial=type=file,path=/proc/self/fd/50,hardware=virtio-console,num=1"
        " --serial=type=file,path=/proc/self/fd/42,hardware=virtio-console,num=2"
        " --serial=type=file,path=/proc/self/fd/51,hardware=virtio-console,num=3"
        " --initrd /proc/self/fd/52 --params a b --disk /proc/self/fd/54 --rwdisk /proc/self/fd/57"
        " /proc/self/fd/53 --socket /proc/self/fd/40 --params crashkernel=17M"
    )
    assert sorted(inputs.fds) == [40, 41, 42, *range(50, 58)]


def test_a_bootloader() -> None:
    assert " --bios /proc/self/fd/60 --socket" in command(SPEC, replace(SINKS, bootloader=60))


def test_protection_with_firmware() -> None:
    made = command(replace(SPEC, protected=True), replace(SINKS, kernel=1), firmware="/fw")
    assert " --protected-vm-with-firmware /fw --swiotlb 8 " in made


def test_a_crosvm_without_what_others_have() -> None:
    spec = replace(SPEC, memory_mib=300, task_profiles=("x",), protected=True)
    disks = (CrosvmDisk(54, False, (54,)), CrosvmDisk(57, True, (57,)))
    made = command(spec, replace(SINKS, kernel=53, disks=disks), TODAYS, balloon=True)
    assert " --disable-sandbox --vsock cid=2048 --protected-vm --mem 300 --cpus 1 --serial" in made
    assert " --block /proc/self/fd/54,ro --block /proc/self/fd/57 /proc/self/fd/53" in made
    assert "no-balloon" not in command(SPEC, SINKS, TODAYS)


def test_a_vsock_device_of_another_process() -> None:
    inputs = replace(SINKS, kernel=53, vsock=44)
    assert " --vhost-user type=vsock,socket=/proc/thread-self/fd/44 " in command(
        SPEC, inputs, TODAYS
    )
    assert " --vhost-user-vsock /proc/thread-self/fd/44 " in command(SPEC, inputs, ANDROIDS)
    assert 44 in inputs.fds
    with pytest.raises(VmmUnavailable, match="this crosvm has no --vhost-user"):
        command(SPEC, inputs, Options(TODAYS.names - {"vhost-user"}))


@pytest.mark.parametrize("change", [{"gdb_listener": 9}, {"protected": True}])
def test_what_was_asked_for_and_cannot_be_had(change: dict[str, object]) -> None:
    option = "gdb" if "gdb_listener" in change else "protected-vm"
    options = Options(ANDROIDS.names - {option})
    with pytest.raises(VmmUnavailable, match=f"this crosvm has no --{option}"):
        command(replace(SPEC, **change), replace(SINKS, kernel=53), options)  # type: ignore[arg-type]


HELP = """Usage: crosvm run <options> KERNEL

Options:
  --async-executor  configure async executor backend; --not-an-option
  -c, --cpus        cpu parameters.
                    --neither
  --disable-sandbox run all devices in one, non-sandboxed process
  --protected-vm-with-firmware
                    (EXPERIMENTAL)
  -s, --socket      path to put the control socket.
    --serial=OLD    as it was printed once
"""


def test_the_options_are_read_off_the_help() -> None:
    assert parse_help("crosvm", HELP).names == {
        *("async-executor", "cpus", "disable-sandbox", "protected-vm-with-firmware", "socket"),
        "serial",
    }


def test_a_program_that_is_no_crosvm(tmp_path: Path) -> None:
    with pytest.raises(VmmUnavailable, match="/bin/true is no crosvm: its run command has no --"):
        options_of("/bin/true")
    with pytest.raises(VmmUnavailable, match="cannot be read: No such file"):
        options_of(str(tmp_path / "crosvm"))
    (tmp_path / "crosvm").touch(mode=0o755)
    with pytest.raises(VmmUnavailable, match=r"crosvm does not run: .*Exec format error"):
        options_of(str(tmp_path / "crosvm"))


def test_a_socket_is_no_console() -> None:
    with pytest.raises(VmmStartError, match="socket"):
        command(SPEC, replace(SINKS, console=Outlet(1, is_socket=True)))


@pytest.fixture
def program(tmp_path: Path) -> Path:
    fake = Path(__file__).with_name("fake_crosvm.py")
    path = tmp_path / "crosvm"
    path.write_text(f"#!{os.path.realpath(sys.executable)} -IS\n{fake.read_text()}")
    path.chmod(0o755)
    return path


@contextmanager
def started(program: Path, life: str, **change: object) -> Iterator[VmProcess]:
    directory = program.parent
    (directory / "kernel").write_text(life)
    with open(directory / "kernel", "rb") as kernel:
        spec = replace(SPEC, temporary_directory=directory, kernel=kernel.fileno())
        process = Crosvm(str(program)).start(replace(spec, **change))  # type: ignore[arg-type]
    try:
        yield process
    finally:
        process.kill()
        process.wait(30)


@pytest.mark.usefixtures("nothing_is_left")
@pytest.mark.parametrize(
    ("life", "cause", "returncode"),
    [
        ("exit 0", ExitCause.SHUTDOWN, 0),
        ("exit 1", ExitCause.START_FAILED, 1),
        ("exit 32", ExitCause.REBOOT, 32),
        ("exit 33", ExitCause.CRASH, 33),
        ("exit 34", ExitCause.CRASH, 34),
        ("exit 35", ExitCause.START_FAILED, 35),
        ("exit 37", ExitCause.UNKNOWN, 37),
        ("exit 36", ExitCause.WATCHDOG, 36),
        (f"signal {signal.SIGSEGV}", ExitCause.KILLED, -signal.SIGSEGV),
    ],
)
def test_ends(program: Path, life: str, cause: ExitCause, returncode: int) -> None:
    with started(program, life) as process:
        report = process.wait(30)
        assert (report.cause, report.returncode) == (cause, returncode)
        assert json.loads(report.stderr_tail.partition("arguments:")[2])[0] == "--extended-status"
        assert report.events[1:] == (f"crosvm exited with status {returncode}",)
    assert not (program.parent / "crosvm.sock").exists()


@pytest.mark.usefixtures("nothing_is_left")
def test_everything_named_is_there(program: Path, tmp_path: Path) -> None:
    read, write = os.pipe()
    with open(read, "rb") as console, open(tmp_path / "disk", "w+b") as disk:
        disk.write(bytes(8192))
        disk.flush()
        parts = PartitionedDisk((Partition("a", disk.fileno(), True),), True)
        try:
            disks = (parts, ImageDisk(disk.fileno()))
            with started(program, "exit 0", disks=disks, console=write) as process:
                os.close(write)
                report = process.wait(30)
                assert report.cause is ExitCause.SHUTDOWN, report
                assert console.read() == b"hardware=serial,num=1\nhardware=virtio-console,num=1\n"
        finally:
            process.kill()


@pytest.mark.usefixtures("nothing_is_left")
def test_requests(program: Path) -> None:
    with started(program, "serve 4") as process:
        assert process.balloon_stats() == BalloonStats(96, 1000, None, 400)
        process.set_balloon(4096)
        with pytest.raises(NotSupported):
            process.set_balloon(95)
        with pytest.raises(VmmControlError, match="errno 5"):
            process.set_balloon(5)
        with pytest.raises(NotSupported):
            process.dump_memory(1)
        with pytest.raises(TimeoutError):
            process.wait(0.01)
        process.kill()
        assert process.wait(30).cause is ExitCause.KILLED
        with pytest.raises(VmmControlError):
            process.balloon_stats()


@pytest.mark.usefixtures("nothing_is_left")
def test_a_driver_that_never_answers_is_not_asked_for_ever(tmp_path: Path) -> None:
    """A crosvm that keeps what was asked in vain stops working when that is too much; an answer counts anew."""
    stats = b'{"BalloonStats":{"stats":{},"balloon_actual":1}}'
    control = ControlSocket(tmp_path)
    waiting = b'{"Err":11}'
    replies = [*[waiting] * (IN_VAIN_MAX - 1), stats, *[waiting] * IN_VAIN_MAX]
    with control.listen() as listener, ThreadPoolExecutor() as threads:
        answers = threads.submit(lambda: [answer(listener, reply) for reply in replies])
        for reply in replies:
            if reply is stats:
                assert control.balloon_stats(5).actual == 1
            else:
                with pytest.raises(NotSupported):
                    control.balloon_stats(5)
        answers.result()
        listener.setblocking(False)
        with pytest.raises(NotSupported):
            control.balloon_stats(5)
        with pytest.raises(BlockingIOError):
            listener.accept()
    control.remove()


@pytest.mark.usefixtures("nothing_is_left")
@pytest.mark.parametrize(
    "reply",
    [
        *(b"", b"{", b"7", b'{"ErrString":"no"}', b'{"BalloonStats":{}}'),
        b'{"BalloonStats":{"stats":[],"balloon_actual":1}}',
    ],
)
def test_nonsense_from_the_control_socket(tmp_path: Path, reply: bytes) -> None:
    directory = tmp_path / ("long" * 50)  # longer than a socket address can be
    directory.mkdir()
    control = ControlSocket(directory)
    with control.listen() as listener:
        server = threading.Thread(target=answer, args=(listener, reply))
        server.start()
        with pytest.raises(VmmControlError):
            control.balloon_stats(5)
        server.join()
    control.remove()
    assert not list(directory.iterdir())


def answer(listener: socket.socket, reply: bytes) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.recv(4096)
        connection.send(reply)


@pytest.mark.usefixtures("nothing_is_left")
def test_what_it_cannot_do(program: Path, tmp_path: Path) -> None:
    with (
        pytest.raises(VmmUnavailable, match="this crosvm has no --vhost-user"),
        program.open("rb") as kernel,
    ):
        vsock = HybridVsock(2048, tmp_path / "v")
        spec = replace(SPEC, temporary_directory=tmp_path, vsock=vsock)
        Crosvm(str(program)).start(replace(spec, kernel=kernel.fileno()))
    with pytest.raises(VmmUnavailable, match="no-such-crosvm is not installed"):
        Crosvm("no-such-crosvm").start(SPEC)
    with pytest.raises(VmmStartError, match="neither"):
        Crosvm(str(program)).start(replace(SPEC, kernel=None))
    bad = replace(SPEC, temporary_directory=tmp_path, kernel=1 << 20)
    with pytest.raises(VmmStartError, match="kernel"):
        Crosvm(str(program)).start(bad)
    assert not (tmp_path / "crosvm.sock").exists()
