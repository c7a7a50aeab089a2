"""What a guest's agent does when its machine is copied: the real thread and its port, without a machine."""

import contextlib
import os
import queue
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from avf.guest import agent, forks, limits, payload_client, slots
from avf.guest.errors import GuestError, InvalidConfig
from avf.guest.forks import Forks, parse_order, random_uuid
from avf.guest.metadata import Metadata
from avf.guest.payload_service import PayloadService, serve
from avf.image.build import FORKS
from avf.virtmgr.app_config import FORKS as KNOWN_TO_VIRTMGR
from avf.vmm.qemu import devices
from tests.guest.machine import RecordingService
from tests.guest.test_payload_service import IDENTITY

SEED = bytes(range(32))
NOW = 1795887657000000001
LAYERS = [
    agent.payload_layer(
        agent.agent_cdi(debuggable), agent.payload_inputs(IDENTITY, debuggable, None, "x.so")
    )
    for debuggable in (False, True)
]


class Link(RecordingService):
    """The part of a HostLink that is used."""

    was_told_ready = True

    def hang_up(self, timeout: float) -> None:
        self.heard.append(("hang up",))

    def call_again(self) -> None:
        self.heard.append(("call again",))

    def report_start_phases(self, *report: Any) -> None:
        self.heard.append(("phases",))


class Guest:
    """A Forks that serves its port, and all that it does beside talking."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.link = Link()
        heard = self.link.heard

        def recorded(name: str) -> Callable[..., None]:
            return lambda *_: heard.append((name,))

        for module, name in (
            *((limits, "freeze"), (limits, "thaw"), (forks, "reseed")),
            *((forks, "take_boot_id"), (forks, "set_clock")),
            *((slots, "eject_vsock"), (slots, "plug_in")),
            (forks.time, "clock_settime_ns"),
        ):
            monkeypatch.setattr(module, name, recorded(name))
        self.forks = Forks(self.link, LAYERS[0], lambda: LAYERS[1])  # type: ignore[arg-type]
        self.port, theirs = socket.socketpair()
        self.port.settimeout(30)
        monkeypatch.setattr(os, "_exit", recorded("the agent ends"))
        monkeypatch.setattr(forks, "report_failure", recorded("failure"))
        self._theirs = theirs
        serve = self.forks._serve
        self._thread = threading.Thread(target=serve, args=(os.dup(theirs.fileno()),))
        self._thread.start()

    def close(self) -> None:
        """Ends the agent. Idempotent."""
        if self.port.fileno() < 0:
            return
        self.port.sendall(b"nonsense\n")
        self._thread.join(30)
        self.port.close()
        self._theirs.close()

    def ask(self, line: str) -> str:
        self.port.sendall(f"{line}\n".encode())
        return self.hear()

    def hear(self) -> str:
        with self.port.makefile() as lines:
            return lines.readline()

    @property
    def did(self) -> list[str]:
        return [step[0] for step in self.link.heard]


@pytest.fixture
def guest(monkeypatch: pytest.MonkeyPatch) -> Iterator[Guest]:
    with contextlib.closing(Guest(monkeypatch)) as guest:
        yield guest


def test_guest_and_host_speak_of_the_same() -> None:
    assert forks.QUIET == devices.FORK_IS_QUIET
    assert forks.GOES_ON == devices.FORK_GOES_ON
    assert forks.TAKEN == devices.CLONE_IS_ITSELF
    assert FORKS == KNOWN_TO_VIRTMGR == int(forks.QUIET.split()[1])


def test_the_original_goes_on_as_it_was(guest: Guest) -> None:
    assert guest.ask("fork").encode() == forks.QUIET
    assert guest.did == ["freeze", "hang up", "eject_vsock"]
    assert guest.ask(f"go {NOW}").encode() == forks.GOES_ON
    assert guest.did[3:] == ["clock_settime_ns", "plug_in", "call again", "thaw"]
    assert guest.forks.number == 0
    assert guest.forks.secret_layer() is LAYERS[0]


def test_a_copy_is_somebody_of_its_own_before_its_payload_goes_on(guest: Guest) -> None:
    assert guest.ask("fork").encode() == forks.QUIET
    assert guest.ask(f"clone 7 {SEED.hex()} {NOW}").encode() == forks.TAKEN
    assert guest.forks.wait_until_cloned() == 7
    assert guest.did[3:6] == ["clock_settime_ns", "reseed", "take_boot_id"]
    assert guest.did[6:] == [
        *("plug_in", "call again", "set_clock", "phases", "started", "ready", "thaw"),
    ]
    assert guest.forks.secret_layer() is LAYERS[1]  # its secrets are not its original's


def test_a_machine_that_has_given_a_secret_is_not_copied(guest: Guest) -> None:
    guest.forks.secret_layer()
    answer = guest.ask("fork")
    assert answer.startswith("avf-refused ")
    assert "secrets" in answer
    assert guest.did == ["freeze", "thaw"]


def test_a_machine_that_keeps_its_vsock_device_is_not_copied(
    guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise GuestError("the device stays")

    monkeypatch.setattr(slots, "eject_vsock", fail)
    assert guest.ask("fork") == "avf-refused the device stays\n"
    assert guest.did == ["freeze", "hang up", "plug_in", "call again", "thaw"]


def test_a_copy_is_not_copied(guest: Guest) -> None:
    """It takes no more orders, and ends in peace."""
    guest.ask("fork")
    guest.ask(f"clone 7 {SEED.hex()} {NOW}")
    guest.close()
    assert "the agent ends" not in guest.did


def test_a_machine_whose_host_talks_nonsense_ends(guest: Guest) -> None:
    guest.close()
    assert guest.did == ["failure", "the agent ends"]


def test_a_payload_that_does_not_stand_still_is_not_copied(
    guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def freeze(timeout: float) -> None:
        raise TimeoutError("the payload does not stand still\nwithin 5 s")

    monkeypatch.setattr(limits, "freeze", freeze)
    assert guest.ask("fork") == "avf-refused the payload does not stand still within 5 s\n"
    assert guest.did == []


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"go",
        b"go x",
        b"go 0",
        b"go 1 2",
        b"clone",
        f"clone 1 {SEED.hex()}".encode(),
        f"clone 0 {SEED.hex()} 1".encode(),
        f"clone 1 {SEED.hex()}00 1".encode(),
        f"clone 1 {SEED.hex()} 0".encode(),
        f"clone 1 {SEED.hex()} 1 1".encode(),
        f"other 1 {SEED.hex()} 1".encode(),
        b"\xff\xfe \xff 1",
    ],
)
def test_a_malformed_order_is_refused(line: bytes) -> None:
    with pytest.raises(GuestError, match="malformed"):
        parse_order(line)


def test_a_boot_id_is_a_random_uuid() -> None:
    for drawn in (bytes(16), b"\xff" * 16, SEED[:16]):
        made = uuid.UUID(random_uuid(drawn))
        assert (made.version, made.variant) == (4, uuid.RFC_4122)
        assert made == uuid.UUID(bytes=drawn, version=4)


@pytest.mark.parametrize("label", ["vm-instance", "encryptedstore"])
def test_a_guest_that_can_be_copied_refuses_to_have_state(
    monkeypatch: pytest.MonkeyPatch, label: str
) -> None:
    """Whatever its host says about the VM."""
    monkeypatch.setattr(agent.partitions, "labels", lambda: {label: "vdb1"})
    with pytest.raises(InvalidConfig, match=f"keeps nothing, but has a {label} partition"):
        agent.verify_forkable(Metadata("apk", "idsig", None, "x.so", forkable=True))


def test_a_payload_hears_of_its_being_cloned(
    guest: Guest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: queue.Queue[int] = queue.Queue()
    with served(guest.link, guest.forks, tmp_path, monkeypatch):
        payload_client.on_clone(told.put)
        assert payload_client.get_clone_number() == 0
        guest.ask("fork")
        guest.ask(f"clone 3 {SEED.hex()} {NOW}")
        assert told.get(timeout=30) == 3
        assert payload_client.get_clone_number() == 3


def test_nobody_waits_in_a_vm_that_cannot_be_forked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(Link(), None, tmp_path, monkeypatch):
        payload_client.on_clone(lambda _: pytest.fail("there is no clone"))
        for thread in threading.enumerate():
            if thread.name == "on-clone":
                thread.join(30)
                assert not thread.is_alive()
        assert payload_client.get_clone_number() == 0


@contextlib.contextmanager
def served(
    host: Link, forks: Forks | None, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """The payload's API."""
    service = PayloadService(host, LAYERS[0], False, forks)
    socket = serve(service, str(folder), group=os.getgid())
    monkeypatch.setattr(payload_client, "SOCKET_PATH", socket.path)
    try:
        yield
    finally:
        socket.server.shutdown()
