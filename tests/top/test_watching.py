"""All VMs watched at once: those of a real virtmgr, and those of virtmgrs that do their worst."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from avf.aidl.vm_control import DeathReport, IVmControl, MetricsSample, VmInfo, VmMetrics
from avf.binder import FdMode, Server
from avf.client import RawConfig, VirtualizationService, connect
from avf.client import VmInfo as Listed
from avf.top import watching
from avf.top.asking import MAX_ITEMS, MAX_TEXT
from avf.top.model import Vm
from avf.top.watching import Watching
from tests.eventually import eventually

SOON = 0.05


@pytest.fixture
def service(runtime_dir: Path) -> Iterator[VirtualizationService]:
    with connect() as connection:
        yield connection


def watching_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("watch-")]


def test_vms_of_a_virtmgr(service: VirtualizationService, tmp_path: Path) -> None:
    (tmp_path / "kernel").touch()
    config = RawConfig(name="raw", kernel=tmp_path / "kernel")
    with Watching(os.getuid(), SOON) as watch:
        eventually(lambda: watch.snapshot().is_first, False)
        assert watch.snapshot().vms == ()
        with service.create_vm(config) as machine:
            eventually(lambda: [vm.state for vm in watch.snapshot().vms], ["NOT_STARTED"])
            (vm,) = watch.snapshot().vms
            assert (vm.cid, vm.name, vm.samples, vm.problem) == (machine.cid, "raw", (), "")
            watch.watch(os.getuid() + 1)
            eventually(lambda: watch.snapshot().vms, ())
            watch.watch(None)
            eventually(lambda: [vm.name for vm in watch.snapshot().vms], ["raw"])
        eventually(lambda: watch.snapshot().vms, ())  # it never ran: nobody misses it
    eventually(watching_threads, [])


class Control(IVmControl, partial=True):
    """A virtmgr that says too much of everything."""

    def __init__(self, cid: int, *, dead: bool = False) -> None:
        self._cid = cid
        self.dead = dead

    def get_info(self) -> VmInfo:
        pid = 0 if self.dead else os.getpid()
        return VmInfo(cid=self._cid, name="n" * 20_000, vmm_pid=pid, started_millis_ago=5000)

    def get_metrics(self) -> VmMetrics:
        return VmMetrics(cpu_time_millis=-(1 << 63), rss_vm_kb=(1 << 63) - 1)

    def get_metrics_history(self, after_millis: int) -> list[MetricsSample]:
        return [MetricsSample(uptime_millis=at * 10**12, cpu_time_millis=-at) for at in range(1000)]

    def get_death_report(self) -> DeathReport | None:
        return DeathReport(last_step="s" * 9999, console_tail=["line"] * 1000, failure="f" * 9999)


class Place:
    """Directories of VMs as virtualizationservice would list them."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self.listed: list[Listed] = []

    def listen(self, cid: int, uid: int = 1000) -> socket.socket:
        directory = self._folder / str(cid)
        directory.mkdir()
        listener = self._stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(directory / IVmControl.CONTROL_SOCKET_NAME))
        listener.listen()
        self.listed.append(Listed(cid, str(directory), uid, 1))
        return listener

    def serve(self, control: Control, cid: int) -> None:
        server = Server(control, fd_modes=frozenset({FdMode.UNIX}))
        server.start(self.listen(cid))
        self._stack.callback(server.shutdown)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    with ExitStack() as stack:
        place = Place(tmp_path, stack)
        monkeypatch.setattr(watching, "list_vms", lambda: list(place.listed))
        yield place


def vm_of(watch: Watching, cid: int) -> Vm:
    return next(vm for vm in watch.snapshot().vms if vm.cid == cid)


def test_who_does_not_answer_holds_up_nobody(place: Place) -> None:
    """Some take connections and say nothing, some say what is no answer; one answers."""
    silent = [place.listen(3000 + n) for n in range(20)]
    noisy = place.listen(3100)
    place.serve(Control(2048), 2048)

    def babble() -> None:
        try:
            while True:
                with noisy.accept()[0] as sock:
                    sock.sendall(os.urandom(4096))
        except OSError:
            return

    thread = threading.Thread(target=babble, daemon=True)
    thread.start()
    with Watching(None, SOON) as watch:
        eventually(lambda: len(watch.snapshot().vms), 22)
        eventually(lambda: vm_of(watch, 2048).state, "NOT_STARTED")
        before = vm_of(watch, 2048)
        eventually(lambda: vm_of(watch, 2048) is before, False)
        eventually(lambda: bool(vm_of(watch, 3100).problem), True)
        assert vm_of(watch, 3000).details is None
        for listener in silent:
            listener.close()
        noisy.shutdown(socket.SHUT_RDWR)
    thread.join(15)


def test_what_a_virtmgr_says_is_bounded(place: Place) -> None:
    place.serve(Control(2048), 2048)
    place.serve(Control(2049, dead=True), 2049)
    with Watching(None, SOON) as watch:
        eventually(lambda: [vm.problem for vm in watch.snapshot().vms], ["", ""])
        eventually(lambda: vm_of(watch, 2049).report is None, False)
        vm = vm_of(watch, 2049)
        assert vm.details is not None and vm.report is not None
        assert len(vm.details.name) == len(vm.report.last_step) == MAX_TEXT
        assert len(vm.report.console_tail) == MAX_ITEMS
        assert len(vm.samples) <= 900 and all(s.cpu_percent >= 0 for s in vm.samples)
        assert len(vm.name) <= 40
        place.listed.clear()
        eventually(lambda: {vm.gone for vm in watch.snapshot().vms}, {True})


def test_a_user_with_many_vms_uses_up_a_share(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "MAX_PER_USER", 4)
    monkeypatch.setattr(watching, "MAX_WATCHED", 6)
    for cid in range(3000, 3010):
        place.listen(cid, uid=1000)
    for cid in range(3010, 3014):
        place.listen(cid, uid=1001)
    place.serve(Control(2048), 2048)
    place.listed.sort(key=lambda info: info.cid, reverse=True)
    with Watching(None, SOON) as watch:
        eventually(lambda: len(watch.snapshot().vms), 15)
        threads = watching_threads()
        assert len(threads) == 6
        told = [vm.problem for vm in watch.snapshot().vms]
        assert "only 6 VMs are watched at once" in told


def test_those_that_have_gone_are_remembered_up_to_a_bound(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "MAX_ENDED", 3)
    for cid in range(2048, 2054):
        place.serve(Control(cid, dead=True), cid)
    with Watching(None, SOON) as watch:
        eventually(lambda: sum(vm.has_ended for vm in watch.snapshot().vms), 6)
        place.listed.clear()
        eventually(lambda: [vm.gone for vm in watch.snapshot().vms], [True] * 3)
        assert all(vm.report is not None for vm in watch.snapshot().vms)
