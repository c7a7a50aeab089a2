/** What a guest tells its host. */
package android.system.virtualmachineservice;

import android.system.virtualizationcommon.ErrorCode;

/** Served by virtmgr on the host vsock port that equals the CID of the VM, for that VM alone. */
interface IVirtualMachineService {
    /** Host vsock port that takes tombstones of all guests. */
    const int VM_TOMBSTONES_SERVICE_PORT = 2000;

    void notifyPayloadStarted() = 0;
    void notifyPayloadReady() = 1;
    void notifyPayloadFinished(int exitCode) = 2;
    void notifyError(ErrorCode errorCode, in String message) = 3;

    /** Not in the original. The host's CLOCK_REALTIME, in nanoseconds since 1970. */
    long getTime() = 0x00A00000;
}
