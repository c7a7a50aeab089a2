"""Native payloads in a process of the host: the real library, launcher and service, without a machine around them."""

import functools
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from avf.guest.forks import Forks
from avf.guest.identity import ApkData, PayloadIdentity
from avf.guest.payload_service import PayloadService, serve
from avf.guest.secrets import agent_cdi, payload_inputs, payload_layer
from avf.image.native import PAYLOAD_LIBRARY, compile_payload_library
from avf.sdk import cflags, libs
from tests.guest.machine import RecordingService

_DRIVER = """
import os, socket, sys
from avf.guest import launcher, payload_client

def listen(port):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{os.path.dirname(sys.argv[1])}/{port}")
    listener.listen()
    return listener

payload_client.SOCKET_PATH = sys.argv[2]
if sys.argv[3] == "unix":  # for vsock
    payload_client.listen, payload_client.is_host = listen, lambda peer: True
launcher.exit_process(launcher.run_library(sys.argv[1:]))
"""


class NativeHost:
    """Where payloads are compiled and run, and what they told their host."""

    def __init__(self, folder: Path, service: RecordingService, socket: str) -> None:
        self.folder = folder
        self.heard = service.heard
        self.socket = socket

    def compile(self, source: Path | str, *flags: str, compiler: str = "gcc") -> Path:
        """The library a file, or a text in C, becomes."""
        library = self.folder / "payload.so"
        options = ["-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", *cflags(), *flags]
        if isinstance(source, Path):
            command = [compiler, *options, "-o", library, source, *libs()]
            subprocess.run(command, check=True)
        else:
            command = [compiler, *options, "-x", "c", "-o", library, "-", *libs()]
            subprocess.run(command, input=source.encode(), check=True)
        return library

    def run(self, library: Path, transport: str = "vsock") -> subprocess.CompletedProcess[str]:
        """Runs a payload to its end."""
        return subprocess.run(
            self._command(library, transport),
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    @contextmanager
    def serving(self, library: Path) -> Iterator["subprocess.Popen[str]"]:
        """A payload that has called back that it serves; its port 5000 is a unix socket of that name in the folder."""
        process = subprocess.Popen(
            self._command(library, "unix"),
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            assert process.stdout is not None
            assert process.stdout.readline() == "serving\n"
            try:
                yield process
            finally:
                process.kill()
                (self.folder / "5000").unlink()

    def _command(self, library: Path, transport: str) -> Sequence[str | Path]:
        return [sys.executable, "-c", _DRIVER, library, self.socket, transport]

    def environment(self) -> dict[str, str]:
        """In which a process finds libvm_payload.so."""
        return os.environ | {"LD_LIBRARY_PATH": str(self.folder)}


_payload_library = functools.cache(compile_payload_library)


@contextmanager
def native_host(folder: Path, forks: Forks | None = None) -> Iterator[NativeHost]:
    (folder / PAYLOAD_LIBRARY).write_bytes(_payload_library())
    identity = PayloadIdentity(bytes(64), ApkData(bytes(32), b"key"), ())
    layer = payload_layer(agent_cdi(False), payload_inputs(identity, False, "/mnt/apk/c", None))
    service = RecordingService()
    payload_service = PayloadService(service, layer, restricted_allowed=True, forks=forks)
    socket = serve(payload_service, str(folder), group=os.getgid())
    yield NativeHost(folder, service, socket.path)
    socket.server.shutdown()
