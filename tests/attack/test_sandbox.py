"""What a virtual machine monitor or a vsock device can do that its guest has taken over: nothing."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from avf.vmm.qemu import devices
from tests.attack.attacker import CALLS, attempts_at, attempts_at_descriptors, succeeded
from tests.attack.injection import Taken
from tests.vmm.conftest import descendants_of, nothing_is_left
from tests.vmm.guest import running

__all__ = ["nothing_is_left"]

pytestmark = [pytest.mark.vm, pytest.mark.usefixtures("nothing_is_left")]

WAITS = "echo up > /dev/hvc2; sleep 1000"


@pytest.fixture(params=["the virtual machine monitor", "the vsock device"])
def taken(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Taken]:
    """A thread of a process that serves a running guest. QEMU goes without its own filter, which would only kill it."""
    isolation = devices.isolation()
    monkeypatch.setattr(devices, "isolation", lambda: isolation[: isolation.index("-sandbox")])
    with running(WAITS, tmp_path) as guest:
        guest.log.wait_for(b"up")
        pid = guest.process.pid
        if request.param == "the vsock device":
            (pid,) = (p for p in descendants_of(os.getpid()) if is_device(p))
        with Taken(pid) as thread:
            yield thread


def is_device(pid: int) -> bool:
    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return words[3:4] != [] and words[3].endswith(b"vsock/device/__main__.py")


def test_nothing_of_the_host_is_in_reach(taken: Taken, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    attempts = attempts_at(os.getpid(), str(victim))
    beside_the_program = os.fsencode(__file__) + b"\0"
    attempts.append(("open", beside_the_program, os.O_RDONLY, 0))
    assert succeeded(taken.call, attempts) == []
    assert victim.read_text() == "untouched"


def test_what_it_was_given_to_read_it_cannot_write(taken: Taken) -> None:
    """Not by another name either: there is none for a descriptor."""
    numbers = [int(entry.name) for entry in Path(f"/proc/{taken.pid}/fd").iterdir()]
    assert len(numbers) > 3
    assert succeeded(taken.call, attempts_at_descriptors(numbers)) == []


def test_files_in_memory_have_a_bound(taken: Taken) -> None:
    fd = taken.call(CALLS["memfd_create"], b"hoard\0", 0)
    assert fd >= 0
    assert -taken.call(CALLS["ftruncate"], fd, 1 << 40) == errno.EFBIG
    taken.call(CALLS["close"], fd)


def test_descriptors_have_a_bound(taken: Taken) -> None:
    taken_fds = []
    while (fd := taken.call(CALLS["memfd_create"], b"d\0", 0)) >= 0:
        taken_fds.append(fd)
        assert len(taken_fds) <= 2048
    assert -fd == errno.EMFILE
    for fd in taken_fds:
        taken.call(CALLS["close"], fd)


def test_who_it_is(taken: Taken) -> None:
    status = dict(
        line.split(":\t", 1)
        for line in Path(f"/proc/{taken.pid}/status").read_text().splitlines()
        if ":\t" in line
    )
    assert {
        int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
    } == {0}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    if os.geteuid() == 0:
        assert set(status["Uid"].split()) & {"0"} == set()
        assert status["Groups"].split() == []
    for kind in ("user", "mnt", "pid", "net", "ipc", "uts"):
        assert (
            Path(f"/proc/{taken.pid}/ns/{kind}").readlink()
            != Path(f"/proc/self/ns/{kind}").readlink()
        )
    limits = Path(f"/proc/{taken.pid}/limits").read_text()
    assert [line.split()[4:6] for line in limits.splitlines() if "core file" in line] == [
        ["0", "0"]
    ]
