"""What is asked of QEMU for a clone, in which order, and what its guest may answer."""

import asyncio
import os
import socket

import pytest

from avf.vmm import VmmControlError
from avf.vmm.qemu.clone import Clone, save_state
from avf.vmm.qemu.devices import CLONE_IS_ITSELF

DEVICES = [{"driver": "virtio-blk-pci", "bus": "slot0"}, {"driver": "vsock", "bus": "slot1"}]


class Qemu:
    """Answers as QEMU does, and has its guest answer when it is let run."""

    def __init__(self, answer: bytes, statuses: list[str]) -> None:
        self.port, self.guest = socket.socketpair()
        self.guest.setblocking(False)
        self.answer = answer
        self.statuses = statuses
        self.asked: list[str] = []
        self.said = b""

    async def execute(
        self, command: str, arguments: dict[str, object] | None = None, fd: int | None = None
    ) -> object:
        told = arguments or {}
        self.asked.append(" ".join([command, *map(str, told.values())]))
        if command == "cont":
            self.said = self.guest.recv(1000)
            if self.answer:
                self.guest.send(self.answer)
            else:
                self.guest.close()
        return {"status": self.statuses.pop(0)} if command.startswith("query") else {}

    def begin(self) -> None:
        made = Clone(os.open(os.devnull, os.O_RDONLY), self.port, DEVICES)
        try:
            asyncio.run(made.begin(self.execute))
        finally:
            made.close()
            self.guest.close()


def test_a_clone_has_its_devices_and_its_identity_before_it_runs() -> None:
    qemu = Qemu(CLONE_IS_ITSELF, ["inmigrate", "inmigrate", "paused"])
    qemu.begin()
    assert qemu.asked == [
        "getfd state",
        "migrate-incoming fd:state",
        *["query-status"] * 3,
        "device_add virtio-blk-pci slot0",
        "device_add vsock slot1",
        "cont",
    ]
    word, seed, now = qemu.said.split()
    assert word == b"identity"
    assert len(bytes.fromhex(seed.decode())) == 32
    assert int(now) > 0


def test_no_two_clones_have_one_seed() -> None:
    seeds = set()
    for _ in range(20):
        qemu = Qemu(CLONE_IS_ITSELF, ["paused"])
        qemu.begin()
        seeds.add(qemu.said.split()[1])
    assert len(seeds) == 20


@pytest.mark.parametrize(
    "answer", [b"", b"avf-clone 1\n", b"nonsense\n", b"x" * 257, CLONE_IS_ITSELF * 2]
)
def test_a_guest_that_answers_something_else_is_no_clone(answer: bytes) -> None:
    with pytest.raises(VmmControlError, match="instead of taking an identity the clone said"):
        Qemu(answer, ["paused"]).begin()


def test_a_guest_stands_still_while_it_is_saved() -> None:
    qemu = Qemu(b"", ["active", "active", "completed"])
    asyncio.run(save_state(qemu.execute, 0))
    qemu.port.close()
    qemu.guest.close()
    assert qemu.asked[0] == "stop"
    assert qemu.asked[-4:] == ["migrate fd:state", *["query-migrate"] * 3]


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_what_cannot_be_saved_is_said(status: str) -> None:
    qemu = Qemu(b"", ["setup", status])
    with pytest.raises(VmmControlError, match=f"cannot save the guest: {status}"):
        asyncio.run(save_state(qemu.execute, 0))
    qemu.port.close()
    qemu.guest.close()
