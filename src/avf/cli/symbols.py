"""Names for the frames of a tombstone: function and offset and, where there is DWARF, file and line.

The files come from the user (an APK, an ELF file, a folder of them); the tombstone, which is a guest's word, only says
which of them to look at.
"""

import io
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from avf.cli.text import CliError

APK_FOLDER = "/mnt/apk/"
MAX_FILE = 256 << 20
"""Bytes of a file that are read to look for symbols."""
_FRAME = re.compile(r"( +#\d{2,4} pc )([0-9a-f]{16})(  )(/[^\n]{1,4096}?)(?: \(deleted\))?")
_ZIP_MAGIC = b"PK\x03\x04"
_ELF_MAGIC = b"\x7fELF"


class Symbols:
    """Finds the ELF file that a frame is in, and what its symbols say. Files are read once."""

    def __init__(self, sources: Sequence[Path]) -> None:
        """Raises CliError if a source is neither an APK, an ELF file nor a folder."""
        self._finders = [_finder(source) for source in sources]
        self._files: dict[str, list[ElfSymbols]] = {}

    def named(self, line: str) -> str:
        """The line of a tombstone, with what is known of its frame at its end, if it is one."""
        frame = _FRAME.fullmatch(line)
        if frame is None:
            return line
        offset, path = int(frame[2], 16), frame[4]
        for file in self._in(path):
            name = file.name_at(offset, is_return=" #00 " not in line)
            if name is not None:
                return f"{line} {name}"
        return line

    def _in(self, path: str) -> list["ElfSymbols"]:
        if path not in self._files:
            self._files[path] = [found for find in self._finders if (found := find(path))]
        return self._files[path]


class ElfSymbols:
    """One ELF file."""

    def __init__(self, file: IO[bytes]) -> None:
        """Raises ELFError of pyelftools."""
        from elftools.elf.elffile import ELFFile

        self._elf: Any = ELFFile(file)
        self._functions: list[tuple[int, int, str]] | None = None

    def name_at(self, offset: int, *, is_return: bool) -> str | None:
        """`(function+N) file:line` for an offset in the file; None if nothing is known of it.

        `is_return`: it is where a call returns to, which may be behind the end of its function.
        """
        try:
            address = self._address(offset)
            if address is None:
                return None
            asked = address - 1 if is_return else address
            function = self._function(asked)
            place = self._line(asked)
        except Exception:  # noqa: BLE001 - a damaged file may raise anything
            return None
        if function is None:
            return place
        start, name = function
        text = f"({name}+{address - start})"
        return text if place is None else f"{text} {place}"

    def _address(self, offset: int) -> int | None:
        """The address in the file's own terms: a tombstone counts from the beginning of the file."""
        for segment in self._elf.iter_segments("PT_LOAD"):
            start = segment["p_offset"]
            if start <= offset < start + segment["p_filesz"]:
                return int(offset - start + segment["p_vaddr"])
        return None

    def _function(self, address: int) -> tuple[int, str] | None:
        """Start and name of the function an address is in."""
        if self._functions is None:
            self._functions = sorted(self._read_functions())
        import bisect

        index = bisect.bisect_right(self._functions, (address, 1 << 64, "")) - 1
        if index < 0:
            return None
        start, size, name = self._functions[index]
        return (start, name) if address < start + max(size, 1) else None

    def _read_functions(self) -> Iterator[tuple[int, int, str]]:
        for name in (".symtab", ".dynsym"):
            section = self._elf.get_section_by_name(name)
            if section is None:
                continue
            for symbol in section.iter_symbols():
                kind = symbol["st_info"]["type"]
                if kind in ("STT_FUNC", "STT_GNU_IFUNC") and symbol["st_shndx"] != "SHN_UNDEF":
                    yield symbol["st_value"], symbol["st_size"], symbol.name
            return

    def _line(self, address: int) -> str | None:
        """`file:line`, from DWARF."""
        if not self._elf.has_dwarf_info():
            return None
        dwarf = self._elf.get_dwarf_info()
        for unit in dwarf.iter_CUs():
            program = dwarf.line_program_for_CU(unit)
            if program is not None and (found := _line_in(program, address)):
                return found
        return None


def _line_in(program: Any, address: int) -> str | None:
    before = None
    for entry in program.get_entries():
        state = entry.state
        if state is None:
            continue
        if before is not None and before.address <= address < state.address:
            file = _file_name(program, before.file)
            return f"{file}:{before.line}" if file and before.line else None
        before = None if state.end_sequence else state
    return None


def _file_name(program: Any, index: int) -> str | None:
    entries = program["file_entry"]
    if program.header.version < 5:
        index -= 1  # counted from 1 there
    if not 0 <= index < len(entries):
        return None
    name: str = entries[index].name.decode(errors="replace")
    return name


def _finder(source: Path) -> Callable[[str], ElfSymbols | None]:
    """What finds the ELF file for a path inside the guest."""
    if source.is_dir():
        return lambda path: _in_folder(source, path)
    try:
        with source.open("rb") as file:
            head = file.read(4)
    except OSError as error:
        raise CliError(f"cannot read {source}") from error
    if head == _ZIP_MAGIC:
        return lambda path: _in_apk(source, path)
    if head == _ELF_MAGIC:
        return lambda path: _same_name(source, path)
    raise CliError(f"{source} is neither an APK, an ELF file nor a folder")


def _in_apk(apk: Path, path: str) -> ElfSymbols | None:
    if not path.startswith(APK_FOLDER):
        return None
    try:
        with zipfile.ZipFile(apk) as archive:
            entry = archive.getinfo(path.removeprefix(APK_FOLDER))
            with archive.open(entry) as file:
                data = file.read(MAX_FILE)
    except (KeyError, OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError):
        return None
    return _parse(data)


def _in_folder(folder: Path, path: str) -> ElfSymbols | None:
    """By the path in the APK or in the guest, or by the name alone; nothing outside of the folder."""
    parts = [part for part in path.split("/") if part]
    if ".." in parts:
        return None
    inside = path.removeprefix(APK_FOLDER).lstrip("/")
    for candidate in (folder / inside, folder.joinpath(*parts), folder / parts[-1]):
        if candidate.is_file():
            return _read(candidate)
    return None


def _same_name(file: Path, path: str) -> ElfSymbols | None:
    """The name may have `.debug` or the like behind it."""
    name = path.rpartition("/")[2]
    if file.name != name and not file.name.startswith(f"{name}."):
        return None
    return _read(file)


def _read(path: Path) -> ElfSymbols | None:
    try:
        with path.open("rb") as file:
            return _parse(file.read(MAX_FILE))
    except OSError:
        return None


def _parse(data: bytes) -> ElfSymbols | None:
    try:
        return ElfSymbols(io.BytesIO(data))
    except Exception:  # noqa: BLE001 - a damaged file may raise anything
        return None
