"""VmConfig: a raw VM described by a JSON file, as `vm run` and `microdroid.json` have it."""

import os
from pathlib import Path
from typing import Annotated, Literal, Self

import msgspec

from avf.aidl.virtualizationservice import CpuTopology
from avf.client.config import Disk, Partition, RawConfig
from avf.client.errors import ConfigError

MAX_FILE_SIZE = 1 << 20


class PartitionConfig(msgspec.Struct, frozen=True):
    label: str
    path: str
    writable: bool = False


class DiskConfig(msgspec.Struct, frozen=True):
    writable: bool
    image: str | None = None
    partitions: list[PartitionConfig] = []


class VmConfig(msgspec.Struct, frozen=True):
    """Keys that are not known are ignored. Paths are relative to `folder`, where the file lies."""

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

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Reads and checks the file. Raises ConfigError, naming the file and the field."""
        try:
            with open(path, "rb") as file:
                text = file.read(MAX_FILE_SIZE + 1)
        except OSError as error:
            raise ConfigError(f"Failed to open {os.fspath(path)}: {error.strerror}") from error
        if len(text) > MAX_FILE_SIZE:
            raise ConfigError(f"{os.fspath(path)}: longer than {MAX_FILE_SIZE} bytes")
        return cls.parse(text, os.fspath(path))

    @classmethod
    def parse(cls, text: bytes | str, source: str = "VM config") -> Self:
        """As `load`, from the text; `source` names it in errors."""
        try:
            config = msgspec.json.decode(text, type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{source}: {error}") from error
        except RecursionError as error:
            raise ConfigError(f"{source}: nested too deeply") from error
        if problem := config._problem():
            raise ConfigError(f"{source}: {problem}")
        return config

    def _problem(self) -> str | None:
        if self.kernel is None and self.bootloader is None:
            return "VM must have either a bootloader or a kernel image."
        if self.bootloader is not None and (self.kernel is not None or self.initrd is not None):
            return "Can't have both bootloader and kernel/initrd image."
        for index, disk in enumerate(self.disks):
            if (disk.image is None) == (not disk.partitions):
                return (
                    "Exactly one of image and partitions must be specified."
                    f" (Was image {disk.image!r}, {len(disk.partitions)} partitions) - at `$.disks[{index}]`"
                )
        return None

    def to_raw_config(
        self,
        folder: str | os.PathLike[str] = "",
        *,
        name: str | None = None,
        cpu_topology: CpuTopology | None = None,
        memory_mib: int | None = None,
        task_profiles: tuple[str, ...] = (),
        gdb_port: int = 0,
    ) -> RawConfig:
        """The same as a RawConfig, with paths found from `folder` and what is given taking precedence."""
        base = Path(folder)
        own_topology = CpuTopology[self.cpu_topology.upper()]
        return RawConfig(
            name=name if name is not None else self.name or "",
            kernel=_below(base, self.kernel),
            initrd=_below(base, self.initrd),
            bootloader=_below(base, self.bootloader),
            params=self.params,
            disks=tuple(_disk(base, disk) for disk in self.disks),
            protected=self.protected,
            memory_mib=memory_mib or self.memory_mib,
            cpu_topology=own_topology if cpu_topology is None else cpu_topology,
            platform_version=self.platform_version,
            task_profiles=task_profiles,
            gdb_port=gdb_port,
        )


def _below(base: Path, path: str | None) -> Path | None:
    return None if path is None else base / path


def _disk(base: Path, disk: DiskConfig) -> Disk:
    return Disk(
        image=_below(base, disk.image),
        writable=disk.writable,
        partitions=tuple(
            Partition(label=part.label, image=base / part.path, writable=part.writable)
            for part in disk.partitions
        ),
    )
