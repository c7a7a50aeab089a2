"""Kernel modules: which file is which, what each needs, and the order in which to load them.

Distribution packages carry no modules.dep (depmod runs at installation), so dependencies are read where depmod reads
them: from the `.modinfo` section of each module.
"""

import struct
from collections.abc import Iterable
from pathlib import Path

from avf.image.errors import KernelError
from avf.image.unpack import unpack

_SUFFIXES = (".ko", ".ko.xz", ".ko.zst")
_KINDS = {".xz": "xz", ".zst": "zst"}
_MAX_MODULE = 64 << 20
_MAX_MODINFO = 1 << 20
_MAX_CHAIN = 64
"""Modules that need one another."""
_SIGNATURE_MAGIC = b"~Module signature appended~\n"
_SIGNATURE_SIZE = 12
_SECTION_HEADER_SIZE = 64


def read_module(path: Path) -> bytes:
    """A module's ELF image, decompressed if need be. Raises KernelError."""
    kind = _KINDS.get(path.suffix, "tar")
    try:
        with path.open("rb") as file:
            return unpack(kind, file, _MAX_MODULE)
    except ValueError as error:
        raise KernelError(f"{path}: damaged module: {error}") from error


def without_signature(image: bytes) -> bytes:
    """The module without the signature appended to it: nothing checks it in the guest but the time it takes.

    Source: struct module_signature in include/linux/module_signature.h; the u32 big-endian length is its last field.
    """
    if not image.endswith(_SIGNATURE_MAGIC):
        return image
    end = len(image) - len(_SIGNATURE_MAGIC)
    length = int.from_bytes(image[end - 4 : end], "big")
    if end - _SIGNATURE_SIZE - length <= 0:
        raise KernelError("a module's signature is longer than the module")
    return image[: end - _SIGNATURE_SIZE - length]


_LEFT_OUT = (b".BTF", b"__mcount_loc", b".static_call_sites")
"""Sections that only cost time when a module is loaded. They are of use to

* programs for BPF: for the first module that has this one, the kernel reads all of its own, too
* the tracing of functions: the kernel looks up the name of each
* calls that the kernel changes to go straight where a jump leads them: for each it loads other page tables six times
"""


def without_unused_sections(image: bytes) -> bytes:
    """The module without what only costs time when it is loaded. Raises KernelError."""
    changed = bytearray(image)
    try:
        table, size, _ = _section_table(image)
        headers, (names, _) = _section_headers(image)
        for index, (name, _, _) in enumerate(headers):
            if any(image.startswith(left_out + b"\0", names + name) for left_out in _LEFT_OUT):
                at = table + index * size
                changed[at : at + 16] = bytes(16)  # no name, SHT_NULL, no flags
    except (struct.error, IndexError, ValueError) as error:
        raise KernelError(f"not a 64-bit ELF module: {error}") from error
    return bytes(changed)


def module_name(path: Path | str) -> str:
    """`kernel/drivers/md/dm-verity.ko.xz` is the module dm_verity."""
    return Path(path).name.partition(".ko")[0].replace("-", "_")


class ModuleTree:
    """The modules below `lib/modules/RELEASE`."""

    def __init__(self, directory: Path) -> None:
        self._paths = {
            module_name(path): path
            for path in sorted(directory.rglob("*.ko*"))
            if path.name.endswith(_SUFFIXES)
        }
        builtin = directory / "modules.builtin"
        lines = builtin.read_text(errors="replace").split() if builtin.exists() else []
        self._builtin = {module_name(line) for line in lines}

    def __contains__(self, name: str) -> bool:
        return name.replace("-", "_") in self._paths or name.replace("-", "_") in self._builtin

    def closure(self, names: Iterable[str]) -> list[Path]:
        """`names` and all they need in load order; what the kernel has built in is left out.

        Raises KernelError for a module that neither is there nor built in.
        """
        ordered: dict[str, Path] = {}
        for name in names:
            self._visit(name.replace("-", "_"), ordered, ())
        return list(ordered.values())

    def _visit(self, name: str, ordered: dict[str, Path], above: tuple[str, ...]) -> None:
        if name in ordered or name in self._builtin:
            return
        if name in above:
            raise KernelError(f"modules need each other: {' -> '.join([*above, name])}")
        if len(above) == _MAX_CHAIN:
            raise KernelError(
                f"more than {_MAX_CHAIN} modules need each other: {above[0]} to {name}"
            )
        path = self._paths.get(name)
        if path is None:
            needed = f" (needed by {above[-1]})" if above else ""
            raise KernelError(f"no kernel module {name}{needed}")
        required, wished = _requirements(path)
        for dependency in required:
            self._visit(dependency, ordered, (*above, name))
        for dependency in wished:
            if dependency in self._paths:
                self._visit(dependency, ordered, (*above, name))
        ordered[name] = path


def _requirements(path: Path) -> tuple[list[str], list[str]]:
    """What a module cannot be loaded without, and what its `softdep` line asks to be loaded before."""
    required: list[str] = []
    wished: list[str] = []
    for line in modinfo(read_module(path), str(path)):
        key, _, value = line.partition("=")
        if key == "depends":
            required += [name.replace("-", "_") for name in value.split(",") if name]
        elif key == "softdep" and value.startswith("pre:"):
            before = value.removeprefix("pre:").partition("post:")[0]
            wished += [name.replace("-", "_") for name in before.split()]
    return required, wished


def modinfo(image: bytes, name: str = "module") -> list[str]:
    """The `key=value` strings of a 64-bit little-endian module's .modinfo section. Raises KernelError."""
    try:
        section = _elf_section(image, b".modinfo")
    except (struct.error, IndexError, ValueError) as error:
        raise KernelError(f"{name}: not a 64-bit ELF module: {error}") from error
    if len(section) > _MAX_MODINFO:
        raise KernelError(f"{name}: a .modinfo section of {len(section)} bytes")
    return [text.decode("utf-8", "replace") for text in section.split(b"\0") if text]


def _elf_section(image: bytes, wanted: bytes) -> bytes:
    headers, (names_offset, names_size) = _section_headers(image)
    names = image[names_offset : names_offset + names_size]
    for name_offset, offset, length in headers:
        if names.startswith(wanted + b"\0", name_offset):
            return image[offset : offset + length]
    raise ValueError(f"no {wanted.decode()} section")


def _section_table(image: bytes) -> tuple[int, int, int]:
    """Offset, size of a header, number of headers."""
    if image[:6] != b"\x7fELF\x02\x01":
        raise ValueError("no ELF64 little-endian header")
    (table,) = struct.unpack_from("<Q", image, 0x28)
    size, count = struct.unpack_from("<HH", image, 0x3A)
    if size < _SECTION_HEADER_SIZE or table + count * size > len(image):
        raise ValueError("section headers outside of the file")
    return table, size, count


def _section_headers(image: bytes) -> tuple[list[tuple[int, int, int]], tuple[int, int]]:
    """(offset of the name, offset, size) of each section, and (offset, size) of the section that holds the names."""
    table, size, count = _section_table(image)
    (names_index,) = struct.unpack_from("<H", image, 0x3E)
    headers = [struct.unpack_from("<I20xQQ", image, table + index * size) for index in range(count)]
    return headers, headers[names_index][1:]
