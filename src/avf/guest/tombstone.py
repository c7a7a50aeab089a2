"""Tells the host of a crash: the kernel pipes a core dump to `crash.pyc`, which sends a tombstone to host port 2000.

The text has the shape of Android's tombstones as far as the facts are known here. There is no unwinder, so the
backtrace has one frame; what on the stack looks like the place behind a call is listed after it. Nothing else of the
payload's memory is told.
"""

import os
import struct
import sys
import time

from avf.guest.files import write_text
from avf.named import NamedTuple

HOST_CID = 2
PORT = 2000

_CORE_PATTERN = "/proc/sys/kernel/core_pattern"
_CORE_PIPE_LIMIT = "/proc/sys/kernel/core_pipe_limit"
_HANDLER = "|/usr/bin/python3 -I -S /usr/lib/avf/crash.pyc %P %I %s %t"
_AT_A_TIME = "1"
"""Handlers are root's and not under the payload's limits; a process that crashes meanwhile leaves nothing."""
_TIMEOUT = 10
_MAX_NOTES = 4 << 20
_MAX_TEXT = 256 << 10
_STACK = 16 << 10
"""Bytes of the stack that are looked through for callers."""
_MAX_CALLERS = 40
_PT_NOTE = 4
_NT_PRSTATUS = 1
_NT_SIGINFO = 0x53494749
_REGISTERS_OFFSET = 112
# fmt: off
_REGISTERS = (
    "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi", "orig_rax",
    "rip", "cs", "eflags", "rsp", "ss",
)
_SHOWN = (
    "rax", "rbx", "rcx", "rdx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "rdi", "rsi", "rbp", "rsp", "rip",
    "eflags",
)
# fmt: on
_STARS = "*** *** *** *** *** *** *** *** *** *** *** *** *** *** *** ***"


class TombstoneError(Exception):
    """The core dump is not one of a 64-bit x86 process."""


class Crash(NamedTuple):
    """What a core dump's notes tell."""

    registers: dict[str, int]
    code: int
    address: int


def enable() -> None:
    """From now on processes that crash leave a tombstone. Raises OSError."""
    for path, value in ((_CORE_PIPE_LIMIT, _AT_A_TIME), (_CORE_PATTERN, _HANDLER)):
        write_text(path, value)


def handle(arguments: list[str]) -> int:
    """The program behind core_pattern: pid, thread, signal and time, the core dump on stdin."""
    pid, thread, number, when = (int(argument) for argument in arguments)
    crash = parse_core(read_notes(sys.stdin.buffer.fileno()))
    send(tombstone(f"/proc/{pid}", pid, thread, number, when, crash))
    return 0


def send(text: str) -> None:
    """One connection per tombstone. Raises OSError."""
    import socket

    with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as host:
        host.settimeout(_TIMEOUT)
        host.connect((HOST_CID, PORT))
        host.sendall(text.encode("utf-8", "backslashreplace")[:_MAX_TEXT])
        host.shutdown(socket.SHUT_WR)


def tombstone(process: str, pid: int, thread: int, number: int, when: int, crash: Crash) -> str:
    """`process` is its directory in /proc, which still is there while the core is being written."""
    import signal

    name = signal.Signals(number).name if number in signal.Signals.__members__.values() else "?"
    command = _one_line(_read(f"{process}/cmdline").replace("\0", " ").strip())
    thread_name = _one_line(_read(f"{process}/comm").rstrip("\n"))
    maps = _read_maps(f"{process}/maps")
    address = f"0x{crash.address:016x}" if number in (4, 5, 7, 8, 11) else "--------"
    lines = [
        _STARS,
        f"Build fingerprint: 'avf-linux/{os.uname().release}'",
        "ABI: 'x86_64'",
        f"Timestamp: {time.strftime('%Y-%m-%d %H:%M:%S+0000', time.gmtime(when))}",
        f"pid: {pid}, tid: {thread}, name: {thread_name}  >>> {command} <<<",
        f"signal {number} ({name}), code {crash.code}, fault addr {address}",
        *_register_lines(crash.registers),
        "",
        "backtrace:",
        f"      #00 {_place(crash.registers.get('rip', 0), maps)}",
        *_caller_lines(callers(process, crash.registers.get("rsp", 0), maps), maps),
        "",
        f"memory map ({len(maps)} entries):",
        *(f"    {line}" for line in maps),
    ]
    return "\n".join(lines) + "\n"


def callers(process: str, stack_pointer: int, maps: list[str]) -> list[int]:
    """Addresses on the stack, the top first, that are behind a call in executable memory.

    Among them are those of earlier calls, and those of callers that a tail call left out are not.
    """
    executable = [bounds for line in maps if (bounds := _executable(line))]
    found: list[int] = []
    try:
        fd = os.open(f"{process}/mem", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        stack = os.pread(fd, _STACK, stack_pointer)
        for (word,) in struct.iter_unpack("<Q", stack[: len(stack) // 8 * 8]):
            if any(start < word < end for start, end in executable) and _is_behind_call(fd, word):
                found.append(word)
                if len(found) == _MAX_CALLERS:
                    break
    except (OSError, OverflowError):
        pass  # what can be read has been
    finally:
        os.close(fd)
    return found


def _executable(line: str) -> tuple[int, int] | None:
    """Start and end of a mapping of a file that can be executed."""
    fields = line.split(None, 5)
    if len(fields) < 6 or "x" not in fields[1] or not fields[5].startswith("/"):
        return None
    start, _, end = fields[0].partition("-")
    return int(start, 16), int(end, 16)


def _is_behind_call(fd: int, address: int) -> bool:
    """Whether one of x86's call instructions ends there: E8 with 4 bytes, or FF /2 with 2 to 7 bytes in all."""
    code = os.pread(fd, 7, address - 7)
    if len(code) < 7:
        return False
    return code[2] == 0xE8 or any(
        code[-size] == 0xFF and code[-size + 1] >> 3 & 7 == 2 for size in (2, 3, 4, 6, 7)
    )


def _caller_lines(addresses: list[int], maps: list[str]) -> list[str]:
    if not addresses:
        return []
    frames = [
        f"      #{number:02} {_place(address, maps)}" for number, address in enumerate(addresses, 1)
    ]
    return ["", "callers on the stack (some may be left from earlier calls):", *frames]


def read_notes(fd: int) -> bytes:
    """The note segment of a core dump that can only be read from front to back. Raises TombstoneError."""
    header = _read_exactly(fd, 64)
    if header[:6] != b"\x7fELF\x02\x01":
        raise TombstoneError("not a 64-bit little-endian core dump")
    (table,) = struct.unpack_from("<Q", header, 32)
    size, count = struct.unpack_from("<HH", header, 54)
    if table != 64 or size != 56:
        raise TombstoneError("a core dump laid out in an unknown way")
    headers = _read_exactly(fd, size * count)
    for index in range(count):
        kind, _, offset, _, _, length = struct.unpack_from("<IIQQQQ", headers, index * size)
        if kind == _PT_NOTE:
            gap = offset - 64 - len(headers)
            if not 0 <= gap <= _MAX_NOTES or length > _MAX_NOTES:
                raise TombstoneError("the notes of a core dump are out of bounds")
            _read_exactly(fd, gap)
            return _read_exactly(fd, length)
    raise TombstoneError("a core dump without notes")


def parse_core(notes: bytes) -> Crash:
    """The first thread in a core dump is the one that crashed. Raises TombstoneError."""
    registers: dict[str, int] = {}
    code = address = 0
    position = 0
    while position + 12 <= len(notes):
        name_size, size, kind = struct.unpack_from("<III", notes, position)
        start = position + 12 + (name_size + 3) // 4 * 4
        data = notes[start : start + size]
        position = start + (size + 3) // 4 * 4
        if (
            kind == _NT_PRSTATUS
            and not registers
            and len(data) >= _REGISTERS_OFFSET + 8 * len(_REGISTERS)
        ):
            values = struct.unpack_from(f"<{len(_REGISTERS)}Q", data, _REGISTERS_OFFSET)
            registers = dict(zip(_REGISTERS, values, strict=True))
        elif kind == _NT_SIGINFO and len(data) >= 24:
            code, address = struct.unpack_from("<i4xQ", data, 8)
    if not registers:
        raise TombstoneError("a core dump without registers")
    return Crash(registers, code, address)


def _register_lines(registers: dict[str, int]) -> list[str]:
    texts = [f"{name:<6} {registers[name]:016x}" for name in _SHOWN]
    return ["    " + "  ".join(texts[start : start + 4]) for start in range(0, len(texts), 4)]


def _place(address: int, maps: list[str]) -> str:
    """`pc OFFSET  FILE` for an address in a mapping, as tombstones have it."""
    for line in maps:
        fields = line.split(None, 5)
        try:
            start, end = (int(number, 16) for number in fields[0].split("-"))
            begin = int(fields[2], 16)
        except (ValueError, IndexError):
            continue
        if start <= address < end:
            name = fields[5] if len(fields) > 5 else "<anonymous>"
            return f"pc {address - start + begin:016x}  {name}"
    return f"pc {address:016x}  <unknown>"


def _read_maps(path: str) -> list[str]:
    """The mappings, a last one that is cut short left out. File names are the payload's: control codes are escaped."""
    whole_lines, _, _ = _read(path).rpartition("\n")
    return [_one_line(line) for line in whole_lines.split("\n") if line]


def _one_line(text: str) -> str:
    """`text` with what is not printable as escapes, so that a payload cannot write lines of its own."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else ascii(character)[1:-1] for character in text
    )


def _read(path: str) -> str:
    """A file of /proc; empty if the process is gone already."""
    try:
        with open(path, encoding="utf-8", errors="backslashreplace") as file:
            return file.read(_MAX_TEXT)
    except OSError:
        return ""


def _read_exactly(fd: int, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = os.read(fd, min(size - len(data), 1 << 16))
        if not piece:
            raise TombstoneError("a core dump is cut short")
        data += piece
    return bytes(data)
