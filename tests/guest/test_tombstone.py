"""Core dumps as the kernel lays them out. A real one is in test_vm.py."""

import os
import signal
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avf.guest.tombstone import (
    Crash,
    TombstoneError,
    callers,
    parse_core,
    read_notes,
    tombstone,
)

SIGINFO = struct.pack("<iiiiQ", 11, 0, 1, 0, 0xDEAD) + bytes(104)
PRSTATUS = bytes(112) + struct.pack("<27Q", *range(1, 28))


def note(kind: int, data: bytes) -> bytes:
    padded = data + bytes(-len(data) % 4)
    return struct.pack("<III", 5, len(data), kind) + b"CORE\0\0\0\0" + padded


def core(notes: bytes, gap: int = 0) -> bytes:
    header = (
        b"\x7fELF\x02\x01".ljust(32, b"\0")
        + struct.pack("<Q", 64)
        + bytes(14)
        + struct.pack("<HH", 56, 2)
        + bytes(6)
    )
    load = struct.pack("<IIQQQQQQ", 1, 0, 4096, 0, 0, 4096, 4096, 0)
    segment = struct.pack("<IIQQQQQQ", 4, 0, 64 + 112 + gap, 0, 0, len(notes), 0, 0)
    return header + load + segment + bytes(gap) + notes + bytes(4096)


def notes_of(data: bytes, tmp_path: Path) -> bytes:
    path = tmp_path / "core"
    path.write_bytes(data)
    fd = os.open(path, os.O_RDONLY)
    try:
        return read_notes(fd)
    finally:
        os.close(fd)


def test_notes_and_registers(tmp_path: Path) -> None:
    notes = note(1, PRSTATUS) + note(0x53494749, SIGINFO) + note(1, bytes(336))
    crash = parse_core(notes_of(core(notes, gap=36), tmp_path))
    assert (crash.code, crash.address) == (1, 0xDEAD)
    assert crash.registers["r15"] == 1
    assert crash.registers["rip"] == 17
    assert crash.registers["rsp"] == 20


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "cut short"),
        (b"\x7fELF\x01\x01".ljust(64, b"\0"), "64-bit"),
        (b"\x7fELF\x02\x01".ljust(64, b"\0"), "unknown way"),
        (core(note(1, PRSTATUS))[:300], "cut short"),
        (core(b"", gap=5 << 20), "out of bounds"),
    ],
)
def test_damaged_cores(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(TombstoneError, match=message):
        notes_of(data, tmp_path)


@given(st.binary(max_size=400))
def test_notes_never_crash(data: bytes) -> None:
    try:
        parse_core(data)
    except TombstoneError:
        pass


def test_text_for_a_live_process() -> None:
    """Our own entry in /proc; the program counter is put into the first mapping of the interpreter."""
    maps = Path("/proc/self/maps").read_text().splitlines()
    first = maps[0].split()
    start = int(first[0].split("-")[0], 16)
    registers = parse_core(note(1, PRSTATUS)).registers | {"rip": start + 0x10}
    crash = Crash(registers, 1, 8)
    text = tombstone("/proc/self", os.getpid(), os.getpid(), int(signal.SIGSEGV), 0, crash)
    lines = text.splitlines()
    assert lines[0].startswith("*** ***")
    assert "Timestamp: 1970-01-01 00:00:00+0000" in lines
    assert "signal 11 (SIGSEGV), code 1, fault addr 0x0000000000000008" in lines
    assert f"      #00 pc {int(first[2], 16) + 0x10:016x}  {first[-1]}" in lines
    assert any(line.startswith(f"pid: {os.getpid()}, ") and ">>> " in line for line in lines)


def test_a_process_that_is_gone() -> None:
    crash = parse_core(note(1, PRSTATUS))
    text = tombstone("/proc/0", 1, 1, 6, 0, crash)
    assert "#00 pc 0000000000000011  <unknown>" in text
    assert "signal 6 (SIGABRT), code 0, fault addr --------" in text


def test_what_a_payload_names_itself_adds_no_lines(tmp_path: Path) -> None:
    """A payload chooses its command line, its name and those of the files that it maps."""
    forged = "\nsignal 9 (SIGKILL), code 0\x1b[2J\x0b\u2028forged"
    (tmp_path / "cmdline").write_text(f"./a\0{forged}\0")
    (tmp_path / "comm").write_text(f"a{forged}\n")
    mapping = f"00000000-00002000 r-xp 00001000 00:1f 17   /data/a{forged[1:]}\n"
    (tmp_path / "maps").write_text(mapping + "7ffd")
    crash = Crash(parse_core(note(1, PRSTATUS)).registers, 1, 0)
    text = tombstone(str(tmp_path), 7, 8, signal.SIGSEGV, 0, crash)
    assert [line for line in text.splitlines() if line.startswith("signal ")] == [
        "signal 11 (SIGSEGV), code 1, fault addr 0x0000000000000000"
    ]
    assert all(line.isprintable() for line in text.splitlines())
    assert text.count("\n") == len(text.splitlines())
    assert "memory map (1 entries):" in text
    assert "#00 pc 0000000000001011  /data/a" in text


NESTED = """
#include <stdlib.h>
#include <unistd.h>
__attribute__((noinline)) void wait_inside(int (*end)(void)) { char c; write(1, "x", 1); read(0, &c, 1); end(); }
__attribute__((noinline)) void middle(int (*end)(void)) { wait_inside(end); end(); }
int main(int argc, char **argv) { middle(getpid); return getpid(); }
"""


def test_callers_on_a_real_stack(tmp_path: Path) -> None:
    """A process that waits in a system call, three functions deep, without frame pointers."""
    (tmp_path / "nested.c").write_text(NESTED)
    command = ["gcc", "-O2", "-w", "-fomit-frame-pointer", "-o", "nested", "nested.c"]
    subprocess.run(command, cwd=tmp_path, check=True)
    listed = subprocess.run(
        ["nm", "-S", tmp_path / "nested"], capture_output=True, text=True, check=True
    ).stdout
    sizes = {
        w[3]: (int(w[0], 16), int(w[1], 16))
        for w in map(str.split, listed.splitlines())
        if len(w) == 4
    }
    with subprocess.Popen(
        [tmp_path / "nested"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stdin is not None
        process.stdout.read(1)
        folder = f"/proc/{process.pid}"
        fields: list[str] = []
        while not fields[1:]:  # it is in the system call once the kernel tells its registers
            fields = Path(folder, "syscall").read_text().split()
            if fields[0] != "0":
                fields = []
        maps = Path(folder, "maps").read_text().splitlines()
        found = callers(folder, int(fields[-2], 16), maps)
        process.stdin.close()
    base = next(int(line.split("-")[0], 16) for line in maps if line.endswith("/nested"))
    names = [
        name
        for address in found
        for name, (start, size) in sizes.items()
        if start < address - base <= start + size
    ]
    assert names[:3] == ["wait_inside", "middle", "main"]


def test_callers_where_there_is_no_stack() -> None:
    maps = Path("/proc/self/maps").read_text().splitlines()
    for pointer in (0, 20, (1 << 64) - 8):
        assert callers("/proc/self", pointer, maps) == []
    assert callers("/proc/none", 0, maps) == []
