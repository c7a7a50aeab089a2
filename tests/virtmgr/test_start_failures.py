"""A VM that cannot be started, through a real virtmgr: whoever is concerned hears why, and that it has died."""

from collections.abc import Callable
from pathlib import Path

import pytest

from avf.client import (
    ClientError,
    DeathReason,
    RawConfig,
    Refusal,
    Refused,
    VirtualMachineState,
    VmDied,
    connect,
)
from avf.client.control import open_vm


def without_qemu(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("AVF_QEMU", str(folder / "no-qemu"))
    return f"{folder}/no-qemu is not installed"


def with_something_else(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    program = folder / "not-a-program"
    program.write_text("no program")
    program.chmod(0o755)
    monkeypatch.setenv("AVF_QEMU", str(program))
    return "Exec format error"


Lack = Callable[[Path, pytest.MonkeyPatch], str]


@pytest.mark.parametrize("lack", [without_qemu, with_something_else])
def test_a_failed_start_tells_why_and_is_a_death(
    runtime_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lack: Lack
) -> None:
    monkeypatch.setenv("AVF_ACCEL", "tcg")
    cause = lack(tmp_path, monkeypatch)
    (tmp_path / "kernel").touch()
    with connect() as service:
        with service.create_vm(RawConfig(kernel=tmp_path / "kernel")) as vm:
            with pytest.raises(ClientError) as caught:
                vm.start()
            assert isinstance(caught.value, Refused)
            assert caught.value.refusal is Refusal.START_FAILED
            assert caught.value.message.count(cause) == 1
            assert caught.value.problem.endswith("failed to start")
            assert list(vm.events()) == [VmDied(DeathReason.START_FAILED)]
            assert vm.wait_for_death() == DeathReason.START_FAILED
            assert vm.state is VirtualMachineState.DEAD
            assert vm.death_report is not None
            assert cause in vm.death_report.last_step
            with open_vm(vm.cid) as seen:
                assert seen.death_report() == vm.death_report
            with pytest.raises(Refused) as caught_again:
                vm.start()
            assert caught_again.value.refusal is Refusal.STARTED_BEFORE
        assert service.log_tail.count(cause) == 1
        assert "Traceback" not in service.log_tail


def test_a_vm_that_is_not_started_is_not_running(runtime_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "kernel").touch()
    with connect() as service, service.create_vm(RawConfig(kernel=tmp_path / "kernel")) as vm:
        for call in (vm.stop, lambda: vm.connect_vsock(5678)):
            with pytest.raises(Refused) as caught:
                call()
            assert caught.value.refusal is Refusal.NOT_RUNNING
