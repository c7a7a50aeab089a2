package android.system.virtualizationservice_internal;

import android.system.virtualizationcommon.DeathReason;

/** A VM has died. */
parcelable AtomVmExited {
    int uid;
    String vmIdentifier;
    DeathReason deathReason;
    int exitSignal;
    long elapsedTimeMillis;
    long guestTimeMillis;
    long rssVmKb;
    long rssCrosvmKb;
}
