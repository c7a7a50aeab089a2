"""Package android.system.virtualization.payload: what a payload asks of the agent in its own guest."""

# Written by avf-aidl from .aidl files: change those and run it again.

from avf.binder import Interface, method

__all__ = [
    "ENCRYPTEDSTORE_MOUNTPOINT",
    "VM_APK_CONTENTS_PATH",
    "VM_PAYLOAD_SERVICE_SOCKET_NAME",
    "IVmPayloadService",
]

VM_PAYLOAD_SERVICE_SOCKET_NAME = "vm_payload_service"
VM_APK_CONTENTS_PATH = "/mnt/apk"
ENCRYPTEDSTORE_MOUNTPOINT = "/mnt/encryptedstore"


class IVmPayloadService(
    Interface, descriptor="android.system.virtualization.payload.IVmPayloadService"
):
    """Served on the guest's unix socket /dev/socket/vm_payload_service."""

    @method(1)
    def notify_payload_ready(self) -> None:
        raise NotImplementedError

    @method(2)
    def get_vm_instance_secret(self, identifier: bytes, size: int) -> bytes:
        """`size` (0 to 32) bytes that this instance alone gets for this identifier, at every boot the same, and
        after every update.
        """
        raise NotImplementedError

    @method(3)
    def get_dice_attestation_chain(self) -> bytes:
        raise NotImplementedError

    @method(4)
    def get_dice_attestation_cdi(self) -> bytes:
        raise NotImplementedError

    @method(0x00A00001)
    def get_vm_code_secret(self, identifier: bytes, size: int) -> bytes:
        """Not in the original. As get_vm_instance_secret, but for exactly this code: another build of an APK,
        another signer, or another configuration gets others.
        """
        raise NotImplementedError
