"""A QEMU that its guest has taken over, and what it can say to virtmgr: nothing that costs more than this VM."""

import json
import os
import sys
from pathlib import Path

import pytest

from avf.vmm import Acceleration, Accelerator, ExitCause, Qemu, VmSpec
from avf.vsock import KernelVsock
from tests.vmm.conftest import nothing_is_left

__all__ = ["nothing_is_left"]

pytestmark = pytest.mark.usefixtures("nothing_is_left")
TIMEOUT = 60
GREETING = (
    b'{"QMP": {"version": {"qemu": {"micro": 0, "minor": 2, "major": 7}, "package": ""},'
    b' "capabilities": []}}\r\n'
)
CAPABILITIES = b'{"return": {}, "id": "__qmp#00000"}\r\n'

PROGRAM = """#!{python} -IS
import os, re, socket, sys
if sys.argv[1:] == ["-L", "help"]:
    sys.exit(0)
fd = int(re.search(r"id=qmp,fd=(\\d+)", " ".join(sys.argv))[1])
monitor = socket.socket(fileno=fd)
try:
    monitor.sendall({greeting!r})
    monitor.recv(4096)
    monitor.sendall({text!r} * {times})
    while monitor.recv(4096):
        pass
except OSError:
    pass
os.write(2, b"hung up on")
"""


def life_of(directory: Path, text: bytes, times: int = 1) -> ExitCause:
    """How the VM ends whose QEMU says `text` so many times."""
    program = directory / "qemu"
    python = os.path.realpath(sys.executable)
    program.write_text(PROGRAM.format(python=python, greeting=GREETING, text=text, times=times))
    program.chmod(0o755)
    kernel = directory / "kernel"
    kernel.write_bytes(b"kernel")
    vsock = KernelVsock(2048)
    with kernel.open("rb") as file:
        spec = VmSpec(
            cid=2048, name="", temporary_directory=directory, vsock=vsock, kernel=file.fileno()
        )
        process = Qemu(str(program), Acceleration(Accelerator.TCG, "as the test says")).start(spec)
    try:
        return process.wait(TIMEOUT).cause
    finally:
        process.kill()


@pytest.mark.parametrize(
    ("text", "times"),
    [
        (b"[" * 100_000 + b"\r\n", 1),
        (b'{"a":' * 100_000 + b"\r\n", 1),
        (b"x" * (1 << 16), 1 << 12),
        (b'"' + b"\\" * 1000 + b"\r\n", 1),
        (b"1" * 100_000 + b"\r\n", 1),
        (b"\xff\xfe\r\n", 1),
        (b'{"event": 5, "timestamp": 7}\r\n', 1),
        (b'{"return": ' + b"9" * 5000 + b', "id": "__qmp#00000"}\r\n', 1),
        (CAPABILITIES + b'{"event": "SHUTDOWN", "data": [1]}\r\n' + b"[" * 50_000 + b"\r\n", 1),
    ],
    ids=["arrays", "objects", "no end", "a string", "a number", "no UTF-8", "an event", "a reply", "later"],
)  # fmt: skip
def test_whatever_it_says_only_its_vm_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: bytes, times: int
) -> None:
    monkeypatch.setattr("avf.vmm.qemu.start._VHOST", "/dev/null")
    assert life_of(tmp_path, text, times) in (
        ExitCause.START_FAILED,
        ExitCause.INFRASTRUCTURE,
        ExitCause.SHUTDOWN,
        ExitCause.UNKNOWN,
    )
    assert json.loads("[" * 100 + "]" * 100)  # as deep as before
