"""A guest that tells of its start what it likes, as much and as often as it can. It is played over its vsock socket."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from avf.aidl.virtualizationservice import IVirtualizationService, IVirtualMachine
from avf.aidl.virtualmachineservice import IVirtualMachineService
from avf.aidl.vm_control import IVmControl, Timeline
from avf.binder import BinderError, connect, interface_cast, release, unix
from avf.virtmgr.timeline import MAX_GUEST_PHASES, GuestReport, ReportError
from avf.virtmgr.timeline import Timeline as KeptTimeline
from tests.attack.counting import lines_run, peak_memory
from tests.virtmgr.conftest import create, raw, root, virtmgr
from tests.virtmgr.test_notifications import service_socket

__all__ = ["root", "virtmgr"]

SECONDS = 30
REPORTS = 200


@pytest.fixture
def vms(root: IVirtualizationService, tmp_path: Path) -> Iterator[list[IVirtualMachine]]:
    machines = [create(root, raw(tmp_path)) for _ in range(2)]
    yield machines
    for machine in machines:
        release(machine)


def told(vm: IVirtualMachine) -> Timeline:
    return interface_cast(IVmControl, vm.get_control()).get_timeline()


def guest_of(vm: IVirtualMachine, runtime_dir: Path, stack: ExitStack) -> IVirtualMachineService:
    path = service_socket(runtime_dir, vm.get_cid())
    session = stack.enter_context(connect(unix(path), timeout=SECONDS))
    return session.get_root(IVirtualMachineService)


def test_reports_without_end_change_one_vms_timeline_once(
    vms: list[IVirtualMachine], runtime_dir: Path
) -> None:
    evil_vm, other_vm = vms
    with ExitStack() as stack:
        other = guest_of(other_vm, runtime_dir, stack)
        evil = guest_of(evil_vm, runtime_dir, stack)
        names = [f"phase {number}" for number in range(MAX_GUEST_PHASES)]
        for number in range(REPORTS):
            evil.report_start_phases(names, [number] * len(names), 0, 0, number)
        other.report_start_phases(["verify"], [1], 0, 0, 2)
        other.notify_payload_started()
        assert [phase.name for phase in told(other_vm).phases if phase.in_guest] == [
            "firmware",
            "verify",
        ]
        evil.get_time()
        kept = [phase for phase in told(evil_vm).phases if phase.in_guest]
        assert [phase.name for phase in kept] == ["firmware", *names]
        assert kept[0].begin_nanos >= 0  # nor has any of them been before the VM was asked for


def test_reports_of_any_size_are_refused_or_left_out(
    vms: list[IVirtualMachine], runtime_dir: Path
) -> None:
    evil_vm, other_vm = vms
    for count, length in ((3000, 1), (1, 40_000), (60_000, 8)):
        with ExitStack() as stack, suppress(BinderError):
            evil = guest_of(evil_vm, runtime_dir, stack)
            evil.report_start_phases(["a" * length] * count, [1] * count, 0, 0, 1)
            evil.get_time()
    with ExitStack() as stack:
        assert guest_of(other_vm, runtime_dir, stack).get_time() > 0
    assert not [phase for phase in told(evil_vm).phases if phase.in_guest]


@pytest.mark.parametrize("size", [100, 10_000, 1_000_000])
def test_a_report_costs_the_same_whatever_its_size(size: int) -> None:
    """Before anything is kept of it."""
    timeline = KeptTimeline(time.monotonic_ns)
    reports = (
        GuestReport(["a"] * size, [1] * size, 0, 0, 1),
        GuestReport(["a" * size], [1], 0, 0, 1),
        GuestReport(["a" * 24 + "!" * size], [1], 0, 0, 1),
    )

    def attack() -> None:
        for report in reports:
            with pytest.raises(ReportError):
                timeline.reported(report)

    assert lines_run(attack) < 1000
    assert peak_memory(attack) < 100_000
