"""SIGKILL at every moment of a VM's life, the guests being a few bytes of firmware: nothing is left of any."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from avf.binder import RemoteException
from avf.client import (
    DeathReason,
    ServiceDied,
    VirtualizationService,
    VirtualMachine,
    VmDied,
    connect,
)
from tests.eventually import eventually
from tests.fault.guests import config
from tests.fault.processes import all_end, kill, processes, the_one

SECONDS = 30
QEMU, DEVICE, VIRTMGR, DAEMON = (
    "qemu-system",
    "avf/vsock/device",
    "avf.virtmgr",
    "avf.virtualizationservice",
)
MOMENTS = [0.0, 0.003, 0.006, 0.01, 0.015, 0.025, 0.04, 0.08]

ENDLESS_CLIENT = """
import sys
from pathlib import Path
from avf.client import connect
from tests.fault.guests import config
with connect() as service:
    print("begins", flush=True)
    while True:
        with service.create_vm(config(Path(sys.argv[1]))) as vm:
            vm.start()
"""


@pytest.fixture
def observer(runtime_dir: Path, image_dir: Path) -> Iterator[VirtualizationService]:
    """Another client, which keeps the daemon there and sees what it knows."""
    with connect() as service:
        service.debug_list_vms()
        yield service


@contextlib.contextmanager
def nothing_is_left(observer: VirtualizationService, runtime_dir: Path) -> Iterator[None]:
    """No process, directory or CID of the block's remains."""
    before = set(processes(runtime_dir))
    yield
    eventually(observer.debug_list_vms, [])
    eventually(lambda: list((runtime_dir / "vms").iterdir()), [])
    eventually(lambda: {p: c for p, c in processes(runtime_dir).items() if p not in before}, {})


def in_background(act: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=act)
    thread.start()
    return thread


@pytest.mark.parametrize("moment", MOMENTS)
def test_virtmgr_while_it_makes_and_starts_vms(
    observer: VirtualizationService, runtime_dir: Path, tmp_path: Path, moment: float
) -> None:
    with nothing_is_left(observer, runtime_dir), connect() as service:
        raw = config(tmp_path)

        def make() -> None:
            with contextlib.suppress(ServiceDied):
                while True:
                    service.create_vm(raw).start()

        making = in_background(make)
        time.sleep(moment)
        kill(service.pid)
        making.join(SECONDS)
        assert not making.is_alive()


@pytest.mark.parametrize("moment", MOMENTS[::2])
def test_the_client_while_it_makes_and_starts_vms(
    observer: VirtualizationService, runtime_dir: Path, tmp_path: Path, moment: float
) -> None:
    with (
        nothing_is_left(observer, runtime_dir),
        subprocess.Popen(
            [sys.executable, "-c", ENDLESS_CLIENT, tmp_path], stdout=subprocess.PIPE
        ) as client,
    ):
        assert client.stdout is not None
        assert client.stdout.readline() == b"begins\n"
        time.sleep(moment)
        client.kill()


def test_virtmgr_while_it_tells_of_a_death(
    observer: VirtualizationService, runtime_dir: Path, tmp_path: Path
) -> None:
    told, go_on = threading.Event(), threading.Event()

    def listen(event: object) -> None:
        if isinstance(event, VmDied):
            told.set()
            go_on.wait(SECONDS)

    with nothing_is_left(observer, runtime_dir), connect() as service:
        vm = service.create_vm(config(tmp_path), on_event=listen)
        vm.start()
        kill(the_one(runtime_dir, QEMU))
        assert told.wait(SECONDS)
        kill(service.pid)
        go_on.set()
        assert vm.wait_for_death(SECONDS) is not None


def test_virtmgr_while_a_vm_is_being_stopped(
    observer: VirtualizationService, runtime_dir: Path, tmp_path: Path
) -> None:
    with nothing_is_left(observer, runtime_dir), connect() as service:
        vms = [service.create_vm(config(tmp_path)) for _ in range(3)]
        for vm in vms:
            vm.start()
        stopping = [in_background(lambda vm=vm: stop(vm)) for vm in vms]  # type: ignore[misc]
        kill(service.pid)
        for thread in stopping:
            thread.join(SECONDS)
            assert not thread.is_alive()


def stop(vm: VirtualMachine) -> None:
    with contextlib.suppress(ServiceDied):
        vm.stop()


def test_the_device_before_the_guest_runs(
    observer: VirtualizationService, runtime_dir: Path, tmp_path: Path
) -> None:
    with (
        nothing_is_left(observer, runtime_dir),
        connect() as service,
        service.create_vm(config(tmp_path)) as vm,
    ):
        vm.start()
        with all_end(runtime_dir, QEMU, DEVICE):
            kill(the_one(runtime_dir, DEVICE))
            assert vm.wait_for_death(SECONDS) in (
                DeathReason.START_FAILED,
                DeathReason.INFRASTRUCTURE_ERROR,
            )


def test_virtmgr_is_told_to_end_twice(
    observer: VirtualizationService, runtime_dir: Path, tmp_path: Path
) -> None:
    with nothing_is_left(observer, runtime_dir), connect() as service:
        vm = service.create_vm(config(tmp_path))
        vm.start()
        with all_end(runtime_dir, QEMU, DEVICE):
            os.kill(service.pid, signal.SIGTERM)
            os.kill(service.pid, signal.SIGTERM)
            assert vm.wait_for_death(SECONDS) is not None


def test_the_daemon_while_vms_are_made(
    observer: VirtualizationService, runtime_dir: Path, tmp_path: Path
) -> None:
    """Each call ends, well or with an error; afterwards all is as ever."""
    raw, done = config(tmp_path), threading.Event()
    outcomes: list[str] = []

    def make() -> None:
        while not done.is_set():
            try:
                observer.create_vm(raw).close()
                outcomes.append("made")
            except RemoteException as e:
                outcomes.append(e.message)

    making = in_background(make)
    try:
        for _ in range(6):
            time.sleep(random.uniform(0.2, 0.5))
            for pid, command in processes(runtime_dir).items():
                if DAEMON in command:
                    kill(pid)
    finally:
        done.set()
        making.join(SECONDS)
    assert not making.is_alive()
    assert "made" in outcomes
    with observer.create_vm(raw) as vm:
        vm.start()
        vm.stop()
    eventually(observer.debug_list_vms, [])
    eventually(lambda: list((runtime_dir / "vms").iterdir()), [])


def test_virtmgr_and_the_daemon_at_once(runtime_dir: Path, image_dir: Path, tmp_path: Path) -> None:
    """Nobody is left to clear up; the next daemon does."""
    with connect() as service:
        vms = [service.create_vm(config(tmp_path)) for _ in range(2)]
        vms[0].start()
        with all_end(runtime_dir, QEMU, DEVICE, VIRTMGR, DAEMON):
            kill(the_one(runtime_dir, DAEMON))
            kill(service.pid)
    assert len(list((runtime_dir / "vms").iterdir())) == len(vms)
    with connect() as service, service.create_vm(config(tmp_path)) as vm:
        assert [info.cid for info in service.debug_list_vms()] == [vm.cid]
        assert [path.name for path in (runtime_dir / "vms").iterdir()] == [str(vm.cid)]
