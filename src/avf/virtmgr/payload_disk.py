"""The disk that carries the payload: what it is, the APK, the proof that goes with it, and the extra APKs."""

import fcntl
import os
from dataclasses import replace

from avf.aidl.virtualizationservice import VirtualMachineAppConfig
from avf.apk import ApkError, verify
from avf.disk import ApexPayload, MetadataPartition, Partition, PayloadConfig
from avf.virtmgr.apexes import ApexInfo, select_apexes
from avf.virtmgr.config import DiskConfig
from avf.virtmgr.errors import VirtmgrError
from avf.virtmgr.fds import Fds
from avf.virtmgr.invocation import Invocation
from avf.virtmgr.opening import open_regular
from avf.virtmgr.payload_config import VmPayloadConfig

_SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL


def payload_disk(
    apk: int,
    idsig: int,
    extra_idsigs: list[int],
    payload: VirtualMachineAppConfig.Payload,
    config: VmPayloadConfig,
    fds: Fds,
    *,
    debuggable: bool,
    invocation: Invocation | None = None,
    forkable: bool = False,
) -> DiskConfig:
    """Raises VirtmgrError, or RemoteException for bad descriptors."""
    extra_apks = _extra_apks(payload, config, len(extra_idsigs), fds)
    apexes = select_apexes(
        [apex.name for apex in config.apexes],
        debuggable=debuggable,
        with_staged=config.prefer_staged,
    )
    metadata = _metadata(payload, apexes, invocation or Invocation(), fds, forkable)
    partitions = [
        Partition("payload-metadata", metadata),
        *(Partition(_apex_label(i), _open_apex(apex, fds)) for i, apex in enumerate(apexes)),
        Partition("microdroid-apk", apk),
        Partition("microdroid-apk-idsig", idsig),
    ]
    for i, (extra, extra_idsig) in enumerate(zip(extra_apks, extra_idsigs, strict=True)):
        partitions.append(Partition(f"extra-apk-{i}", extra))
        partitions.append(Partition(f"extra-idsig-{i}", extra_idsig))
    return DiskConfig(partitions=partitions)


def _extra_apks(
    payload: VirtualMachineAppConfig.Payload, config: VmPayloadConfig, idsigs: int, fds: Fds
) -> list[int]:
    """Those that were handed over, or those that the configuration file names by path, verified."""
    given = [] if payload.which == "config_path" else payload.payload_config.extra_apks
    if (count := len(config.extra_apks) or len(given)) != idsigs:
        raise VirtmgrError(f"payload config has {count} apks, but app config has {idsigs} idsigs")
    handed_over = [
        _verified(fds.clone_file(file, f"payloadConfig.extraApks[{i}]"), f"the extra apk #{i}")
        for i, file in enumerate(given)
    ]
    return handed_over + [
        _open_extra_apk(i, extra.path, fds) for i, extra in enumerate(config.extra_apks)
    ]


def _open_extra_apk(index: int, path: str, fds: Fds) -> int:
    what = f"the extra apk #{index}"
    return _verified(fds.add(open_regular(path, what)), f"{what} {path}")


def _verified(fd: int, what: str) -> int:
    """The guest reads what it gets: a file of its owner's that is no signed APK is none of its business."""
    try:
        verify(fd, allow_v2=True)
    except (ApkError, OSError) as e:
        raise VirtmgrError(f"Failed to verify {what}") from e
    return fd


def _apex_label(index: int) -> str:
    return f"microdroid-apex-{index}"


def _open_apex(apex: ApexInfo, fds: Fds) -> int:
    return fds.add(open_regular(apex.path, f"the APEX {apex.name}"))


def _metadata(
    payload: VirtualMachineAppConfig.Payload,
    apexes: list[ApexInfo],
    invocation: Invocation,
    fds: Fds,
    forkable: bool,
) -> int:
    """The partition, as a file in memory that cannot be changed."""
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
        binary = payload.payload_config
        config = PayloadConfig(binary.payload_binary_name, len(binary.extra_apks))
        metadata = MetadataPartition(apexes=payloads, config=config)
    metadata = replace(
        metadata,
        arguments=invocation.arguments,
        environment=tuple(invocation.environment.items()),
        forkable=forkable,
        errors_apart=invocation.stderr_fd is not None,
    )
    try:
        fd = fds.add(os.memfd_create("avf-metadata", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING))
        metadata.write(fd)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except OSError as e:
        raise VirtmgrError("Failed to write the payload's metadata") from e
    return fd
