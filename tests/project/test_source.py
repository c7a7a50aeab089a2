"""Which kind of payload a file is, and what is said of one that is none."""

import os
import struct
from pathlib import Path

import pytest

from avf.project import ProjectError, SourceKind, kind_of


def elf(*, bits: int = 2, kind: int = 3, machine: int = 62) -> bytes:
    return struct.pack("<4sBB10xHH", b"\x7fELF", bits, 1, kind, machine).ljust(64, b"\0")


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("a.apk", b"PK\x03\x04", SourceKind.APK),
        ("a.zip", b"PK\x05\x06", SourceKind.APK),
        ("broken.apk", b"whatever", SourceKind.APK),
        ("a.py", b"print()", SourceKind.PYTHON),
        ("empty.py", b"", SourceKind.PYTHON),
        ("a.py", b"#!/bin/sh\n", SourceKind.PYTHON),
        ("a", b"#!/bin/sh\n", SourceKind.SCRIPT),
        ("a.c", b"int x;", SourceKind.C),
        ("a", elf(), SourceKind.PROGRAM),
        ("a", elf(kind=2), SourceKind.PROGRAM),
        ("a.so", elf(), SourceKind.LIBRARY),
    ],
)
def test_kinds(tmp_path: Path, name: str, content: bytes, kind: SourceKind) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert kind_of(path) is kind
    assert kind_of(tmp_path) is SourceKind.FOLDER


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", b"some words", "it is text without a #! line"),
        ("a", b"", "it is empty"),
        ("vm.json", b' {"kernel": 1}', "`vm run` takes the JSON description"),
        ("a.bin", b"\xff\xfe\x00\x01" * 100, "binary data of another kind"),
        ("a", elf(machine=183), "64-bit aarch64 program"),
        ("a", elf(bits=1, machine=3), "32-bit x86 program"),
        ("a", elf(machine=999), "64-bit machine 999 program"),
        ("a.o", elf(kind=1), "an object file"),
        ("core", elf(kind=4), "a core dump"),
        ("a", b"\x7fELF\x02", "damaged ELF"),
    ],
)
def test_what_is_no_payload(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ProjectError) as error:
        kind_of(path)
    assert str(path) in str(error.value)
    assert said in str(error.value)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ProjectError, match="neither a file nor a folder"):
        kind_of(tmp_path / "fifo")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="No such file"):
        kind_of(tmp_path / "none.py")
