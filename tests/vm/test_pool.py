"""VMs that are clones which had waited: each is somebody of its own, and nothing is left of any."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from avf.apk import ApkBuilder, SigningKey, sign
from avf.client import (
    DebugLevel,
    PartitionType,
    PayloadFinished,
    PayloadStarted,
    ServiceDied,
    StartKind,
    VirtualizationService,
    VirtualMachine,
    connect,
)
from avf.client.control import list_vms
from tests.eventually import eventually
from tests.fault.test_kill_phases import nothing_is_left
from tests.vm.conftest import INSTANCE_SIZE, App, prepare_app

pytestmark = pytest.mark.vm

COUNT = 2
SCRIPTS = Path(__file__).parent
LEFT = "cat /proc/self/mounts /proc/swaps; ls /dev/mapper /run /mnt; ls -d /sys/block/*/loop /sys/block/dm-*"
"""What a rehearsal could have left in a guest."""
SIZED = ("rootfs", "tmpfs", "zram")


@pytest.fixture(scope="module")
def cache(image_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache with a template for debuggable VMs."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        patch.delenv("AVF_WARM", raising=False)
        command = [sys.executable, "-P", "-m", "avf.virtmgr.template_builder", "--debug", "full"]
        subprocess.run(command, check=True)
        yield folder


@pytest.fixture
def pool(cache: Path, runtime_dir: Path) -> Iterator[VirtualizationService]:
    with connect() as connection:
        connection.keep_clones_waiting(COUNT, debug_level=DebugLevel.FULL)
        yield connection


@pytest.fixture
def app(pool: VirtualizationService, tmp_path: Path) -> App:
    builder = ApkBuilder("com.example.clone", version_code=1)
    for name in ("clone.py", "idle.py"):
        builder.add(f"bin/{name}", SCRIPTS / name, mode=0o755)
    apk = tmp_path / "app.apk"
    with apk.with_suffix(".unsigned").open("w+b") as plain, apk.open("w+b") as signed:
        builder.write(plain)
        sign(plain, signed, SigningKey.generate())
    app = prepare_app(pool, tmp_path, apk)
    return replace(app, config=app.running("clone.py"))


def fill(pool: VirtualizationService) -> None:
    eventually(lambda: pool.pool_status().settled, True, 200)
    status = pool.pool_status()
    assert (status.waiting, status.problem) == (COUNT, None)


def kind_of(vm: VirtualMachine) -> StartKind:
    return vm.timeline().kind


def test_clones_that_have_waited_have_nothing_in_common_that_must_differ(
    pool: VirtualizationService, app: App, tmp_path: Path
) -> None:
    fill(pool)
    assert list_vms() == [] == pool.debug_list_vms()
    waiting = pool.pool_status().vmm_pids
    assert len(set(waiting)) == COUNT
    logs = [tmp_path / f"log{number}" for number in range(COUNT)]
    with ExitStack() as stack:
        vms = []
        for number, log in enumerate(logs):
            instance = tmp_path / f"instance{number}"
            instance.touch()
            pool.initialize_writable_partition(
                instance, INSTANCE_SIZE, PartitionType.ANDROID_VM_INSTANCE
            )
            config = replace(app.config, instance_image=instance)
            vm = stack.enter_context(
                pool.create_vm(config, console=tmp_path / f"console{number}", log=log)
            )
            vms.append(vm)
        assert {info.cid for info in pool.debug_list_vms()} == {vm.cid for vm in vms}
        for vm in vms:
            vm.start()
        for vm, log in zip(vms, logs, strict=True):
            assert PayloadFinished(0) in list(vm.events()), log.read_text()
            assert kind_of(vm) is StartKind.WAITED
        assert len({vm.cid for vm in vms}) == COUNT
        assert pool.pool_status().taken == COUNT
    said = [dict(line.split(" ", 1) for line in log.read_text().splitlines()) for log in logs]
    for what in ("urandom", "random", "uuid", "boot", "secret", "new"):
        words = [word for clone in said for word in clone[what].split()]
        assert len(set(words)) == len(words) >= COUNT, what
    for number, (clone, log) in enumerate(zip(said, logs, strict=True)):
        assert abs(float(clone["time"]) - log.stat().st_mtime) < 30  # not when it was loaded
        assert "Linux version" in (tmp_path / f"console{number}").read_text()


def test_a_rehearsal_leaves_nothing_in_the_guest(
    pool: VirtualizationService, app: App, tmp_path: Path
) -> None:
    config = app.running("idle.py")
    fill(pool)
    seen = {}
    for fresh, kind in ((False, StartKind.WAITED), (True, StartKind.COLD)):
        with pool.create_vm(replace(config, fresh=fresh)) as vm:
            vm.start()
            vm.wait_until_ready(timeout=300)
            assert kind_of(vm) is kind
            done = vm.run(["sh", "-c", LEFT], root=True)
            lines = done.stdout.decode().splitlines()
            # memory is not quite the same, and so are the sizes that go by it
            seen[kind] = [line for line in lines if not any(word in line for word in SIZED)]
            if kind is StartKind.WAITED:
                assert "rehearsal" not in done.stdout.decode()
    assert seen[StartKind.WAITED] == seen[StartKind.COLD]


def test_a_vm_that_no_clone_fits_starts_all_the_same(
    pool: VirtualizationService, app: App, tmp_path: Path
) -> None:
    """The clone may write no file as large as this storage, which QEMU would."""
    fill(pool)
    storage = tmp_path / "storage.img"
    storage.touch()
    pool.initialize_writable_partition(storage, 512 << 20, PartitionType.ENCRYPTEDSTORE)
    log = tmp_path / "log"
    config = replace(app.config, encrypted_storage_image=storage)
    with pool.create_vm(config, console=tmp_path / "console", log=log) as vm:
        vm.start()
        assert PayloadFinished(0) in list(vm.events()), log.read_text()
        assert kind_of(vm) is not StartKind.WAITED
    assert "must not write files as large as one of the VM's disks" in pool.log_tail


def test_a_clone_that_dies_while_it_waits_is_replaced_and_harms_no_vm(
    pool: VirtualizationService, app: App
) -> None:
    fill(pool)
    killed = pool.pool_status().vmm_pids
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    with pool.create_vm(app.config) as vm:
        vm.start()
        assert PayloadFinished(0) in list(vm.events())
    eventually(lambda: set(pool.pool_status().vmm_pids) & set(killed), set())
    fill(pool)


@pytest.mark.parametrize("moment", [0.1, 0.5, 1.5, None])
def test_virtmgr_is_killed_while_clones_are_made_and_wait(
    app: App, pool: VirtualizationService, runtime_dir: Path, moment: float | None
) -> None:
    """None: when all wait, and one has just become a VM."""
    with nothing_is_left(observer_of(pool), runtime_dir), connect() as service:
        service.keep_clones_waiting(COUNT, debug_level=DebugLevel.FULL)
        if moment is None:
            fill(service)
            service.create_vm(app.config).start()
        else:
            time.sleep(moment)
        os.kill(service.pid, signal.SIGKILL)
        with suppress(ServiceDied):
            service.pool_status()


def test_a_closed_service_leaves_no_clone(
    app: App, pool: VirtualizationService, runtime_dir: Path
) -> None:
    with nothing_is_left(observer_of(pool), runtime_dir):
        with connect(warm=1) as service:
            service.keep_clones_waiting(1, debug_level=DebugLevel.FULL)
            eventually(lambda: service.pool_status().waiting, 1, 60)
            pids = service.pool_status().vmm_pids
            with service.create_vm(app.config) as vm:
                vm.start()
                assert next(iter(vm.events())) == PayloadStarted()
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def observer_of(pool: VirtualizationService) -> VirtualizationService:
    """The same, without any clones of its own."""
    pool.keep_clones_waiting(0)
    eventually(lambda: pool.pool_status().waiting, 0)
    return pool
