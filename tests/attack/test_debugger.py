"""Whoever can connect to a debugger's port gets at the guest, never at QEMU's monitor; and only its owner connects."""

import itertools
import os
import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avf.aidl.virtualizationservice import IVirtualizationService, VirtualMachineAppConfig
from avf.binder import ExceptionCode, RemoteException
from avf.client import ConfigError, DeathReason, RawConfig, VirtualizationService, connect
from avf.virtmgr.debugger import DEBUGGER_SOCKET_NAME, DebuggerPort, uid_of_peer
from avf.virtmgr.rsp import MAX_PACKET, PacketFilter, RspError, decode, encode
from tests.eventually import eventually
from tests.fault.guests import config as raw_config
from tests.virtmgr.conftest import create, raw, root, virtmgr
from tests.virtmgr.test_create import app as app_config
from tests.vm.conftest import App, app, service

__all__ = ["app", "root", "service", "virtmgr"]

TIMEOUT = 20
NOBODY = 65534
MONITOR_COMMAND = b"pmemsave 0 4096 /tmp/written-by-a-debugger"
MONITOR = encode(b"qRcmd," + MONITOR_COMMAND.hex().encode())


# What may be said


@pytest.mark.parametrize(
    "packet",
    [
        b"?", b"g", b"G" + b"00" * 64, b"p10", b"P10=0011223344556677", b"m1000,40",
        b"M1000,2:beef", b"X1000,4:a}\x23\x00", b"X1000,0:", b"c", b"s", b"C05", b"S05", b"vCont?",
        b"vCont;c", b"vCont;s:1;c", b"vCont;c:p1.-1", b"Z0,1000,1", b"z1,ffffffff81000000,1", b"D",
        b"D;1", b"Hg0", b"Hc-1", b"Hgp1.1", b"T1", b"Tp1.1", b"qC", b"qfThreadInfo",
        b"qsThreadInfo", b"qThreadExtraInfo,1", b"qAttached", b"qAttached:1", b"qSupported",
        b"qSupported:multiprocess+;swbreak+;xmlRegisters=i386", b"qqemu.PhyMemMode",
        b"qXfer:features:read:target.xml:0,ffb", b"Qqemu.PhyMemMode:1", b"Qqemu.sstep=7",
    ],
)  # fmt: skip
def test_a_debugger_may_say(packet: bytes) -> None:
    whole = encode(packet)
    for pieces in ([whole], [whole[i : i + 1] for i in range(len(whole))]):
        allowed = PacketFilter()
        passed = [allowed.feed(piece) for piece in pieces]
        assert b"".join(one.to_stub for one in passed) == whole
        assert not any(one.to_debugger for one in passed)


@pytest.mark.parametrize(
    "packet",
    [
        b"qRcmd,71", b"qRcmd,", b"QRcmd,71", b"vFile:open:2f,0,0", b"vAttach;1", b"vRun;ls", b"vKill;1",
        b"k", b"!", b"R00", b"QStartNoAckMode", b"vMustReplyEmpty", b"qemu.sstep", b"",
        b"qXfer:exec-file:read:1:0,1", b"qXfer:features:write:x:0,1", b"qSupported\nqRcmd,71", b"g\n",
        b"m0,4\x00qRcmd", b"Z5,0,1", b"Z0,1000,1;X2,00", b"qSupportedX", b"H", b"bc",
        b"qThreadExtraInfo,1;qRcmd,71", b"qqemu.else", b"qSymbol::", b"x0,4",
    ],
)  # fmt: skip
def test_all_else_is_answered_as_unknown(packet: bytes) -> None:
    passed = PacketFilter().feed(encode(packet))
    assert (passed.to_stub, passed.to_debugger) == (b"", b"+$#00")


@pytest.mark.parametrize(
    "data",
    [
        b"POST / HTTP/1.1\r\n\r\n" + MONITOR, b"GET /$g#67", b"\x16\x03\x01", b"\n", b"\0$g#67",
        b"+$g#67 " + MONITOR, b"$g#68", b"$g#6x", b"$g#xx" + MONITOR, b"$g$qRcmd,71#50",
        b"$qRcmd* ,71#00", b"$g}#67", b"$" + b"m" * (MAX_PACKET + 1), b"%Stop:T05#00",
    ],
)  # fmt: skip
def test_what_is_no_packet_ends_the_connection(data: bytes) -> None:
    with pytest.raises(RspError):
        PacketFilter().feed(data)
    with pytest.raises(RspError):
        allowed = PacketFilter()
        for at in range(0, len(data), 1000):
            allowed.feed(data[at : at + 1000])


def test_a_packet_that_never_ends_takes_little_memory_and_time() -> None:
    allowed = PacketFilter()
    allowed.feed(b"$X0,1:")
    with pytest.raises(RspError):
        for _ in range(MAX_PACKET + 2):
            allowed.feed(b"a")
    assert len(allowed._unread) <= MAX_PACKET + 8


def qemu_reads(data: bytes) -> list[bytes]:
    """The packets that QEMU's `gdb_read_byte` finds; it skips what it does not understand."""
    packets, line, state = [], bytearray(), "idle"
    for byte in data:
        if state == "idle":
            if byte == ord("$"):
                line.clear()
                state = "line"
        elif state == "line":
            if byte == ord("}"):
                state = "escape"
            elif byte == ord("*"):
                state = "repeat"
            elif byte == ord("#"):
                state = "sum1"
            else:
                line.append(byte)
        elif state == "escape":
            line.append(byte ^ 0x20)
            state = "line" if byte != ord("#") else "sum1"
        elif state == "repeat":
            line += line[-1:] * max(0, byte - 29)
            state = "line"
        elif state == "sum1":
            state = "sum2" if chr(byte) in "0123456789abcdefABCDEF" else "line"
        else:
            packets.append(bytes(line))
            state = "idle"
    return packets


PIECES = st.sampled_from(
    [b"$", b"#", b"}", b"*", b"g", b"g#67", b"$g#67", b"qRcmd,71", MONITOR, b"+", b"-", b"\x03", b"\0",
     encode(b"X0,9:" + MONITOR), encode(b"M0,1:$"), b"$X0,3:", b"#00", b"}\x03", b"a"]
)  # fmt: skip


@given(st.lists(st.one_of(PIECES, st.binary(max_size=8)), max_size=30))
def test_whatever_is_sent_qemu_reads_no_monitor_command(pieces: list[bytes]) -> None:
    allowed, passed = PacketFilter(), b""
    with suppress(RspError):
        for piece in pieces:
            passed += allowed.feed(piece).to_stub
    assert not [packet for packet in qemu_reads(passed) if b"qRcmd" in packet[:5]]


@given(st.binary(max_size=100))
def test_a_packet_is_read_as_it_was_written(content: bytes) -> None:
    whole = encode(content)
    assert decode(whole[1:-3]) == content
    assert qemu_reads(whole) == [content]


# Who may say it


class Stub:
    """A gdb server that answers every packet with OK."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / DEBUGGER_SOCKET_NAME
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen()
        self.heard: list[bytes] = []
        self.connections = 0
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(self.path))
        return sock

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self.connections += 1
                with sock:
                    while data := sock.recv(4096):
                        self.heard.append(data)
                        sock.sendall(b"+$OK#9a" * data.count(b"$"))


@pytest.fixture
def stub(tmp_path: Path) -> Iterator[Stub]:
    made = Stub(tmp_path)
    yield made
    made.close()


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture
def port(stub: Stub) -> Iterator[int]:
    number = free_port()
    door = DebuggerPort(number, stub.connect)
    yield number
    door.close()


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT)


def asked(sock: socket.socket, packet: bytes) -> bytes:
    sock.sendall(encode(packet))
    answer = b""
    while not re.search(rb"\$[^#]*#..", answer):
        data = sock.recv(4096)
        assert data, "the connection was closed"
        answer += data
    return answer


def hears_the_end(sock: socket.socket) -> bool:
    with suppress(ConnectionError):
        return sock.recv(1) == b""
    return True


def test_a_debugger_is_served_and_the_monitor_is_not(stub: Stub, port: int) -> None:
    with connected(port) as debugger:
        assert asked(debugger, b"g") == b"+$OK#9a"
        debugger.sendall(MONITOR)
        assert debugger.recv(100) == b"+$#00"
        assert asked(debugger, b"qC") == b"+$OK#9a"
    assert b"".join(stub.heard) == encode(b"g") + encode(b"qC")


def test_a_web_page_reaches_nothing(stub: Stub, port: int) -> None:
    body = b"+" + encode(b"g") + MONITOR
    with connected(port) as browser:
        browser.sendall(b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        assert hears_the_end(browser)
    with connected(port) as debugger:
        assert asked(debugger, b"g") == b"+$OK#9a"
    assert (stub.connections, stub.heard) == (1, [encode(b"g")])


def test_one_debugger_at_a_time_and_a_silent_one_makes_room(stub: Stub, port: int) -> None:
    with connected(port) as silent, connected(port) as debugger:
        assert hears_the_end(silent)
        assert asked(debugger, b"g") == b"+$OK#9a"
        with connected(port) as second:
            assert hears_the_end(second)
        assert asked(debugger, b"qC") == b"+$OK#9a"
    with connected(port) as next_one:
        assert asked(next_one, b"g") == b"+$OK#9a"


def test_a_debugger_that_does_not_read_takes_no_memory(stub: Stub, port: int) -> None:
    unknown = encode(b"k") * 10_000
    with connected(port) as debugger:
        debugger.setblocking(False)
        with pytest.raises(BlockingIOError):
            for _ in itertools.count():
                debugger.send(unknown)
    with connected(port) as next_one:
        assert asked(next_one, b"g") == b"+$OK#9a"


STRANGER = """
import socket, sys
for closes in (False, True):
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::ffff:127.0.0.1")):
        for _ in range(50):
            sock = socket.socket(family)
            sock.settimeout(20)
            sock.connect((host, int(sys.argv[1])))
            try:
                sock.sendall(bytes.fromhex(sys.argv[2]))
                if not closes:
                    assert sock.recv(1) == b""
            except ConnectionError:
                pass
            sock.close()
"""


def as_nobody(*command: str) -> subprocess.CompletedProcess[bytes]:
    """Runs a command as another user, in the same network."""
    switch = ["setpriv", f"--reuid={NOBODY}", "--clear-groups", "--"]
    return subprocess.run([*switch, *command], capture_output=True, timeout=60, cwd="/")


@pytest.mark.usefixtures("several_uids")
def test_another_user_gets_no_word_in(stub: Stub, port: int) -> None:
    """Not even by leaving at once: then nobody knows any more whose the connection was."""
    packets = (encode(b"g") + MONITOR).hex()
    result = as_nobody("/usr/bin/python3", "-c", STRANGER, str(port), packets)
    assert result.returncode == 0, result.stderr
    with connected(port) as debugger:
        assert asked(debugger, b"g") == b"+$OK#9a"
    assert (stub.connections, stub.heard) == (1, [encode(b"g")])


def test_whose_a_connection_is() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::ffff:127.0.0.1")):
            with socket.socket(family) as sock:
                sock.connect((host, server.getsockname()[1]))
                accepted, _ = server.accept()
                with accepted:
                    assert uid_of_peer(accepted) == os.getuid()
                    sock.shutdown(socket.SHUT_WR)
                    assert accepted.recv(1) == b""
                    assert uid_of_peer(accepted) is None


# createVm


@pytest.mark.parametrize("number", [-1, 65536, 70000, 1 << 30, -(1 << 31)])
@pytest.mark.parametrize("is_app", [True, False])
def test_a_number_that_is_no_port_is_refused(
    root: IVirtualizationService, tmp_path: Path, number: int, is_app: bool
) -> None:
    make = (
        partial(app_config, debug_level=VirtualMachineAppConfig.DebugLevel.FULL) if is_app else raw
    )
    with pytest.raises(RemoteException, match=f"gdbPort is {number}") as raised:
        create(root, make(tmp_path, gdb_port=number))
    assert raised.value.code is ExceptionCode.ILLEGAL_ARGUMENT
    with pytest.raises(ConfigError):
        RawConfig(kernel="k", gdb_port=number)


@pytest.mark.usefixtures("several_uids")
def test_the_socket_is_its_owners_alone(
    root: IVirtualizationService, runtime_dir: Path, tmp_path: Path
) -> None:
    vm = create(root, raw(tmp_path, wait_for_debugger=True))
    folder = runtime_dir / "vms" / str(vm.get_cid())
    for passable in (runtime_dir, runtime_dir / "vms", folder):
        passable.chmod(0o711)  # the socket's own mode is what keeps others out
    program = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
    result = as_nobody("/usr/bin/python3", "-c", program, str(folder / DEBUGGER_SOCKET_NAME))
    assert b"PermissionError" in result.stderr
    with socket.socket(socket.AF_UNIX) as debugger:
        debugger.connect(str(folder / DEBUGGER_SOCKET_NAME))


def test_a_vm_that_is_not_debuggable_has_no_door(
    root: IVirtualizationService, tmp_path: Path
) -> None:
    with pytest.raises(RemoteException, match="Can't use gdb with non-debuggable VMs") as raised:
        create(root, app_config(tmp_path, wait_for_debugger=True))
    assert raised.value.code is ExceptionCode.SECURITY


def test_a_port_that_is_taken_is_named_and_nothing_is_left(
    root: IVirtualizationService, runtime_dir: Path, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        with pytest.raises(RemoteException, match=f"127.0.0.1:{number}: .*in use"):
            create(root, raw(tmp_path, gdb_port=number))
    eventually(root.debug_list_vms, [])
    eventually(lambda: list((runtime_dir / "vms").iterdir()), [])


def gdb(*commands: str) -> str:
    arguments = [part for command in commands for part in ("-ex", command)]
    return subprocess.run(
        ["gdb", "-batch", "-nx", "-ex", "set architecture i386:x86-64", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, check=False,
    ).stdout  # fmt: skip


@pytest.mark.vm
def test_a_real_debugger_at_both_doors(
    service: VirtualizationService, runtime_dir: Path, tmp_path: Path
) -> None:
    number = free_port()
    with service.create_vm(replace(raw_config(tmp_path), gdb_port=number)) as vm:
        vm.start()
        path = vm.debugger_socket
        assert path == str(runtime_dir / "vms" / str(vm.cid) / DEBUGGER_SOCKET_NAME)
        assert Path(path).stat().st_mode & 0o777 == 0o600
        assert [info.debugger_socket for info in service.debug_list_vms()] == [path]
        said = gdb(
            f"target remote 127.0.0.1:{number}", "info registers rip", "x/2xb 0xfffffff0",
            "hbreak *0x7c00", "info breakpoints", "monitor info version", "stepi", "detach",
        )  # fmt: skip
        assert re.search(r"rip +0xfff0", said), said
        assert "0xfffffff0:\t0xfa\t0xf4" in said, said
        assert "Hardware assisted breakpoint 1" in said, said
        assert "Target does not support this command" in said, said
        said = gdb(f"target remote {path}", "info registers rip", "monitor info name", "detach")
        assert re.search(r"rip +0x", said), said
        assert "does not support this" not in said, said
    # virtmgr ends the VM when it hears that its last handle is dropped.
    eventually(lambda: Path(path).exists() or is_open(number), False)


def is_open(number: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", number)) == 0


@pytest.mark.vm
def test_the_time_a_debugger_holds_the_guest_does_not_count(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AVF_BOOT_TIMEOUT", "1")
    with connect() as other, other.create_vm(app.running("libhello.so", gdb=True)) as vm:
        vm.start()
        assert vm.wait_for_death(timeout=4) is None  # four times as long as the guest may take
        assert vm.debugger_socket is not None
        with socket.socket(socket.AF_UNIX) as debugger:
            debugger.connect(vm.debugger_socket)
            debugger.sendall(encode(b"c"))
            assert vm.wait_for_death(timeout=60) is DeathReason.HANGUP
