"""A hostile payload in a guest that is not debuggable: what the agent, the kernel and the instance are kept from it."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from avf.apk import ApkBuilder, SigningKey
from avf.guest.instance import InstanceImage
from avf.guest.secrets import agent_cdi, instance_key, payload_inputs, payload_layer
from avf.image import Image, build_image, default_cache
from tests.guest.machine import TIMEOUT, App, Running, machine, make_app

pytestmark = pytest.mark.vm

PORT = 7000
PAYLOAD = Path(__file__).with_name("payload_attempts.py")
MASK = bytes(byte ^ 0xA5 for byte in range(256))
USABLE_DEVICES = [
    "/dev/full",
    "/dev/null",
    "/dev/ptmx",
    "/dev/pts/ptmx",
    "/dev/random",
    "/dev/urandom",
    "/dev/vsock",
    "/dev/zero",
]
"""/dev/tty cannot be opened without a controlling terminal."""
EXPECTED = {
    "EPERM": {
        "become root",
        "become root's group",
        "take groups",
        "kill the agent",
        "kill init",
        "ptrace 16",
        "ptrace 16902",
        "process_vm_readv",
        "kernel log",
        "mount namespace",
        "mount",
        "unmount",
        "chroot",
        "make a device",
        "init_module",
        "finit_module",
        "kexec_load",
        "reboot",
        "swapoff",
        "host name",
        "set the time",
        "I/O ports",
        "bpf",
        "userfaultfd",
        "open by handle",
        "real time",
        "larger /data",
        "write kernel/ns_last_pid",
    },
    "EACCES": {
        "write kernel/core_pattern",
        "write kernel/modprobe",
        "write kernel/sysrq",
        "write vm/panic_on_oom",
        "sysrq",
        "uevent helper",
        "kcore",
        "kmsg",
        "perf events",
        "nice",
        "never run out of memory",
        "group's memory.max",
        "group's pids.max",
        "group's cgroup.procs",
        "leave the group",
        "group of its own",
        "write /run/x",
        "write /dev/x",
        "write /root/x",
        "replace the agent's socket",
        "privileged vsock port",
        "run a file in /data",
    },
    "ENOENT": {
        f"{who}'s {name}"
        for who in ("agent", "init")
        for name in ("mem", "environ", "maps", "fd", "root", "cmdline")
    },
    "ENOSPC": {"user namespace"},
    "EROFS": {"write /x", "write /etc/passwd", "write /init", "write /mnt/x", "write /mnt/apk/x"},
}


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    return build_image(tmp_path_factory.mktemp("image"), cache=default_cache())


def masked_secrets(app: App) -> list[bytes]:
    """All that the agent has derived for this instance, as the host can compute it from the instance image."""
    parent = agent_cdi(False)
    key = instance_key(parent)
    fd = os.open(app.instance, os.O_RDONLY)
    try:
        record = InstanceImage(fd).read(key)
    finally:
        os.close(fd)
    assert record is not None
    identity = record.identity
    inputs = payload_inputs(identity, False, None, "attempts.py")
    layer = payload_layer(parent, inputs, identity.first_authority)
    secrets = [identity.salt, key, *parent, *layer.cdi]
    return [secret.translate(MASK) for secret in secrets]


def converse(running: Running, app: App) -> dict[str, Any]:
    """What the payload tells; on its way it is asked to look for secrets in its memory, the last being its own."""
    told: dict[str, Any] = {}
    with running.vsock.listen(PORT) as listener:
        assert running.service.ready.wait(TIMEOUT)
        listener.settimeout(TIMEOUT)
        connection, _ = listener.accept()
    with connection, connection.makefile("rw") as stream:
        for line in stream:
            what, value = json.loads(line)
            told[what] = value
            if what == "secret":
                values = [*masked_secrets(app), bytes.fromhex(value)]
                told["searched"] = len(values)
                stream.write(json.dumps([value.hex() for value in values]) + "\n")
                stream.flush()
    return told


def test_a_hostile_payload_gets_nothing_but_what_is_its_own(image: Image, tmp_path: Path) -> None:
    apk = ApkBuilder("com.example.hostile").add("bin/attempts.py", PAYLOAD)
    app = make_app(tmp_path, apk, SigningKey.generate(), "attempts.py")
    with machine(image, tmp_path, app, debuggable=False) as running:
        told = converse(running, app)
        outcome = running.finish()
    attempts = told["attempts"]
    assert attempts == {name: how for how, names in EXPECTED.items() for name in names}
    assert told["limits"] == "refused"
    assert told["status"] == {
        "Uid": ["6000"] * 4,
        "Gid": ["6000"] * 4,
        "Groups": [],
        **{name: ["0" * 16] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")},
        "NoNewPrivs": ["1"],
    }
    assert told["securebits"] == 0b1110_1011
    assert told["processes"] == [told["self"]]
    assert told["devices"] == USABLE_DEVICES
    # the kernel lets everybody open this one, but asks for a capability when it is written
    assert told["writable"] == ["/proc/sys/kernel/ns_last_pid"]
    # its own secret is found, so the search works; the agent's are not
    assert told["memory"] == [told["searched"] - 1]
    assert outcome.heard == [("started",), ("ready",), ("finished", 0)]
    assert (outcome.console, outcome.log, outcome.failure) == ("", "", "")
