"""What those hear who listen to a VM, with pipes in place of its VMM."""

import contextlib
import os
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from avf.virtmgr.errors import VirtmgrError
from avf.virtmgr.output import MAX_LISTENERS, VmOutput
from avf.virtmgr.owner import Owner
from avf.virtmgr.stream import RECENT_SIZE, ErrorStream
from avf.virtmgr.typed import Typed
from avf.vmm import VmSpec
from avf.vsock import HybridVsock
from tests.eventually import eventually

TIMEOUT = 15


SPEC = VmSpec(2048, "vm", Path("/none"), HybridVsock(2048, Path("/none/vsock")))


@contextmanager
def vmm(output: VmOutput, **ends: int) -> Iterator[VmSpec]:
    """What a VMM would be started with for an owner that has `ends`, open as long as the context."""
    with ExitStack() as stack:
        with output.connected(replace(SPEC, **ends)) as spec:
            names = ("console", "log")
            held = {name: getattr(spec, name) for name in names}
            for name, fd in held.items():
                if fd is not None:
                    held[name] = os.dup(fd)
                    stack.callback(close, held[name])
        yield replace(spec, **held)


def close(fd: int) -> None:
    with suppress(OSError):
        os.close(fd)


@contextmanager
def speaking() -> Iterator[tuple[VmOutput, int, int]]:
    """An output whose owner wants none of it, and where a VMM would write console and log to."""
    output = VmOutput(console=True, log=True)
    with open("/dev/null", "wb") as nowhere, ExitStack() as stack:
        stack.callback(output.close)
        spec = stack.enter_context(vmm(output, console=nowhere.fileno(), log=nowhere.fileno()))
        assert spec.console is not None and spec.log is not None
        yield output, spec.console, spec.log


def listener(fd: int) -> socket.socket:
    sock = socket.socket(fileno=fd)
    sock.settimeout(TIMEOUT)
    return sock


def everything(sock: socket.socket) -> bytes:
    with sock, sock.makefile("rb") as file:
        return file.read()


def exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = sock.recv(size - len(data))
        assert piece, data
        data += piece
    return data


def test_what_was_said_comes_first_and_then_what_is_said() -> None:
    with speaking() as (output, console, _):
        os.write(console, b"before ")
        eventually(output.recent_console, b"before ")
        sock = listener(output.attach_console(live=True))
        assert exactly(sock, 7) == b"before "
        os.write(console, b"after")
        assert exactly(sock, 5) == b"after"
        os.close(console)
        assert everything(sock) == b""


def test_the_console_is_not_the_log() -> None:
    with speaking() as (output, console, log):
        sock = listener(output.follow_log(live=True))
        os.write(console, b"console")
        os.write(log, b"log")
        assert exactly(sock, 3) == b"log"
        os.close(log)
        assert everything(sock) == b""


def test_one_who_does_not_stay_hears_what_was_said() -> None:
    with speaking() as (output, console, _):
        os.write(console, b"said")
        eventually(output.recent_console, b"said")
        assert everything(listener(output.attach_console(live=False))) == b"said"
        assert everything(listener(output.follow_log(live=False))) == b""


def test_only_so_much_is_kept() -> None:
    with speaking() as (output, console, _):
        said = os.urandom(3 * RECENT_SIZE)
        for start in range(0, len(said), 4096):
            os.write(console, said[start : start + 4096])
        eventually(output.recent_console, said[-RECENT_SIZE:])
        assert everything(listener(output.attach_console(live=False))) == said[-RECENT_SIZE:]


def test_a_slow_listener_holds_nobody_up_and_is_told_what_it_lost() -> None:
    with speaking() as (output, console, _):
        slow = listener(output.attach_console(live=True))
        line = b"0123456789abcdef" * 256
        for _ in range(1024):  # blocks for ever unless the pipe is emptied
            os.write(console, line)
        os.close(console)
        heard = everything(slow)
        assert len(heard) < 1024 * len(line)
        assert b" bytes skipped]\r\n" in heard
        assert heard.endswith(b"abcdef")


def test_listening_before_the_start_and_after_the_end() -> None:
    output = VmOutput(console=True, log=False)
    early = listener(output.attach_console(live=True))
    with open("/dev/null", "wb") as nowhere, vmm(output, console=nowhere.fileno()) as spec:
        assert spec.console is not None and spec.log is None
        os.write(spec.console, b"all of it")
    assert everything(early) == b"all of it"
    output.wait_until_ended(TIMEOUT)
    assert everything(listener(output.attach_console(live=True))) == b"all of it"
    output.close()
    with pytest.raises(VirtmgrError, match="gone"):
        output.attach_console(live=True)
    with pytest.raises(VirtmgrError, match="gone"), output.connected(SPEC):
        pass


def test_closing_ends_what_listeners_hear() -> None:
    with speaking() as (output, console, _):
        os.write(console, b"last")
        eventually(output.recent_console, b"last")
        sock = listener(output.attach_console(live=True))
        output.close()
        output.close()
        assert everything(sock) == b"last"


def test_a_mute_vm() -> None:
    output = VmOutput(console=False, log=False)
    assert not output.has_console and not output.has_log
    with pytest.raises(VirtmgrError, match="no console"):
        output.attach_console(live=True)
    with pytest.raises(VirtmgrError, match="no log"):
        output.follow_log(live=True)
    with output.connected(SPEC) as spec:
        assert spec == SPEC
    output.wait_until_ended(0)
    output.close()


def test_only_so_many_listen() -> None:
    with speaking() as (output, _, _):
        socks = [listener(output.attach_console(live=True)) for _ in range(MAX_LISTENERS)]
        with pytest.raises(VirtmgrError, match="listen to this VM already"):
            output.follow_log(live=True)
        socks.pop().close()
        attached: list[int] = []

        def attach() -> bool:
            try:
                attached.append(output.follow_log(live=True))
            except VirtmgrError:
                return False
            return True

        eventually(attach, True)
        for fd in attached:
            os.close(fd)
        for sock in socks:
            sock.close()


def test_what_listeners_say_goes_to_the_guest() -> None:
    with speaking() as (output, _, _):
        pipes: list[int] = []
        for _ in range(2):  # the second finds the input connected
            output.connect_input(lambda fd: pipes.append(os.dup(fd)))
        (guest,) = pipes
        first = listener(output.attach_console(live=True))
        second = listener(output.attach_console(live=True))
        first.sendall(b"one")
        assert os.read(guest, 100) == b"one"
        first.shutdown(socket.SHUT_WR)
        second.sendall(b"two")
        assert os.read(guest, 100) == b"two"
        flood = b"x" * (1 << 20)  # more than pipe and sockets hold
        second.setblocking(False)
        sent = second.send(flood)
        taken = 0
        while taken < sent:
            assert select.select([guest], [], [], TIMEOUT)[0]
            taken += len(os.read(guest, 1 << 16))
        os.close(guest)
        second.setblocking(True)
        second.sendall(b"nobody reads this")
        first.close()
        second.close()


def test_an_input_that_cannot_be_connected() -> None:
    def refuse(fd: int) -> None:
        raise VirtmgrError("no")

    with speaking() as (output, console, _):
        with pytest.raises(VirtmgrError):
            output.connect_input(refuse)
        sock = listener(output.attach_console(live=True))
        sock.sendall(b"unheard")
        os.write(console, b"heard")
        assert exactly(sock, 5) == b"heard"
        sock.close()


SAID = bytes(range(251)) * 4000  # more than all pipes on its way hold


def say(fd: int) -> threading.Thread:
    """Says it all in a thread and then ends."""

    def run() -> None:
        with open(fd, "wb") as file:
            file.write(SAID)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_an_owner_that_does_not_read_makes_the_guest_wait_and_gets_every_byte() -> None:
    output = VmOutput(console=True, log=True)
    console, owner = os.pipe()
    log, log_owner = os.pipe()
    with open(console, "rb") as reader, open(log, "rb") as log_reader:
        with vmm(output, console=owner, log=log_owner) as spec:
            os.close(owner)
            os.close(log_owner)
            assert spec.console is not None and spec.log is not None
            guest = say(os.dup(spec.console))
            os.write(spec.log, b"not held up")
            assert log_reader.read(11) == b"not held up"
            assert guest.is_alive()
            output.wait_until_ended(0)
        output.close()  # what is left is the owner's all the same
        assert reader.read() == SAID
        guest.join()
        assert log_reader.read() == b""


def test_an_owners_file_is_appended_to(tmp_path: Path) -> None:
    output = VmOutput(console=True, log=False)
    with open(tmp_path / "file", "wb") as file:
        file.write(b"before ")
        file.flush()
        with vmm(output, console=file.fileno()) as spec:
            assert spec.console is not None
            say(os.dup(spec.console)).join()
        output.wait_until_ended(TIMEOUT)
    assert (tmp_path / "file").read_bytes() == b"before " + SAID
    output.close()


def test_an_owner_that_goes_away_is_not_waited_for() -> None:
    output = VmOutput(console=True, log=False)
    console, owner = os.pipe()
    os.close(console)
    with vmm(output, console=owner) as spec:
        os.close(owner)
        assert spec.console is not None
        say(os.dup(spec.console)).join(TIMEOUT)
    output.wait_until_ended(TIMEOUT)
    assert output.recent_console() == SAID[-RECENT_SIZE:]
    output.close()


def test_an_owner_that_cannot_be_opened_anew_is_not_blocked_on(tmp_path: Path) -> None:
    """As a pipe of another user: it keeps its flags, and blocks."""
    console, end = os.pipe()
    with open(console, "rb") as reader:
        owner = Owner.__new__(Owner)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("avf.virtmgr.owner._opened_anew", os.dup)
            owner.__init__(end)  # type: ignore[misc]
        os.close(end)
        assert os.get_blocking(owner.fd)
        owner.give(SAID)
        assert owner.flush() and owner.waits and owner.is_behind
        taken = b""
        while owner.waits:
            taken += os.read(reader.fileno(), 1 << 16)
            assert owner.flush()
        owner.close()
        assert taken + reader.read() == SAID


def test_a_descriptor_to_read_from_is_no_owner() -> None:
    output = VmOutput(console=True, log=False)
    with (
        open("/dev/null", "rb") as file,
        pytest.raises(OSError, match="not open for writing"),
        vmm(output, console=file.fileno()),
    ):
        pass
    output.close()


def test_a_socket_gets_the_console_and_what_it_says_goes_where_others_type() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        output = VmOutput(console=True, log=False, typed=Typed(theirs.fileno()))
        assert output.is_typed_into
        with vmm(output, console=theirs.fileno()) as spec, typing(output) as guest:
            assert spec.console is not None
            os.write(spec.console, b"to the owner")
            assert ours.recv(100) == b"to the owner"
            eventually(output.recent_console, b"to the owner")
            ours.sendall(b"from the owner")
            assert os.read(guest, 100) == b"from the owner"
            with listener(output.attach_console(live=True)) as other:
                other.sendall(b"from another")
                assert os.read(guest, 100) == b"from another"
            ours.shutdown(socket.SHUT_WR)
            eventually(lambda: output.is_typed_into, False)
            os.write(spec.console, b"still there")
            assert ours.recv(100) == b"still there"
        output.close()


@contextmanager
def typing(output: VmOutput) -> Iterator[int]:
    """What a guest's console reads."""
    pipes: list[int] = []
    output.connect_input(lambda fd: pipes.append(os.dup(fd)))
    try:
        yield pipes[0]
    finally:
        os.close(pipes[0])


def test_a_file_is_typed_from_where_its_owner_stands(tmp_path: Path) -> None:
    (tmp_path / "lines").write_bytes(b"read already, first\n" + SAID)
    with (tmp_path / "lines").open("rb", buffering=0) as file:
        file.read(len(b"read already, "))
        output = VmOutput(console=True, log=False, typed=Typed(file.fileno()))
        with vmm(output), typing(output) as guest:
            got = b""
            while len(got) < len(b"first\n" + SAID):
                got += os.read(guest, 1 << 16)
            assert got == b"first\n" + SAID
            eventually(lambda: output.is_typed_into, False)
        output.close()


def test_a_pipe_with_another_reader_keeps_nobody_waiting() -> None:
    read_end, write_end = os.pipe()
    with open(read_end, "rb", buffering=0), open(write_end, "wb", buffering=0) as writer:
        typed = Typed(read_end)
        assert os.get_blocking(read_end)
        with pytest.raises(BlockingIOError):
            typed.read()
        writer.write(b"x")
        assert typed.read() == b"x"
        typed.close()


def test_input_without_end_stops_with_the_guest() -> None:
    with open("/dev/zero", "rb") as zero:
        output = VmOutput(console=True, log=False, typed=Typed(zero.fileno()))
    with vmm(output), typing(output) as guest:
        assert not any(os.read(guest, 1 << 16))
    eventually(lambda: output.is_typed_into, False)
    output.close()


@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_PATH, os.O_RDONLY | os.O_DIRECTORY])
def test_what_cannot_be_typed_from(tmp_path: Path, flags: int) -> None:
    (tmp_path / "file").touch()
    fd = os.open(tmp_path if flags & os.O_DIRECTORY else tmp_path / "file", flags)
    with pytest.raises(OSError, match="not open for reading"):
        Typed(fd)
    os.close(fd)


def test_a_mistake_of_ours_does_not_keep_a_vmm_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch, speaking() as (output, console, log):
        told: list[object] = []
        patch.setattr(threading, "excepthook", told.append)
        patch.setattr(output, "_handle", lambda ready: 1 / 0)
        with contextlib.suppress(BrokenPipeError):  # it may have been about to look anyway
            os.write(log, b"x")
        with pytest.raises(BrokenPipeError):
            while True:
                os.write(console, SAID)
        output.close()
        assert len(told) == 1


def test_output_that_finds_no_room_is_told_as_lost() -> None:
    """/dev/full answers as a file on a full disk does; a reader that goes away has lost nothing."""
    output = VmOutput(console=True, log=True)
    read_end, write_end = os.pipe()
    os.close(read_end)
    with open("/dev/full", "wb") as full, open(write_end, "wb", buffering=0) as left:
        with vmm(output, console=full.fileno(), log=left.fileno()) as spec:
            assert spec.console is not None and spec.log is not None
            assert output.lost() == []
            os.write(spec.console, b"a word")
            os.write(spec.log, b"another")
        output.wait_until_ended(TIMEOUT)
    assert output.lost() == ["console: No space left on device"]
    output.close()


class Errors:
    """An output whose payload's standard error goes to a pipe, and the guest's way to it."""

    def __init__(self, folder: Path, *, from_this_guest: bool = True) -> None:
        vsock = HybridVsock(2048, folder / "vsock.sock")
        self.port = 7000
        self.path = f"{vsock.base}_{self.port}"
        self.read_end, self.write_end = os.pipe()
        accepts = vsock.accepts if from_this_guest else lambda _: False
        self.stream = ErrorStream(self.write_end, vsock.listen(self.port), accepts)
        self.output = VmOutput(console=False, log=True, errors=self.stream)

    def connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.settimeout(TIMEOUT)
            sock.connect(self.path)
        except OSError:
            sock.close()
            raise
        return sock

    def received(self) -> bytes:
        """All that the owner gets, once nobody writes to it any more."""
        close(self.write_end)
        with open(self.read_end, "rb") as file:
            return file.read()


@contextmanager
def errors_apart(folder: Path, **how: bool) -> Iterator[Errors]:
    errors = Errors(folder, **how)
    try:
        with (
            open("/dev/null", "wb") as nowhere,
            vmm(errors.output, log=nowhere.fileno()) as spec,
        ):
            assert spec.log is not None
            yield errors
            os.close(spec.log)
    finally:
        errors.output.close()


def test_standard_error_goes_to_its_owner_and_to_those_who_listen_to_the_log(
    tmp_path: Path,
) -> None:
    with errors_apart(tmp_path) as errors:
        heard = listener(errors.output.follow_log(live=True))
        with errors.connect() as guest:
            guest.sendall(b"trouble")
            assert exactly(heard, 7) == b"trouble"
            guest.shutdown(socket.SHUT_WR)
            assert guest.recv(1) == b""  # all of it was read
        assert errors.received() == b"trouble"
        heard.close()


def test_a_guest_connects_once(tmp_path: Path) -> None:
    with errors_apart(tmp_path) as errors, errors.connect() as guest:
        guest.sendall(b"a")
        eventually(lambda: errors.stream.door, None)
        with pytest.raises(ConnectionRefusedError):
            errors.connect()


def test_another_guest_is_not_heard(tmp_path: Path) -> None:
    with errors_apart(tmp_path, from_this_guest=False) as errors:
        for _ in range(3):
            with errors.connect() as guest, suppress(ConnectionError):
                guest.sendall(b"not from here")
                assert guest.recv(1) == b""
        errors.output.wait_until_ended(0)
        assert errors.received() == b""


def test_a_guest_that_dies_leaves_what_it_had_sent(tmp_path: Path) -> None:
    with errors_apart(tmp_path) as errors:
        with errors.connect() as guest:
            guest.sendall(b"its last words")
        errors.output.wait_until_ended(0)
        assert errors.received() == b"its last words"


def test_a_guest_that_never_connects_ends_all_the_same(tmp_path: Path) -> None:
    with errors_apart(tmp_path) as errors:
        errors.output.wait_until_ended(0)
        assert errors.received() == b""
        assert errors.stream.door is None


def test_a_vm_that_never_started_leaves_no_door(tmp_path: Path) -> None:
    errors = Errors(tmp_path)
    errors.output.close()
    with pytest.raises(ConnectionRefusedError):
        errors.connect()
    assert errors.received() == b""


def test_an_owner_that_takes_nothing_holds_the_guest_up(tmp_path: Path) -> None:
    with errors_apart(tmp_path) as errors, errors.connect() as guest:
        guest.setblocking(False)
        sent = 0
        with suppress(BlockingIOError):
            while select.select([], [guest], [], 1.0)[1]:
                sent += guest.send(b"x" * 4096)
        assert sent < 4 << 20
        errors.output.wait_until_ended(0)
        assert len(os.read(errors.read_end, 1 << 16)) == 1 << 16
