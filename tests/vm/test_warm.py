"""VMs that begin as clones of a template: each is somebody of its own, and a template that is no good harms nobody."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from avf.apk import ApkBuilder, SigningKey, sign
from avf.binder import RemoteException
from avf.client import (
    DeathReason,
    PartitionType,
    PayloadFinished,
    ServiceDied,
    StartKind,
    VirtualizationService,
    connect,
)
from avf.virtmgr.kind import CloneKind
from avf.virtmgr.warm import builder_command
from avf.vmm import TemplateFacts, user_templates
from avf.vmm.qemu import folded
from tests.eventually import eventually
from tests.fault.test_kill_phases import SECONDS, in_background, nothing_is_left
from tests.vm.conftest import INSTANCE_SIZE, App, prepare_app
from tests.vm.test_control import check_start
from tests.vmm.conftest import descendants_of

pytestmark = pytest.mark.vm

CLONES = 8
PRIVATE_MAX_MIB = 110
"""Of one clone under emulation whose payload has started: it is some 103, a VM that started cold has some 240."""
EATER = b"""#!/usr/bin/python3
import socket
import avf_payload
with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as listener:
    listener.bind((socket.VMADDR_CID_ANY, 5678))
    listener.listen()
    avf_payload.notify_payload_ready()
    with listener.accept()[0].makefile("rwb") as lines:
        for line in lines:
            eaten = b"x" * int(line)
            lines.write(b"done\\n")
            lines.flush()
"""
SCRIPT = Path(__file__).with_name("clone.py")


@pytest.fixture(scope="module")
def cache(image_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache with a template for debuggable VMs, as the builder makes it."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        patch.setenv("AVF_WARM", "on")
        command = [sys.executable, "-P", "-m", "avf.virtmgr.template_builder", "--debug", "full"]
        subprocess.run(command, check=True)
        yield folder


@pytest.fixture
def warm(cache: Path, runtime_dir: Path) -> Iterator[VirtualizationService]:
    with connect() as connection:
        yield connection


@pytest.fixture
def clone_app(warm: VirtualizationService, tmp_path: Path) -> App:
    builder = ApkBuilder("com.example.clone", version_code=1)
    builder.add("bin/clone.py", SCRIPT, mode=0o755)
    apk = tmp_path / "app.apk"
    with apk.with_suffix(".unsigned").open("w+b") as plain, apk.open("w+b") as signed:
        builder.write(plain)
        sign(plain, signed, SigningKey.generate())
    app = prepare_app(warm, tmp_path, apk)
    return replace(app, config=app.running("clone.py"))


def test_the_second_vm_begins_as_a_clone_with_nothing_set_up(
    runtime_dir: Path,
    image_dir: Path,
    sample_apk: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("AVF_WARM", raising=False)
    monkeypatch.setenv("AVF_ACCEL", "tcg")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    kinds = []
    with connect() as service:
        app = prepare_app(service, tmp_path, sample_apk)
        for _ in range(2):
            with service.create_vm(app.config, console=tmp_path / "console") as vm:
                vm.start()
                assert PayloadFinished(0) in list(vm.events())
                kinds.append(vm.timeline().kind)
            eventually(lambda: len(user_templates().list()), 1, seconds=300)
    assert kinds == [StartKind.COLD, StartKind.CLONE]


def test_clones_have_nothing_in_common_that_must_differ(
    warm: VirtualizationService, clone_app: App, tmp_path: Path
) -> None:
    logs = [tmp_path / f"log{number}" for number in range(CLONES)]
    with ExitStack() as stack:
        vms = []
        for number, log in enumerate(logs):
            instance = tmp_path / f"instance{number}"
            instance.touch()
            warm.initialize_writable_partition(
                instance, INSTANCE_SIZE, PartitionType.ANDROID_VM_INSTANCE
            )
            config = replace(clone_app.config, instance_image=instance)
            vm = stack.enter_context(warm.create_vm(config, console=tmp_path / "console", log=log))
            vm.start()
            vms.append(vm)
        for vm, log in zip(vms, logs, strict=True):
            assert PayloadFinished(0) in list(vm.events()), log.read_text()
            assert vm.timeline().kind is StartKind.CLONE
            check_start(vm.timeline())
            assert vm.timeline().kind is StartKind.CLONE
        assert len({vm.cid for vm in vms}) == CLONES
    said = [dict(line.split(" ", 1) for line in log.read_text().splitlines()) for log in logs]
    for what in ("urandom", "random", "uuid", "boot", "secret", "new"):
        words = [word for clone in said for word in clone[what].split()]
        assert len(set(words)) == len(words) >= CLONES, what
    for clone, log in zip(said, logs, strict=True):
        assert abs(float(clone["time"]) - log.stat().st_mtime) < 30  # not the template's time


def test_clones_have_little_memory_of_their_own_and_give_back_what_they_free(
    warm: VirtualizationService, tmp_path: Path
) -> None:
    """A page that no clone has written to is there once for all of them."""
    apk = tmp_path / "app.apk"
    with apk.open("w+b") as file:
        ApkBuilder().add("bin/eater.py", EATER, mode=0o755).build(file, SigningKey.generate())
    with ExitStack() as stack:
        for number in range(2):
            folder = tmp_path / str(number)
            folder.mkdir()
            app = prepare_app(warm, folder, apk)
            vm = stack.enter_context(warm.create_vm(app.running("eater.py")))
            vm.start()
            vm.wait_until_ready(300)
            assert vm.timeline().kind is StartKind.CLONE
        assert private_mib(warm.pid) / 2 < PRIVATE_MAX_MIB
        stream = stack.enter_context(vm.connect_vsock(5678))
        lines = stack.enter_context(stream.makefile("rwb"))

        def eat(mib: int) -> None:
            lines.write(b"%d\n" % (mib << 20))
            lines.flush()
            assert lines.readline() == b"done\n"

        before = private_mib(warm.pid)
        eat(64)
        assert private_mib(warm.pid) > before + 40
        eat(0)
        eventually(lambda: private_mib(warm.pid) < before + 30, True, seconds=60)
        vm.stop()
        vm.wait_for_death(60)
        report = vm.death_report
        assert report is not None
        assert "fallocate" not in report.vmm_stderr


def private_mib(virtmgr: int) -> float:
    """What virtmgr's children have for themselves: QEMUs, vsock devices, and bubblewrap."""
    total = 0
    for pid in descendants_of(virtmgr):
        with suppress(OSError):
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            total += sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))
    return total / 1024


def test_a_template_that_is_no_good_harms_no_vm(
    warm: VirtualizationService, cache: Path, app_of_sample: App, tmp_path: Path
) -> None:
    """Its digest was changed along, so that it is QEMU that finds out. It is not made anew while we hold the lock."""
    store = user_templates()
    (found,) = store.list()
    folder, kept = store.folder / found.key, cache / "kept"
    with store.lock():
        folder.rename(kept)
        store.add(found.key, lambda fd: nonsense(fd, found.facts))
        console, os_log = tmp_path / "console", tmp_path / "log"
        with warm.create_vm(app_of_sample.config, console=console, log=os_log) as vm:
            vm.start()
            eventually(lambda: "does not begin as its clone" in warm.log_tail, True)
            assert "begins as a clone" not in warm.log_tail
            assert PayloadFinished(0) in list(vm.events())
            timeline = vm.timeline()
            assert timeline.kind is StartKind.COLD
            assert "clone given up" in [phase.name for phase in timeline.phases]
        assert store.open(found.key) is None
        log = store.folder / "build.log"
        eventually(lambda: "somebody else makes a template" in log.read_text(), True)
        kept.rename(folder)


def nonsense(fd: int, known: TemplateFacts | None) -> TemplateFacts:
    assert known is not None
    with tempfile.TemporaryFile() as memory, tempfile.TemporaryFile() as state:
        memory.truncate(known.memory_mib << 20)
        os.write(state.fileno(), b"QEVM, but no machine")
        folded.write(memory.fileno(), state.fileno(), fd)
    return known


def test_a_vm_whose_disk_is_in_use_costs_no_template(
    warm: VirtualizationService, app_of_sample: App, tmp_path: Path
) -> None:
    config, console = app_of_sample.config, tmp_path / "console"
    with warm.create_vm(config, console=console) as first, warm.create_vm(config) as second:
        first.start()
        with suppress(RemoteException):  # which it is depends on who finds out
            second.start()
        assert second.wait_for_death(60) is DeathReason.START_FAILED
    (found,) = user_templates().list()
    assert found.problem is None


def test_a_vm_whose_clone_is_killed_starts_cold_and_costs_no_template(
    warm: VirtualizationService, app_of_sample: App, tmp_path: Path
) -> None:
    """As when the kernel kills it for want of memory."""
    with warm.create_vm(app_of_sample.config, console=tmp_path / "console") as vm:
        killing = in_background(lambda: kill_clone(warm.pid))
        vm.start()
        killing.join(SECONDS)
        assert PayloadFinished(0) in list(vm.events())
        assert vm.timeline().kind is StartKind.COLD
    assert "does not begin as its clone" in warm.log_tail
    (found,) = user_templates().list()
    assert found.problem is None


def kill_clone(virtmgr: int) -> None:
    """SIGKILL to a QEMU of virtmgr's as soon as it is to load a template."""
    eventually(lambda: len(clones_of(virtmgr)), 1)
    os.kill(clones_of(virtmgr)[0], signal.SIGKILL)


def clones_of(virtmgr: int) -> list[int]:
    return [pid for pid in descendants_of(virtmgr) if "-incoming" in command_of(pid)]


def boots(pid: int) -> bool:
    return "-kernel" in command_of(pid)


def command_of(pid: int) -> list[str]:
    """Empty if it has ended."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:
        return []
    return words if "qemu" in words[0] else []


def test_a_builder_that_is_killed_leaves_nothing_and_the_next_one_builds(
    cache: Path, runtime_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache / "other"))
    folder = user_templates().folder
    with subprocess.Popen(builder_command(CloneKind(True, 0, False))) as builder:
        eventually(lambda: any(map(boots, descendants_of(builder.pid))), True)
        started = descendants_of(builder.pid)
        builder.kill()
    eventually(lambda: [pid for pid in started if Path(f"/proc/{pid}/exe").exists()], [])
    assert user_templates().list() == []
    assert len(list(folder.glob(".new-*"))) == 1
    subprocess.run(builder_command(CloneKind(True, 0, False)), check=True)
    (found,) = user_templates().list()
    assert found.problem is None
    assert list(folder.glob(".new-*")) == []


@pytest.mark.parametrize("moment", [0.05, 0.2, 0.4, 0.8])
def test_virtmgr_is_killed_while_clones_begin(
    app_of_sample: App, warm: VirtualizationService, runtime_dir: Path, moment: float
) -> None:
    with nothing_is_left(warm, runtime_dir), connect() as service:

        def make() -> None:
            with suppress(ServiceDied):
                while True:
                    with service.create_vm(app_of_sample.config) as vm:
                        vm.start()

        making = in_background(make)
        time.sleep(moment)
        os.kill(service.pid, signal.SIGKILL)
        making.join(SECONDS)
        assert not making.is_alive()


@pytest.fixture
def app_of_sample(warm: VirtualizationService, tmp_path: Path, sample_apk: Path) -> App:
    folder = tmp_path / "sample"
    folder.mkdir()
    return prepare_app(warm, folder, sample_apk)
