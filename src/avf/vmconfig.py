"""VmConfig: a VM described by a JSON file, as `vm run` takes it and as the guest image carries it (`microdroid.json`).

Keys that are not known are ignored. Those of `"x-avf"` are ours: `"machine": "fast"` runs the guest on the VMM's
quickest board; `"templates": 2` says that it can be a template, by version 2 of what it and its host then tell each
other; `"forks": 1` that it can be copied while it runs, by version 1 of what they tell each other then;
`"debuggable_params"` are added to `params` where the file is a guest image's and the VM is debuggable.
"""

import os
from typing import Annotated, Literal, Self

import msgspec

from avf.decoding import in_words
from avf.reading import read_file

MAX_FILE_SIZE = 1 << 20


class VmConfigError(ValueError):
    """The file cannot be used; the message names the file and the field."""


class PartitionConfig(msgspec.Struct, frozen=True):
    label: str
    path: str
    writable: bool = False


class DiskConfig(msgspec.Struct, frozen=True):
    writable: bool
    image: str | None = None
    partitions: list[PartitionConfig] = []


class Extension(msgspec.Struct, frozen=True):
    machine: Literal["pci", "fast"] = "pci"
    debuggable_params: str = ""
    templates: int = 0
    forks: int = 0


class VmConfig(msgspec.Struct, frozen=True):
    """The file's content. Paths are as written: relative ones count from the file's folder."""

    platform_version: str
    name: str | None = None
    kernel: str | None = None
    initrd: str | None = None
    bootloader: str | None = None
    params: str | None = None
    disks: list[DiskConfig] = []
    protected: bool = False
    memory_mib: Annotated[int, msgspec.Meta(ge=1, lt=1 << 31)] | None = None
    cpu_topology: Literal["one_cpu", "match_host"] = "one_cpu"
    x_avf: Extension = msgspec.field(name="x-avf", default=Extension())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Reads and checks the file. Raises VmConfigError."""
        try:
            text = read_file(path, MAX_FILE_SIZE + 1)
        except OSError as e:
            raise VmConfigError(f"Failed to open {os.fspath(path)}: {e.strerror}") from e
        if len(text) > MAX_FILE_SIZE:
            raise VmConfigError(f"{os.fspath(path)}: longer than {MAX_FILE_SIZE} bytes")
        return cls.parse(text, os.fspath(path))

    @classmethod
    def parse(cls, text: bytes | str, source: str = "VM config") -> Self:
        """As `load`, from the text; `source` names it in errors."""
        try:
            config = msgspec.json.decode(text, type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
            raise VmConfigError(f"{source}: {in_words(e)}") from None
        if problem := config._problem():
            raise VmConfigError(f"{source}: {problem}")
        return config

    def _problem(self) -> str | None:
        if self.kernel is None and self.bootloader is None:
            return "VM must have either a bootloader or a kernel image."
        if self.bootloader is not None and (self.kernel is not None or self.initrd is not None):
            return "Can't have both bootloader and kernel/initrd image."
        for index, disk in enumerate(self.disks):
            if (disk.image is None) == (not disk.partitions):
                return (
                    f"disks[{index}]: Exactly one of image and partitions must be specified."
                    f" (Was image {disk.image!r}, {len(disk.partitions)} partitions)"
                )
        return None
