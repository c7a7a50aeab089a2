"""Native payloads in a process of the host: the real library, launcher and service, without a machine around them."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from avf.guest import launcher
from avf.guest.instance import ApkData, PayloadIdentity
from avf.guest.payload_service import PayloadService, serve
from avf.guest.secrets import agent_cdi, payload_inputs, payload_layer
from avf.image.native import compile_native
from tests.guest.machine import RecordingService

NATIVE = Path(launcher.__file__).parent / "native"
DRIVER = """
import sys
from avf.guest import launcher, payload_client
payload_client.SOCKET_PATH = sys.argv[2]
launcher.exit_process(launcher.run_library(sys.argv[1]))
"""
PRELUDE = '#include <stdio.h>\n#include <string.h>\n#include "vm_payload.h"\n'


class Host:
    """Where payloads are compiled and run, and what they told their host."""

    def __init__(self, folder: Path, service: RecordingService, socket: str) -> None:
        self.folder = folder
        self.heard = service.heard
        self.socket = socket

    def run(self, source: str) -> subprocess.CompletedProcess[str]:
        """Compiles the body of a payload and runs it."""
        library = self.folder / "payload.so"
        command = ["gcc", "-shared", "-fPIC", "-Wall", f"-I{NATIVE}", "-x", "c", "-o", library, "-"]
        subprocess.run(command, input=(PRELUDE + source).encode(), check=True)
        return self.launch(library)

    def launch(self, library: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", DRIVER, library, self.socket],
            env=os.environ | {"LD_LIBRARY_PATH": str(self.folder)},
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    library = compile_native(NATIVE / "vm_payload.c", "-shared", "-fPIC", "-fvisibility=hidden")
    (tmp_path / launcher.LIBRARY).write_bytes(library)
    identity = PayloadIdentity(bytes(64), ApkData(bytes(32), b"key"), ())
    layer = payload_layer(agent_cdi(False), payload_inputs(identity, False, "/mnt/apk/c", None))
    service = RecordingService()
    payload_service = PayloadService(service, layer, restricted_allowed=True)
    socket = serve(payload_service, str(tmp_path), group=os.getgid())
    yield Host(tmp_path, service, socket.path)
    socket.server.shutdown()


def test_the_value_of_main_is_the_exit_code(host: Host) -> None:
    done = host.run('int AVmPayload_main(void) { printf("no newline"); return 42; }')
    assert (done.returncode, done.stdout) == (42, "no newline")


def test_no_entry_point(host: Host) -> None:
    done = host.run("int something_else(void) { return 0; }")
    assert done.returncode == 1
    assert "Failed to find entrypoint AVmPayload_main" in done.stderr


def test_not_loadable(host: Host) -> None:
    path = host.folder / "bad.so"
    path.write_bytes(b"\x7fELF")
    done = host.launch(path)
    assert done.returncode == 1
    assert "Failed to load" in done.stderr


def test_a_library_that_needs_another_one_that_is_not_there(host: Host) -> None:
    done = host.run("int absent(void); int AVmPayload_main(void) { return absent(); }")
    assert done.returncode == 1
    assert "Failed to load" in done.stderr


def test_ready_is_told_once(host: Host) -> None:
    body = "int AVmPayload_main(void) { AVmPayload_notifyPayloadReady(); AVmPayload_notifyPayloadReady(); return 0; }"
    assert host.run(body).returncode == 0
    assert host.heard == [("ready",)]


def test_secrets_are_filled_in_and_no_further(host: Host) -> None:
    done = host.run("""
int AVmPayload_main(void)
{
	unsigned char secret[40], again[40];
	memset(secret, 0xEE, sizeof secret);
	memset(again, 0xEE, sizeof again);
	AVmPayload_getVmInstanceSecret("a", 1, secret, 32);
	AVmPayload_getVmInstanceSecret("a", 1, again, 16);
	AVmPayload_getVmInstanceSecret(NULL, 0, again, 0);
	return memcmp(secret, again, 16) || secret[31] == 0xEE || secret[32] != 0xEE || again[16] != 0xEE;
}""")
    assert done.returncode == 0, done.stderr


def test_the_chain_is_cut_to_the_buffer_but_its_length_is_told(host: Host) -> None:
    done = host.run("""
int AVmPayload_main(void)
{
	unsigned char small[4] = { 0 }, large[4096];
	size_t whole = AVmPayload_getDiceAttestationChain(NULL, 0);
	size_t told = AVmPayload_getDiceAttestationChain(small, 2);
	size_t copied = AVmPayload_getDiceAttestationChain(large, sizeof large);
	printf("%zu %zu %zu %d %d\\n", whole, told, copied, memcmp(small, large, 2), small[2]);
	printf("%zu\\n", AVmPayload_getDiceAttestationCdi(NULL, 0));
	return 0;
}""")
    whole, told, copied, difference, behind = done.stdout.splitlines()[0].split()
    assert int(whole) > 100
    assert (told, copied, difference, behind) == (whole, whole, "0", "0")
    assert done.stdout.splitlines()[1] == "32"


def test_paths(host: Host) -> None:
    done = host.run("""
int AVmPayload_main(void)
{
	const char *storage = AVmPayload_getEncryptedStoragePath();

	printf("%s %s\\n", AVmPayload_getApkContentsPath(), storage ? storage : "none");
	return 0;
}""")
    assert done.stdout == "/mnt/apk none\n"


@pytest.mark.parametrize(
    "call",
    [
        'AVmPayload_getVmInstanceSecret("a", 1, buffer, 33)',
        "AVmPayload_runVsockRpcServer((AIBinder *)buffer, 5000, NULL, NULL)",
    ],
)
def test_a_function_that_fails_aborts(host: Host, call: str) -> None:
    done = host.run(
        f"int AVmPayload_main(void) {{ static char buffer[64]; {call}; return buffer[0]; }}"
    )
    assert done.returncode == -signal.SIGABRT
    assert "AVmPayload_" in done.stderr


def test_without_a_service_there_is_no_api(host: Host) -> None:
    host.socket += ".absent"
    done = host.run("int AVmPayload_main(void) { AVmPayload_notifyPayloadReady(); return 0; }")
    assert done.returncode == -signal.SIGABRT
    assert "AVmPayload_notifyPayloadReady failed" in done.stderr
