"""What a configuration leaves to be made on the way: an instance image that is empty, and idsigs of extra APKs.

And what only we can tell of it before a VM starts: that a file is no storage.
"""

import os
import stat
from contextlib import ExitStack
from pathlib import Path

from avf.aidl.virtualizationservice import (
    IVirtualizationService,
    PartitionType,
    VirtualMachineAppConfig,
)
from avf.binder import ParcelFileDescriptor, RemoteException
from avf.client.errors import ConfigError
from avf.overwriting import LIKE_QCOW2, UNKNOWN, Kind, foreign

INSTANCE_SIZE = 10 << 20
_BLOCK = 4096
_QCOW2 = b"QFI\xfb"


def complete(
    config: VirtualMachineAppConfig, service: IVirtualizationService, files: ExitStack
) -> None:
    """Makes what `config` lacks; what is opened for that is closed by `files`.

    Raises ConfigError for an extra APK that is none and for storage that is a file of another kind, else
    RemoteException or OSError.
    """
    if config.encrypted_storage_image:
        _check_storage(config.encrypted_storage_image)
    if config.instance_image and _is_empty(config.instance_image):
        kind = PartitionType.ANDROID_VM_INSTANCE
        service.initialize_writable_partition(config.instance_image, INSTANCE_SIZE, kind)
    if config.payload.which == "payload_config":
        apks = config.payload.payload_config.extra_apks
        for index in range(len(config.extra_idsigs), len(apks)):
            fd = os.memfd_create("avf-idsig", os.MFD_CLOEXEC)
            idsig = files.enter_context(ParcelFileDescriptor(fd))
            try:
                service.create_or_update_idsig_file(apks[index], idsig)
            except RemoteException as error:
                raise ConfigError(
                    f"extra_apks[{index}] ({_path(apks[index])}) can have no idsig: {error.message}"
                ) from error
            config.extra_idsigs.append(idsig)


def _is_empty(file: ParcelFileDescriptor) -> bool:
    status = os.fstat(file.fileno())
    return stat.S_ISREG(status.st_mode) and not status.st_size


def _check_storage(file: ParcelFileDescriptor) -> None:
    """A guest would find it not to be its own only after it has booted, and could not say what it is."""
    found = _other_kind(file.fileno())
    if found and found != LIKE_QCOW2:  # which storage may be
        raise ConfigError(
            f"encrypted_storage_image: {_path(file)} is no encrypted storage: {found}"
        )


def _path(file: ParcelFileDescriptor) -> str:
    return str(Path(f"/proc/self/fd/{file.fileno()}").readlink())


def grow_storage(path: str | os.PathLike[str], size: int) -> None:
    """Makes the encrypted storage in the file `path` at least `size` bytes large; the guest grows the file system in
    it at its next start. Nothing is done if it has that size already.

    Raises ConfigError if it is larger, or is no file that can be changed.
    """
    wanted = -(-size // _BLOCK) * _BLOCK
    try:
        with open(path, "r+b", opener=_open_without_waiting) as file:
            if os.pread(file.fileno(), len(_QCOW2), 0) == _QCOW2:
                raise ConfigError(
                    f"{os.fspath(path)} is a QCOW2 image, which cannot be made larger here"
                )
            if found := _other_kind(file.fileno()):
                raise ConfigError(f"{os.fspath(path)} is no encrypted storage: {found}")
            present = os.fstat(file.fileno()).st_size
            if present > wanted:
                raise ConfigError(
                    f"{os.fspath(path)} has {present} bytes; storage cannot be made smaller"
                )
            os.ftruncate(file.fileno(), wanted)
    except OSError as error:
        raise ConfigError(f"{os.fspath(path)} cannot be made larger: {error.strerror}") from error


def _other_kind(fd: int) -> str | None:
    """What a file looks like that can be no storage; storage in use looks like nothing, for it is ciphertext."""
    found = foreign(fd, Kind.STORE)
    return None if found == UNKNOWN else found


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
