# Written by avf-aidl: change the .aidl file and run it again.
# Source: android/system/virtualization/payload/IVmPayloadService.aidl

"""AIDL interface android.system.virtualization.payload.IVmPayloadService.

What a payload asks of the agent in its own guest.
"""

from __future__ import annotations

from abc import abstractmethod

from avf.binder import Interface, Long, method

__all__ = ["IVmPayloadService"]


class IVmPayloadService(
    Interface, descriptor="android.system.virtualization.payload.IVmPayloadService"
):
    """Served on the guest's unix socket /dev/socket/vm_payload_service."""

    VM_PAYLOAD_SERVICE_SOCKET_NAME = "vm_payload_service"
    VM_APK_CONTENTS_PATH = "/mnt/apk"
    ENCRYPTEDSTORE_MOUNTPOINT = "/mnt/encryptedstore"

    @method(1)
    @abstractmethod
    def notify_payload_ready(self) -> None:
        """Tells the host that the payload is ready to be used. ILLEGAL_STATE the second time."""
        raise NotImplementedError

    @method(2)
    @abstractmethod
    def get_vm_instance_secret(self, identifier: bytes, size: int) -> bytes:
        """`size` (0 to 32) bytes that this instance alone gets for this identifier, at every boot the same, and
        after every update.
        """
        raise NotImplementedError

    @method(3)
    @abstractmethod
    def get_dice_attestation_chain(self) -> bytes:
        """The chain of DICE certificates of this VM, in CBOR. SECURITY unless a configuration file describes the
        payload.
        """
        raise NotImplementedError

    @method(4)
    @abstractmethod
    def get_dice_attestation_cdi(self) -> bytes:
        """The attestation secret (CDI) of this VM: 32 bytes. SECURITY unless a configuration file describes the
        payload.
        """
        raise NotImplementedError

    @method(0x00A00001)
    @abstractmethod
    def get_vm_code_secret(self, identifier: bytes, size: int) -> bytes:
        """Not in the original. As get_vm_instance_secret, but for exactly this code: another build of an APK,
        another signer, or another configuration gets others.
        """
        raise NotImplementedError

    @method(0x00A00002)
    @abstractmethod
    def get_clone_number(self) -> Long:
        """Not in the original. 0 in a VM that was started, and in a clone of a running VM the clone's number, from
        1: no other clone of the same VM has it.
        """
        raise NotImplementedError

    @method(0x00A00003)
    @abstractmethod
    def wait_until_cloned(self) -> Long:
        """Not in the original. As get_clone_number, but answers only in a clone: in the original never."""
        raise NotImplementedError
