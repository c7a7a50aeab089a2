package android.system.virtualizationservice_internal;

/** The payload of a VM has started. */
parcelable AtomVmBooted {
    int uid;
    String vmIdentifier;
    long elapsedTimeMillis;
}
