/** What a guest tells its host. */
package android.system.virtualmachineservice;

import android.system.virtualizationcommon.ErrorCode;

/** Served by virtmgr on the host vsock port that equals the CID of the VM, for that VM alone. */
interface IVirtualMachineService {
    /** Host vsock port that takes tombstones of all guests. */
    const int VM_TOMBSTONES_SERVICE_PORT = 2000;

    void notifyPayloadStarted();
    void notifyPayloadReady();
    void notifyPayloadFinished(int exitCode);
    void notifyError(ErrorCode errorCode, in String message);
}
