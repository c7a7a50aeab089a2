package android.system.virtualizationservice;

import android.system.virtualizationcommon.DeathReason;
import android.system.virtualizationcommon.ErrorCode;

/** Told of what happens to one VM; every method is oneway. */
oneway interface IVirtualMachineCallback {
    /** The guest has verified the payload and starts it. */
    void onPayloadStarted(int cid);

    /** The payload has said that it is ready to be used. */
    void onPayloadReady(int cid);

    /** The payload has ended with this exit code: 0 to 255. */
    void onPayloadFinished(int cid, int exitCode);

    /** The guest could not run the payload, or a signal ended it. `message` is text of the guest: at most 4096 characters. */
    void onError(int cid, ErrorCode errorCode, in String message);

    /** The VM has ended. No other call follows. */
    void onDied(int cid, DeathReason reason);
}
