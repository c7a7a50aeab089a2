from pathlib import Path

import pytest

from avf.guest.config import Task, TaskType
from avf.guest.errors import GuestError
from avf.guest.task import Kind, Program, find_program


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
