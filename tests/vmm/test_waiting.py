"""What is asked of QEMU for a clone that waits, and what it gets when it is told whose it is."""

import asyncio
import os
import socket
import threading
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path

import pytest

from avf.disk import Partition, PartitionedDisk
from avf.vmm import NotSupported, VmmControlError, VmSpec
from avf.vmm.outlets import NOWHERE
from avf.vmm.qemu.attach import attach, open_belongings
from avf.vmm.qemu.command import Inputs
from avf.vmm.qemu.devices import CLONE_HAS_REHEARSED, CLONE_IS_ITSELF
from avf.vmm.qemu.waiting_clone import WaitingClone
from avf.vsock import HybridVsock

INPUTS = Inputs(3, (NOWHERE, NOWHERE), NOWHERE, NOWHERE, NOWHERE, vsock_control=9, template=8)


class Qemu:
    """Answers as QEMU does, and has its guest answer one line whenever it is let run."""

    def __init__(self, answers: list[bytes]) -> None:
        self.port, self.guest = socket.socketpair()
        self.guest.setblocking(False)
        self.answers = answers
        self.asked: list[str] = []
        self.said: list[bytes] = []
        self.seeds: list[bytes] = []
        self.backends: dict[str, object] = {}
        self.drive_answer = "OK\r\n"

    async def execute(
        self, command: str, arguments: dict[str, object] | None = None, fd: int | None = None
    ) -> object:
        told = arguments or {}
        name = told.get("id") or told.get("driver") or told.get("node-name") or ""
        self.asked.append(f"{command} {name}".strip())
        if command == "cont" and (line := self._next_line()):
            self.said.append(line.split()[0])
            self.seeds.append(line.split()[1])
            self.guest.send(self.answers.pop(0))
        if command == "chardev-change":
            self.backends[str(told["id"])] = told["backend"]
        if command == "human-monitor-command":
            return self.drive_answer
        return {"status": "paused"} if command == "query-status" else {}

    def _next_line(self) -> bytes:
        try:
            return self.guest.recv(1000)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        self.port.close()
        self.guest.close()


def spec(folder: Path, **changes: object) -> VmSpec:
    return VmSpec(2048, "vm", folder, HybridVsock(2048, folder / "vsock"), **changes)  # type: ignore[arg-type]


def waiting(qemu: Qemu) -> WaitingClone:
    return WaitingClone(os.open(os.devnull, os.O_RDONLY), qemu.port)


def run(clone: WaitingClone, qemu: Qemu) -> "Future[None]":
    outcome: Future[None] = Future()

    def work() -> None:
        try:
            asyncio.run(clone.begin(qemu.execute))
            outcome.set_result(None)
        except VmmControlError as error:
            outcome.set_exception(error)

    threading.Thread(target=work).start()
    return outcome


def test_a_clone_rehearses_stands_still_and_is_then_given_all_that_is_its_own(
    tmp_path: Path,
) -> None:
    qemu = Qemu([CLONE_HAS_REHEARSED, CLONE_IS_ITSELF])
    clone = waiting(qemu)
    outcome = run(clone, qemu)
    clone.ready.result(10)
    assert qemu.asked == [
        "getfd",
        "migrate-incoming",
        "query-status",
        "cont",
        "stop",
    ]
    assert qemu.said == [b"rehearse"]
    qemu.asked.clear()
    phases: list[str] = []
    with ExitStack() as stack, (tmp_path / "console").open("wb") as console:
        clone.belong(
            open_belongings(spec(tmp_path, console=console.fileno()), INPUTS, stack), phases.append
        )
        outcome.result(10)
    assert qemu.asked == [
        "device_add in-slot5",
        "cont",
        "add-fd",
        "chardev-change ttyS0",
        "add-fd",
        "chardev-change hvc0",
        "cont",
    ]
    assert qemu.said == [b"rehearse", b"identity"]
    assert len(set(qemu.seeds)) == 2
    assert all(len(seed) == 64 for seed in qemu.seeds)
    assert phases == ["devices", "identity"]
    clone.close()
    qemu.close()


@pytest.mark.parametrize("answer", [b"\n", b"avf-rehearsed 1\n", CLONE_IS_ITSELF, b"x" * 257])
def test_a_guest_that_does_not_rehearse_is_no_clone(answer: bytes) -> None:
    qemu = Qemu([answer])
    clone = waiting(qemu)
    outcome = run(clone, qemu)
    with pytest.raises(VmmControlError, match="instead of rehearsing the clone said"):
        outcome.result(10)
    with pytest.raises(VmmControlError, match="instead of rehearsing the clone said"):
        clone.ready.result(10)
    clone.close()
    qemu.close()


def test_one_that_nobody_needs_gets_nothing() -> None:
    qemu = Qemu([CLONE_HAS_REHEARSED])
    clone = waiting(qemu)
    outcome = run(clone, qemu)
    clone.ready.result(10)
    clone.owner.set_exception(VmmControlError("nobody needs it"))
    with pytest.raises(VmmControlError, match="nobody needs it"):
        outcome.result(10)
    assert qemu.asked[-1] == "stop"
    clone.close()
    qemu.close()


def partitioned(fd: int) -> PartitionedDisk:
    return PartitionedDisk((Partition("data", fd),))


def test_disks_and_ports_are_handed_over(tmp_path: Path) -> None:
    """The second disk, for the first was there from the beginning."""
    qemu = Qemu([])
    image = tmp_path / "image"
    image.write_bytes(bytes(1 << 20))
    with ExitStack() as stack:
        fd = stack.enter_context(image.open("rb")).fileno()
        out = stack.enter_context((tmp_path / "log").open("wb")).fileno()
        made = spec(tmp_path, disks=(partitioned(fd), partitioned(fd)), log=out, panic_dump=out)
        inputs = Inputs(
            3, (NOWHERE, NOWHERE), NOWHERE, NOWHERE, NOWHERE, vsock_control=9, template=8,
            disks=open_belongings(spec(tmp_path, disks=made.disks[:1]), INPUTS, stack).disks,
        )  # fmt: skip
        belongings = open_belongings(made, inputs, stack)
        assert [disk.name for disk in belongings.disks] == ["disk1"]
        assert [device["bus"] for device in belongings.devices] == ["slot1", "slot5"]
        asyncio.run(attach(qemu.execute, belongings))
    assert "human-monitor-command" in qemu.asked
    assert set(qemu.backends) == {"hvc2"}
    assert qemu.asked[-6:] == [
        "device_add in-slot1",
        "device_add in-slot5",
        "set-action",
        "cont",
        "add-fd",
        "chardev-change hvc2",
    ]
    qemu.close()


def test_a_drive_that_qemu_refuses_is_told_in_its_words(tmp_path: Path) -> None:
    qemu = Qemu([])
    qemu.drive_answer = "Could not open '/dev/fdset/7': Permission denied\r\n"
    image = tmp_path / "image"
    image.write_bytes(bytes(1 << 20))
    with ExitStack() as stack:
        fd = stack.enter_context(image.open("rb")).fileno()
        belongings = open_belongings(spec(tmp_path, disks=(partitioned(fd),)), INPUTS, stack)
        with pytest.raises(VmmControlError, match=r"disk0: Could not open .*Permission denied"):
            asyncio.run(attach(qemu.execute, belongings))
    qemu.close()


def test_a_socket_is_refused(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, ExitStack() as stack, pytest.raises(NotSupported, match=r"hvc0|ttyS0"):
        open_belongings(spec(tmp_path, console=ours.fileno()), INPUTS, stack)
