"""The files that a client has prepared: idsigs, partition images, instances that are to be forgotten."""

from avf.aidl.virtualizationservice import PartitionType
from avf.apk import ApkError, create_or_update_idsig
from avf.binder import ParcelFileDescriptor, RemoteException
from avf.disk import DiskError, PartitionKind, create_writable_partition, instance_id, open_image
from avf.policy import Permission
from avf.virtmgr.errors import VirtmgrError, failure, failure_from
from avf.virtmgr.fds import Fds
from avf.virtmgr.generations import InstanceGenerations
from avf.virtmgr.global_service import GlobalService
from avf.virtmgr.opening import require_open, require_writable
from avf.virtmgr.permissions import require

_PARTITION_KINDS = {
    PartitionType.RAW: PartitionKind.RAW,
    PartitionType.ANDROID_VM_INSTANCE: PartitionKind.ANDROID_VM_INSTANCE,
    PartitionType.ENCRYPTEDSTORE: PartitionKind.ENCRYPTEDSTORE,
}


def initialize_writable_partition(
    global_service: GlobalService,
    image_fd: ParcelFileDescriptor,
    size_bytes: int,
    type: PartitionType,
) -> None:
    """Raises RemoteException."""
    require(global_service, Permission.MANAGE_VIRTUAL_MACHINE)
    if size_bytes < 0:
        raise RemoteException.illegal_argument(f"Invalid size {size_bytes}: must not be negative")
    kind = _PARTITION_KINDS.get(type)
    if kind is None:
        raise failure(f"Failed to initialize partition as {int(type)}: Unsupported partition type")
    try:
        require_writable(image_fd.fileno(), "image")
        create_writable_partition(image_fd.fileno(), size_bytes, kind)
    except (DiskError, VirtmgrError, OSError) as e:
        raise failure_from(e, f"Failed to initialize partition as {type.name}: ") from e


def create_or_update_idsig_file(
    global_service: GlobalService, input_fd: ParcelFileDescriptor, idsig_fd: ParcelFileDescriptor
) -> None:
    """Raises RemoteException."""
    require(global_service, Permission.MANAGE_VIRTUAL_MACHINE)
    try:
        require_open(input_fd.fileno(), "input", "reading")
        create_or_update_idsig(input_fd.fileno(), idsig_fd.fileno())
    except (ApkError, VirtmgrError, OSError) as e:
        raise failure_from(e) from e


def forget_instance(global_service: GlobalService, instance_image: ParcelFileDescriptor) -> None:
    """Raises RemoteException."""
    require(global_service, Permission.MANAGE_VIRTUAL_MACHINE)
    files = Fds()
    try:
        with open_image(files.clone_file(instance_image, "instanceImage")) as image:
            identifier = instance_id(image)
    except (DiskError, VirtmgrError, OSError) as e:
        raise failure_from(e, "Failed to read the instance image: ") from e
    finally:
        files.close()
    if identifier is not None:
        InstanceGenerations(global_service).forget(identifier)
