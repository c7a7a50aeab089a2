package android.system.virtualizationservice;

import android.system.virtualizationcommon.DeathReason;
import android.system.virtualizationcommon.ErrorCode;

/** Told of what happens to one VM; every method is oneway. */
oneway interface IVirtualMachineCallback {
    void onPayloadStarted(int cid);
    void onPayloadReady(int cid);
    void onPayloadFinished(int cid, int exitCode);
    void onError(int cid, ErrorCode errorCode, in String message);
    void onDied(int cid, DeathReason reason);
}
