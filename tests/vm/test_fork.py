"""VMs that are copied while they run."""

import os
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from avf.apk import ApkBuilder, SigningKey
from avf.client import (
    DebugLevel,
    PayloadReady,
    PayloadStarted,
    Refused,
    StartKind,
    VirtualizationService,
    VirtualMachine,
)
from avf.client.control import open_vm
from tests.vm.conftest import App, prepare_app

pytestmark = pytest.mark.vm

PORT = 5678
PAYLOAD = b"""#!/usr/bin/python3
import os, socket, sys, threading, time
import avf_payload

told = []
was_told = threading.Event()

def cloned(number):
    told.append(number)
    was_told.set()

avf_payload.on_clone(cloned)
for _ in range(5):  # who is busy stands still, too
    if os.fork() == 0:
        while True:
            pass

def answer(word):
    match word:
        case "boot": return open("/proc/sys/kernel/random/boot_id").read().strip()
        case "random": return os.urandom(16).hex()
        case "time": return str(time.time())
        case "number": return str(avf_payload.get_clone_number())
        case "told": return str(told)
        case "wait until told":
            was_told.wait(60)
            return str(told)
        case "memory": return memory
        case "file": return open("/mnt/apk/bin/payload.py").readline().strip()
        case "secret": return avf_payload.get_vm_instance_secret(b"name").hex()
        case "port":
            for name in os.listdir("/dev"):
                if name.startswith("vport"):
                    try: open("/dev/" + name, "r+b", buffering=0)
                    except OSError as error: return error.strerror
        case "thaw":
            try: open("/sys/fs/cgroup/payload/cgroup.freeze", "w").write("0")
            except OSError as error: return error.strerror

def serve(connection):
    global memory
    with connection.makefile("rw") as lines:
        for line in lines:
            word = line.strip()
            if word.startswith("remember "):
                memory = word.removeprefix("remember ")
            print(answer(word), file=lines, flush=True)

memory = "nothing"
listener = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
listener.bind((socket.VMADDR_CID_ANY, 5678))
listener.listen()
avf_payload.notify_payload_ready()
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"""


@pytest.fixture
def forkable(service: VirtualizationService, tmp_path: Path) -> Iterator[App]:
    apk = tmp_path / "app.apk"
    with apk.open("w+b") as file:
        ApkBuilder().add("bin/payload.py", PAYLOAD, mode=0o755).build(file, SigningKey.generate())
    app = prepare_app(service, tmp_path, apk)
    config = app.running("payload.py", forkable=True, instance_image=None)
    yield replace(app, config=config)


def ask(vm: VirtualMachine, *words: str) -> list[str]:
    with vm.connect_vsock(PORT) as stream, stream.makefile("rw") as lines:
        return [said(lines, word) for word in words]


def said(lines: "socket.SocketIO | object", word: str) -> str:
    print(word, file=lines, flush=True)  # type: ignore[call-overload]
    answer: str = lines.readline()  # type: ignore[union-attr]
    return answer.strip()


def test_a_clone_goes_on_as_somebody_of_its_own(
    service: VirtualizationService, forkable: App, tmp_path: Path
) -> None:
    with service.create_vm(forkable.config, console=tmp_path / "console") as vm:
        vm.start()
        vm.wait_until_ready(300)
        ask(vm, "remember what was said before")
        before = ask(vm, "boot", "random", "number", "told")
        old = vm.connect_vsock(PORT)
        with vm.fork(console=tmp_path / "clone") as clone:
            with old:
                old.settimeout(60)
                with pytest.raises(ConnectionResetError):
                    old.recv(1)
            ask(vm, "remember what was said later")
            clone.start()
            clone.wait_until_ready(300)
            events = clone.events()
            assert [next(events), next(events)] == [PayloadStarted(), PayloadReady()]
            after = ask(vm, "boot", "random", "number", "told")
            cloned = ask(clone, "boot", "random", "number", "memory", "file")
            assert (after[0], after[2:]) == (before[0], ["0", "[]"])
            assert len({before[0], cloned[0]}) == 2
            assert len({before[1], after[1], cloned[1]}) == 3
            assert cloned[2:] == ["1", "what was said before", "#!/usr/bin/python3"]
            assert ask(vm, "memory") == ["what was said later"]
            assert ask(clone, "wait until told") == ["[1]"]
            for each in (vm, clone):
                assert abs(float(ask(each, "time")[0]) - time.time()) < 10
            assert clone.cid != vm.cid
            assert clone.details().name == f"{vm.details().name}-1"
            assert clone.timeline().kind is StartKind.CLONE
            with pytest.raises(Refused, match=f"only its original, the VM with CID {vm.cid}"):
                clone.fork()
            assert ask(vm, "secret") != ask(clone, "secret")
            with pytest.raises(Refused, match="asked for secrets, which a clone would share"):
                vm.fork()
            vm.stop()
            assert ask(clone, "memory") == ["what was said before"]


def test_a_payload_cannot_come_between(
    service: VirtualizationService, forkable: App, tmp_path: Path
) -> None:
    """Of a VM that is not debuggable, and whoever asks: its owner comes by its socket."""
    config = replace(forkable.config, debug_level=DebugLevel.NONE)
    with service.create_vm(config) as vm:
        with pytest.raises(Refused, match="VM is not running"):
            vm.fork()
        vm.start()
        vm.wait_until_ready(300)
        assert ask(vm, "port", "thaw") == [os.strerror(13)] * 2
        with open_vm(vm.cid) as seen, seen.fork("other") as clone:
            clone.start()
            clone.wait_until_ready(300)
            assert clone.details().name == "other"
            assert ask(clone, "number", "port", "thaw") == ["1", *[os.strerror(13)] * 2]
        with vm.fork() as unused:
            unused.close()
        with vm.fork() as third:
            third.start()
            third.wait_until_ready(300)
            assert ask(third, "number") == ["3"]
        assert ask(vm, "number") == ["0"]


def test_a_vm_that_was_not_made_for_it_is_not_copied(app: App) -> None:
    problem = pytest.raises(Refused, match="its configuration does not allow it")
    with app.service.create_vm(app.config) as vm, problem:
        vm.fork()
