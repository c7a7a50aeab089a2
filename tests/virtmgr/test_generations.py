"""What a guest may ask of its instance's generation, played over the VM's own vsock socket."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from avf.aidl.virtualizationservice import IVirtualizationService, IVirtualMachine
from avf.aidl.virtualmachineservice import IVirtualMachineService
from avf.binder import ExceptionCode, RemoteException, connect, release, unix
from avf.client.process import VirtmgrProcess
from avf.disk import PartitionKind, create_writable_partition
from avf.guest.identity import ApkData, PayloadIdentity
from avf.guest.instance import InstanceImage
from avf.guest.record import Record, instance_id
from tests.virtmgr.conftest import create, opened, raw
from tests.virtmgr.test_create import app
from tests.virtmgr.test_notifications import SECONDS, service_socket

SALT = bytes(range(64))
ID = instance_id(SALT)
OTHER = instance_id(bytes(64))


@pytest.fixture
def vm(root: IVirtualizationService, tmp_path: Path) -> Iterator[IVirtualMachine]:
    machine = create(root, app(tmp_path))
    yield machine
    release(machine)


@pytest.fixture
def guest(vm: IVirtualMachine, runtime_dir: Path) -> Iterator[IVirtualMachineService]:
    with connect(unix(service_socket(runtime_dir, vm.get_cid())), timeout=SECONDS) as session:
        yield session.get_root(IVirtualMachineService)


def asked_in_another_vm(root: IVirtualizationService, folder: Path, runtime_dir: Path) -> int:
    machine = create(root, app(folder))
    path = service_socket(runtime_dir, machine.get_cid())
    with connect(unix(path), timeout=SECONDS) as session:
        generation = session.get_root(IVirtualMachineService).get_instance_generation(ID)
    release(machine)
    return generation


def code_of(guest: IVirtualMachineService, identifier: bytes = ID) -> ExceptionCode:
    codes = set()
    for call in (
        lambda: guest.get_instance_generation(identifier),
        lambda: guest.raise_instance_generation(identifier, 9),
    ):
        with pytest.raises(RemoteException) as caught:
            call()
        codes.add(caught.value.code)
    (code,) = codes
    return code


def test_a_generation_outlives_the_vm_and_the_service(
    root: IVirtualizationService, guest: IVirtualMachineService, tmp_path: Path, runtime_dir: Path
) -> None:
    assert guest.get_instance_generation(ID) == 0
    guest.raise_instance_generation(ID, 2)
    guest.raise_instance_generation(ID, 1)
    assert guest.get_instance_generation(ID) == 2
    assert asked_in_another_vm(root, tmp_path, runtime_dir) == 2
    (path,) = (runtime_dir / "state" / "avf" / "instances").rglob("*-*")
    assert path.name == f"{os.getuid()}-{ID.hex()}"
    assert path.read_text() == "2\n"


def test_a_guest_has_one_instance(guest: IVirtualMachineService) -> None:
    guest.get_instance_generation(ID)
    assert code_of(guest, OTHER) is ExceptionCode.ILLEGAL_STATE
    guest.raise_instance_generation(ID, 2)


def test_nobody_may_ask_once_the_payload_may_have_the_word(guest: IVirtualMachineService) -> None:
    guest.raise_instance_generation(ID, 2)
    guest.notify_payload_started()
    assert code_of(guest) is ExceptionCode.ILLEGAL_STATE


def test_a_vm_of_ones_own_making_has_no_instance(
    root: IVirtualizationService, tmp_path: Path, runtime_dir: Path
) -> None:
    machine = create(root, raw(tmp_path))
    path = service_socket(runtime_dir, machine.get_cid())
    with connect(unix(path), timeout=SECONDS) as session:
        guest = session.get_root(IVirtualMachineService)
        assert code_of(guest) is ExceptionCode.UNSUPPORTED_OPERATION
    release(machine)


def test_where_nothing_can_be_kept_that_is_said(
    monkeypatch: pytest.MonkeyPatch, runtime_dir: Path, request: pytest.FixtureRequest
) -> None:
    (runtime_dir / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(runtime_dir / "file"))
    guest = request.getfixturevalue("guest")
    assert code_of(guest) is ExceptionCode.UNSUPPORTED_OPERATION
    virtmgr: VirtmgrProcess = request.getfixturevalue("virtmgr")
    assert "an old instance image of the VM with CID" in virtmgr.log_tail
    assert "are not noticed" in (runtime_dir / "service.log").read_text()


def test_an_instance_is_forgotten_by_its_image(
    root: IVirtualizationService,
    guest: IVirtualMachineService,
    tmp_path: Path,
    runtime_dir: Path,
) -> None:
    guest.raise_instance_generation(ID, 2)
    path = tmp_path / "made.img"
    with path.open("w+b") as file:
        create_writable_partition(file.fileno(), 1 << 20, PartitionKind.ANDROID_VM_INSTANCE)
        root.forget_instance(opened(path))
        assert asked_in_another_vm(root, tmp_path, runtime_dir) == 2
        identity = PayloadIdentity(SALT, ApkData(bytes(32), b"key"))
        InstanceImage(file.fileno()).write(bytes(32), Record(identity))
    for _ in range(2):
        root.forget_instance(opened(path))
        assert asked_in_another_vm(root, tmp_path, runtime_dir) == 0


@pytest.mark.parametrize("content", [b"", b"no instance image" * 100])
def test_what_is_no_instance_image_is_refused(
    root: IVirtualizationService, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(RemoteException, match="Failed to read the instance image"):
        root.forget_instance(opened(path))
