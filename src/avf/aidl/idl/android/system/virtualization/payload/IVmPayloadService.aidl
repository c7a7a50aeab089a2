/** What a payload asks of the agent in its own guest. */
package android.system.virtualization.payload;

/** Served on the guest's unix socket /dev/socket/vm_payload_service. */
interface IVmPayloadService {
    const String VM_PAYLOAD_SERVICE_SOCKET_NAME = "vm_payload_service";
    const String VM_APK_CONTENTS_PATH = "/mnt/apk";
    const String ENCRYPTEDSTORE_MOUNTPOINT = "/mnt/encryptedstore";

    void notifyPayloadReady();

    /** `size` (0 to 32) bytes that this instance alone gets for this identifier, at every boot the same. */
    byte[] getVmInstanceSecret(in byte[] identifier, int size);

    byte[] getDiceAttestationChain();
    byte[] getDiceAttestationCdi();
}
