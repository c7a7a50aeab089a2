"""A RawConfig from the JSON file that `vm run` takes."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from avf.aidl.virtualizationservice import CpuTopology
from avf.client.config import Disk, Partition, RawConfig
from avf.client.errors import ConfigError

if TYPE_CHECKING:
    from avf.vmconfig import DiskConfig


def load_raw_config(path: str | os.PathLike[str]) -> RawConfig:
    """Reads the file; relative paths in it count from its folder. Raises ConfigError, naming file and field."""
    from avf.vmconfig import VmConfig, VmConfigError

    try:
        config = VmConfig.load(path)
    except VmConfigError as error:
        raise ConfigError(str(error)) from error
    base = Path(path).parent
    return RawConfig(
        name=config.name or "",
        kernel=_below(base, config.kernel),
        initrd=_below(base, config.initrd),
        bootloader=_below(base, config.bootloader),
        params=config.params,
        disks=tuple(_disk(base, disk) for disk in config.disks),
        protected=config.protected,
        memory_mib=config.memory_mib,
        cpu_topology=CpuTopology[config.cpu_topology.upper()],
        platform_version=config.platform_version,
    )


def _below(base: Path, path: str | None) -> Path | None:
    return None if path is None else base / path


def _disk(base: Path, disk: "DiskConfig") -> Disk:
    return Disk(
        image=_below(base, disk.image),
        writable=disk.writable,
        partitions=tuple(
            Partition(label=part.label, image=base / part.path, writable=part.writable)
            for part in disk.partitions
        ),
    )
