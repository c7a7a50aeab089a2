"""Guests that lie when they are to be copied: the host is neither held up nor left with half a copy."""

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from avf.vmm.accel import Accelerator
from avf.vmm.base import NotSupported, VmmControlError
from avf.vmm.qemu import fork, unplugging
from avf.vmm.qemu.command import Host
from avf.vmm.qemu.fork import ForkSource
from avf.vmm.qemu.fork_point import ForkBroken, ForkPoint, ForkRefused
from avf.vmm.qemu.kept_disks import KeptDisks

SIZE = 1 << 20
PAGE = 4096
QUIET, GOES_ON = b"avf-quiet 2\n", b"avf-goes-on 1\n"
VSOCK = {"driver": "vhost-user-vsock-pci", "chardev": "vsock", "id": "in-slot5", "bus": "slot5"}


class Qemu:
    """Answers as QEMU does, and remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.keeps_vsock = False
        self.refuses = ""

    async def __call__(
        self, command: str, arguments: dict[str, object] | None = None, fd: int | None = None
    ) -> object:
        self.asked.append(command)
        if command == self.refuses:
            raise VmmControlError(f"QEMU refused {command}")
        if command == "qom-list" and not self.keeps_vsock:
            raise NotSupported("there is no such device")
        if command == "getfd":
            assert fd is not None
            os.write(fd, b"state")
        return {"query-block": [], "query-migrate": {"status": "completed"}}.get(command, {})


@pytest.fixture
def qemu(monkeypatch: pytest.MonkeyPatch) -> Qemu:
    for module, name in (
        *((fork, "_QUIET_SECONDS"), (fork, "_GO_ON_SECONDS")),
        (unplugging, "SECONDS"),
    ):
        monkeypatch.setattr(module, name, 0.2)
    return Qemu()


@pytest.fixture(autouse=True)
def no_descriptor_is_left() -> Iterator[None]:
    before = memory_files()
    yield
    assert memory_files() == before


def memory_files() -> list[str]:
    """Of this process, as far as they have to do with copies."""
    files = []
    for link in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # that of the listing itself
            files.append(str(link.readlink()))
    return [file for file in files if "avf-fork" in file or "avf-state" in file]


def copied(qemu: Qemu, answers: list[bytes], times: int = 1) -> list[ForkPoint | Exception]:
    """What comes of copying, again and again, a guest that answers what it is told so."""
    ours, guest = socket.socketpair()
    memory = os.memfd_create("test")
    os.ftruncate(memory, SIZE)
    os.pwrite(memory, b"guest", 5 * PAGE)

    async def run() -> list[ForkPoint | Exception]:
        source = ForkSource(ours, memory, (), VSOCK, KeptDisks(()), Host(Accelerator.TCG, 1, None))
        talk = asyncio.create_task(answer(guest, list(answers)))
        found: list[ForkPoint | Exception] = []
        with closing(source):
            for _ in range(times):
                try:
                    found.append(await source.copy(qemu))
                except VmmControlError as error:
                    found.append(error)
        talk.cancel()
        return found

    with guest:
        guest.setblocking(False)
        return asyncio.run(run())


async def answer(guest: socket.socket, answers: list[bytes]) -> None:
    loop = asyncio.get_running_loop()
    while answers:
        await loop.sock_recv(guest, 256)
        await loop.sock_sendall(guest, answers.pop(0))


def test_a_copy_is_all_of_the_memory_and_cannot_be_changed(qemu: Qemu) -> None:
    (point,) = copied(qemu, [QUIET, GOES_ON])
    assert isinstance(point, ForkPoint)
    with closing(point):
        memory = point.memory.memory
        assert os.pread(memory, SIZE, 0) == bytes(5 * PAGE) + b"guest" + bytes(SIZE - 5 * PAGE - 5)
        assert os.fstat(memory).st_blocks * 512 == PAGE  # what was not there is not there
        with pytest.raises(PermissionError):
            os.pwrite(memory, b"x", 0)
        with pytest.raises(PermissionError):
            os.pwrite(point.memory.state, b"x", 0)
    assert qemu.asked[-2:] == ["device_add", "cont"]


@pytest.mark.parametrize(
    ("answers", "error", "message"),
    [
        ([b"avf-refused it has secrets\n"], ForkRefused, "^it has secrets$"),
        ([b"avf-refused \xff\n"], ForkRefused, "^\N{REPLACEMENT CHARACTER}$"),
        ([b"avf-refused " + b"x" * 100_000], ForkRefused, "^x+$"),
        ([b"avf-quiet 1\n"], VmmControlError, "instead of standing still"),
        ([b"x" * 100_000], VmmControlError, "instead of standing still"),
        ([], VmmControlError, "has not answered"),
        ([QUIET[:-1]], VmmControlError, "has not answered"),
        ([QUIET], ForkBroken, "cannot go on"),
        ([QUIET, QUIET], ForkBroken, "instead of going on"),
        ([QUIET, b"x" * 100_000], ForkBroken, "instead of going on"),
    ],
)
def test_what_a_guest_answers(
    qemu: Qemu, answers: list[bytes], error: type[Exception], message: str
) -> None:
    (found,) = copied(qemu, answers)
    with pytest.raises(error, match=message):
        assert isinstance(found, Exception)
        raise found
    assert len(str(found)) < 1000


def test_a_guest_that_keeps_its_vsock_device_goes_on_with_it(qemu: Qemu) -> None:
    qemu.keeps_vsock = True
    first, second = copied(qemu, [QUIET, GOES_ON], times=2)
    assert not isinstance(first, ForkBroken)
    assert "has not ejected the device in-slot5" in str(first) == str(second)
    assert "device_add" not in qemu.asked
    assert "migrate" not in qemu.asked
    assert qemu.asked[-1] == "cont"


def test_a_guest_that_did_not_answer_is_not_asked_again(qemu: Qemu) -> None:
    """Its late answer would be taken for another one's."""
    found = copied(qemu, [], times=3)
    assert {str(error) for error in found} == {
        "the guest has not answered when it was to be copied"
    }
    assert qemu.asked == []


@pytest.mark.parametrize("command", ["stop", "migrate", "query-block", "migrate-set-capabilities"])
def test_a_copy_that_cannot_be_made_leaves_the_guest_running(qemu: Qemu, command: str) -> None:
    qemu.refuses = command
    first, second = copied(qemu, [QUIET, GOES_ON, QUIET, GOES_ON], times=2)
    for found in (first, second):
        assert f"QEMU refused {command}" in str(found)
        assert not isinstance(found, ForkBroken)
    assert qemu.asked[-2:] == ["device_add", "cont"]


def test_a_guest_that_gets_nothing_back_is_broken(qemu: Qemu) -> None:
    qemu.refuses = "device_add"
    (found,) = copied(qemu, [QUIET, GOES_ON])
    assert isinstance(found, ForkBroken)
