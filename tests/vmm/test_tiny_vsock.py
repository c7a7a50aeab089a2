"""Every VMM and board serves a tiny guest's vsock by our device, also where KVM runs no kernel."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from avf.vmm import (
    Crosvm,
    ExitCause,
    Machine,
    Qemu,
    Vmm,
    VmmUnavailable,
    VmProcess,
    VmSpec,
    find_crosvm,
)
from avf.vsock import HybridVsock
from tests.accelerators import choose
from tests.vmm import tiny

pytestmark = [pytest.mark.vm, pytest.mark.usefixtures("nothing_is_left")]

CID, HOST_PORT, GUEST_PORT = 3000, 2048, 7
TIMEOUT = 60
DATA = bytes(range(256)) * 100


@pytest.fixture(scope="module")
def firmware(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.build_vsock(tmp_path_factory.mktemp("firmware"))


@pytest.mark.parametrize(
    ("vmm", "machine", "accelerator"),
    [
        *((Qemu(), machine, name) for machine in Machine for name in ("tcg", "kvm")),
        (Crosvm(), Machine.PCI, "kvm"),
    ],
    ids=lambda value: value.name.lower() if hasattr(value, "name") else value,
)
def test_a_guest_and_its_host_talk(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    firmware: Path,
    vmm: Vmm,
    machine: Machine,
    accelerator: str,
) -> None:
    """Each calls the other, and gets back what it sends."""
    available(vmm)
    choose(monkeypatch, accelerator)
    vsock = HybridVsock(CID, tmp_path / "vsock")
    with started(vmm, machine, firmware, vsock) as (process, called):
        called.sendall(DATA)
        with called.makefile("rb") as received:
            assert received.read(len(DATA)) == DATA
        with vsock.connect(GUEST_PORT) as calling, calling.makefile("rb") as echoed:
            calling.settimeout(TIMEOUT)
            calling.sendall(b"and back\n")
            assert echoed.readline() == b"and back\n"
        called.sendall(b"^")
        assert process.wait(TIMEOUT).cause is ExitCause.REBOOT


def test_a_guest_that_kvm_gives_up_on_has_crashed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, firmware: Path
) -> None:
    """QEMU itself would keep it, stopped, for ever."""
    choose(monkeypatch, "kvm")
    vsock = HybridVsock(CID, tmp_path / "vsock")
    with started(Qemu(), Machine.PCI, firmware, vsock) as (process, called):
        called.sendall(b"?")
        report = process.wait(TIMEOUT)
    assert report.cause is ExitCause.CRASH, report
    assert "the hypervisor cannot go on: killing the VM" in report.events


def available(vmm: Vmm) -> None:
    if not isinstance(vmm, Crosvm):
        return
    try:
        find_crosvm()
    except VmmUnavailable:
        pytest.skip("there is no crosvm here (AVF_CROSVM)")


@contextmanager
def started(
    vmm: Vmm, machine: Machine, firmware: Path, vsock: HybridVsock
) -> Iterator[tuple[VmProcess, socket.socket]]:
    """The VM, and the connection its guest has made and said hello on."""
    with vsock.listen(HOST_PORT) as listener, firmware.open("rb") as bootloader:
        listener.settimeout(TIMEOUT)
        spec = VmSpec(
            cid=CID,
            name="vm",
            temporary_directory=vsock.base.parent,
            vsock=vsock,
            bootloader=bootloader.fileno(),
            memory_mib=64,
            machine=machine,
        )
        process = vmm.start(spec)
        try:
            called, _ = listener.accept()
            with called:
                called.settimeout(TIMEOUT)
                assert called.recv(6, socket.MSG_WAITALL) == b"hello\n"
                yield process, called
        finally:
            process.kill()
            process.wait(TIMEOUT)
