"""Native payloads in a process of the host: the real library, launcher and service, without a machine around them."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.guest.native_host import NativeHost, native_host

PRELUDE = """
#include <stdio.h>
#include <string.h>
#include "avf_payload.h"
#include "avf_rpc.h"
#include "vm_payload_restricted.h"
"""


@pytest.fixture
def host(tmp_path: Path) -> Iterator[NativeHost]:
    with native_host(tmp_path) as host:
        yield host


def run(host: NativeHost, source: str) -> subprocess.CompletedProcess[str]:
    """Compiles the body of a payload and runs it."""
    return host.run(host.compile(PRELUDE + source))


def test_the_value_of_main_is_the_exit_code(host: NativeHost) -> None:
    done = run(host, 'int AVmPayload_main(void) { printf("no newline"); return 42; }')
    assert (done.returncode, done.stdout) == (42, "no newline")


def test_no_entry_point(host: NativeHost) -> None:
    done = run(host, "int something_else(void) { return 0; }")
    assert done.returncode == 1
    assert "Failed to find entrypoint AVmPayload_main" in done.stderr


def test_not_loadable(host: NativeHost) -> None:
    path = host.folder / "bad.so"
    path.write_bytes(b"\x7fELF")
    done = host.run(path)
    assert done.returncode == 1
    assert "Failed to load" in done.stderr


def test_a_library_that_needs_another_one_that_is_not_there(host: NativeHost) -> None:
    done = run(host, "int absent(void); int AVmPayload_main(void) { return absent(); }")
    assert done.returncode == 1
    assert "Failed to load" in done.stderr


def test_ready_is_told_once(host: NativeHost) -> None:
    body = "int AVmPayload_main(void) { AVmPayload_notifyPayloadReady(); AVmPayload_notifyPayloadReady(); return 0; }"
    assert run(host, body).returncode == 0
    assert host.heard == [("ready",)]


def test_secrets_are_filled_in_and_no_further(host: NativeHost) -> None:
    done = run(
        host,
        """
int AVmPayload_main(void)
{
	unsigned char secret[40], again[40];
	memset(secret, 0xEE, sizeof secret);
	memset(again, 0xEE, sizeof again);
	AvfPayload_getVmCodeSecret("a", 1, again, 32);
	AVmPayload_getVmInstanceSecret("a", 1, secret, 32);
	if (!memcmp(secret, again, 32))
		return 1;
	memset(again, 0xEE, sizeof again);
	AVmPayload_getVmInstanceSecret("a", 1, again, 16);
	AVmPayload_getVmInstanceSecret(NULL, 0, again, 0);
	return memcmp(secret, again, 16) || secret[31] == 0xEE || secret[32] != 0xEE || again[16] != 0xEE;
}""",
    )
    assert done.returncode == 0, done.stderr


class Cloned:
    """The part of a Forks that is used, in a machine that is a clone from the beginning."""

    def wait_until_cloned(self) -> int:
        return 7


def test_a_clone_is_told_its_number(tmp_path: Path) -> None:
    source = """
#include <stdatomic.h>
#include <unistd.h>
static atomic_ulong told;
static void cloned(uint64_t number, void *param)
{
	if (param == (void *)&told)
		told = number;
}
int AVmPayload_main(void)
{
	AvfPayload_onClone(cloned, &told);
	while (!told)
		usleep(1000);
	return told;
}"""
    with native_host(tmp_path, Cloned()) as host:  # type: ignore[arg-type]
        done = run(host, source)
    assert done.returncode == 7, done.stderr


def test_the_chain_is_cut_to_the_buffer_but_its_length_is_told(host: NativeHost) -> None:
    done = run(
        host,
        """
int AVmPayload_main(void)
{
	unsigned char small[4] = { 0 }, large[4096];
	size_t whole = AVmPayload_getDiceAttestationChain(NULL, 0);
	size_t told = AVmPayload_getDiceAttestationChain(small, 2);
	size_t copied = AVmPayload_getDiceAttestationChain(large, sizeof large);
	printf("%zu %zu %zu %d %d\\n", whole, told, copied, memcmp(small, large, 2), small[2]);
	printf("%zu\\n", AVmPayload_getDiceAttestationCdi(NULL, 0));
	return 0;
}""",
    )
    whole, told, copied, difference, behind = done.stdout.splitlines()[0].split()
    assert int(whole) > 100
    assert (told, copied, difference, behind) == (whole, whole, "0", "0")
    assert done.stdout.splitlines()[1] == "32"


def test_paths(host: NativeHost) -> None:
    done = run(
        host,
        """
int AVmPayload_main(void)
{
	const char *storage = AVmPayload_getEncryptedStoragePath();

	printf("%s %s\\n", AVmPayload_getApkContentsPath(), storage ? storage : "none");
	return 0;
}""",
    )
    assert done.stdout == "/mnt/apk none\n"


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ('AVmPayload_getVmInstanceSecret("a", 1, buffer, 33)', "at most 32 are given"),
        ("AVmPayload_runVsockRpcServer(NULL, 5000, NULL, NULL)", "service must not be NULL"),
        ("AVmPayload_runVsockRpcServer(BINDER, -1, NULL, NULL)", "4294967295 is no vsock port"),
        ('AvfRpc_newBinder("a.IB", NULL, NULL, 0)', "descriptor and transact must not be NULL"),
        ("AvfRpc_newBinder(NULL, transact, NULL, 0)", "descriptor and transact must not be NULL"),
        ('AvfRpc_newBinder("a.IB", transact, NULL, 2)', "flags has unknown bits"),
        ("AVmAttestationResult_getCertificateCount(NULL)", "there is no attestation result"),
        ("AVmAttestationResult_free((AVmAttestationResult *)buffer)", "no attestation result"),
    ],
)
def test_a_function_that_fails_aborts_with_the_reason(
    host: NativeHost, call: str, reason: str
) -> None:
    done = run(
        host,
        f"""
#define BINDER AvfRpc_newBinder("a.IB", transact, NULL, 0)
static char buffer[64];
int32_t transact(void *user, uint32_t code, AvfReader *arguments, AvfWriter *reply)
{{
	return user || code || arguments || reply;
}}
int AVmPayload_main(void)
{{
	{call};
	return buffer[0];
}}""",
    )
    assert done.returncode == -signal.SIGABRT
    assert call.partition("(")[0] in done.stderr
    assert reason in done.stderr


def test_a_port_that_is_in_use(host: NativeHost) -> None:
    """The call aborts before it says that it serves."""
    library = host.compile(Path(__file__).parent / "payload/kinds.c")
    with host.serving(library):
        done = host.run(library, "unix")
    assert done.returncode == -signal.SIGABRT
    assert "Address already in use" in done.stderr
    assert done.stdout == ""


def test_what_nobody_keeps_is_refused_with_its_status(host: NativeHost) -> None:
    done = run(
        host,
        """
int AVmPayload_main(void)
{
	char buf[4];

	printf("%d\\n", AVmPayload_writeRollbackProtectedSecret("abc", 4));
	printf("%d\\n", AVmPayload_readRollbackProtectedSecret(buf, 4));
	return 0;
}""",
    )
    assert done.stdout.splitlines() == ["-3", "-3"], done.stderr


def test_attestation_is_refused_with_its_status(host: NativeHost) -> None:
    done = run(
        host,
        """
int AVmPayload_main(void)
{
	static const char challenge[65];
	AVmAttestationResult *result = (AVmAttestationResult *)challenge;
	AVmAttestationStatus status = AVmPayload_requestAttestation(challenge, 64, &result);

	printf("%d %s %s\\n", status, AVmAttestationStatus_toString(status), result ? "result" : "NULL");
	printf("%d\\n", AVmPayload_requestAttestationForTesting(challenge, 64, &result));
	printf("%d\\n", AVmPayload_requestAttestation(challenge, 65, &result));
	AVmAttestationResult_free(result);
	return 0;
}""",
    )
    unsupported = "-10003 Remote attestation is not supported in the current environment. NULL"
    assert done.stdout.splitlines() == [unsupported, "-10003", "-10001"], done.stderr


def test_without_a_service_there_is_no_api(host: NativeHost) -> None:
    host.socket += ".absent"
    done = run(host, "int AVmPayload_main(void) { AVmPayload_notifyPayloadReady(); return 0; }")
    assert done.returncode == -signal.SIGABRT
    assert "AVmPayload_notifyPayloadReady: failed" in done.stderr


IN_TOKYO = """
import sys
from avf.guest.process import Process
from avf.guest.task import Kind, Program

process = Process()
process.start(
    Program(Kind.LIBRARY, (sys.argv[1],)), as_root=True, environment=[("TZ", "Asia/Tokyo")]
)
sys.exit(process.wait())
"""


def test_the_time_zone_that_a_variable_names(host: NativeHost) -> None:
    """localtime_r() looks at TZ once, which Python has done when the payload's variables come."""
    body = """
#include <time.h>
int AVmPayload_main(void)
{
	time_t zero = 0;
	struct tm local;
	return localtime_r(&zero, &local)->tm_hour;
}"""
    library = host.compile(PRELUDE + body)
    environment = host.environment() | {"TZ": "UTC"}
    done = subprocess.run([sys.executable, "-c", IN_TOKYO, library], env=environment, check=False)
    assert done.returncode == 9
