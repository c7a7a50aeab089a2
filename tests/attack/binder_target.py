"""What the attacks on a binder server share: the server under attack, raw sessions with it, an honest peer beside."""

import json
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import pytest

from avf.binder import wire
from tests.binder.test_core import ROOT, transact_body, with_token
from tests.binder.test_hostile import HELLO, frame, read_exactly, read_reply, special

FOLDER = Path(__file__).parents[2]
FACES = ("blocking", "asyncio")
BROKEN = (OSError, EOFError)


class Target:
    """A server in another process, with an honest peer in a third."""

    def __init__(self, path: Path, stack: ExitStack, face: str, options: dict[str, Any]) -> None:
        self.path = path
        self._stack = stack
        self.stderr = path.with_suffix(".err")
        command = ["tests.attack.binder_server", str(path), face, json.dumps(options)]
        self.process = self._run(command, stack.enter_context(self.stderr.open("wb")))
        assert self._line(self.process) == "ready\n"
        self._honest = self._run(["tests.attack.binder_honest", str(path)], None)
        self.assert_serves_others()  # and has grown to its usual size

    def _run(self, command: list[str], stderr: IO[bytes] | None) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=FOLDER,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
        self._stack.enter_context(process)
        self._stack.callback(process.kill)
        return process

    @staticmethod
    def _line(process: subprocess.Popen[str]) -> str:
        assert process.stdout is not None
        return process.stdout.readline()

    def assert_serves_others(self) -> None:
        assert self._honest.stdin is not None
        self._honest.stdin.write("\n")
        self._honest.stdin.flush()
        assert self._line(self._honest) == "5\n"

    def raw(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        self._stack.enter_context(sock)
        sock.connect(str(self.path))
        sock.settimeout(30)
        return sock

    def session(self, hello: bytes = HELLO) -> socket.socket:
        """A raw session that got the root object. Raises OSError or EOFError if it is refused."""
        sock = self.raw()
        sock.sendall(hello)
        read_exactly(sock, 8)
        sock.sendall(special(wire.SPECIAL_GET_ROOT))
        read_reply(sock)
        return sock

    def resident_kib(self) -> int:
        return self._status("VmRSS")

    def threads(self) -> int:
        return self._status("Threads")

    def _status(self, field: str) -> int:
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith(field)).split()[1])

    def descriptors(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def left_when_all_have_gone(self) -> list[int]:
        """What the budget counts as held after the last peer, by its own account."""
        assert self._honest.stdin is not None
        assert self.process.stdin is not None
        self._honest.stdin.close()
        self.process.stdin.close()
        left: list[int] = json.loads(self._line(self.process))
        return left


Attacked = Callable[..., Target]


@pytest.fixture
def attacked(tmp_path: Path) -> Iterator[Attacked]:
    with ExitStack() as stack:

        def make(face: str = "blocking", **options: Any) -> Target:
            return Target(tmp_path / "sock", stack, face, options)

        yield make


def call(code: int, arguments: bytes) -> bytes:
    """The frame of a sync call of the root object."""
    return frame(wire.TRANSACT, transact_body(ROOT, code, with_token(arguments)))


def array_of(size: int) -> bytes:
    """A byte array as an argument."""
    return struct.pack("<i", size) + bytes(size + (-size & 3))
