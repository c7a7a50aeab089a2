"""What those hear who listen to a VM, with pipes in place of its VMM."""

import os
import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from avf.virtmgr.errors import VirtmgrError
from avf.virtmgr.output import MAX_LISTENERS, RECENT_SIZE, VmOutput
from tests.eventually import eventually

TIMEOUT = 15


@contextmanager
def speaking() -> Iterator[tuple[VmOutput, int, int]]:
    """An output, and where a VMM would copy console and log to."""
    output = VmOutput(console=True, log=True)
    console, log = output.open()
    assert console is not None and log is not None
    open_ends = {console, log}
    try:
        yield output, console, log
    finally:
        for fd in open_ends:
            try:
                os.close(fd)
            except OSError:  # the test has closed it
                pass
        output.close()


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
    console, log = output.open()
    assert console is not None and log is None
    os.write(console, b"all of it")
    os.close(console)
    assert everything(early) == b"all of it"
    output.wait_until_ended(TIMEOUT)
    assert everything(listener(output.attach_console(live=True))) == b"all of it"
    output.close()
    with pytest.raises(VirtmgrError, match="gone"):
        output.attach_console(live=True)


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
    assert output.open() == (None, None)
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
