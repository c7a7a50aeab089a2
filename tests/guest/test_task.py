import os
import signal
import sys
from pathlib import Path

import pytest

from avf.guest.config import Task, TaskType
from avf.guest.errors import GuestError
from avf.guest.task import Kind, Process, Program, find_program


@pytest.fixture
def apk(tmp_path: Path) -> Path:
    for path, content in {
        "lib/x86_64/native.so": b"\x7fELF...",
        "lib/x86_64/both": b"\x7fELF...",
        "bin/both": b"#!/bin/sh\n",
        "bin/script": b"#!/usr/bin/env python3\nprint()\n",
        "bin/options": b"#!/usr/bin/env python3 -u\n",
        "bin/bare": b"#! /bin/sh\n",
        "assets/plain.py": b"print()\n",
        "assets/data": b"just data",
    }.items():
        target = tmp_path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return tmp_path


def launched(apk: Path, command: str) -> Program:
    return find_program(Task(TaskType.LAUNCHER, command), str(apk))


def test_kinds(apk: Path) -> None:
    assert launched(apk, "native.so") == (Kind.LIBRARY, (f"{apk}/lib/x86_64/native.so",))
    assert launched(apk, "both") == (Kind.PROGRAM, (f"{apk}/lib/x86_64/both",))
    assert launched(apk, "script") == (Kind.SCRIPT, (f"{apk}/bin/script",))
    options = ("/usr/bin/env", "python3 -u", f"{apk}/bin/options")
    assert launched(apk, "options") == (Kind.PROGRAM, options)
    assert launched(apk, "bare") == (Kind.PROGRAM, ("/bin/sh", f"{apk}/bin/bare"))
    assert launched(apk, "plain.py") == (Kind.SCRIPT, (f"{apk}/assets/plain.py",))


@pytest.mark.parametrize("command", ["absent.so", "../lib/x86_64/native.so", "/etc/passwd", ""])
def test_no_such_binary(apk: Path, command: str) -> None:
    with pytest.raises(GuestError, match="Unable to access"):
        launched(apk, command)


def test_data_cannot_be_run(apk: Path) -> None:
    with pytest.raises(GuestError, match="no library, no program and no script"):
        launched(apk, "data")


def test_an_executable_task_is_taken_as_it_is() -> None:
    assert find_program(Task(TaskType.EXECUTABLE, "/bin/true")) == (Kind.PROGRAM, ("/bin/true",))


def run(code: str) -> Process:
    process = Process(Program(Kind.PROGRAM, (sys.executable, "-c", code)))
    process.start()
    return process


@pytest.mark.parametrize("code", [0, 7, 255])
def test_exit_codes(code: int) -> None:
    assert run(f"raise SystemExit({code})").wait() == code


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT, signal.SIGPIPE])
def test_signals(number: signal.Signals) -> None:
    process = run(
        f"import os; os.kill(os.getpid(), {int(number)})" if number != signal.SIGPIPE else PIPE
    )
    with pytest.raises(
        GuestError, match=rf"Payload exited due to signal: {int(number)} \({number.name}\)"
    ):
        process.wait()


PIPE = "import os, signal; signal.signal(signal.SIGPIPE, signal.SIG_DFL); os.kill(os.getpid(), signal.SIGPIPE)"


def test_it_waits_to_be_started(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    process = Process(Program(Kind.PROGRAM, ("/bin/sh", "-c", f"> {mark}")))
    assert not mark.exists()
    process.start()
    assert process.wait() == 0
    assert mark.exists()


def test_the_payload_has_no_descriptors_of_the_agent_and_no_capabilities(tmp_path: Path) -> None:
    output = tmp_path / "out"
    number = 200
    code = f"""
import os
with open({str(output)!r}, "w") as file:
    print({number} in map(int, os.listdir("/proc/self/fd")), open("/proc/self/status").read(), file=file)
"""
    with open("/dev/null", "rb") as null:
        os.dup2(null.fileno(), number, inheritable=True)
    try:
        assert run(code).wait() == 0
    finally:
        os.close(number)
    text = output.read_text()
    assert text.startswith("False ")
    for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert f"{kind}:\t0000000000000000" in text


def test_a_program_that_is_not_there() -> None:
    process = Process(Program(Kind.PROGRAM, ("/absent",)))
    process.start()
    assert process.wait() == 127
