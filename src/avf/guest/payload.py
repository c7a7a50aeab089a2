"""Verifies the payload's APKs and makes their contents readable."""

import os
from collections.abc import Sequence

from avf.apk import ApkError, Capability, EntryError, Idsig, VerifiedApk, read_package, verify
from avf.guest import libc, partitions
from avf.guest.apk_mount import Apk, mount
from avf.guest.errors import GuestError, PayloadVerificationFailed
from avf.guest.identity import ApkData, FormerKey, FoundApk, key_digest
from avf.guest.metadata import Metadata
from avf.guest.report import log
from avf.guest.task import APK, SEARCHED
from avf.guest.verity import open_verity
from avf.named import NamedTuple

EXTRA_APKS = "/mnt/extra-apk"
_EXECUTABLE_DIRECTORIES = SEARCHED[:2]
_VERIFICATION_FAILED = "Payload verification failed"


class Payload(NamedTuple):
    """A verified payload: its APKs, the main one first, and the devices they can be read from."""

    apks: tuple[FoundApk, ...]
    apk_device: str
    extra_devices: tuple[str, ...]


def verify_payload(metadata: Metadata, known: Sequence[ApkData]) -> Payload:
    """Every APK behind dm-verity; one whose root hash is not known must prove its signature over all of its bytes.

    `known`: the APKs that the instance has verified before, the main one first. Raises PayloadVerificationFailed with
    the one text the host gets to hear; the cause goes to the log.
    """
    try:
        labels = partitions.labels()
        extras = partitions.numbered("extra-apk", labels)
        signatures = partitions.numbered("extra-idsig", labels)
        if len(extras) != len(signatures):
            raise GuestError(f"{len(extras)} extra APKs, but {len(signatures)} idsigs")
        names = ["microdroid-apk", *(f"extra-apk-{index}" for index in range(len(extras)))]
        apks = [
            (metadata.apk_partition, metadata.idsig_partition),
            *zip(extras, signatures, strict=True),
        ]
        found = [
            _open_apk(name, *partition, known[index] if index < len(known) else None)
            for index, (name, partition) in enumerate(zip(names, apks, strict=True))
        ]
    except (GuestError, ApkError, OSError) as error:
        raise PayloadVerificationFailed(_VERIFICATION_FAILED) from error
    _, device = found[0]
    return Payload(tuple(apk for apk, _ in found), device, tuple(device for _, device in found[1:]))


def mount_apks(payload: Payload) -> int | None:
    """The main APK on /mnt/apk, extra ones on /mnt/extra-apk/N and not executable. Raises GuestError.

    The pid of the process that serves files of theirs, None if there is none.
    """
    apks = [Apk(payload.apk_device, APK)]
    for index, device in enumerate(payload.extra_devices):
        target = f"{EXTRA_APKS}/{index}"
        os.makedirs(target, exist_ok=True)
        apks.append(Apk(device, target, libc.MS_NOEXEC))
    return mount(apks, _EXECUTABLE_DIRECTORIES)


def _open_apk(
    name: str, apk_label: str, idsig_label: str, known: ApkData | None
) -> tuple[FoundApk, str]:
    partition = partitions.wait_for(apk_label)
    idsig_device = partitions.wait_for(idsig_label)
    idsig_fd = os.open(idsig_device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        idsig = Idsig.parse(idsig_fd)
    finally:
        os.close(idsig_fd)
    device = open_verity(
        name,
        partition,
        idsig_device,
        idsig.tree_offset,
        idsig.tree_size,
        idsig.root_hash,
        idsig.salt,
    )
    apk_fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if known is not None and known.root_hash == idsig.root_hash:
            log(f"{name}: root hash is known")
            return FoundApk(known), device
        verified = verify(apk_fd)
        log(f"{name}: {verified.size} bytes verified by scheme {verified.scheme.value}")
        return _identify(name, apk_fd, idsig.root_hash, verified), device
    finally:
        os.close(apk_fd)


def _identify(name: str, apk_fd: int, root_hash: bytes, verified: VerifiedApk) -> FoundApk:
    """Who a verified APK is. Raises ApkError."""
    former = verified.signers[0].lineage[:-1]
    returning = [
        key_digest(node.public_key) for node in former if Capability.ROLLBACK in node.capabilities
    ]
    package, version = _package(name, apk_fd)
    data = ApkData(root_hash, verified.public_key, package, version, tuple(sorted(returning)))
    keys = [
        FormerKey(node.public_key, Capability.INSTALLED_DATA in node.capabilities)
        for node in former
    ]
    return FoundApk(data, tuple(keys))


def _package(name: str, apk_fd: int) -> tuple[str | None, int]:
    """What the manifest says; one that says nothing makes an APK that cannot be updated, but is no error."""
    try:
        package = read_package(apk_fd)
    except EntryError as error:
        log(f"{name}: cannot be updated, for its {error}")
        return None, 0
    if package is None:
        log(f"{name}: cannot be updated, for it has no manifest")
        return None, 0
    log(f"{name}: version {package.version} of {package.name}")
    return package
