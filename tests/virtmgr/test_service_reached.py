"""How a virtualizationservice is reached, and what is told when it cannot be."""

import os
import sys
from pathlib import Path

import pytest

from avf.aidl.virtualizationservice import IVirtualizationService
from avf.binder import RemoteException, Status, StatusError, dump
from avf.client import RawConfig, Refusal, Refused, connect
from avf.policy import Permission
from avf.virtmgr.global_service import GlobalService, GlobalServiceError
from avf.virtmgr.permissions import allowed
from tests.eventually import eventually
from tests.virtmgr.conftest import connected


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (
            "echo 'INFO: starting' >&2; echo 'virtualizationservice: it hurts' >&2; exit 1",
            "it hurts",
        ),
        ("exit 3", "it exited with status 3"),
    ],
)
def test_the_reason_for_which_it_does_not_start(
    runtime_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, reason: str
) -> None:
    """Every call that needs it tells what the service said last, and no more of its log."""
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    (runtime_dir / "service.log").write_text("what another one said\n")
    service = GlobalService()
    for _ in range(2):
        with pytest.raises(GlobalServiceError) as caught:
            service.call(lambda root: root.debug_list_vms())
        assert str(caught.value) == f"virtualizationservice could not be started: {reason}"
    with pytest.raises(RemoteException) as refused:
        allowed(service, Permission.DUMP)
    assert refused.value.service_specific == Refusal.NO_SERVICE
    assert refused.value.message.startswith("Failed to check permission: virtualizationservice ")
    assert refused.value.message.endswith(reason)


def test_a_dump_without_a_service_tells_why(
    runtime_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AVF_SERVICE_SOCKET", str(runtime_dir / "none"))
    with connected() as root:
        said, status = dumped(root)
    assert "Failed to check permission: no virtualizationservice at" in said
    assert status == Status.UNKNOWN_ERROR


def dumped(root: IVirtualizationService) -> tuple[str, int]:
    read_end, write_end = os.pipe()
    with open(read_end) as reader:
        with open(write_end, "wb") as writer, pytest.raises(StatusError) as caught:
            dump(root, writer.fileno(), [])
        return reader.read(), caught.value.status


def test_a_socket_of_ones_own_choice_that_is_not_there(
    runtime_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AVF_SERVICE_SOCKET", str(runtime_dir / "none"))
    with connect() as service, pytest.raises(Refused) as caught:
        service.debug_list_vms()
    assert caught.value.message == (
        f"no virtualizationservice at {runtime_dir}/none, which AVF_SERVICE_SOCKET names"
    )


def test_a_runtime_directory_with_a_long_path(
    runtime_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Longer than the address of a unix socket may be."""
    folder = tmp_path / ("long-" * 20) / ("longer-" * 10)
    folder.parent.mkdir()
    monkeypatch.setenv("AVF_RUNTIME_DIR", str(folder))
    (tmp_path / "kernel").touch()
    with connect() as service:
        with service.create_vm(RawConfig(kernel=tmp_path / "kernel")) as vm:
            (info,) = service.debug_list_vms()
            assert info.temporary_directory == f"{folder}/vms/{vm.cid}"
        eventually(service.debug_list_vms, [])
