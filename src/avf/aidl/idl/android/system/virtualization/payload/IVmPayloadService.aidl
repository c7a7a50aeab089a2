/** What a payload asks of the agent in its own guest. */
package android.system.virtualization.payload;

/** Served on the guest's unix socket /dev/socket/vm_payload_service. */
interface IVmPayloadService {
    const String VM_PAYLOAD_SERVICE_SOCKET_NAME = "vm_payload_service";
    const String VM_APK_CONTENTS_PATH = "/mnt/apk";
    const String ENCRYPTEDSTORE_MOUNTPOINT = "/mnt/encryptedstore";

    /** Tells the host that the payload is ready to be used. ILLEGAL_STATE the second time. */
    void notifyPayloadReady() = 0;

    /**
     * `size` (0 to 32) bytes that this instance alone gets for this identifier, at every boot the same, and after every
     * update.
     */
    byte[] getVmInstanceSecret(in byte[] identifier, int size) = 1;

    /** The chain of DICE certificates of this VM, in CBOR. SECURITY unless a configuration file describes the payload. */
    byte[] getDiceAttestationChain() = 2;

    /** The attestation secret (CDI) of this VM: 32 bytes. SECURITY unless a configuration file describes the payload. */
    byte[] getDiceAttestationCdi() = 3;

    /**
     * Not in the original. As getVmInstanceSecret, but for exactly this code: another build of an APK, another signer, or
     * another configuration gets others.
     */
    byte[] getVmCodeSecret(in byte[] identifier, int size) = 0x00A00000;

    /**
     * Not in the original. 0 in a VM that was started, and in a clone of a running VM the clone's number, from 1:
     * no other clone of the same VM has it.
     */
    long getCloneNumber() = 0x00A00001;

    /** Not in the original. As getCloneNumber, but answers only in a clone: in the original never. */
    long waitUntilCloned() = 0x00A00002;
}
