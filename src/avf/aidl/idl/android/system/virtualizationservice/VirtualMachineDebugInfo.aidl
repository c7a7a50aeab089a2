package android.system.virtualizationservice;

/** One line of debugListVms. */
parcelable VirtualMachineDebugInfo {
    int cid;
    @utf8InCpp String temporaryDirectory;
    int requesterUid;
    int requesterPid;
}
