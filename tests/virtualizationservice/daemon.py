"""A real daemon process that serves every user of a host of its own: a directory, a policy, a log."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from avf.aidl.virtualizationservice_internal import IVirtualizationServiceInternal
from avf.binder import connect, unix

ALICE, BOB = 64001, 64002
"""Users without an account, but named by the policy; nothing else runs as them."""
STRANGER, OTHER_STRANGER = 64003, 64004
"""Users of whom nothing is known."""

EVERYONE = "".join(
    f"[{name}]\neveryone = true\nuids = [{ALICE}, {BOB}]\n"
    for name in ("MANAGE_VIRTUAL_MACHINE", "DEBUG_VIRTUAL_MACHINE")
)
ACTIVATED = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.argv[2], sys.argv[2:])
"""
CLIENT = [sys.executable, "-m", "tests.virtualizationservice.client"]


class Host:
    """`folder` is open to all users; the daemon keeps its things in `folder`/run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.directory = folder / "run"
        self.policy_file = folder / "policy.toml"
        self.log_file = folder / "log"
        self.socket = self.directory / "virtualizationservice.sock"
        self.set_policy(EVERYONE)

    def set_policy(self, text: str) -> None:
        new = self.folder / "policy.new"
        new.write_text(text)
        new.rename(self.policy_file)

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    def command(self, *options: str) -> list[str]:
        return [
            *(sys.executable, "-m", "avf.virtualizationservice", "--system"),
            *("--directory", str(self.directory), "--policy", str(self.policy_file), *options),
        ]

    def activated_command(self, listener: socket.socket, *options: str) -> list[str]:
        """Starts it the way systemd does, with a socket as descriptor 3."""
        start = [sys.executable, "-c", ACTIVATED, str(listener.fileno())]
        return [*start, *self.command(*options)]

    @contextlib.contextmanager
    def daemon(
        self, *options: str, wrapper: Sequence[str] = (), **arguments: object
    ) -> Iterator["subprocess.Popen[bytes]"]:
        """Ends with SIGTERM, and must have ended well by itself or by that."""
        ready, ready_child = os.pipe()
        with open(ready, "rb") as waiting, self.log_file.open("ab") as log:
            command = [*wrapper, *self.command(f"--ready-fd={ready_child}", *options)]
            process = subprocess.Popen(
                command, stdout=log, stderr=log, pass_fds=[ready_child], **arguments
            )  # type: ignore[call-overload]
            os.close(ready_child)
            with process:
                try:
                    assert waiting.read() == b""
                    assert process.poll() is None, self.log
                    yield process
                    process.terminate()
                    assert process.wait(20) in (0, -signal.SIGKILL), self.log
                finally:
                    process.kill()

    @contextlib.contextmanager
    def client(self, uid: int) -> Iterator[IVirtualizationServiceInternal]:
        """The service's root object, for a user."""
        with connect(as_user(uid, unix(self.socket)), timeout=20) as session:
            yield session.get_root(IVirtualizationServiceInternal)

    def client_process(self, uid: int, *commands: str) -> "subprocess.Popen[str]":
        """See tests.virtualizationservice.client; to be used in a `with`."""
        return subprocess.Popen(
            [*CLIENT, str(self.socket), str(uid), *commands],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run_client(self, uid: int, *commands: str) -> list[str]:
        """What the commands say, a line each."""
        with self.client_process(uid, *commands) as process:
            output, _ = process.communicate()
            assert process.returncode == 0
        return output.splitlines()

    def vms(self) -> list[str]:
        return sorted(path.name for path in (self.directory / "vms").glob("[0-9]*"))


def as_user(uid: int, connector: Callable[[], socket.socket]) -> Callable[[], socket.socket]:
    """The kernel notes who connects when it happens."""

    def connect_as() -> socket.socket:
        with effective_uid(uid):
            return connector()

    return connect_as


@contextlib.contextmanager
def effective_uid(uid: int) -> Iterator[None]:
    before = os.geteuid()
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(before)
