"""A guest that writes without end: to its consoles, its log, its failure port, its dump port. Each has its bound."""

import json
import logging
import os
import select
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from avf.apk import ApkBuilder, SigningKey
from avf.client import DebugLevel, VirtualizationService
from avf.pace import Pace
from avf.virtmgr import loggers, output, owner, stream
from avf.virtmgr.loggers import Collector, StatementLimit, logging_pipe
from avf.virtmgr.output import VmOutput
from avf.virtmgr.ramdump import Ramdump, dump_limit
from avf.vmm import BoundedFile, VmSpec
from avf.vmm.qemu.outcome import EVENTS_AT_ONCE, Outcome
from avf.vmm.tail import LIMIT as TAIL_LIMIT
from avf.vmm.tail import Tail
from avf.vsock import HybridVsock
from tests.eventually import eventually
from tests.vm.conftest import prepare_app, service

__all__ = ["service"]

TIMEOUT = 20
SPEC = VmSpec(2048, "vm", Path("/none"), HybridVsock(2048, Path("/none/vsock")))


def flood(fd: int, size: int, block: bytes = b"x" * 65536) -> threading.Thread:
    """Writes `size` bytes to `fd`, which it closes, from a thread."""

    def write() -> None:
        with suppress(BrokenPipeError), open(fd, "wb", buffering=0) as file:
            for _ in range(size // len(block)):
                if file.write(block) != len(block):
                    return

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    return thread


def takes_nothing(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return not poll.poll(0)


# The allowance


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_an_allowance_is_spent_and_fills_up_again() -> None:
    clock = Clock()
    pace = Pace(rate=10, burst=20, clock=clock)
    assert pace.take(20) and not pace.take(1)
    pace.spend(30)
    assert pace.pause() == 3
    clock.now += 3
    assert pace.pause() == 0 and not pace.take(1)
    clock.now += 1000
    assert pace.take(20) and not pace.take(1)


# Dumps


def test_a_bounded_file_ends_and_its_writer_goes_on(tmp_path: Path) -> None:
    with (tmp_path / "dump").open("w+b") as file:
        bounded = BoundedFile(file.fileno(), 1_000_000)
        flood(os.dup(bounded.write_end), 8 << 20).join(TIMEOUT)
        assert bounded.finish(TIMEOUT)
        assert os.fstat(file.fileno()).st_size == 1_000_000
        assert bounded.problem == "it was cut after 1000000 bytes"


def test_a_bounded_file_that_is_given_up_stays_empty(tmp_path: Path) -> None:
    with (tmp_path / "dump").open("w+b") as file:
        bounded = BoundedFile(file.fileno(), 1 << 20)
        os.write(bounded.write_end, b"x" * 1000)
        eventually(lambda: os.fstat(file.fileno()).st_size, 1000)
        bounded.empty()
        os.write(bounded.write_end, b"x" * 1000)
        assert bounded.finish(TIMEOUT)
        assert os.fstat(file.fileno()).st_size == 0


def test_a_full_disk_cuts_a_dump_and_holds_up_nobody() -> None:
    with open("/dev/full", "wb", buffering=0) as full:
        bounded = BoundedFile(full.fileno(), 1 << 30)
        flood(os.dup(bounded.write_end), 1 << 20).join(TIMEOUT)
        assert bounded.finish(TIMEOUT)
        assert "No space left" in bounded.problem


def test_a_dump_lies_neither_in_memory_nor_in_a_directory() -> None:
    ramdump = Ramdump(1 << 20)
    with ramdump.connected(SPEC) as spec:
        assert spec.panic_dump is not None and spec.ramdump is not None
        status = os.fstat(spec.panic_dump)
        assert (status.st_dev, status.st_nlink) == (Path("/var/tmp").stat().st_dev, 0)
        assert spec.panic_dump_limit == 1 << 20
        flood(os.dup(spec.ramdump), 4 << 20).join(TIMEOUT)
    ramdump.close()


def test_a_dump_has_room_for_all_memory_and_not_much_more() -> None:
    for memory in (64, 256, 8192):
        assert (memory << 20) < dump_limit(memory) < (memory << 20) * 1.05 + (17 << 20)
    assert dump_limit(None) == dump_limit(256)


@pytest.fixture(scope="module")
def flooding_apk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("apk") / "flood.apk"
    script = b"#!/bin/sh\nhead -c 3000000 /dev/zero > /dev/hvc1\n"
    with path.open("w+b") as file:
        apk = ApkBuilder("com.example.flood").add("bin/flood.sh", script)
        task = {"type": "microdroid_launcher", "command": "flood.sh", "run_as_root": True}
        apk.add("assets/root.json", json.dumps({"task": task}).encode())
        apk.build(file, SigningKey.generate())
    return path


@pytest.mark.vm
@pytest.mark.parametrize("debug_level", [DebugLevel.NONE, DebugLevel.FULL])
def test_only_what_a_debuggable_guest_writes_to_its_dump_port_is_kept(
    service: VirtualizationService,
    runtime_dir: Path,
    tmp_path: Path,
    flooding_apk: Path,
    debug_level: DebugLevel,
) -> None:
    """The port is root's in the guest, which a payload can be in a debuggable VM alone."""
    app = prepare_app(service, tmp_path, flooding_apk)
    config = app.running("flood.sh", debug_level=debug_level)
    if debug_level is not DebugLevel.NONE:
        config = replace(config, payload_binary_name=None, config_path="assets/root.json")
    with service.create_vm(config) as vm:
        vm.start()
        folder = runtime_dir / "vms" / str(vm.cid)
        assert {path.name for path in folder.iterdir()}.isdisjoint({"ramdump"})
        vm.wait_for_death(timeout=300)
    kept = sum(file.stat().st_size for file in (runtime_dir / "tombstones").glob("tombstone_??"))
    assert kept == (0 if debug_level is DebugLevel.NONE else 3_000_000)


# Consoles and logs


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def test_a_file_takes_its_limit_and_says_so(
    stack: ExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, "FILE_LIMIT", 1_000_000)
    monkeypatch.setattr(output, "RATE", 1 << 30)
    path = tmp_path / "console"
    file = stack.enter_context(path.open("wb"))
    vm_output = VmOutput(console=True, log=False)
    stack.callback(vm_output.close)
    with vm_output.connected(VmSpec(*_fields(), console=file.fileno())) as spec:
        assert spec.console is not None
        writer = flood(os.dup(spec.console), 16 << 20)
    writer.join(TIMEOUT)
    assert not writer.is_alive()
    vm_output.wait_until_ended(TIMEOUT)
    content = path.read_bytes()
    assert content == b"x" * 1_000_000 + owner.FILE_FULL
    assert vm_output.lost() == ["console: the file has 0 MiB of it, and takes no more"]
    assert len(vm_output.recent_console()) == stream.RECENT_SIZE


def _fields() -> tuple[int, str, Path, HybridVsock]:
    return 2048, "vm", Path("/none"), HybridVsock(2048, Path("/none/vsock"))


def test_a_guest_that_is_over_its_rate_is_not_listened_to(
    stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "RATE", 1 << 20)
    nowhere = os.open("/dev/null", os.O_WRONLY)
    stack.callback(os.close, nowhere)
    vm_output = VmOutput(console=True, log=True)
    stack.callback(vm_output.close)
    with vm_output.connected(VmSpec(*_fields(), console=nowhere, log=nowhere)) as spec:
        assert spec.console is not None and spec.log is not None
        vm_output._pace.spend(1 << 40)
        flood(os.dup(spec.console), 1 << 30)
        eventually(lambda: takes_nothing(spec.console), True)  # type: ignore[arg-type]
        assert len(vm_output.recent_console()) <= 2 * stream.RECENT_SIZE
        listener = vm_output.attach_console(live=False)  # those who look in are served meanwhile
        os.close(listener)


class Records(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.fixture
def records(stack: ExitStack) -> Records:
    handler = Records()
    logger = logging.getLogger("avf.virtmgr")
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    stack.callback(logger.setLevel, level)
    stack.callback(logger.removeHandler, handler)
    return handler


def test_empty_lines_without_end_are_logged_up_to_a_limit(
    records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loggers, "LOGGED_BYTES", 100 * 512)
    monkeypatch.setattr(loggers, "LOGGED_BURST", 1 << 40)
    pipe = logging_pipe("Console(7)")
    flood(pipe, 1 << 20, b"\n" * 4096).join(TIMEOUT)
    eventually(lambda: len(records.lines), 101)
    assert records.lines[-1] == "Console(7): [what follows is not logged any more]"


def test_lines_that_come_too_fast_wait(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loggers, "LOGGED_RATE", 1)
    monkeypatch.setattr(loggers, "LOGGED_BURST", 100 * 512)
    monkeypatch.setattr(loggers, "_wait_for", lambda pace: pace.pause() and stopped.wait(TIMEOUT))
    stopped = threading.Event()
    pipe = logging_pipe("Console(7)")
    try:
        writer = flood(os.dup(pipe), 1 << 20, b"\n" * 4096)
        eventually(lambda: len(records.lines), 101)
        eventually(lambda: takes_nothing(pipe), True)
        assert writer.is_alive()
        assert len(records.lines) == 101
    finally:
        os.close(pipe)
        stopped.set()


def test_a_failure_reason_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loggers, "FAILURE_RATE", 1 << 30)
    collector = Collector()
    flood(os.dup(collector.write_end), 8 << 20).join(TIMEOUT)
    assert collector.finish(TIMEOUT) == "x" * Collector.LIMIT


def test_what_a_guest_can_have_virtmgr_log_is_told_so_often_and_counted() -> None:
    handler = Records()
    handler.addFilter(StatementLimit())
    logger = logging.Logger("avf.virtmgr.test")
    logger.addHandler(handler)
    for number in range(100_000):
        logger.error("the guest sent %s", number)
    assert len(handler.lines) < 2 * loggers.LINES_AT_ONCE
    logger.error("another statement")
    assert handler.lines[-1] == "another statement"


# What QEMU says, and a guest can have it say


def test_the_end_of_what_a_vmm_says_is_kept_at_a_rate() -> None:
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    tail = Tail(read_end)
    writer = flood(write_end, 4 << 20)
    while tail.pump() and not tail.pause():
        pass
    assert tail.pause() > 0
    while writer.is_alive():
        tail.pump()
    tail.pump()
    assert len(tail.close()) == TAIL_LIMIT


def test_a_guest_that_has_qemu_tell_of_events_without_end_is_ended() -> None:
    outcome = Outcome()
    told = 0
    while outcome.qmp_event("BLOCK_IO_ERROR", {"action": "report"}) is not None or told < 100:
        told += 1
    assert not outcome.flooded
    for _ in range(EVENTS_AT_ONCE * 2):
        outcome.qmp_event("BLOCK_IO_ERROR", {"action": "report"})
    assert outcome.flooded
    assert len(outcome.events) <= 32


def test_the_steps_of_a_debugger_are_not_counted() -> None:
    outcome = Outcome(debugged=True)
    for _ in range(EVENTS_AT_ONCE * 2):
        outcome.qmp_event("STOP", {})
        outcome.qmp_event("RESUME", {})
    assert not outcome.flooded
