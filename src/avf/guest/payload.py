"""Verifies the payload's APKs and makes their contents readable."""

import os
from typing import NamedTuple

from avf.apk import ApkError, Idsig, claimed_public_key, verify
from avf.guest import libc, partitions
from avf.guest.apk_mount import Apk, mount
from avf.guest.errors import GuestError, PayloadVerificationFailed
from avf.guest.instance import SALT_SIZE, ApkData, PayloadIdentity
from avf.guest.metadata import Metadata
from avf.guest.report import log
from avf.guest.task import APK, SEARCHED
from avf.guest.verity import open_verity

EXTRA_APKS = "/mnt/extra-apk"
_EXECUTABLE_DIRECTORIES = SEARCHED[:2]
_VERIFICATION_FAILED = "Payload verification failed"


class Payload(NamedTuple):
    """A verified payload: who it is, and the devices its APKs can be read from."""

    identity: PayloadIdentity
    apk_device: str
    extra_devices: tuple[str, ...]


def verify_payload(metadata: Metadata, saved: PayloadIdentity | None) -> Payload:
    """Every APK behind dm-verity; one whose root hash was not saved must prove its signature over all of its bytes.

    Raises PayloadVerificationFailed with the one text the host gets to hear; the cause goes to the log.
    """
    try:
        known = partitions.labels()
        extras = partitions.numbered("extra-apk", known)
        signatures = partitions.numbered("extra-idsig", known)
        if len(extras) != len(signatures):
            raise GuestError(f"{len(extras)} extra APKs, but {len(signatures)} idsigs")
        saved_extras = saved.extra_apks if saved else ()
        apk, device = _open_apk(
            "microdroid-apk", metadata.apk_partition, metadata.idsig_partition, saved and saved.apk
        )
        found = [
            _open_apk(
                f"extra-apk-{index}",
                *labels,
                saved_extras[index] if index < len(saved_extras) else None,
            )
            for index, labels in enumerate(zip(extras, signatures, strict=True))
        ]
    except (GuestError, ApkError, OSError) as error:
        raise PayloadVerificationFailed(_VERIFICATION_FAILED) from error
    salt = saved.salt if saved else os.urandom(SALT_SIZE)
    identity = PayloadIdentity(salt, apk, tuple(data for data, _ in found))
    return Payload(identity, device, tuple(device for _, device in found))


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
    name: str, apk_label: str, idsig_label: str, saved: ApkData | None
) -> tuple[ApkData, str]:
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
        if saved is not None and saved.root_hash == idsig.root_hash:
            log(f"{name}: root hash is known")
            public_key = claimed_public_key(apk_fd)
        else:
            verified = verify(apk_fd)
            log(f"{name}: {verified.size} bytes verified by scheme {verified.scheme.value}")
            public_key = verified.public_key
    finally:
        os.close(apk_fd)
    return ApkData(idsig.root_hash, public_key), device
