"""The guest in real machines: what the host hears, and what payloads see."""

import json
import os
import random
import re
import subprocess
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from avf.aidl.virtualizationcommon import ErrorCode
from avf.apk import ApkBuilder, SigningKey
from avf.apk import builder as apk_builder
from avf.binder import Interface, RemoteException, connect, method
from avf.cli.symbols import Symbols
from avf.disk import MetadataPartition, PartitionKind, create_writable_partition
from avf.guest.cbor import decode
from avf.image import Image, build_image, default_cache
from avf.sdk import cflags
from avf.vmm import ExitCause, Machine
from tests.guest.machine import (
    TIMEOUT,
    App,
    Outcome,
    build_apk,
    machine,
    make_app,
    make_instance,
    refresh_idsig,
)

pytestmark = pytest.mark.vm

SOURCES = Path(__file__).parent / "payload"
AS_ROOT = ("kill_agent", "panic.sh", "old_storage.sh")
"""Payloads that ask for root in a configuration file of their own."""


class IProbe(Interface, descriptor="test.IProbe"):
    @method(1)
    def secret(self, size: int) -> bytes:
        raise NotImplementedError

    @method(2, oneway=True)
    def stop(self) -> None: ...


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    return build_image(tmp_path_factory.mktemp("image"), cache=default_cache())


@pytest.fixture(scope="module")
def key() -> SigningKey:
    return SigningKey.generate()


def compile_payload(name: str, folder: Path, *flags: str) -> bytes:
    output = folder / "compiled"
    command = ["gcc", "-O2", "-Wall", *cflags(), *flags, "-o", output, SOURCES / name]
    subprocess.run(command, check=True)
    return output.read_bytes()


def builder(folder: Path, text: str = "packed text") -> ApkBuilder:
    apk = ApkBuilder("com.example.test")
    apk.add_native_library("libprobe.so", compile_payload("probe.c", folder, "-shared", "-fPIC"))
    apk.add_native_library("libabort.so", compile_payload("abort.c", folder, "-shared", "-fPIC"))
    apk.add("bin/kill_agent", compile_payload("kill_agent.c", folder))
    for path in sorted([*SOURCES.glob("*.py"), *SOURCES.glob("*.sh")]):
        apk.add(f"bin/{path.name}", path)
    for command in AS_ROOT:
        task = {"type": "microdroid_launcher", "command": command, "run_as_root": True}
        apk.add(f"assets/{command}.json", json.dumps({"task": task}).encode())
    apk.add("assets/packed.txt", text.encode(), compress=True)
    apk.add(
        "assets/config.json",
        b'{"task": {"type": "microdroid_launcher", "command": "extra.py"}, "extra_apks": [{"path": "x"}]}',
    )
    apk.add("assets/no_task.json", b"{}")
    return apk


@pytest.fixture
def app(tmp_path: Path, key: SigningKey) -> App:
    return make_app(tmp_path, builder(tmp_path), key, "libprobe.so")


def as_root(app: App, command: str) -> App:
    return replace(app, metadata=MetadataPartition(config_path=f"/mnt/apk/assets/{command}.json"))


def run(image: Image, app: App | None, tmp_path: Path, **options: object) -> Outcome:
    for socket in tmp_path.glob("v*"):
        socket.unlink()
    with machine(image, tmp_path, app, **options) as running:  # type: ignore[arg-type]
        outcome = running.finish()
    assert outcome.report.cause is ExitCause.SHUTDOWN, outcome
    return outcome


def line(outcome: Outcome, start: str) -> str:
    (found,) = [text for text in outcome.log.splitlines() if text.startswith(start)]
    return found


def line_of(text: str, part: str) -> str:
    return next(line for line in text.splitlines() if part in line)


def test_an_instance_over_several_boots(image: Image, app: App, tmp_path: Path) -> None:
    first = run(image, app, tmp_path)
    assert first.heard == [("started",), ("ready",), ("finished", 7)], first.log
    assert first.failure == ""
    assert "Linux version" in first.console
    assert "verified by scheme v3" in first.log
    assert line(first, "uid") == "uid 6000, contents /mnt/apk, storage none"
    assert (
        line(first, "file /mnt/apk/assets/packed") == "file /mnt/apk/assets/packed.txt: packed text"
    )
    assert line(first, "file /mnt/apk/assets/absent").endswith(": No such file or directory")
    assert line(first, "write /mnt/apk").endswith(": Read-only file system")
    assert line(first, "write /usr").endswith(": Read-only file system")
    assert line(first, "write /data").endswith(": ok")
    assert line(first, "swap") == "swap /dev/zram0"

    second = run(image, app, tmp_path, board=Machine.PCI)
    assert second.heard == first.heard, second.log
    assert "root hash is known" in second.log
    for secret in ("secret", "code secret"):
        assert line(second, secret) == line(first, secret)
    assert line(first, "secret") != line(first, "code secret").removeprefix("code ")

    build_apk(app.apk, builder(tmp_path, "another text"), SigningKey.generate())
    third = run(image, app, tmp_path)
    message = "Payload has changed: the APK of package com.example.test is not by this instance's signer or a successor"
    assert third.heard == [("error", ErrorCode.PAYLOAD_CHANGED, message)]
    assert third.failure == "MICRODROID_PAYLOAD_HAS_CHANGED"


def ports(outcome: Outcome) -> tuple[str, str, str, str]:
    """What came out of ttyS0 and hvc0, hvc1, hvc2, and ttyS1."""
    return outcome.console, outcome.ramdump, outcome.log, outcome.failure


def test_a_guest_that_is_not_debuggable_tells_only_why_it_died(
    image: Image, app: App, tmp_path: Path
) -> None:
    outcome = run(image, app.running("libabort.so"), tmp_path, debuggable=False)
    killed = "Failed to run payload: Payload exited due to signal: 6 (SIGABRT)"
    assert outcome.heard == [("started",), ("error", ErrorCode.UNKNOWN, killed)]
    assert ports(outcome) == ("", "", "", f"MICRODROID_UNKNOWN_RUNTIME_ERROR|{killed}")
    assert outcome.tombstones == []
    # the other debug level is another identity
    other = run(image, app, tmp_path, debuggable=True)
    assert other.heard == [
        (
            "error",
            ErrorCode.UNKNOWN,
            "instance image: cannot be decrypted: it was made by a VM of another debug level or guest image",
        )
    ]


def test_rpc_binder_from_python(image: Image, app: App, tmp_path: Path) -> None:
    with machine(image, tmp_path, app.running("rpc.py")) as running:
        assert running.service.ready.wait(TIMEOUT)
        with connect(lambda: running.vsock.connect(5000)) as session:
            probe = session.get_root(IProbe)
            assert len(probe.secret(20)) == 20
            with pytest.raises(RemoteException):
                probe.secret(33)
            probe.stop()
            outcome = running.finish()
    assert outcome.heard == [("started",), ("ready",), ("finished", 3)]


def test_config_file_and_extra_apk(image: Image, app: App, tmp_path: Path, key: SigningKey) -> None:
    extra = ApkBuilder("com.example.extra").add("assets/note.txt", b"a note")
    extra.add("bin/tool", b"#!/bin/sh\necho ran\n", mode=0o755)
    path = build_apk(tmp_path / "extra.apk", extra, key)
    metadata = MetadataPartition(config_path="/mnt/apk/assets/config.json")
    outcome = run(image, replace(app, metadata=metadata, extras=(path,)), tmp_path)
    assert outcome.heard == [("started",), ("finished", 0)], outcome.log
    assert line(outcome, "tool:") == "tool: 126"
    assert line(outcome, "note:") == "note: a note"
    assert len(decode(bytes.fromhex(line(outcome, "chain: ").split()[1]))) == 2
    assert line(outcome, "cdi:") == "cdi: 32"
    assert line(outcome, "loopback:") == "loopback: up"
    for options in ("", "-I", "-S"):
        assert line(outcome, f"python {options}:") == f"python {options}: 1"


def contents_app(folder: Path, key: SigningKey, files: dict[str, bytes]) -> App:
    """A payload with files of all kinds, an extra APK that is shown as EROFS, and one that cannot be."""
    apk = ApkBuilder("com.example.contents").add("bin/contents.py", SOURCES / "contents.py")
    document = {
        "task": {"type": "microdroid_launcher", "command": "contents.py"},
        "extra_apks": [{"path": "x"}, {"path": "y"}],
    }
    apk.add("config.json", json.dumps(document).encode())
    for name, data in files.items():
        apk.add(name, data, compress=name.startswith("packed"))
    extra = ApkBuilder("com.example.extra").add("note", b"a note")
    odd = ApkBuilder("com.example.odd").add("n" * 255, b"long").add("d/" + "n" * 256, b"too long")
    extras = tuple(
        build_apk(folder / f"{name}.apk", builder, key)
        for name, builder in (("extra", extra), ("odd", odd))
    )
    app = make_app(folder, apk, key, "", extras)
    return replace(app, metadata=MetadataPartition(config_path="/mnt/apk/config.json"))


def files_of_all_kinds() -> dict[str, bytes]:
    """More small ones than are made at once; large ones aligned, not aligned, compressed."""
    noise = random.Random(17)
    files = {f"small/{number}": noise.randbytes(number * 20) for number in range(150)}
    files |= {f"packed/{number}": noise.randbytes(2000).hex().encode() for number in range(150)}
    files["/".join(["deep"] * 50) + "/file"] = b"deep"
    files["big"] = noise.randbytes((2 << 20) + 1234)
    files["packed-big"] = noise.randbytes(1 << 20).hex().encode()
    files["shifted"] = noise.randbytes((1 << 20) + 99)
    return files


def told(outcome: Outcome) -> dict[str, list[object]]:
    answer: dict[str, list[object]] = json.loads(line(outcome, "TOLD").partition(" ")[2])
    return answer


def digests(outcome: Outcome) -> dict[str, object]:
    return {
        path.removeprefix("/mnt/apk/"): found[3]
        for path, found in told(outcome).items()
        if path.startswith("/mnt/apk/")
    }


def test_contents_of_apks(
    image: Image, tmp_path: Path, key: SigningKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = files_of_all_kinds()
    with monkeypatch.context() as patch:
        original = apk_builder._alignment_extra
        patch.setattr(
            apk_builder,
            "_alignment_extra",
            lambda archive, name, size: original(archive, name, size if name != "shifted" else 0),
        )
        app = contents_app(tmp_path, key, files)
    first = run(image, app, tmp_path)
    assert sorted(text for text in first.log.splitlines() if text.startswith("mounted")) == [
        "mounted /mnt/apk erofs False",
        "mounted /mnt/extra-apk/0 erofs True",
        "mounted /mnt/extra-apk/1 fuse True",
    ]
    expected = {name: sha256(data).hexdigest() for name, data in files.items()}
    assert expected.items() <= digests(first).items()
    assert line(first, "zeros") == f"zeros {[True] * 4}"
    whole = told(first)
    assert whole["/mnt/apk/big"][:3] == ["100644", 6000, 0.0]
    assert whole["/mnt/apk/bin/contents.py"][0] == "100744"
    assert whole["/mnt/extra-apk/0/note"][3] == sha256(b"a note").hexdigest()
    assert whole["/mnt/extra-apk/1/d/" + "n" * 256][3] == sha256(b"too long").hexdigest()

    damage(app.apk, files["big"][1_000_000:1_000_100], files["small/90"], files["shifted"][:99])
    second = run(image, app, tmp_path)
    changed = digests(second)
    assert "root hash is known" in second.log
    bad = {name for name in expected if changed[name] != expected[name]}
    assert {changed[name] for name in bad} == {"EIO"}
    assert {"big", "shifted", "small/90"} <= bad
    assert all(name.startswith("small/") for name in bad - {"big", "shifted"})
    assert len(bad) < 12


def damage(apk: Path, *pieces: bytes) -> None:
    """Changes one byte in the middle of each piece."""
    content = bytearray(apk.read_bytes())
    for piece in pieces:
        content[content.index(piece) + len(piece) // 2] ^= 1
    apk.write_bytes(content)


def test_a_configuration_without_a_task(image: Image, app: App, tmp_path: Path) -> None:
    metadata = MetadataPartition(config_path="/mnt/apk/assets/no_task.json")
    outcome = run(image, replace(app, metadata=metadata), tmp_path)
    assert outcome.heard == [("error", ErrorCode.PAYLOAD_CONFIG_INVALID, "No task in VM config")]
    assert outcome.failure == "MICRODROID_INVALID_PAYLOAD_CONFIG"


@pytest.mark.parametrize("with_new_idsig", [False, True])
def test_tampering(image: Image, app: App, tmp_path: Path, with_new_idsig: bool) -> None:
    """One bit: with the old idsig dm-verity sees it; with a new one the root hash fits, but the signature does not."""
    content = bytearray(app.apk.read_bytes())
    content[content.index(b"file %s: %s")] ^= 1
    app.apk.write_bytes(content)
    if with_new_idsig:
        refresh_idsig(app.apk)
    outcome = run(image, app, tmp_path)
    assert outcome.heard == [
        ("error", ErrorCode.PAYLOAD_VERIFICATION_FAILED, "Payload verification failed")
    ]
    assert outcome.failure == "MICRODROID_PAYLOAD_VERIFICATION_FAILED"
    assert ("Digest mismatch" if with_new_idsig else "Input/output error") in outcome.log


def test_no_service_on_the_host(image: Image, tmp_path: Path) -> None:
    outcome = run(image, None, tmp_path, serve=False)
    assert outcome.heard == []
    assert outcome.failure == "MICRODROID_FAILED_TO_CONNECT_TO_VIRTUALIZATION_SERVICE"


def test_tombstone(image: Image, app: App, tmp_path: Path) -> None:
    outcome = run(image, app.running("libabort.so"), tmp_path)
    (text,) = outcome.tombstones
    assert "signal 6 (SIGABRT)" in text
    assert "libc.so.6" in line_of(text, "#00 pc")
    frames = [line for line in text.splitlines() if line.startswith("      #")]
    (caller,) = [line for line in frames if line.endswith("  /mnt/apk/lib/x86_64/libabort.so")]
    assert re.search(r" \(AVmPayload_main\+[1-9]\d*\)$", Symbols([app.apk]).named(caller))


BOOT_PANIC = "rdinit=/absent root=/dev/absent"
LATE_PANIC = "sysctl.vm.panic_on_oom=2"


@pytest.mark.parametrize(
    ("params", "debuggable"), [(BOOT_PANIC, True), (BOOT_PANIC, False), (LATE_PANIC, False)]
)
def test_a_kernel_that_panics_is_heard_only_if_debuggable(
    image: Image, app: App, tmp_path: Path, params: str, debuggable: bool
) -> None:
    late = params == LATE_PANIC
    with machine(
        image, tmp_path, app.running("exhaust.py"), debuggable=debuggable, params=params
    ) as running:
        outcome = running.finish()
    # the driver that tells the VMM of a panic is loaded by init
    assert outcome.report.cause is (ExitCause.CRASH if late else ExitCause.REBOOT)
    assert outcome.heard == [("started",), ("ready",)] * late
    if debuggable:
        assert "Kernel panic - not syncing: " in outcome.console
    else:
        assert ports(outcome) == ("", "", "", "")


def test_root_in_the_guest_has_to_be_asked_for(image: Image, app: App, tmp_path: Path) -> None:
    """It has what other payloads have not; a guest that is not debuggable refuses it."""
    with machine(image, tmp_path, as_root(app, "panic.sh")) as running:
        outcome = running.finish()
    assert outcome.heard == [("started",)]
    assert outcome.report.cause is ExitCause.CRASH
    assert "sysrq triggered crash" in outcome.console

    make_instance(app)
    refused = run(image, as_root(app, "panic.sh"), tmp_path, debuggable=False)
    message = "VM config: task.run_as_root needs a debuggable VM"
    assert refused.heard == [("error", ErrorCode.PAYLOAD_CONFIG_INVALID, message)]
    assert refused.failure == "MICRODROID_INVALID_PAYLOAD_CONFIG"


def test_an_agent_that_is_killed(image: Image, app: App, tmp_path: Path) -> None:
    outcome = run(image, as_root(app, "kill_agent"), tmp_path)
    assert outcome.heard == [("started",)]
    assert outcome.failure == "MICRODROID_UNKNOWN_RUNTIME_ERROR|the agent was killed by signal 9"


def test_a_payload_that_takes_all_there_is(image: Image, app: App, tmp_path: Path) -> None:
    """It is refused more of everything; of memory it dies. Agent, init and file server live to tell."""
    outcome = run(image, app.running("exhaust.py"), tmp_path)
    ends = [text.partition(" (")[0] for text in outcome.log.splitlines() if " agent: " not in text]
    assert ends == [
        "processes: no more",
        "threads: no more",
        "descriptors: EMFILE",
        "/data: ENOSPC",
        "/tmp: ENOSPC",
        "/dev/shm: ENOSPC",
        "/run/lock: ENOSPC",
    ]
    killed = "Failed to run payload: out of memory, SIGKILL"
    error = ("error", ErrorCode.UNKNOWN, killed)
    assert outcome.heard == [("started",), ("ready",), error], outcome.console
    assert outcome.failure == f"MICRODROID_UNKNOWN_RUNTIME_ERROR|{killed}"


def test_who_has_run_out_of_memory(image: Image, app: App, tmp_path: Path) -> None:
    """A payload that is killed after a process of its own ran out of memory has not run out of memory itself."""
    outcome = run(image, app.running("hungry_child.py"), tmp_path)
    assert "the child was killed by signal 9" in outcome.log
    killed = "Failed to run payload: Payload exited due to signal: 9 (SIGKILL)"
    assert outcome.heard == [("started",), ("error", ErrorCode.UNKNOWN, killed)], outcome.log


def test_encrypted_storage(image: Image, app: App, tmp_path: Path) -> None:
    storage = tmp_path / "storage.img"
    with storage.open("w+b") as file:
        create_writable_partition(file.fileno(), 10 << 20, PartitionKind.ENCRYPTEDSTORE)
    app = replace(app.running("storage.sh"), storage=storage)
    first = run(image, app, tmp_path)
    assert first.heard == [("started",), ("finished", 0)], first.log
    assert "formatted and mounted" in first.log
    mount = line(first, "/dev/dm-").split()
    assert mount[2] == "ext4"
    assert {"rw", "nosuid", "nodev", "noexec"} <= set(mount[3].split(","))
    content = storage.read_bytes()
    assert not content.startswith(b"UNFORMATTED-STORAGE")
    assert b"SSSSSSSS" not in content
    assert b"a boot" not in content

    assert line(first, "root directory") == "root directory 0:6000 770"

    os.truncate(storage, 300 << 20)
    second = run(image, app, tmp_path)
    assert "formatted" not in second.log
    assert line(second, "boots") == "boots 6000:6000 644"
    assert line(second, "a boot") == "a boot"
    sizes = [int(line(outcome, "size ").split()[1]) for outcome in (first, second)]
    assert sizes[0] < 10 << 10 < 250 << 10 < sizes[1], second.log

    assert run(image, as_root(app, "old_storage.sh"), tmp_path).heard[-1] == ("finished", 0)
    taken_over = run(image, app, tmp_path)
    assert taken_over.heard[-1] == ("finished", 0), taken_over.log
    assert line(taken_over, "root directory") == "root directory 0:6000 770"
    assert line(taken_over, "boots") == "boots 6000:6000 600"

    storage.write_bytes(bytes(10 << 20))
    third = run(image, app, tmp_path)
    message = "Unable to prepare encrypted storage. Exitcode=1"
    assert third.heard == [("error", ErrorCode.UNKNOWN, message)]
    cause = "it is another instance's, or damaged: OSError:"
    assert third.failure.startswith(f"MICRODROID_UNKNOWN_RUNTIME_ERROR|{message}: {cause}")
