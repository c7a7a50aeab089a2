"""The disk that carries the payload: what it is, the APK, the proof that goes with it, and the extra APKs."""

import os
from pathlib import Path

from avf.aidl.virtualizationservice import Payload
from avf.apk import ApkError, verify
from avf.disk import ApexPayload, MetadataPartition, Partition, PayloadConfig
from avf.virtmgr.apexes import ApexInfo, select_apexes
from avf.virtmgr.config import DiskConfig
from avf.virtmgr.errors import VirtmgrError
from avf.virtmgr.fds import Fds
from avf.virtmgr.opening import open_regular
from avf.virtmgr.payload_config import VmPayloadConfig


def payload_disk(
    apk: int,
    idsig: int,
    extra_idsigs: list[int],
    payload: Payload,
    config: VmPayloadConfig,
    temporary_directory: Path,
    fds: Fds,
    *,
    debuggable: bool,
) -> DiskConfig:
    """Raises VirtmgrError."""
    if len(config.extra_apks) != len(extra_idsigs):
        raise VirtmgrError(
            f"payload config has {len(config.extra_apks)} apks,"
            f" but app config has {len(extra_idsigs)} idsigs"
        )
    apexes = select_apexes(
        [apex.name for apex in config.apexes],
        debuggable=debuggable,
        with_staged=config.prefer_staged,
    )
    metadata = fds.add(_write_metadata(payload, apexes, temporary_directory / "metadata"))
    partitions = [
        Partition("payload-metadata", metadata),
        *(Partition(_apex_label(i), _open_apex(apex, fds)) for i, apex in enumerate(apexes)),
        Partition("microdroid-apk", apk),
        Partition("microdroid-apk-idsig", idsig),
    ]
    for i, (extra, extra_idsig) in enumerate(zip(config.extra_apks, extra_idsigs, strict=True)):
        partitions.append(Partition(f"extra-apk-{i}", _open_extra_apk(i, extra.path, fds)))
        partitions.append(Partition(f"extra-idsig-{i}", extra_idsig))
    return DiskConfig(partitions=partitions)


def _open_extra_apk(index: int, path: str, fds: Fds) -> int:
    """The guest reads what it gets: a file of its owner's that is no signed APK is none of its business."""
    what = f"the extra apk #{index}"
    fd = fds.add(open_regular(path, what))
    try:
        verify(fd, allow_v2=True)
    except (ApkError, OSError) as e:
        raise VirtmgrError(f"Failed to verify {what} {path}") from e
    return fd


def _apex_label(index: int) -> str:
    return f"microdroid-apex-{index}"


def _open_apex(apex: ApexInfo, fds: Fds) -> int:
    return fds.add(open_regular(apex.path, f"the APEX {apex.name}"))


def _write_metadata(payload: Payload, apexes: list[ApexInfo], path: Path) -> int:
    payloads = tuple(
        ApexPayload(
            apex.name,
            _apex_label(i),
            last_update_seconds=apex.last_update_seconds,
            is_factory=apex.is_factory,
        )
        for i, apex in enumerate(apexes)
    )
    if payload.which == "config_path":
        metadata = MetadataPartition(apexes=payloads, config_path=f"/mnt/apk/{payload.config_path}")
    else:
        metadata = MetadataPartition(
            apexes=payloads, config=PayloadConfig(payload.payload_config.payload_binary_name)
        )
    try:
        path.touch(mode=0o600, exist_ok=False)
        with path.open("r+b") as file:
            metadata.write(file.fileno())
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as e:
        raise VirtmgrError(f"Failed to write {path}") from e
