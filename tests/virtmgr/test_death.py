"""Which reason a death gets, and that it is always told."""

import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from avf.aidl.virtualizationcommon import DeathReason
from avf.aidl.virtualizationservice import IVirtualMachineCallback, VirtualMachineState
from avf.virtmgr.death import death_reason
from avf.virtmgr.fds import Fds
from avf.virtmgr.machine import VmInstance
from avf.virtmgr.output import VmOutput
from avf.virtmgr.requester import Requester
from avf.virtmgr.timeline import Timeline
from avf.vmm import ExitCause, ExitReport, VmSpec
from avf.vsock import HybridVsock


@pytest.mark.parametrize(
    ("cause", "reason"),
    [
        (ExitCause.SHUTDOWN, DeathReason.SHUTDOWN),
        (ExitCause.REBOOT, DeathReason.REBOOT),
        (ExitCause.CRASH, DeathReason.CRASH),
        (ExitCause.WATCHDOG, DeathReason.WATCHDOG_REBOOT),
        (ExitCause.KILLED, DeathReason.KILLED),
        (ExitCause.START_FAILED, DeathReason.START_FAILED),
        (ExitCause.INFRASTRUCTURE, DeathReason.INFRASTRUCTURE_ERROR),
        (ExitCause.UNKNOWN, DeathReason.UNKNOWN),
    ],
)
def test_how_the_vmm_ended(cause: ExitCause, reason: DeathReason) -> None:
    assert death_reason(ExitReport(cause, 0), "") is reason


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (
            "MICRODROID_PAYLOAD_VERIFICATION_FAILED",
            DeathReason.MICRODROID_PAYLOAD_VERIFICATION_FAILED,
        ),
        (
            "MICRODROID_UNKNOWN_RUNTIME_ERROR|what | happened",
            DeathReason.MICRODROID_UNKNOWN_RUNTIME_ERROR,
        ),
        ("HANGUP", DeathReason.HANGUP),
        ("HANGUP ", DeathReason.SHUTDOWN),
        ("hangup", DeathReason.SHUTDOWN),
        ("KILLED", DeathReason.SHUTDOWN),
        ("|MICRODROID_UNKNOWN_RUNTIME_ERROR", DeathReason.SHUTDOWN),
    ],
)
def test_what_the_guest_wrote_wins(failure: str, reason: DeathReason) -> None:
    assert death_reason(ExitReport(ExitCause.SHUTDOWN, 0), failure) is reason


def test_a_vmm_that_cannot_be_waited_for() -> None:
    assert death_reason(None, "HANGUP") is DeathReason.INFRASTRUCTURE_ERROR


class Deaths(IVirtualMachineCallback, partial=True):
    def __init__(self) -> None:
        self.reasons: list[DeathReason] = []
        self.heard = threading.Event()

    def on_died(self, cid: int, reason: DeathReason) -> None:
        self.reasons.append(reason)
        self.heard.set()


class DyingVmm:
    """Its process ends at once; whoever waits for it may run out of memory."""

    name = "dying"
    supports_protected = False
    pid = 1

    def start(self, spec: VmSpec, on_event: Callable[[str], None] | None = None) -> "DyingVmm":
        return self

    def wait(self, timeout: float | None = None) -> ExitReport:
        return ExitReport(ExitCause.SHUTDOWN, 0)

    def kill(self) -> None:
        pass


def out_of_memory(*_: object) -> None:
    raise MemoryError


@pytest.mark.parametrize("place", ["_wait", "_explain", "_failure_text", "context", "metrics"])
def test_a_watcher_without_memory_tells_the_death_all_the_same(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet = SimpleNamespace(
        **dict.fromkeys(("started", "sample", "ended", "exited"), lambda *_: None)
    )
    context = SimpleNamespace(cid=2048, temporary_directory=tmp_path, stop_serving=lambda: None)
    machine = VmInstance(
        context,  # type: ignore[arg-type]
        VmSpec(2048, "vm", tmp_path, HybridVsock(2048, tmp_path / "vsock")),
        Fds(),
        Requester(0, 0),
        DyingVmm(),  # type: ignore[arg-type]
        quiet,  # type: ignore[arg-type]
        None,
        VmOutput(console=False, log=False),
        None,
        takes_console_input=False,
        timeline=Timeline(),
    )
    deaths = Deaths()
    machine.register_callback(deaths)
    if place == "context":
        context.stop_serving = out_of_memory
    elif place == "metrics":
        quiet.ended = out_of_memory
    else:
        monkeypatch.setattr(machine, place, out_of_memory)
    machine.start()
    assert deaths.heard.wait(20)
    assert deaths.reasons == [DeathReason.INFRASTRUCTURE_ERROR]
    assert machine.state is VirtualMachineState.DEAD
    machine.callbacks.close()
    machine.output.close()
