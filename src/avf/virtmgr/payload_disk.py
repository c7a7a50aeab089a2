"""The disk that carries the payload: what it is, the APK, the proof that goes with it, and the extra APKs."""

import os
from pathlib import Path

from avf.aidl.virtualizationservice import Payload
from avf.disk import MetadataPartition, Partition, PayloadConfig
from avf.virtmgr.config import DiskConfig
from avf.virtmgr.errors import VirtmgrError
from avf.virtmgr.fds import Fds
from avf.virtmgr.payload_config import VmPayloadConfig


def payload_disk(
    apk: int,
    idsig: int,
    extra_idsigs: list[int],
    payload: Payload,
    config: VmPayloadConfig,
    temporary_directory: Path,
    fds: Fds,
) -> DiskConfig:
    """Raises VirtmgrError."""
    if len(config.extra_apks) != len(extra_idsigs):
        raise VirtmgrError(
            f"payload config has {len(config.extra_apks)} apks,"
            f" but app config has {len(extra_idsigs)} idsigs"
        )
    if config.apexes:
        names = ", ".join(apex.name for apex in config.apexes)
        raise VirtmgrError(f"this host has no APEXes, and the payload config asks for {names}")
    metadata = fds.add(_write_metadata(payload, temporary_directory / "metadata"))
    partitions = [
        Partition("payload-metadata", metadata),
        Partition("microdroid-apk", apk),
        Partition("microdroid-apk-idsig", idsig),
    ]
    for i, (extra, extra_idsig) in enumerate(zip(config.extra_apks, extra_idsigs, strict=True)):
        partitions.append(Partition(f"extra-apk-{i}", _open_extra_apk(i, extra.path, fds)))
        partitions.append(Partition(f"extra-idsig-{i}", extra_idsig))
    return DiskConfig(partitions=partitions)


def _open_extra_apk(index: int, path: str, fds: Fds) -> int:
    try:
        return fds.add(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except (OSError, ValueError) as e:
        raise VirtmgrError(f"Failed to open the extra apk #{index} {path}") from e


def _write_metadata(payload: Payload, path: Path) -> int:
    if payload.which == "config_path":
        metadata = MetadataPartition(config_path=f"/mnt/apk/{payload.config_path}")
    else:
        metadata = MetadataPartition(
            config=PayloadConfig(payload.payload_config.payload_binary_name)
        )
    try:
        path.touch(mode=0o600, exist_ok=False)
        with path.open("r+b") as file:
            metadata.write(file.fileno())
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as e:
        raise VirtmgrError(f"Failed to write {path}") from e
