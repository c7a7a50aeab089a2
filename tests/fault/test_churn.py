"""Many VMs one after the other leave no trace in virtmgr, in virtualizationservice or on the disk."""

import contextlib
import gc
from collections.abc import Callable
from pathlib import Path

import pytest

from avf.aidl.virtualizationservice import IVirtualizationService
from avf.binder import FdMode, bootstrap
from avf.binder import connect as binder_connect
from avf.client import VirtualizationService, connect
from avf.client.process import VirtmgrProcess
from tests.eventually import eventually
from tests.fault import counts
from tests.fault.guests import config
from tests.fault.processes import processes, the_one

CREATIONS = 200
STARTS = 15
RSS_SLACK_KIB = 3000
"""What allocators may keep; 200 VMs that each left an object of 16 KiB behind would exceed it."""


@pytest.mark.usefixtures("several_uids")
def test_creations(service: VirtualizationService, runtime_dir: Path, tmp_path: Path) -> None:
    raw = config(tmp_path)

    def churn(count: int) -> None:
        for _ in range(count):
            service.create_vm(raw).close()

    check_flat(service, runtime_dir, lambda: churn(20), lambda: churn(CREATIONS))


@pytest.mark.usefixtures("several_uids")
def test_starts(service: VirtualizationService, runtime_dir: Path, tmp_path: Path) -> None:
    raw = config(tmp_path)

    def churn(count: int) -> None:
        for number in range(count):
            with service.create_vm(raw, console=tmp_path / "console") as vm:
                vm.start()
                if number % 2:
                    vm.stop()

    check_flat(service, runtime_dir, lambda: churn(3), lambda: churn(STARTS))


def check_flat(
    service: VirtualizationService,
    runtime_dir: Path,
    warm_up: Callable[[], None],
    churn: Callable[[], None],
) -> None:
    """After `churn` everything is as it was after `warm_up`."""
    warm_up()
    pids = {"virtmgr": service.pid, "service": the_one(runtime_dir, "avf.virtualizationservice")}

    def state() -> dict[str, object]:
        gc.collect()
        return {
            "processes": sorted(processes(runtime_dir)),
            "vms": service.debug_list_vms(),
            "directories": sorted(map(str, (runtime_dir / "vms").iterdir())),
            "files": sorted(path.name for path in runtime_dir.iterdir()),
        }

    before = state()
    memory = {name: counts.resident_kib(pid) for name, pid in pids.items()}
    threads = {name: counts.threads(pid) for name, pid in pids.items()}
    descriptors = {name: counts.descriptors(pid) for name, pid in pids.items()}
    churn()
    eventually(state, before)
    for name, pid in pids.items():
        eventually(lambda pid=pid, name=name: counts.threads(pid) <= threads[name], True)  # type: ignore[misc]
        eventually(lambda pid=pid, name=name: counts.descriptors(pid) <= descriptors[name], True)  # type: ignore[misc]
        assert counts.resident_kib(pid) < memory[name] + RSS_SLACK_KIB, name


@pytest.mark.usefixtures("several_uids")
def test_sessions(runtime_dir: Path, image_dir: Path, tmp_path: Path) -> None:
    """A client that opens session after session with one virtmgr, and leaves each in the middle."""
    with contextlib.closing(VirtmgrProcess(None, forward_log=False, timeout=30)) as virtmgr:

        def churn(count: int) -> None:
            for number in range(count):
                with (
                    binder_connect(
                        bootstrap(virtmgr.bootstrap), fd_mode=FdMode.UNIX, incoming_threads=2
                    ) as session,
                    config(tmp_path).open() as aidl,
                ):
                    vm = session.get_root(IVirtualizationService).create_vm(aidl, None, None)
                    if number % 10 == 0:
                        vm.start()

        with connect() as service:
            pid = virtmgr.pid
            churn(5)
            eventually(service.debug_list_vms, [])
            before = counts.descriptors(pid), counts.threads(pid)
            memory = counts.resident_kib(pid)
            churn(100)
            eventually(service.debug_list_vms, [])
            eventually(lambda: counts.descriptors(pid) <= before[0], True)
            eventually(lambda: counts.threads(pid) <= before[1], True)
            assert counts.resident_kib(pid) < memory + RSS_SLACK_KIB
