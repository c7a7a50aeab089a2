"""A machine that runs, looked into and ended from outside by the command line and the library."""

import json
import os
import socket
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import IO

import pytest

from avf.client import (
    AppConfig,
    DeathReason,
    DebugLevel,
    LifecycleStep,
    RawConfig,
    StartKind,
    Timeline,
    VirtualizationService,
    VirtualMachineState,
)
from avf.client.control import PayloadState, open_vm
from tests.vm.conftest import App
from tests.vmm.guest import PARAMS, initrd, kernel

pytestmark = pytest.mark.vm


def vm_command(*arguments: object) -> str:
    """What `vm` writes."""
    command = [sys.executable, "-m", "avf.cli", *map(str, arguments)]
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True, timeout=60
    ).stdout


def check_start(timeline: Timeline) -> None:
    """Its phases follow each other and cover what time there was, but for what is nobody's."""
    host = [phase for phase in timeline.phases if not phase.in_guest]
    guest = [phase for phase in timeline.phases if phase.in_guest]
    names = [phase.name for phase in host]
    if timeline.kind is StartKind.CLONE:  # nothing of what its template did
        assert names[-5:] == ["spawn", "monitor", "state", "devices", "identity"]
        assert guest[0].name == "devices"
    else:
        assert timeline.kind is StartKind.COLD
        assert names[-3:] == ["spawn", "monitor", "resume"]
        assert [phase.name for phase in guest[:2]] == ["firmware", "kernel"]
    assert names[:3] == ["context", "files", "disks"]
    assert [phase.name for phase in guest[-3:]] == ["mount", "prepare", "clock"]
    for phases in (host, guest):
        assert all(0 <= phase.begin <= phase.end for phase in phases)
        assert all(one.end <= next.begin + 1e-6 for one, next in pairwise(phases))
    assert timeline.duration is not None and guest[-1].end <= timeline.duration
    assert timeline.guest_error is not None and timeline.guest_error < timeline.duration


def test_looking_into_a_vm_and_ending_it(app: App) -> None:
    console, log = app.folder / "console", app.folder / "log"
    with (
        app.service.create_vm(app.running("echo.py"), console=console, log=log) as vm,
        open_vm(vm.cid) as control,
        control.attach_console() as attached,
        control.follow_log() as followed,
    ):
        vm.start()
        vm.wait_until_ready(timeout=300)

        details = control.details()
        assert details.state == VirtualMachineState.READY
        assert details.payload_state == PayloadState.READY
        assert details.uptime is not None and 0 < details.uptime <= details.age
        metrics = control.metrics()
        assert metrics.cpu_time_millis > 0
        assert 0 < metrics.rss_vm_kb < metrics.rss_vmm_kb
        known = control.history()
        assert known and 0 <= known[0].uptime <= known[-1].uptime < details.uptime + 60
        assert 0 < known[-1].rss_vm_kb < known[-1].rss_vmm_kb
        assert all(later.uptime > known[-1].uptime for later in control.history(known[-1].uptime))

        (row,) = json.loads(vm_command("top", "--once", "--json"))
        assert (row["cid"], row["state"], row["vmm_pid"]) == (vm.cid, "READY", details.vmm_pid)
        assert row["cpu_percent"] > 0
        assert vm_command("logs", vm.cid) == log.read_text()
        assert vm_command("logs", vm.cid).count("executing main task") == 1

        timeline = control.timeline()
        assert timeline == vm.timeline()
        check_start(timeline)

        page = vm_command("report", vm.cid)
        assert page.startswith("<!DOCTYPE html>\n<!-- vm report -->\n")
        assert page.count("proved") == 4 and "not proved" not in page
        assert "Ready" in page and "How it died" not in page

        assert vm.death_report is None
        assert vm_command("stop", vm.cid) == ""
        assert vm.wait_for_death(60) is DeathReason.KILLED

        with attached.makefile("rb") as file:
            assert console.read_bytes().endswith(file.read())
        with followed.makefile("rb") as file:
            assert file.read() == log.read_bytes()
        report = vm.death_report
        assert report is not None
        assert report == control.death_report()
        assert report.reason is DeathReason.KILLED
        assert report.last_step.startswith("stopped on request of process ")
        assert report.vmm_status == -9
        assert report.console_tail
        assert report.console_tail[-1] == console.read_text().splitlines()[-1].rstrip()
        assert control.details().vmm_pid is None
        assert control.metrics().peak_rss_vm_kb > 0
        assert control.history()[: len(known)] == known
        assert "How it died" in vm_command("report", vm.cid)
        assert report.timeline is not None
        assert report.timeline.phases == timeline.phases
        assert [moment.step for moment in report.timeline.moments] == [
            LifecycleStep.CREATION_ASKED,
            LifecycleStep.CREATED,
            LifecycleStep.START_ASKED,
            LifecycleStep.STARTED,
            LifecycleStep.PAYLOAD_STARTED,
            LifecycleStep.PAYLOAD_READY,
            LifecycleStep.DIED,
        ]


def test_the_report_of_a_vm_that_could_not_run_its_payload(app: App) -> None:
    config: AppConfig = app.running("libmissing.so")
    with app.service.create_vm(config) as vm:
        vm.start()
        assert vm.wait_for_death(300) is DeathReason.MICRODROID_UNKNOWN_RUNTIME_ERROR
        report = vm.death_report
    assert report is not None
    reason, _, details = report.failure.partition("|")
    assert reason == "MICRODROID_UNKNOWN_RUNTIME_ERROR"
    assert "libmissing.so" in details
    assert report.last_step.startswith("the guest told of an error, UNKNOWN: ")
    assert report.vmm_status == 0
    assert report.vmm_events[-1] == "SHUTDOWN guest-shutdown"
    assert len(report.console_tail) == 20
    assert details in report.last_step
    assert not any(line.startswith("the guest said: ") for line in report.lines())  # told already
    assert report.timeline is not None
    assert report.timeline.duration is None
    assert report.timeline.phases[-1].name == "failure"


def test_a_vm_that_is_not_debuggable(app: App) -> None:
    """It is mute, but can be looked at; what its owner asked for can be heard by its owner alone, and not spoken to."""
    config = app.running("echo.py", debug_level=DebugLevel.NONE)
    with app.service.create_vm(config) as mute, open_vm(mute.cid) as control:
        assert not control.details().has_console
    with (
        app.service.create_vm(config, console=app.folder / "console") as vm,
        open_vm(vm.cid) as control,
    ):
        assert control.details().has_console
        assert not control.details().takes_console_input


ANSWERS = """
exec 3<>/dev/hvc0
echo tell me >&3
read answer <&3
echo "it was $answer" >&3
dd if=/dev/zero bs=4096 count=512 of=/dev/hvc2
"""


def await_line(file: IO[bytes], text: bytes) -> None:
    assert any(text in line for line in file), f"{text!r} was never said"


def test_typing_into_a_console(service: VirtualizationService, tmp_path: Path) -> None:
    """Through `vm console`, into a raw VM, whose own console is a file all the while. Its log waits to be read."""
    (tmp_path / "initrd").write_bytes(initrd(ANSWERS))
    config = RawConfig(kernel=kernel().vmlinux, initrd=tmp_path / "initrd", params=PARAMS)
    log, end = os.pipe()
    with (
        open(log, "rb") as log_reader,
        open(end, "wb") as log_end,
        service.create_vm(config, console=tmp_path / "console", log=log_end) as vm,
    ):
        log_end.close()
        vm.start()
        with subprocess.Popen(
            [sys.executable, "-m", "avf.cli", "console", str(vm.cid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as console:
            assert console.stdin is not None and console.stdout is not None
            await_line(console.stdout, b"tell me")
            console.stdin.write(b"a secret\n")
            console.stdin.close()
            await_line(console.stdout, b"it was a secret")
            assert log_reader.read().count(b"\0") == 512 * 4096
            assert vm.wait_for_death(60) is DeathReason.SHUTDOWN
            assert console.wait(60) == 0
    assert b"it was a secret" in (tmp_path / "console").read_bytes()


@pytest.mark.parametrize("way", ["socket", "stream"])
def test_typing_as_the_owner(service: VirtualizationService, tmp_path: Path, way: str) -> None:
    """By the socket that is the console, or by a stream beside it: the same port of the guest hears both."""
    (tmp_path / "initrd").write_bytes(initrd(ANSWERS))
    config = RawConfig(kernel=kernel().vmlinux, initrd=tmp_path / "initrd", params=PARAMS)
    ours, theirs = socket.socketpair()
    read_end, write_end = os.pipe()
    with (
        ours,
        ours.makefile("rb") as heard,
        open(read_end, "rb") as typed,
        open(write_end, "wb", buffering=0) as typist,
        service.create_vm(
            config, console=theirs, console_in=typed if way == "stream" else None
        ) as vm,
    ):
        theirs.close()
        vm.start()
        await_line(heard, b"tell me")
        if way == "socket":
            ours.sendall(b"a secret\n")
        else:
            typist.write(b"a secret\n")
        await_line(heard, b"it was a secret")
        assert vm.wait_for_death(60) is DeathReason.SHUTDOWN
